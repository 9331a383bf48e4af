use std::collections::HashMap;
use std::io::Write;

use super::fields::{FIELDS, Kind, find};
use super::*;

/// What is required, and nothing else.
const LEAST: [(&str, &str); 2] = [("WORKER__RELEASE", "1.4"), ("WORKER__QUEUE__NAME", "orders")];

fn variables(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

fn source(file: Option<&[u8]>, pairs: &[(&str, &str)]) -> Result<Source, Problem> {
    let mut written = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    written.write_all(file.unwrap_or_default()).unwrap();
    Source::load(file.map(|_| written.path()), variables(pairs))
}

fn check(file: &str, pairs: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    Settings::check(&source(Some(file.as_bytes()), pairs).unwrap())
}

/// The settings with what is required, and `pairs`.
fn with(pairs: &[(&str, &str)]) -> Result<Settings, Vec<Problem>> {
    check("", &[&LEAST, pairs].concat())
}

/// The one line that `pairs`, beside what is required, are refused with.
fn refusal(pairs: &[(&str, &str)]) -> String {
    let problems = with(pairs).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].to_string()
}

#[test]
fn every_default_is_what_its_own_field_takes() {
    let source = source(None, &[]).unwrap();
    for field in FIELDS {
        let mut reader = source.reader();
        match field.kind {
            Kind::Text(_) => drop(reader.optional(field.key)),
            Kind::Choice(_) => drop(reader.choice(field.key)),
            Kind::Count { .. } => drop(reader.count(field.key)),
            Kind::Duration { .. } => drop(reader.optional_duration(field.key)),
            Kind::Ratio => drop(reader.optional_ratio(field.key)),
            Kind::Url => drop(reader.url(field.key)),
            Kind::WebUrl => drop(reader.optional_web_url(field.key)),
            Kind::Address => drop(reader.address(field.key)),
        }
        assert_eq!(reader.problems(), [], "{}", field.key);
    }
    with(&[]).unwrap();
}

#[test]
fn every_setting_is_read_and_every_kind_refuses_nonsense() {
    // A setting whose reader is missing, or of another kind, would take this for granted.
    for field in FIELDS.iter().filter(|field| field.key != "queue.name") {
        let variable = field.variable();
        let problems = check("", &[("WORKER__RELEASE", "1"), (&variable, "no sense = [")]).unwrap_err();
        let about: Vec<_> = problems
            .iter()
            .filter(|problem| problem.field == field.key)
            .collect();
        assert_eq!(about.len(), 1, "{}: {problems:?}", field.key);
        assert_eq!(about[0].expected, field.kind.to_string());
        let given = about[0].given.clone().unwrap();
        assert_eq!(given, ("no sense = [".to_owned(), "the environment".to_owned()));
    }
}

#[test]
fn fields_have_one_entry_each_and_sections_are_together() {
    let mut sections: Vec<&str> = FIELDS
        .iter()
        .map(|field| field.key.split_once('.').map_or("", |(section, _)| section))
        .collect();
    sections.dedup();
    let (in_order, mut sorted) = (sections.clone(), sections);
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(in_order.len(), sorted.len(), "{in_order:?}");
    assert_eq!(in_order[0], "", "TOML wants keys without a section first");
    for (index, field) in FIELDS.iter().enumerate() {
        assert_eq!(
            FIELDS.iter().position(|other| other.key == field.key),
            Some(index)
        );
        assert!(field.help.ends_with('.'), "{}", field.key);
    }
}

