//! The worker's HTTP client: pooled connections, a bound on the time of every exchange and on what is read of an answer.
//!
//! Redirects are not followed and no proxy is asked: what it speaks to stands beside the worker.

use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::ring;
use tokio::time::{Instant, timeout_at};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a connection is kept for the next request. Servers close idle ones after 2 s and more; a request that is
/// written to one just closed fails, so ours go first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ExchangeError {
    /// Nobody answers at that address: nothing was sent.
    #[error("no connection: {0}")]
    Unreachable(String),
    /// The time was over first.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// The connection broke before the answer, or the answer is not HTTP: the request may have been processed.
    #[error("no answer: {0}")]
    Broken(String),
}

/// How the reading of a body ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// There is no more.
    Whole,
    /// There is more than was asked for.
    Larger,
    /// The time was over first.
    Late,
    /// The connection broke.
    Broken(String),
}

/// A client; clones share their connections.
#[derive(Clone, Debug)]
pub(crate) enum HttpClient {
    /// Speaks `http` only, and needs no certificates.
    Plain(Client<HttpConnector, Full<Bytes>>),
    /// Speaks both.
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl HttpClient {
    /// A client for servers such as that of `uri`. For `https` it trusts what the system trusts; when it finds no
    /// certificates it says so, and every request is [`ExchangeError::Unreachable`].
    pub(crate) fn new(uri: &Uri) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT);
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_nodelay(true);
        if uri.scheme_str() != Some("https") {
            return Self::Plain(builder.build(tcp));
        }
        match HttpsConnectorBuilder::new().with_provider_and_native_roots(ring::default_provider()) {
            Ok(connector) => {
                tcp.enforce_http(false); // the connector below turns it into TLS
                let connector = connector.https_or_http().enable_http1();
                Self::Tls(builder.build(connector.wrap_connector(tcp)))
            }
            Err(error) => {
                tracing::error!(%error, %uri, "no certificates to trust; https cannot be spoken");
                Self::Plain(builder.build(tcp))
            }
        }
    }

    /// Sends `request` and waits until `deadline` for the head of the answer. Cancel safe, but that the request may
    /// have been sent.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        deadline: Instant,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let began = Instant::now();
        let response = match self {
            Self::Plain(client) => client.request(request),
            Self::Tls(client) => client.request(request),
        };
        match timeout_at(deadline, response).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_connect() => Err(ExchangeError::Unreachable(chain(&error))),
            Ok(Err(error)) => Err(ExchangeError::Broken(chain(&error))),
            Err(_) => Err(ExchangeError::Late(deadline.saturating_duration_since(began))),
        }
    }
}

/// Reads at most `max` bytes of `body`, until `deadline`. A connection whose answer was not read to its end is closed.
pub(crate) async fn read(mut body: Incoming, max: usize, deadline: Instant) -> (Vec<u8>, Rest) {
    let mut bytes = Vec::new();
    // Bounded by `max` and `deadline`.
    loop {
        let data = match timeout_at(deadline, body.frame()).await {
            Err(_) => return (bytes, Rest::Late),
            Ok(None) => return (bytes, Rest::Whole),
            Ok(Some(Err(error))) => return (bytes, Rest::Broken(chain(&error))),
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(), // trailers are nothing to us
        };
        let room = max - bytes.len();
        bytes.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return (bytes, Rest::Larger);
        }
    }
}

/// An error and its sources, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
