//! Asks processes for their evidence over HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use worker::evidence::Report;
use worker::evidence::report::SCHEMA;

/// How long a process may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A process to ask: its name in the fleet, and where it answers.
pub type Endpoint = (String, SocketAddr);

/// Asks all of them at once for their windows from `since` on. Takes as long as the slowest, 2 s at most.
pub async fn ask(endpoints: Vec<Endpoint>, since: u64) -> Vec<(String, Result<Report, String>)> {
    let mut asked = JoinSet::new();
    for (name, address) in endpoints {
        asked.spawn(async move { (name, ask_one(address, since).await) });
    }
    let mut answers = Vec::new();
    while let Some(answer) = asked.join_next().await {
        // A panic of the client is no answer: the window waits, and is closed without this process.
        answers.extend(answer.ok());
    }
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    answers
}

async fn ask_one(address: SocketAddr, since: u64) -> Result<Report, String> {
    let answer = worker::admin::ask(address, &format!("/evidence?since={since}"), PATIENCE).await?;
    let report: Report = serde_json::from_str(&answer).map_err(|error| {
        format!("http://{address}/evidence: {error}; expected a report of schema {SCHEMA}")
    })?;
    if report.schema > SCHEMA {
        return Err(format!(
            "http://{address}/evidence: its schema is {}, expected {SCHEMA} at most: the worker is newer than this tool",
            report.schema
        ));
    }
    Ok(report)
}
