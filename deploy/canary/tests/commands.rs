//! The binary itself: what it prints and how it exits.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

fn canary(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_canary"))
        .args(arguments)
        .output()
        .expect("starts")
}

fn plan(name: &str) -> String {
    format!("{}/../plans/{name}.toml", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn simulate_prints_the_promised_json_and_writes_the_page() {
    let page = std::env::temp_dir().join(format!("canary-simulate-{}.html", std::process::id()));
    let page = page.to_str().expect("a plain path");
    let arguments = |json: bool| {
        let mut list = vec!["simulate", "--plan"];
        let plan = plan("usual").leak();
        list.extend([
            plan,
            "--rate",
            "500/s",
            "--failure-rate",
            "0.5%",
            "--ratio",
            "20",
            "--runs",
            "8",
            "--seed",
            "3",
        ]);
        if json {
            list.extend(["--json", "--html", page]);
        }
        list
    };
    let output = canary(&arguments(true));
    assert!(output.status.success(), "{output:?}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert!(
        json["rollback_probability"].as_f64().is_some_and(|p| p > 0.9),
        "{json}"
    );
    assert!(
        json["promotion_probability"].as_f64().is_some_and(|p| p < 0.1),
        "{json}"
    );
    let text = std::fs::read_to_string(page).expect("a page");
    std::fs::remove_file(page).expect("removes it");
    assert_eq!(text.matches("<svg").count(), 3);
    let table = canary(&arguments(false));
    assert!(
        String::from_utf8_lossy(&table.stdout).contains("time to verdict"),
        "{table:?}"
    );
    assert_eq!(
        canary(&arguments(true)).stdout,
        output.stdout,
        "the same seed, the same answer"
    );
    std::fs::remove_file(page).expect("removes it");
}

#[test]
fn a_wrong_command_line_exits_64_and_names_what_is_expected() {
    let output = canary(&[
        "simulate",
        "--plan",
        "x",
        "--rate",
        "fast",
        "--failure-rate",
        "0.5%",
    ]);
    assert_eq!(output.status.code(), Some(64));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("as 50/s"),
        "{output:?}"
    );
    assert_eq!(canary(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_file_that_is_no_text_or_far_too_large_is_named_as_such() {
    let file = std::env::temp_dir().join(format!("canary-no-plan-{}.toml", std::process::id()));
    let name = file.to_str().expect("a plain path");
    for (bytes, expected) in [
        (b"schema = 1\nname = \"\xff\"\n".to_vec(), "line 2 is not UTF-8"),
        (vec![b'#'; (1 << 20) + 1], "larger than 1048576 bytes"),
    ] {
        std::fs::write(&file, bytes).expect("writes");
        let output = canary(&["plan", "check", name]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(expected) && text.contains(name), "{text}");
    }
    std::fs::remove_file(&file).expect("removes it");
}

#[test]
fn a_wrong_plan_exits_1_and_names_its_faults() {
    let file = std::env::temp_dir().join(format!("canary-plan-{}.toml", std::process::id()));
    std::fs::write(&file, "schema = 1\n[[steps]]\nshare = 2\nlest_time = \"5m\"\n").expect("writes");
    let output = canary(&["plan", "check", file.to_str().expect("a plain path")]);
    std::fs::remove_file(&file).expect("removes it");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(
        text.contains("2 faults") && text.contains("line 3") && text.contains("line 4"),
        "{text}"
    );
    for name in ["quiet", "usual", "busy"] {
        assert!(canary(&["plan", "check", &plan(name)]).status.success());
    }
}

#[test]
fn an_exporter_whose_journal_cannot_be_read_says_so_in_its_page_and_in_its_log() {
    let state = tempfile::tempdir().expect("a directory");
    std::fs::write(state.path().join("journal.json"), "cut off").expect("writes");
    let mut exporter = Command::new(env!("CARGO_BIN_EXE_canary"))
        .args(["exporter", "--listen", "127.0.0.1:0", "--state"])
        .arg(state.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut said = String::new();
    let stdout = exporter.stdout.take().expect("is piped");
    BufReader::new(stdout)
        .read_line(&mut said)
        .expect("says where it listens");
    let address = said.trim().strip_prefix("canary exporter on http://");
    let address = address
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .expect("an address");
    let mut stream = TcpStream::connect(address).expect("listens");
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )
    .expect("asks");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("answers");
    exporter.kill().expect("ends");
    let output = exporter.wait_with_output().expect("ends");
    assert!(page.contains("\ncanary_journal_up 0\n"), "{page}");
    let log = String::from_utf8_lossy(&output.stderr);
    assert_eq!(log.matches("the journal cannot be read").count(), 1, "{log}");
}

#[test]
fn an_exporter_takes_one_place_for_its_journal() {
    for (arguments, expected) in [
        (
            &["exporter"][..],
            "expected --state, --journal, --queue, --handover or --dlq",
        ),
        (
            &["exporter", "--journal", "journal.json"],
            "s3://BUCKET/FOLDER/journal.json",
        ),
        (
            &["exporter", "--journal", "s3://bucket"],
            "s3://BUCKET/FOLDER/journal.json",
        ),
        (
            &["exporter", "--journal", "s3://b/f/j", "--state", "x"],
            "cannot be used with",
        ),
    ] {
        let output = canary(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
}