#[test]
fn bounds_are_inside() {
    for (variable, least, most) in [
        ("WORKER__CONCURRENCY", "1", "10000"),
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "3s", "12h"),
        ("WORKER__HANDLER__DEADLINE", "10ms", "11h"),
        ("WORKER__ORDERS__HANG_RATIO", "0", "1"),
        ("WORKER__HTTP__REASONS", "a", "sold_out, bad_address"),
    ] {
        for value in [least, most] {
            with(&[(variable, value)]).unwrap();
        }
    }
    for (variable, value) in [
        ("WORKER__CONCURRENCY", "0"),
        ("WORKER__CONCURRENCY", "10001"),
        ("WORKER__CONCURRENCY", "-1"),
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "2s"),
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "12h 1s"),
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "3500ms"),
        ("WORKER__QUEUE__WAIT", "20"),
        ("WORKER__HANDLER__DEADLINE", "99999999999999999999h"),
        ("WORKER__ORDERS__HANG_RATIO", "1.01"),
        ("WORKER__ORDERS__HANG_RATIO", "-0.1"),
        ("WORKER__ORDERS__HANG_RATIO", "NaN"),
        ("WORKER__HTTP__REASONS", "sold_out, panic"),
        ("WORKER__HTTP__REASONS", "sold_out,"),
        ("WORKER__TRACK", "Canary"),
        ("WORKER__DLQ__URL", "orders-dlq"),
        ("WORKER__DLQ__URL", "https://sqs.eu-west-1.amazonaws.com"),
        ("WORKER__ADMIN__ADDRESS", "localhost:9464"),
        ("WORKER__LOG__LEVEL", "worker=loud"),
    ] {
        assert!(
            refusal(&[(variable, value)]).contains(variable),
            "{variable}={value}"
        );
    }
}

#[test]
fn the_environment_goes_before_the_file_and_the_file_before_the_default() {
    let file = "concurrency = 7\n[queue]\nwait = \"5s\"\nname = \"of-the-file\"\n";
    let pairs = [
        ("WORKER__RELEASE", "1.4"),
        ("WORKER__QUEUE__NAME", "of-the-environment"),
    ];
    let settings = check(file, &pairs).unwrap();
    let name = Locator::Name("of-the-environment".to_owned());
    assert_eq!(settings.queue.locator, name);
    assert_eq!(settings.consumer.wait, Duration::from_secs(5));
    assert_eq!(settings.consumer.concurrency, 7);
    assert_eq!(settings.consumer.deadline, Duration::from_secs(30));
}

#[test]
fn an_empty_variable_is_as_good_as_none() {
    let file = "concurrency = 7\n";
    let empty = [
        ("WORKER__CONCURRENCY", ""),
        ("WORKER__TRACK", ""),
        ("WORKER__DLQ__URL", ""),
    ];
    let settings = check(file, &[&LEAST, &empty[..]].concat()).unwrap();
    assert_eq!(
        settings.consumer.concurrency, 7,
        "the file's value must not be hidden"
    );
    assert_eq!(settings.identity.track, Track::Stable);
    assert_eq!(settings.dead_letter_url, None);
    let problems = check("", &[("WORKER__RELEASE", ""), ("WORKER__QUEUE__NAME", "q")]).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .starts_with("release (WORKER__RELEASE): not set; expected 1 to 128")
    );
}

#[test]
fn all_mistakes_are_told_at_once_each_with_field_value_origin_and_what_is_expected() {
    let file = "concurrency = 0\n[handler]\nkind = \"ftp\"\n";
    let pairs = [
        ("WORKER__RELEASE", "one two"),
        ("WORKER__RETRY__BASE", "20"),
        ("WORKER__QUEU__URL", "x"),
    ];
    let problems = check(file, &pairs).unwrap_err();
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let starts = [
        r#"release (WORKER__RELEASE): "one two" from the environment; expected 1 to 128 characters"#,
        r#"concurrency (WORKER__CONCURRENCY): "0" from "#,
        "queue.url (WORKER__QUEUE__URL): not set; expected the queue's URL, or its name as queue.name",
        r#"handler.kind (WORKER__HANDLER__KIND): "ftp" from "#,
        r#"retry.base (WORKER__RETRY__BASE): "20" from the environment; expected a duration with a unit"#,
        r#"queu.url (WORKER__QUEU__URL): "***" from the environment; expected a setting that exists, perhaps queue.url (WORKER__QUEUE__URL)"#,
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start), "{line}");
        assert!(!line.contains('\n'));
    }
    assert!(
        lines[1].contains(".toml; expected a whole number from 1 to 10000"),
        "{}",
        lines[1]
    );
}

