//! Task protection: while messages are in hand, ECS is asked not to end this task for a scale-in or a deployment.
//!
//! Source: "Amazon ECS task scale-in protection endpoint" in the ECS developer guide. Best effort: the call is bounded,
//! a failed one is tried again for as long as there is work, and what is not protected is handed back on SIGTERM like
//! everything else. It does not hold against Fargate Spot.

use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Uri};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::failure::bounded;
use crate::http_client::{HttpClient, read};

const MAX_BYTES: usize = 64 * 1024;

/// When to call, and for how long each call protects.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a task is idle before its protection is lifted: a queue that trickles is not worth two calls a message.
    pub linger: Duration,
    /// How long a call protects; 1 to 2,880 min. What a crashed worker leaves behind ends by itself.
    pub expires_minutes: u32,
    /// How long after a call the next one renews it, while there is work.
    pub renew: Duration,
    /// How long a call may take.
    pub timeout: Duration,
    /// How soon a failed call is tried again.
    pub again: Duration,
}

impl Default for Options {
    /// 10 min, renewed every 4 min, so that one renewal can fail; lifted after 5 s of idleness.
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(5),
            expires_minutes: 10,
            renew: Duration::from_secs(240),
            timeout: Duration::from_secs(5),
            again: Duration::from_secs(15),
        }
    }
}

/// The agent that protects this task.
#[derive(Clone, Debug)]
pub struct Agent {
    uri: Uri,
    client: HttpClient,
    options: Options,
}

/// What the agent was last told.
#[derive(Debug)]
struct State {
    /// When to tell it again; none when it was told, and has confirmed, that the task is not to be protected. After a
    /// failed call nobody knows: that counts as protected, and is told again soon.
    renew_at: Option<Instant>,
    /// When to lift the protection, if the task is still idle then.
    lift_at: Instant,
}

impl Agent {
    /// The agent at `base`, the value of `ECS_AGENT_URI`.
    ///
    /// # Errors
    /// When that is no URL.
    pub fn new(base: &str, options: Options) -> Result<Self, String> {
        let url = format!("{}/task-protection/v1/state", base.trim_end_matches('/'));
        let uri: Uri = url
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| error.to_string())?;
        if uri.scheme().is_none() {
            return Err("no scheme".to_owned());
        }
        let client = HttpClient::new(&uri);
        Ok(Self { uri, client, options })
    }

    /// Protects the task while `busy` says so, until `stop`; then the protection is lifted.
    pub async fn run(self, mut busy: watch::Receiver<bool>, stop: CancellationToken) {
        let mut state = State {
            renew_at: None,
            lift_at: Instant::now(),
        };
        // Until `stop`, or the end of those that can be busy; each turn waits for one of its branches.
        loop {
            let wanted = *busy.borrow_and_update();
            let due = match (wanted, state.renew_at) {
                (true, None) => Some(Instant::now()), // the edge from idle to busy
                (true, Some(renew_at)) => Some(renew_at),
                (false, Some(_)) => Some(state.lift_at),
                (false, None) => None,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.call(&mut state, wanted).await,
                changed = busy.changed() => match changed {
                    Ok(()) => state.lift_at = Instant::now() + self.options.linger,
                    Err(_) => break,
                },
            }
        }
        if state.renew_at.is_some() {
            self.call(&mut state, false).await;
        }
    }

    async fn call(&self, state: &mut State, protect: bool) {
        let now = Instant::now();
        let result = timeout(self.options.timeout, self.put(protect)).await;
        let error = match result {
            Ok(Ok(())) => {
                tracing::debug!(protected = protect, "task protection set");
                state.renew_at = protect.then(|| now + self.options.renew);
                return;
            }
            Ok(Err(error)) => error,
            Err(_) => format!("no answer within {:?}", self.options.timeout),
        };
        tracing::warn!(
            protect,
            error,
            "task protection could not be set; trying again while it is needed"
        );
        state.renew_at = Some(now + self.options.again);
        state.lift_at = now + self.options.again;
    }

    async fn put(&self, protect: bool) -> Result<(), String> {
        let mut body = json!({"ProtectionEnabled": protect});
        if protect {
            body["ExpiresInMinutes"] = self.options.expires_minutes.into();
        }
        let mut request = Request::new(Full::new(Bytes::from(body.to_string())));
        *request.method_mut() = Method::PUT;
        *request.uri_mut() = self.uri.clone();
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
        let deadline = Instant::now() + self.options.timeout;
        let answer = self
            .client
            .send(request, deadline)
            .await
            .map_err(|error| error.to_string())?;
        let status = answer.status();
        let (body, _) = read(answer.into_body(), MAX_BYTES, deadline).await;
        // A 200 can carry a failure all the same.
        let done = serde_json::from_slice(&body).is_ok_and(|answer: Value| answer["protection"].is_object());
        if status.is_success() && done {
            Ok(())
        } else {
            Err(format!(
                "{status}: {}",
                bounded(&String::from_utf8_lossy(&body), 300)
            ))
        }
    }
}
