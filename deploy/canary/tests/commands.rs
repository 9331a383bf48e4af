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
    for (arguments, expected) in [
        (
            "demo --rate 5x",
            "'5x' for '--rate <RATE>': expected a whole number of orders a second from 50 to 5000",
        ),
        (
            "demo --rate 5",
            "'5' for '--rate <RATE>': expected a whole number",
        ),
        (
            "demo --times 0",
            "'0' for '--times [<ROUNDS>]': expected a whole number of rounds from 1 to 50",
        ),
        (
            "simulate --plan x --rate 5/s --failure-rate 0.5",
            "'0.5' for '--failure-rate <FAILURE_RATE>': that is 50%; expected the sign with it, as 0.5% or 50%",
        ),
        (
            "simulate --plan x --rate 5/s --failure-rate 1% --runs many",
            "'many' for '--runs <RUNS>': expected a whole number of rollouts from 1 to 1000000",
        ),
        (
            "redrive --dlq https://a/b --limit 0",
            "'0' for '--limit <MESSAGES>': expected a whole number of messages from 1",
        ),
        (
            "redrive --dlq https://a/b --max-redrives often",
            "'often' for '--max-redrives <TIMES>': expected a whole number of times from 0",
        ),
        (
            "history --last all",
            "'all' for '--last <ROLLOUTS>': expected a whole number of rollouts from 1",
        ),
        (
            "exporter --listen 9465",
            "'9465' for '--listen <ADDRESS>': expected an IP address and a port, as 127.0.0.1:9465",
        ),
    ] {
        let output = canary(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(64), "{arguments}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(expected), "{arguments}: {said}");
    }
    assert_eq!(canary(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_look_where_there_is_nothing_says_what_was_looked_for_and_where() {
    let directory = tempfile::tempdir().expect("a directory");
    let here = directory.path().canonicalize().expect("is there");
    let look = |command: &str, expected: &str| {
        let arguments: Vec<&str> = command.split(' ').collect();
        let output = Command::new(env!("CARGO_BIN_EXE_canary"))
            .args(&arguments)
            .current_dir(&here)
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        let expected = expected.replace("HERE", here.to_str().expect("a plain path"));
        assert!(said.contains(&expected), "{command}: {said}");
    };
    for command in ["status", "report", "history"] {
        look(
            command,
            "neither canary.toml nor the directory .canary is in HERE; expected",
        );
    }
    look(
        "pause",
        "cannot read HERE/canary.toml; expected a file with [fleet]",
    );
    std::fs::create_dir(here.join(".canary")).expect("is made");
    look("status", "there is no rollout yet");
    std::fs::write(here.join(".canary/journal.json"), "{\"schema\": 1, ").expect("is written");
    look("status", "journal.json: EOF while parsing");
    look(
        "status",
        "Put its last whole version back, or move it away once you know what runs",
    );
    std::fs::write(
        here.join("canary.toml"),
        "[fleet]\nkind = \"local\"\nstable = \"three\"\n",
    )
    .expect("is written");
    look(
        "status",
        "canary.toml has 1 fault:\n  line 3: fleet.stable: found \"three\", expected a whole number from 1 to 200",
    );
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
