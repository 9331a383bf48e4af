//! A TCP proxy that can go away and come back, and an HTTP proxy that answers wrongly now and then.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

/// Forwards bytes to `target` until it is dropped; then the port is closed and all connections are cut.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) address: SocketAddr,
    task: AbortHandle,
}

impl Wire {
    pub(crate) async fn open(address: &str, target: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = host(target);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut client, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    let mut server = TcpStream::connect(&target).await?;
                    tokio::io::copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self {
            address,
            task: task.abort_handle(),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn host(endpoint: &str) -> String {
    endpoint.trim_start_matches("http://").to_owned()
}

/// What a [`Faults`] proxy answers instead of forwarding.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    /// Every third request is throttled, every fifth fails, every seventh gets an answer that is cut short.
    Sometimes,
    /// Every request is refused for its credentials.
    Credentials,
}

/// An HTTP proxy with faults.
#[derive(Clone, Debug)]
pub(crate) struct Faults {
    target: String,
    wrong: Wrong,
    requests: Arc<AtomicUsize>,
}

impl Faults {
    /// Starts one for `target`; its endpoint, and the count of its requests.
    pub(crate) async fn start(target: &str, wrong: Wrong) -> (String, Arc<AtomicUsize>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(AtomicUsize::new(0));
        let faults = Self {
            target: host(target),
            wrong,
            requests: Arc::clone(&requests),
        };
        let router = Router::new().fallback(answer).with_state(faults);
        tokio::spawn(async move { axum::serve(listener, router).await });
        (endpoint, requests)
    }

    async fn forward(&self, request: Request) -> Response<Body> {
        let stream = TcpStream::connect(&self.target).await.unwrap();
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        let answer = sender.send_request(request).await.unwrap();
        let (parts, body) = answer.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Response::from_parts(parts, Body::from(bytes))
    }
}

async fn answer(State(faults): State<Faults>, request: Request) -> Response<Body> {
    let count = faults.requests.fetch_add(1, Relaxed) + 1;
    match faults.wrong {
        Wrong::Credentials => error(
            StatusCode::FORBIDDEN,
            "com.amazon.coral.service#UnrecognizedClientException",
        ),
        Wrong::Sometimes if count % 3 == 0 => {
            error(StatusCode::BAD_REQUEST, "com.amazonaws.sqs#RequestThrottled")
        }
        Wrong::Sometimes if count % 5 == 0 => error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        Wrong::Sometimes if count % 7 == 0 => {
            // The work is done, and the answer is lost on the way.
            let answer = faults.forward(request).await;
            let (parts, _) = answer.into_parts();
            Response::builder()
                .status(parts.status)
                .body(Body::from("{\"Mess"))
                .unwrap()
        }
        Wrong::Sometimes => faults.forward(request).await,
    }
}

fn error(status: StatusCode, code: &str) -> Response<Body> {
    let body = serde_json::json!({"__type": code, "message": "a fault of the test"}).to_string();
    let answer = Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.0");
    answer.body(Body::from(body)).unwrap()
}
