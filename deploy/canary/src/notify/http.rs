//! Webhooks: HTTP with rustls.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::json;

use super::{Note, Undelivered};

/// What is posted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// The [`Note`] as JSON.
    Json,
    /// What Slack's incoming webhooks take, and those of others that imitate them: `{"text": …}`.
    Slack,
}

/// A client for plain and encrypted HTTP.
#[derive(Clone, Debug)]
pub(super) struct Client(HyperClient<HttpsConnector<HttpConnector>, Full<Bytes>>);

impl Client {
    pub(super) fn new() -> Result<Self, Undelivered> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|error| Undelivered::new(format!("no certificates to trust: {error}"), false))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Self(HyperClient::builder(TokioExecutor::new()).build(connector)))
    }

    /// Posts; what the answer says beside its status is nobody's concern and is not read.
    pub(super) async fn post(
        &self,
        uri: Uri,
        headers: impl IntoIterator<Item = (HeaderName, HeaderValue)>,
        body: impl Into<Bytes>,
    ) -> Result<(), Undelivered> {
        let mut request = Request::new(Full::new(body.into()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        request.headers_mut().extend(headers);
        let agent = HeaderValue::from_static(concat!("canary/", env!("CARGO_PKG_VERSION")));
        request.headers_mut().insert(USER_AGENT, agent);
        match self.0.request(request).await {
            Ok(answer) => Undelivered::of_status(answer.status().as_u16()).map_or(Ok(()), Err),
            Err(error) => Err(Undelivered::new(chain(&error), true)),
        }
    }
}

/// An error and its sources, in one line; no URL is in there.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    // Chains of errors end; this one is bounded all the same.
    for _ in 0..8 {
        let Some(error) = source else { break };
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

/// A URL to post to.
#[derive(Debug)]
pub(super) struct Webhook {
    client: Client,
    uri: Uri,
    shape: Shape,
}

impl Webhook {
    pub(super) fn new(url: &str, shape: Shape) -> Result<Self, Undelivered> {
        Ok(Self {
            client: Client::new()?,
            uri: check(url).map_err(|error| Undelivered::new(error, false))?,
            shape,
        })
    }

    pub(super) async fn send(&self, note: &Note) -> Result<(), Undelivered> {
        let body = body(note, self.shape)?;
        let json = HeaderValue::from_static("application/json");
        self.client
            .post(self.uri.clone(), [(CONTENT_TYPE, json)], body)
            .await
    }
}

fn body(note: &Note, shape: Shape) -> Result<String, Undelivered> {
    let body = match shape {
        Shape::Json => serde_json::to_string(note),
        Shape::Slack => serde_json::to_string(&json!({"text": slack(&note.line())})),
    };
    body.map_err(|error| Undelivered::new(error.to_string(), false))
}

/// Slack's own three escapes; without them a text could mention everybody (`<!channel>`).
fn slack(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

/// The URL as one that can be posted to.
pub(super) fn check(url: &str) -> Result<Uri, String> {
    url.parse::<Uri>()
        .ok()
        .filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
        .ok_or_else(|| "expected a URL that begins with https:// or http://".to_owned())
}

/// The part of the URL that is no secret.
pub(super) fn host(url: &str) -> String {
    let uri: Option<Uri> = url.parse().ok();
    uri.and_then(|uri| uri.host().map(str::to_owned))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_and_their_secrets_not_told() {
        for url in [
            "https://hooks.example.com/services/T0/B0/secret",
            "http://127.0.0.1:8080/",
        ] {
            assert!(check(url).is_ok(), "{url}");
            assert!(!host(url).contains("secret"));
        }
        for url in [
            "",
            "hooks.example.com/x",
            "ftp://example.com/",
            "https://",
            "https:///secret",
        ] {
            let error = check(url).unwrap_err();
            assert!(
                error.starts_with("expected a URL") && !error.contains("secret"),
                "{url}"
            );
        }
    }

    #[test]
    fn nobody_can_be_called_by_the_name_of_a_release() {
        assert_eq!(slack("<!channel> & <b>"), "&lt;!channel&gt; &amp; &lt;b&gt;");
    }
}