#[test]
fn unknown_settings_are_refused_with_what_was_perhaps_meant_and_without_their_value() {
    for (variable, perhaps) in [
        (
            "WORKER__CONCURENCY",
            ", perhaps concurrency (WORKER__CONCURRENCY)",
        ),
        ("WORKER__QUEUE_URL", ", perhaps queue.url (WORKER__QUEUE__URL)"),
        (
            "WORKER__VISIBILITY_TIMEOUT",
            ", perhaps queue.visibility_timeout (WORKER__QUEUE__VISIBILITY_TIMEOUT)",
        ),
        (
            "WORKER__WORKER__DEADLINE",
            ", perhaps handler.deadline (WORKER__HANDLER__DEADLINE)",
        ),
        ("WORKER__DLQ__NAME", ", perhaps dlq.url (WORKER__DLQ__URL)"),
        (
            "WORKER__HANDOVER__ARN",
            ", perhaps handover.url (WORKER__HANDOVER__URL)",
        ),
        ("WORKER__DATABASE__PASSWORD", ""),
        ("WORKER__", ""),
    ] {
        let line = refusal(&[(variable, "hunter2")]);
        assert!(
            line.ends_with(&format!("; expected a setting that exists{perhaps}")),
            "{line}"
        );
        assert!(!line.contains("hunter2"), "{line}");
    }
    // Not ours: other prefixes, other case, and what is like no setting.
    with(&[
        ("XWORKER_CONCURRENCY", "x"),
        ("WORKER_REVISION", "x"),
        ("worker__concurrency", "x"),
        ("PATH", "x"),
    ])
    .unwrap();
}

#[test]
fn the_value_of_a_misspelt_setting_is_told_where_it_can_be_no_secret() {
    for (variable, value, told) in [
        ("WORKER__CONCURENCY", "5", true),
        ("WORKER__CONCURENCY", "5x", false),
        ("WORKER__ORDERS__RETRY_RATO", "0.5", true),
        ("WORKER__QUEUE__WAITS", "5s", true),
        ("WORKER__TRAK", "canary", true),
        ("WORKER__TRAK", "tuesday", false),
        ("WORKER__RELEAS", "1.4", false),
        ("WORKER__DATABASE__PIN", "1234", false),
    ] {
        let line = refusal(&[(variable, value)]);
        let start = format!(
            "{:?} from the environment; expected",
            if told { value } else { "***" }
        );
        assert!(line.contains(&start), "{line}");
    }
}

#[test]
fn a_variable_with_one_underscore_is_refused_instead_of_ignored() {
    let line = refusal(&[("WORKER_CONCURRENCY", "7")]);
    assert_eq!(
        line,
        r#"WORKER_CONCURRENCY: "7" from the environment; expected two underscores: WORKER__CONCURRENCY"#
    );
    let line = refusal(&[("WORKER_DLQ__URL", "http://u:hunter2@host/1/q")]);
    assert!(
        line.starts_with("WORKER_DLQ__URL: ") && !line.contains("hunter2"),
        "{line}"
    );
    // Somebody else's, since ours is there; and one that says nothing.
    with(&[("WORKER_CONCURRENCY", "x"), ("WORKER__CONCURRENCY", "7")]).unwrap();
    with(&[("WORKER_CONCURRENCY", "")]).unwrap();
}

