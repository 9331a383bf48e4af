//! The endpoint for probes, scrapes and people: `/livez`, `/readyz`, `/metrics`, `/evidence`, `/status`. Loopback by default.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Deserialize;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::consumer::health::Health;
use crate::consumer::reflexes::Reflexes;
use crate::evidence::Evidence;
use crate::release::Identity;

/// What the endpoint tells of.
#[derive(Clone, Debug)]
pub struct Admin {
    /// The process's release.
    pub identity: Arc<Identity>,
    /// The consumers, by the name of their queue.
    pub consumers: Vec<(String, Arc<Health>)>,
    /// What the judge of releases gets, of the main queue's consumer.
    pub evidence: Option<(Arc<Evidence>, Arc<Reflexes>)>,
    /// The metrics.
    pub prometheus: PrometheusHandle,
}

impl Admin {
    /// Serves until `stop`.
    pub async fn serve(self, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/livez", get(livez))
            .route("/readyz", get(readyz))
            .route("/metrics", get(metrics))
            .route("/evidence", get(evidence))
            .route("/status", get(status))
            .with_state(self);
        let served = axum::serve(listener, router)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await;
        if let Err(error) = served {
            tracing::error!(%error, "the admin endpoint stopped");
        }
    }

    fn probe(&self, ask: fn(&Health) -> Result<(), String>) -> (StatusCode, String) {
        let wrong: Vec<_> = self
            .consumers
            .iter()
            .filter_map(|(queue, health)| ask(health).err().map(|wrong| format!("{queue}: {wrong}\n")))
            .collect();
        if wrong.is_empty() {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, wrong.concat())
        }
    }
}

async fn livez(State(admin): State<Admin>) -> impl IntoResponse {
    admin.probe(Health::live)
}

async fn readyz(State(admin): State<Admin>) -> impl IntoResponse {
    admin.probe(Health::ready)
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        admin.prometheus.render(),
    )
}

#[derive(Debug, Deserialize)]
struct Since {
    /// Whole seconds since the epoch.
    since: Option<u64>,
}

async fn evidence(State(admin): State<Admin>, since: Result<Query<Since>, QueryRejection>) -> Response {
    let since = match since {
        Ok(Query(Since { since })) => since.unwrap_or(0),
        Err(error) => {
            let text = format!("since: {error}; expected whole seconds since the epoch\n");
            return (StatusCode::BAD_REQUEST, text).into_response();
        }
    };
    let Some((evidence, reflexes)) = admin.evidence else {
        return (StatusCode::NOT_FOUND, "this worker gathers no evidence\n").into_response();
    };
    let mut report = evidence.report(since, reflexes.state());
    report.totals.handed_over = reflexes.handed_over();
    axum::Json(report).into_response()
}

async fn status(State(admin): State<Admin>) -> impl IntoResponse {
    let consumers: Vec<_> = admin
        .consumers
        .iter()
        .map(|(queue, health)| {
            json!({
                "queue": queue,
                "live": health.live().is_ok(),
                "ready": health.ready().is_ok(),
                "held": health.held(),
                "done": health.done(),
                "failed_attempts": health.failed(),
                "returned": health.returned(),
            })
        })
        .collect();
    let body = json!({
        "release": admin.identity.release,
        "track": admin.identity.track,
        "version": env!("CARGO_PKG_VERSION"),
        "consumers": consumers,
    });
    (
        [(header::CONTENT_TYPE, "application/json")],
        format!("{body:#}\n"),
    )
}

/// The most of an answer that [`ask`] reads.
const MAX_ANSWER: usize = 1024 * 1024;

/// GETs `path` from the endpoint at `address`: for health checks in containers without a shell.
///
/// # Errors
/// When nothing answers within `limit`, or with another status than 200; the text says what.
pub async fn ask(address: SocketAddr, path: &str, limit: Duration) -> Result<String, String> {
    let exchange = async {
        let stream = TcpStream::connect(address)
            .await
            .map_err(|error| error.to_string())?;
        let io = TokioIo::new(stream);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
            .await
            .map_err(|error| error.to_string())?;
        let request = hyper::Request::get(path)
            .header(hyper::header::HOST, address.to_string())
            .body(Empty::<Bytes>::new())
            .map_err(|error| error.to_string())?;
        // The sender goes with the answer: while it lives, the connection is kept for another request.
        let answer = async move {
            let response = sender
                .send_request(request)
                .await
                .map_err(|error| error.to_string())?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
            let body = body.map_err(|error| error.to_string())?.to_bytes();
            Ok::<_, String>((status, String::from_utf8_lossy(&body).into_owned()))
        };
        // The connection must be driven for the answer to come; when it ends first, the answer tells.
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    let answer = timeout(limit, exchange).await;
    let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {limit:?}")));
    match answer {
        Ok((hyper::StatusCode::OK, body)) => Ok(body),
        Ok((status, body)) => Err(format!("http://{address}{path}: {status}: {}", body.trim_end())),
        Err(error) => Err(format!("http://{address}{path}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::release::{Release, Track};

    #[tokio::test]
    async fn what_is_asked_is_answered_and_what_is_not_there_is_an_error() {
        let identity = Identity {
            release: Release::new("1.4").unwrap(),
            track: Track::Canary,
        };
        let admin = Admin {
            identity: Arc::new(identity),
            consumers: Vec::new(),
            evidence: None,
            prometheus: PrometheusBuilder::new().build_recorder().handle(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let serving = tokio::spawn(admin.serve(listener, stop.clone()));
        let limit = Duration::from_secs(10);
        assert_eq!(ask(address, "/livez", limit).await.unwrap(), "ok\n");
        let status: serde_json::Value =
            serde_json::from_str(&ask(address, "/status", limit).await.unwrap()).unwrap();
        assert_eq!(
            (&status["release"], &status["track"]),
            (&json!("1.4"), &json!("canary"))
        );
        let error = ask(address, "/nothing", limit).await.unwrap_err();
        assert!(error.contains("/nothing: 404"), "{error}");
        stop.cancel();
        serving.await.unwrap();
        let error = ask(address, "/livez", limit).await.unwrap_err();
        assert!(error.contains(&address.to_string()), "{error}");
    }
}
