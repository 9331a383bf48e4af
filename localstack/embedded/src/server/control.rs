//! The paths that are this endpoint's own: health, clock and faults.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::answer::{Answer, plain};
use super::state::State;
use crate::model::Timestamp;

pub(super) const PREFIX: &str = "/_embedded/";

#[derive(Serialize)]
struct Refused {
    error: String,
}

#[derive(Serialize)]
struct Healthy {
    status: &'static str,
}

#[derive(Serialize)]
struct ClockReading {
    now_ms: u64,
    frozen: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockChange {
    set_ms: Option<u64>,
    advance_ms: Option<u64>,
    frozen: Option<bool>,
}

/// Answers a request to one of these paths. Changes take `PUT`, which no web page can send here unasked.
pub(super) fn answer(state: &State, method: &Method, path: &str, body: &[u8]) -> Answer {
    match (path.strip_prefix(PREFIX), method) {
        (Some("health"), &Method::GET) => plain(StatusCode::OK, &Healthy { status: "ok" }),
        (Some("clock"), &Method::GET) => clock(state),
        (Some("clock"), &Method::PUT) => match serde_json::from_slice::<ClockChange>(body) {
            Ok(change) => {
                change_clock(state, &change);
                clock(state)
            }
            Err(error) => refused(StatusCode::BAD_REQUEST, format!("clock: {error}")),
        },
        (Some("faults"), &Method::GET) => plain(StatusCode::OK, &state.fault_plan()),
        (Some("faults"), &Method::PUT) => {
            let plan = serde_json::from_slice(body).map_err(|error| error.to_string());
            match plan.and_then(|plan| state.set_faults(plan)) {
                Ok(()) => plain(StatusCode::OK, &state.fault_plan()),
                Err(error) => refused(StatusCode::BAD_REQUEST, format!("faults: {error}")),
            }
        }
        (Some("faults"), &Method::DELETE) => {
            // A plan without rules is always within bounds.
            let _ = state.set_faults(Default::default());
            plain(StatusCode::OK, &state.fault_plan())
        }
        (Some("health" | "clock" | "faults"), _) => refused(
            StatusCode::METHOD_NOT_ALLOWED,
            format!("{method} is not for {path}"),
        ),
        _ => refused(
            StatusCode::NOT_FOUND,
            format!("no {path}; there are health, clock and faults"),
        ),
    }
}

fn refused(status: StatusCode, error: String) -> Answer {
    plain(status, &Refused { error })
}

fn clock(state: &State) -> Answer {
    let reading = state.read_clock(|clock| ClockReading {
        now_ms: clock.now().as_millis(),
        frozen: clock.frozen(),
    });
    plain(StatusCode::OK, &reading)
}

fn change_clock(state: &State, change: &ClockChange) {
    state.with_clock(|clock| {
        if let Some(frozen) = change.frozen {
            clock.freeze(frozen);
        }
        if let Some(millis) = change.set_ms {
            clock.set(Timestamp::from_millis(millis));
        }
        if let Some(millis) = change.advance_ms {
            clock.advance(Duration::from_millis(millis));
        }
    });
}