#[test]
fn an_address_of_aws_that_is_none_is_refused_by_the_name_of_its_variable() {
    for name in ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS"] {
        for value in ["nonsense", "127.0.0.1:4566", "ftp://host", "http://"] {
            let line = refusal(&[(name, value)]);
            let start =
                format!("{name}: {value:?} from the environment; expected a URL with scheme and host");
            assert!(line.starts_with(&start), "{line}");
            with(&[(name, value), ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")]).unwrap();
        }
        with(&[(name, "http://127.0.0.1:4566")]).unwrap();
    }
}

#[test]
fn settings_must_fit_each_other() {
    let url = ("WORKER__QUEUE__URL", "http://localhost:4566/000000000000/orders");
    assert!(refusal(&[url]).contains("expected only one of queue.url and queue.name"));

    let line = refusal(&[("WORKER__SHUTDOWN__TIMEOUT", "20s")]);
    let start = r#"queue.wait (WORKER__QUEUE__WAIT): "20s" from the defaults; expected at most 16s, so that"#;
    assert!(line.starts_with(start), "{line}");
    with(&[
        ("WORKER__SHUTDOWN__TIMEOUT", "20s"),
        ("WORKER__QUEUE__WAIT", "16s"),
    ])
    .unwrap();

    let line = refusal(&[("WORKER__RETRY__BASE", "2m"), ("WORKER__RETRY__MAX", "1m")]);
    assert!(
        line.starts_with("retry.base") && line.ends_with("expected at most retry.max"),
        "{line}"
    );

    let ratios = [
        ("WORKER__ORDERS__RETRY_RATIO", "0.7"),
        ("WORKER__ORDERS__HANG_RATIO", "0.4"),
    ];
    assert!(refusal(&ratios).contains("all of orders.*_ratio together at most 1"));
    with(&[
        ("WORKER__ORDERS__RETRY_RATIO", "0.7"),
        ("WORKER__ORDERS__HANG_RATIO", "0.3"),
    ])
    .unwrap();
}

#[test]
fn numbers_may_be_written_as_numbers_and_nothing_else_may() {
    let file = "release = \"1.10\"\nconcurrency = 12\n[queue]\nname = \"q\"\n[orders]\nretry_ratio = 0.25\nhang_ratio = 0\n";
    let settings = check(file, &[]).unwrap();
    assert_eq!(settings.consumer.concurrency, 12);
    assert_eq!(settings.orders.retry.to_bits(), 0.25_f64.to_bits());
    for (key, value) in [
        // The number 1.10 would become the release 1.1.
        ("release", "1.10"),
        ("release", "57"),
        ("release", "true"),
        ("release", "[\"1.4\"]"),
        ("concurrency", "[12]"),
        ("concurrency", "12.5"),
        ("concurrency", "true"),
        ("concurrency", "{ max = 12 }"),
        ("queue.wait", "20"),
        ("queue.name", "7"),
        ("log.level", "[\"info\"]"),
        ("dlq.url", "[]"),
        ("orders.retry_ratio", "nan"),
    ] {
        let table = key.split('.').next().unwrap();
        let pairs: Vec<_> = LEAST
            .into_iter()
            .filter(|(variable, _)| find(key).is_none_or(|field| field.variable() != *variable))
            .collect();
        let problems = check(&format!("{key} = {value}\n"), &pairs).unwrap_err();
        assert_eq!(problems.len(), 1, "{key} = {value}: {problems:?}");
        let line = problems[0].to_string();
        assert!(
            line.starts_with(table) && line.contains("; expected "),
            "{key} = {value}: {line}"
        );
    }
    let problems = check("release = 1.10\n", &LEAST[1..]).unwrap_err();
    let line = problems[0].to_string();
    assert!(
        line.contains("\"1.1\" from ") && line.contains("expected text in quotes"),
        "{line}"
    );
}

#[test]
fn a_log_level_that_is_none_is_refused_instead_of_silencing_the_worker() {
    for level in [
        "info",
        "WARN",
        "worker=debug,info",
        "worker::consumer=trace, warn",
        "off",
        "[attempt]=debug,info",
    ] {
        with(&[("WORKER__LOG__LEVEL", level)]).unwrap();
    }
    for level in ["loud", "wran", "worker=debug,inof", "worker"] {
        let problems = with(&[("WORKER__LOG__LEVEL", level)]).unwrap_err();
        let line = problems[0].to_string();
        assert!(
            line.starts_with("log.level") && line.contains("; expected "),
            "{level}: {line}"
        );
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_that_names_it() {
    for bytes in [
        &b"release = "[..],
        b"\xff\xfe release",
        b"[queue\n",
        b"a = 1\na = 2\n",
        b"\0",
    ] {
        let line = source(Some(bytes), &[]).unwrap_err().to_string();
        assert!(line.starts_with("--config: ") && line.contains(".toml"), "{line}");
        assert!(
            line.contains("; expected a TOML file") && !line.contains('\n'),
            "{line}"
        );
    }
    let missing = std::path::Path::new("no/such/file.toml");
    let line = Source::load(Some(missing), HashMap::new())
        .unwrap_err()
        .to_string();
    assert!(
        line.contains("no/such/file.toml") && line.contains("not found"),
        "{line}"
    );
}

#[test]
fn what_is_shown_is_toml_that_gives_the_same_settings() {
    let pairs = [
        ("WORKER__RELEASE", "team/app@sha256:ff"),
        ("WORKER__QUEUE__NAME", "a \"quoted\" \\ \u{7f}\u{1} name"),
        ("WORKER__CONCURRENCY", "007"),
        ("WORKER__ORDERS__RETRY_RATIO", ".5"),
        ("WORKER__ORDERS__HANG_RATIO", "1e-9"),
        ("WORKER__QUEUE__VISIBILITY_TIMEOUT", "1m 30s"),
        ("WORKER__TRACK", ""),
    ];
    let first = source(Some(b"[sqs]\ntimeout = \"2s\"\n"), &pairs).unwrap();
    let shown = first.describe();
    let second = source(Some(shown.as_bytes()), &[]).unwrap();
    let settings = |source| format!("{:?}", Settings::check(source).unwrap());
    assert_eq!(settings(&first), settings(&second), "{shown}");
    assert!(shown.contains("concurrency = 7 # the environment\n"), "{shown}");
    assert!(shown.contains("track = \"stable\" # default\n"), "{shown}");
    assert!(shown.contains("# url is not set\n"), "{shown}");
    assert!(
        shown.contains("timeout = \"2s\" # ") && shown.contains(".toml\n"),
        "{shown}"
    );
    for field in FIELDS {
        let key = field.key.rsplit('.').next().unwrap();
        assert!(shown.contains(key), "{key}");
    }
}

#[test]
fn secrets_in_urls_are_hidden_wherever_a_value_is_shown() {
    for url in [
        "http://me:hunter2@localhost/1/q",
        "http://hunter2@localhost/1/q",
        "http://me:x@hunter2@localhost/1/q",
    ] {
        let pairs = [("WORKER__RELEASE", "1"), ("WORKER__QUEUE__URL", url)];
        let shown = source(None, &pairs).unwrap().describe();
        assert!(shown.contains("url = \"http://***@localhost/1/q\""), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let line = refusal(&[("WORKER__DLQ__URL", "http://me:hunter2@localhost")]);
    assert!(
        line.contains("http://***@localhost") && !line.contains("hunter2"),
        "{line}"
    );
}

#[test]
fn the_sample_file_is_good_and_says_the_defaults() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("worker.example.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    Settings::check(&Source::load(Some(&path), HashMap::new()).unwrap()).unwrap();
    // With the leading `# ` off every line that is a setting, it is good as well, and nothing else than the defaults.
    let uncommented: String = text
        .lines()
        .map(|line| {
            line.strip_prefix("# ")
                .filter(|rest| rest.contains(" = "))
                .unwrap_or(line)
        })
        .collect::<Vec<_>>()
        .join("\n");
    let all = source(Some(uncommented.as_bytes()), &[]).unwrap();
    Settings::check(&all).unwrap();
    for field in FIELDS {
        let given = all.reader().optional(field.key);
        if let Some(default) = field.default {
            assert_eq!(given.as_deref(), Some(default), "{}", field.key);
            let key = field.key.rsplit('.').next().unwrap();
            assert!(
                uncommented.contains(&format!("\n{key} = ")),
                "{} is missing",
                field.key
            );
        }
    }
}

#[test]
fn an_application_elsewhere_needs_permission() {
    let remote = ("WORKER__HTTP__URL", "http://orders.internal:8080/messages");
    let told = refusal(&[remote]);
    assert!(told.contains("http.url (WORKER__HTTP__URL)"), "{told}");
    assert!(told.contains("http.allow_remote"), "{told}");
    with(&[remote, ("WORKER__HTTP__ALLOW_REMOTE", "true")]).unwrap();
    for local in [
        "http://localhost/",
        "http://127.0.0.9:80",
        "http://[::1]:8080/a?b=c",
    ] {
        with(&[("WORKER__HTTP__URL", local)]).unwrap();
    }
    for wrong in [
        "127.0.0.1:8080",
        "ftp://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
        "http://",
    ] {
        let told = refusal(&[("WORKER__HTTP__URL", wrong)]);
        assert!(
            told.contains("expected a URL") && !told.contains("secret"),
            "{told}"
        );
    }
}

#[test]
fn the_ready_path_is_one_of_the_application() {
    let pairs = [
        ("WORKER__HTTP__URL", "http://127.0.0.1:9000/work?a=b"),
        ("WORKER__HTTP__READY_PATH", "/healthz"),
    ];
    let ready = with(&pairs).unwrap().http.ready.unwrap();
    assert_eq!(ready.to_string(), "http://127.0.0.1:9000/healthz");
}
