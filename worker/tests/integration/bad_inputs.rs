//! Bad input and what it gives, as one table: settings, the start, messages, and answers of SQS.
//!
//! `docs/bad-inputs.md` is made of the table. With `WRITE_DOCS=1` the test writes it anew; without, it fails when the page
//! is not what the table says.

mod answers;
mod messages;
mod settings;
mod start;

use std::fmt::Write;
use std::path::Path;

/// One bad input: what it is, for the page, and what it gives, as `actual` begins.
#[derive(Debug)]
struct Row {
    input: &'static str,
    gives: &'static str,
    actual: String,
}

const COMMAND: &str = "WRITE_DOCS=1 cargo test -p worker --test integration bad_inputs";

#[tokio::test]
async fn every_bad_input_gives_what_the_table_says() {
    let sections = [
        (
            "Settings",
            "refused with exit code 64 before anything else",
            settings::rows(),
        ),
        (
            "At start",
            "`worker check`, and a worker that starts, end with exit code 1 and say",
            start::rows().await,
        ),
        (
            "Messages",
            "to the handler `orders`; what becomes of the message",
            messages::rows().await,
        ),
        (
            "Answers of SQS",
            "the error and its kind, by which the worker decides; transient ones are tried again",
            answers::rows().await,
        ),
    ];
    let mut wrong = String::new();
    let mut page = "# Bad input\n\nMade of the table in `worker/tests/integration/bad_inputs/`, each row of which is a test: do not edit.\n\
                    Write it anew by `"
        .to_owned();
    writeln!(
        page,
        "{COMMAND}`. The same of [plans](plan.md#what-is-wrong-and-what-is-said) and\n\
         [`canary.toml`](canary-toml.md#what-is-wrong-and-what-is-said)."
    )
    .unwrap();
    let mut count = 0;
    for (title, gives, rows) in sections {
        write!(page, "\n## {title}\n\n| Input | Gives: {gives} |\n|---|---|\n").unwrap();
        for row in rows {
            count += 1;
            let mut gives = row.gives.replace('|', "\\|");
            if gives.ends_with(' ') {
                gives.push('…');
            }
            writeln!(page, "| {} | {gives} |", row.input).unwrap();
            if !row.actual.starts_with(row.gives) {
                writeln!(
                    wrong,
                    "{}\n  should {}\n  gives  {}",
                    row.input, row.gives, row.actual
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
    assert!(count >= 30, "{count} rows");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/bad-inputs.md");
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page,
        "docs/bad-inputs.md is not what the table says; write it anew by: {COMMAND}"
    );
}
