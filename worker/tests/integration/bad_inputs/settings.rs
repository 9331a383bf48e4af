//! Settings that are refused.

use std::collections::HashMap;
use std::io::Write;

use worker::config::Settings;
use worker::config::source::Source;

use super::Row;

/// What is wrong with a file and variables, beside what is required.
fn refusal(file: &str, variables: &[(&str, &str)]) -> String {
    let mut written = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    written.write_all(file.as_bytes()).unwrap();
    let least = [("WORKER__RELEASE", "1.4"), ("WORKER__QUEUE__NAME", "orders")];
    let all: HashMap<String, String> = least
        .iter()
        .chain(variables)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let problems = match Source::load(Some(written.path()), all) {
        Err(problem) => vec![problem],
        Ok(source) => Settings::check(&source).err().unwrap_or_default(),
    };
    let path = written.path().display().to_string();
    let lines: Vec<_> = problems
        .iter()
        .map(|problem| problem.to_string().replace(&path, "worker.toml"))
        .collect();
    lines.join("; ")
}

#[expect(clippy::too_many_lines, reason = "a table, a row a line or two")]
pub(super) fn rows() -> Vec<Row> {
    let row = |input, gives, actual| Row { input, gives, actual };
    vec![
        row(
            "`WORKER__RELEASE` with a line break",
            r#"release (WORKER__RELEASE): "1.4\nx" from the environment; expected "#,
            refusal("", &[("WORKER__RELEASE", "1.4\nx")]),
        ),
        row(
            "no slots",
            r#"concurrency (WORKER__CONCURRENCY): "0" from the environment; expected "#,
            refusal("", &[("WORKER__CONCURRENCY", "0")]),
        ),
        row(
            "a duration without a unit",
            r#"handler.deadline (WORKER__HANDLER__DEADLINE): "30" from the environment; expected a duration with a unit"#,
            refusal("", &[("WORKER__HANDLER__DEADLINE", "30")]),
        ),
        row(
            "a visibility timeout over SQS's 12 h",
            r#"queue.visibility_timeout (WORKER__QUEUE__VISIBILITY_TIMEOUT): "13h" from the environment; expected "#,
            refusal("", &[("WORKER__QUEUE__VISIBILITY_TIMEOUT", "13h")]),
        ),
        row(
            "a share over 1",
            r#"orders.panic_ratio (WORKER__ORDERS__PANIC_RATIO): "1.5" from the environment; expected "#,
            refusal("", &[("WORKER__ORDERS__PANIC_RATIO", "1.5")]),
        ),
        row(
            "a track that does not exist",
            r#"track (WORKER__TRACK): "blue" from the environment; expected "#,
            refusal("", &[("WORKER__TRACK", "blue")]),
        ),
        row(
            "both a URL and a name of the queue",
            r"queue.name (WORKER__QUEUE__NAME): ",
            refusal(
                "",
                &[("WORKER__QUEUE__URL", "https://sqs.eu-west-1.amazonaws.com/1/q")],
            ),
        ),
        row(
            "an address of the admin endpoint without a port",
            r#"admin.address (WORKER__ADMIN__ADDRESS): "localhost" from the environment; expected "#,
            refusal("", &[("WORKER__ADMIN__ADDRESS", "localhost")]),
        ),
        row(
            "a receive that waits longer than a shutdown may take",
            "queue.wait (WORKER__QUEUE__WAIT): ",
            refusal(
                "",
                &[
                    ("WORKER__QUEUE__WAIT", "20s"),
                    ("WORKER__SHUTDOWN__TIMEOUT", "10s"),
                ],
            ),
        ),
        row(
            "a setting that does not exist",
            "concurency: ",
            refusal("concurency = 5\n", &[]),
        ),
        row(
            "a misspelt variable: what was perhaps meant, and the value where it can be no secret",
            r#"concurency (WORKER__CONCURENCY): "5" from the environment; expected a setting that exists, perhaps concurrency (WORKER__CONCURRENCY)"#,
            refusal("", &[("WORKER__CONCURENCY", "5")]),
        ),
        row(
            "the dead-letter queue by name",
            r#"dlq.name (WORKER__DLQ__NAME): "***" from the environment; expected a setting that exists, perhaps dlq.url (WORKER__DLQ__URL)"#,
            refusal("", &[("WORKER__DLQ__NAME", "orders-dlq")]),
        ),
        row(
            "a variable with one underscore; where the one with two is set as well, it is somebody else's",
            r#"WORKER_CONCURRENCY: "5" from the environment; expected two underscores: WORKER__CONCURRENCY"#,
            refusal("", &[("WORKER_CONCURRENCY", "5")]),
        ),
        row(
            "an address of AWS that is none",
            r#"AWS_ENDPOINT_URL: "nonsense" from the environment; expected a URL with scheme and host"#,
            refusal("", &[("AWS_ENDPOINT_URL", "nonsense")]),
        ),
        row(
            "a file that is no TOML",
            r#"--config: "worker.toml" from the command line; expected a TOML file ("#,
            refusal("concurrency = = 5\n", &[]),
        ),
        row(
            "a table where a value is expected",
            "concurrency",
            refusal("[concurrency]\nof = 5\n", &[]),
        ),
    ]
}
