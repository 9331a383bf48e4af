//! This program started again in a role, and the release binary of the worker.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Stdio;

use anyhow::{Result, ensure};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};

/// What AWS's SDK is told of the queues at `endpoint`.
pub(crate) fn aws(endpoint: &str) -> [(&'static str, String); 5] {
    [
        ("AWS_ENDPOINT_URL", endpoint.to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}

/// The settings of a worker on `queue`: the defaults, but for short polls at the end and an address of its own.
pub(crate) fn settings(queue: &str, admin: SocketAddr) -> Vec<(String, String)> {
    [
        ("RELEASE", "bench"),
        ("QUEUE__URL", queue),
        ("QUEUE__WAIT", "1s"),
        ("ADMIN__ADDRESS", &admin.to_string()),
        ("LOG__FORMAT", "json"),
    ]
    .map(|(key, value)| (format!("WORKER__{key}"), value.to_owned()))
    .to_vec()
}

/// An address that was free a moment ago.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Runs this program in a role to its end, and gives its answer.
pub(crate) async fn run<A: DeserializeOwned>(
    role: &str,
    order: &impl Serialize,
    variables: impl IntoIterator<Item = (String, String)>,
) -> Result<A> {
    let output = Command::new(std::env::current_exe()?)
        .arg(format!("role={role}"))
        .arg(serde_json::to_string(order)?)
        .envs(variables)
        .kill_on_drop(true)
        .output()
        .await?;
    ensure!(
        output.status.success(),
        "the {role} failed ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The release binary, which is killed when the result is dropped. What it logs is few lines, and can be read from it.
pub(crate) fn binary(variables: impl IntoIterator<Item = (String, String)>) -> Result<Child> {
    Ok(Command::new(env!("CARGO_BIN_EXE_worker"))
        .envs(variables)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

/// Variables of both kinds in one list.
pub(crate) fn variables(endpoint: &str, settings: Vec<(String, String)>) -> Vec<(String, String)> {
    let aws = aws(endpoint).map(|(key, value)| (key.to_owned(), value));
    aws.into_iter().chain(settings).collect()
}
