//! Posts each message to the application beside the worker, in whatever language that is written.
//!
//! The body goes as it is, what else is known of the message goes in headers ([`header`]), and the status of the answer
//! is the outcome. `docs/handlers.md` is the contract for applications; [`outcome`] is the same in code.

pub mod header;

mod answer;
mod outcome;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use tokio::time::{Instant, sleep};

use self::answer::Said;
use self::outcome::Answer;
use crate::handler::{Context, Handler, Outcome, Reason};
use crate::http_client::{ExchangeError, HttpClient, read};
use crate::message::Message;

/// The most that is read of an answer's body. It is thrown away, but read for the sake of the connection.
pub const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// The most reasons that an application has of its own.
pub const MAX_REASONS: usize = 20;

/// How long the text of a failure may take, once its status is known.
const TEXT_TIMEOUT: Duration = Duration::from_secs(2);

/// Between two questions whether the application is there, and the most that one may take.
const READY_INTERVAL: Duration = Duration::from_millis(250);
const READY_TIMEOUT: Duration = Duration::from_secs(2);

/// How often it is said that the application is still not there.
const READY_REMINDER: Duration = Duration::from_secs(30);

/// Where the application is, and how to speak to it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where messages are posted to.
    pub url: Uri,
    /// Where a 2xx says that the application takes messages. Without it, any answer of it will do.
    pub ready: Option<Uri>,
    /// How long an answer may take, if that is shorter than the attempt's deadline.
    pub timeout: Option<Duration>,
    /// What the body is said to be.
    pub content_type: HeaderValue,
    /// What the application may reject with.
    pub reasons: Vec<Reason>,
}

/// Posts messages.
#[derive(Clone, Debug)]
pub struct Http {
    options: Options,
    client: HttpClient,
    said: Arc<Said>,
}

impl Http {
    /// A handler that posts to [`Options::url`]. Nothing is asked of the application yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let client = HttpClient::new(&options.url);
        let said = Arc::new(Said::new(&options.reasons));
        Self {
            options,
            client,
            said,
        }
    }

    async fn post(&self, message: &Message, context: &Context) -> Result<Answer, ExchangeError> {
        let mut request = Request::new(Full::new(Bytes::from(message.body.clone())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.options.url.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, self.options.content_type.clone());
        header::write(headers, message, context);
        let timeout = self.options.timeout.unwrap_or(Duration::MAX);
        let deadline = Instant::now() + timeout.min(context.remaining());
        let (head, body) = self.client.send(request, deadline).await?.into_parts();
        let until = if head.status.is_success() {
            deadline
        } else {
            deadline.min(Instant::now() + TEXT_TIMEOUT)
        };
        let (body, rest) = read(body, MAX_ANSWER_BYTES, until).await;
        Ok(Answer {
            status: head.status,
            headers: head.headers,
            body,
            rest,
        })
    }

    /// Whether the application is there; else why not.
    async fn is_ready(&self) -> Result<(), String> {
        let (method, uri) = match &self.options.ready {
            Some(uri) => (Method::GET, uri),
            None => (Method::HEAD, &self.options.url),
        };
        let mut request = Request::new(Full::default());
        *request.method_mut() = method;
        *request.uri_mut() = uri.clone();
        let deadline = Instant::now() + READY_TIMEOUT;
        let answer = self.client.send(request, deadline).await;
        let status = answer.map_err(|error| error.to_string())?.status();
        // 502 to 504 come from a proxy in front of an application that is not there yet, or from one that says so.
        let there = match &self.options.ready {
            Some(_) => status.is_success(),
            None => !(502..=504).contains(&status.as_u16()),
        };
        if there {
            Ok(())
        } else {
            Err(format!("it answers {status}"))
        }
    }
}

impl Handler for Http {
    async fn handle(&self, message: &Message, context: &Context) -> Outcome {
        let answer = self.post(message, context).await;
        if let Ok(answer) = &answer {
            self.said.signals(&answer.headers, context);
        }
        outcome::of(answer, &self.said, SystemTime::now())
    }

    fn reasons(&self) -> &[Reason] {
        &self.options.reasons
    }

    /// Waits for as long as the application is not there: it may take its time to start, and `/readyz` tells.
    async fn ready(&self) {
        let url = self.options.ready.as_ref().unwrap_or(&self.options.url);
        let mut said: Option<Instant> = None;
        // Bounded by whoever waits for it; a log line says now and then what is missing.
        while let Err(why) = self.is_ready().await {
            if said.is_none_or(|at| at.elapsed() >= READY_REMINDER) {
                tracing::warn!(%url, why, "waiting for the application; nothing is received meanwhile");
                said = Some(Instant::now());
            }
            sleep(READY_INTERVAL).await;
        }
        tracing::info!(%url, "the application answers");
    }
}

#[cfg(test)]
mod tests;
