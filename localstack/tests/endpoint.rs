//! LocalStack as tests in Rust find it. Each test binary takes this file as a module of its own, by its path.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

/// `localstack/start` exits with this when there is neither Docker nor a Python to run it with.
const EXIT_UNAVAILABLE: i32 = 69;

/// The endpoint, which `localstack/start` brings up; none where LocalStack cannot run, which is said.
pub(crate) fn endpoint() -> Option<&'static str> {
    static ENDPOINT: OnceLock<Option<String>> = OnceLock::new();
    ENDPOINT.get_or_init(start).as_deref()
}

fn start() -> Option<String> {
    let port = std::env::var("LOCALSTACK_PORT").unwrap_or_else(|_| "4566".to_owned());
    let status = Command::new(script())
        .status()
        .expect("localstack/start can be run");
    if status.success() {
        return Some(format!("http://127.0.0.1:{port}"));
    }
    let ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
    assert!(
        status.code() == Some(EXIT_UNAVAILABLE) && !ci,
        "localstack/start failed ({status}): the tests on the real wire cannot run"
    );
    eprintln!("\n*** NOT RUN: this machine has neither Docker nor a Python for LocalStack. ***\n");
    None
}

/// In the nearest directory above the crate that has it.
fn script() -> std::path::PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut scripts = crates.map(|directory| directory.join("localstack/start"));
    scripts
        .find(|script| script.is_file())
        .expect("localstack/start is in the repository")
}
