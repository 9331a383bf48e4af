//! The binary: what it prints, and what it says of journals that are none.

use std::path::Path;
use std::process::{Command, Output};

use canary::journal::{FileStore, Journal, Store as _};
use serde_json::Value;

use crate::made::{promoted, rolled_back, under_way};

fn canary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_canary"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

async fn state(directory: &Path, current: &Journal, before: &[Journal]) {
    let store = FileStore::open(directory).unwrap();
    store.write(current, None).await.unwrap();
    for journal in before {
        store.archive(journal).await.unwrap();
    }
}

#[tokio::test]
async fn status_report_and_history_read_a_state_directory() {
    let directory = tempfile::tempdir().unwrap();
    let mut earlier = promoted();
    earlier.rollout = "earlier".to_owned();
    state(directory.path(), &rolled_back(), &[earlier]).await;
    let in_state = |arguments: &[&str]| canary(&[arguments, &["--state", path(directory.path())]].concat());

    let status = text(&in_state(&["status"]));
    assert!(
        status.contains("2.0 against 1.9: rolled back") && status.contains("removed"),
        "{status}"
    );
    let json: Value = serde_json::from_slice(&in_state(&["status", "--json"]).stdout).unwrap();
    assert_eq!(json["outcome"], "rolled_back");
    // Without a terminal: a line an event, and an end with the rollout's.
    let watched = text(&in_state(&["status", "--watch"]));
    assert!(
        watched.lines().count() >= 8 && watched.ends_with("ended: rolled back\n"),
        "{watched}"
    );

    let history = text(&in_state(&["history"]));
    let rows: Vec<&str> = history.lines().collect();
    assert_eq!(rows.len(), 3, "{history}");
    assert!(
        rows[1].contains("earlier") && rows[1].contains("promoted") && rows[2].contains("rolled back"),
        "{history}"
    );
    let rows: Value =
        serde_json::from_slice(&in_state(&["history", "--json", "--last", "1"]).stdout).unwrap();
    assert_eq!(
        (rows.as_array().unwrap().len(), &rows[0]["how"]),
        (1, &"rolled back".into())
    );

    let page = directory.path().join("report.html");
    let report = text(&in_state(&["report", "--html", path(&page)]));
    assert_eq!(
        report,
        format!("report: {}\n", page.display()),
        "only where it is"
    );
    let report = text(&in_state(&["report"]));
    assert!(report.contains("would not have been suspected"), "{report}");
    assert!(
        std::fs::read_to_string(&page)
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    let json: Value =
        serde_json::from_slice(&in_state(&["report", "--json", "--rollout", "earlier"]).stdout).unwrap();
    assert_eq!(json["status"]["outcome"], "promoted");
    let none = in_state(&["report", "--rollout", "never"]);
    assert_eq!(none.status.code(), Some(1));
    assert!(
        String::from_utf8(none.stderr)
            .unwrap()
            .contains("--rollout never")
    );
}

#[test]
fn a_journal_that_is_none_is_one_clear_error() {
    let directory = tempfile::tempdir().unwrap();
    let whole = serde_json::to_string(&under_way(5, 0.0)).unwrap();
    let half = &whole[..whole.len() / 2];
    let newer = whole.replacen("\"schema\":1", "\"schema\":2", 1);
    let no_state = whole.replacen("\"state\":", "\"stat\":", 1);
    for (name, contents, expected) in [
        ("truncated", half, "EOF"),
        ("newer", newer.as_str(), "its schema is 2"),
        ("foreign", "{\"schema\":1}", "missing field"),
        ("no state", no_state.as_str(), "missing field `state`"),
        ("no JSON", "<journal/>", "expected value"),
        ("empty", "", "EOF"),
    ] {
        let file = directory.path().join("journal.json");
        std::fs::write(&file, contents).unwrap();
        for command in ["status", "report"] {
            let by_file = canary(&[command, "--journal", path(&file)]);
            let by_state = canary(&[command, "--state", path(directory.path())]);
            for output in [by_file, by_state] {
                let error = String::from_utf8(output.stderr).unwrap();
                assert_eq!(output.status.code(), Some(1), "{name}: {error}");
                assert!(
                    error.contains(expected) && error.contains("journal.json"),
                    "{name}: {error}"
                );
                assert!(
                    !error.contains("panicked") && error.lines().count() == 1,
                    "{name}: {error}"
                );
            }
        }
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            contents,
            "looking changes nothing"
        );
    }
}

#[test]
fn a_directory_without_a_rollout_is_not_made_into_one() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("nowhere");
    for command in ["status", "report", "history"] {
        let output = canary(&[command, "--state", path(&missing)]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(1) && error.contains("there is no such directory"),
            "{error}"
        );
        assert!(!missing.exists());
    }
    let output = canary(&["status", "--state", path(directory.path())]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("there is no rollout yet"), "{error}");
    let output = canary(&["history", "--state", path(directory.path())]);
    assert_eq!(text(&output), "no rollout yet\n");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
