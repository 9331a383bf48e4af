//! From the application's answer to the outcome.

use std::time::{Duration, SystemTime};

use hyper::header::RETRY_AFTER;
use hyper::{HeaderMap, StatusCode};

use super::answer::Said;
use crate::failure::bounded;
use crate::handler::Outcome;
use crate::http_client::{ExchangeError, Rest};

/// The most of an answer's text that becomes the error.
const MAX_TEXT_BYTES: usize = 1024;

/// The longest `Retry-After` that is kept. A message can wait 12 h at most, less what it has waited.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// What the application answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body's beginning.
    pub(super) body: Vec<u8>,
    pub(super) rest: Rest,
}

/// The outcome of an exchange. `said` knows the application's reasons; `now` is for a `Retry-After` that names a date.
pub(super) fn of(answer: Result<Answer, ExchangeError>, said: &Said, now: SystemTime) -> Outcome {
    let answer = match answer {
        Ok(answer) => answer,
        // Nobody has seen the message.
        Err(error @ ExchangeError::Unreachable(_)) => return Outcome::unavailable(error),
        // It may be the message that makes the application hang or crash: it costs a receive.
        Err(error @ (ExchangeError::Late(_) | ExchangeError::Broken(_))) => return Outcome::retry(error),
    };
    let after = retry_after(&answer.headers, now);
    match answer.status.as_u16() {
        200..=299 => done(answer),
        429 | 503 => Outcome::Unavailable {
            after,
            error: text(&answer),
        },
        408 | 409 | 425 | 500..=599 => Outcome::Retry {
            after,
            error: text(&answer),
        },
        400..=499 => Outcome::reject(said.reason(&answer.headers), text(&answer)),
        // A redirect is a mistake in the settings, and what is below 200 or above 599 one in the application.
        _ => Outcome::retry(format!("{}; expected 2xx, 4xx or 5xx", text(&answer))),
    }
}

/// An answer that breaks off says that the application did: its status was sent before the end.
fn done(answer: Answer) -> Outcome {
    match answer.rest {
        Rest::Whole | Rest::Larger => Outcome::Done,
        Rest::Late => Outcome::retry(format!("{}, and no end of the answer in time", answer.status)),
        Rest::Broken(error) => {
            Outcome::retry(format!("{}, and the answer broke off: {error}", answer.status))
        }
    }
}

/// Status and the beginning of the body.
fn text(answer: &Answer) -> String {
    let body = &answer.body[..answer.body.len().min(MAX_TEXT_BYTES)];
    let body = String::from_utf8_lossy(body);
    if body.trim().is_empty() {
        return answer.status.to_string();
    }
    format!("{}: {}", answer.status, bounded(body.trim(), MAX_TEXT_BYTES))
}

/// Seconds, or a date; none when it is neither.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let after = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        // A date that has passed means now.
        Err(_) => httpdate::parse_http_date(value)
            .ok()?
            .duration_since(now)
            .unwrap_or_default(),
    };
    Some(after.min(MAX_RETRY_AFTER))
}
