//! The exporter's endpoint: `/metrics`, `/targets` and `/workers/NAME/metrics`, and `/livez`.
//!
//! Worker processes of a local fleet listen on loopback, each on a port of its own. `/targets` names them as Prometheus'
//! `http_sd_configs` take it, and `/workers/NAME/metrics` hands on what one of them says, so that a Prometheus elsewhere finds and reaches
//! them by this endpoint alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Exporter;
use crate::journal::{Journal, ProcessMeasured, Store};

/// How long a worker may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

type Shared<S> = Arc<Mutex<Exporter<S>>>;

/// Serves until `stop`.
///
/// # Errors
/// When the listener fails.
pub async fn serve<S: Store + Send + Sync + 'static>(
    exporter: Exporter<S>,
    listener: TcpListener,
    stop: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/metrics", get(metrics::<S>))
        .route("/targets", get(targets::<S>))
        .route("/workers/{name}/metrics", get(worker_metrics::<S>))
        .with_state(Arc::new(Mutex::new(exporter)));
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn metrics<S: Store + Send + Sync>(State(exporter): State<Shared<S>>) -> impl IntoResponse {
    // One look at a time: two Prometheus do not ask SQS twice at once.
    let text = exporter.lock().await.scrape().await;
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// The processes of `journal` that can be asked.
fn processes(journal: &Journal) -> impl Iterator<Item = (&ProcessMeasured, SocketAddr)> {
    let measured = &journal.measured;
    let all = measured.stable.processes.iter().chain(&measured.canary.processes);
    all.filter_map(|process| Some((process, process.address.as_ref()?.parse().ok()?)))
}

async fn targets<S: Store + Send + Sync>(State(exporter): State<Shared<S>>, headers: HeaderMap) -> Response {
    let mut exporter = exporter.lock().await;
    let journal = match exporter.journal().await {
        Ok(journal) => journal,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
    };
    // As it was called here, so it is reached.
    let here = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .unwrap_or_default();
    let groups: Vec<_> = journal
        .into_iter()
        .flat_map(processes)
        .map(|(process, _)| {
            json!({
                "targets": [here],
                "labels": {
                    "__metrics_path__": format!("/workers/{}/metrics", process.name),
                    "instance": process.name,
                },
            })
        })
        .collect();
    axum::Json(groups).into_response()
}

async fn worker_metrics<S: Store + Send + Sync>(
    State(exporter): State<Shared<S>>,
    Path(name): Path<String>,
) -> Response {
    let address = {
        let mut exporter = exporter.lock().await;
        let journal = exporter.journal().await.ok().flatten();
        let mut all = journal.into_iter().flat_map(processes);
        all.find_map(|(process, address)| (process.name == name).then_some(address))
    };
    let Some(address) = address else {
        return (
            StatusCode::NOT_FOUND,
            format!("the fleet has no process {name}\n"),
        )
            .into_response();
    };
    match worker::admin::ask(address, "/metrics", PATIENCE).await {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::BAD_GATEWAY, format!("{name} at {address}: {error}\n")).into_response(),
    }
}
