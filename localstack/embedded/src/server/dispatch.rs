//! From a request to its action and back.

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::Request;
use hyper::body::{Body, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::answer::{self, Answer, Dispatched, Severed, to_json};
use super::state::State;
use super::{control, poll};
use crate::faults::{Decision, Outcome};
use crate::model::action::{
    Action, ChangeMessageVisibilityBatch, DeleteMessageBatch, DeleteQueue, Disturbance, ReceiveMessage,
    SendMessageBatch,
};
use crate::model::{Account, Error, ErrorCode, Result, Timestamp};

/// Longest request. A message of 1 MiB takes up to six times that in JSON, when every byte is escaped.
pub(super) const MAX_REQUEST_BYTES: usize = 8 << 20;
/// A longer request must wait for one of few permits, so that memory stays bounded.
const SMALL_REQUEST_BYTES: u64 = 256 << 10;

/// Answers one request.
///
/// # Errors
/// When a fault wants the connection to end.
pub(super) async fn answer(state: &State, request: Request<Incoming>) -> Dispatched {
    let own = request.uri().path().starts_with(control::PREFIX);
    if own {
        let (parts, body) = request.into_parts();
        return Ok(match read(state, body).await {
            Ok(body) => control::answer(state, &parts.method, parts.uri.path(), &body),
            Err(error) => answer::answer(state.request_id(), Err(error)),
        });
    }
    let action = match target(&request) {
        Ok(action) => action,
        Err(error) => return Ok(answer::answer(state.request_id(), Err(error))),
    };
    match read(state, request.into_body()).await {
        Ok(body) => act(state, action, &body).await,
        Err(error) => Ok(answer::answer(state.request_id(), Err(error))),
    }
}

/// The action that the header `X-Amz-Target` names.
fn target<B>(request: &Request<B>) -> Result<Action> {
    let Some(header) = request.headers().get("x-amz-target") else {
        let message =
            "This endpoint speaks AWS JSON 1.0: a POST with the header X-Amz-Target: AmazonSQS.<action>.";
        return Err(Error::new(ErrorCode::UnknownOperation, message));
    };
    let name = header
        .to_str()
        .ok()
        .and_then(|target| target.strip_prefix("AmazonSQS."))
        .unwrap_or_default();
    if let Some(action) = Action::ALL.iter().find(|action| action.name() == name) {
        return Ok(*action);
    }
    const NOT_HERE: [&str; 8] = [
        "AddPermission",
        "CancelMessageMoveTask",
        "ListMessageMoveTasks",
        "ListQueueTags",
        "RemovePermission",
        "StartMessageMoveTask",
        "TagQueue",
        "UntagQueue",
    ];
    let shown = String::from_utf8_lossy(header.as_bytes());
    Err(if NOT_HERE.contains(&name) {
        Error::new(
            ErrorCode::UnsupportedOperation,
            format!("This endpoint does not have {name}."),
        )
    } else {
        Error::new(
            ErrorCode::UnknownOperation,
            format!("There is no action {shown}."),
        )
    })
}

async fn read(state: &State, body: Incoming) -> Result<Bytes> {
    let _permit = match body.size_hint().upper() {
        Some(0..=SMALL_REQUEST_BYTES) => None,
        // The semaphore is never closed.
        _ => state.large_requests.acquire().await.ok(),
    };
    match Limited::new(body, MAX_REQUEST_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("Request size exceeded {MAX_REQUEST_BYTES} bytes.");
            Err(Error::new(ErrorCode::RequestEntityTooLarge, message))
        }
        Err(_) => Err(Error::new(ErrorCode::Serialization, "The request ended early.")),
    }
}

async fn act(state: &State, action: Action, body: &[u8]) -> Dispatched {
    let decision = state.decide(action);
    let request_id = state.request_id();
    let mut result = Ok(Vec::new());
    if decision.outcome.executes() {
        result = execute(state, action, body, decision.disturbance).await;
    }
    if !decision.delay.is_zero() {
        tokio::time::sleep(decision.delay).await;
    }
    finish(request_id, result, decision)
}

fn finish(request_id: u128, result: Result<Vec<u8>>, decision: Decision) -> Dispatched {
    let result = decision.outcome.error().map_or(result, Err);
    let answer: Answer = answer::answer(request_id, result);
    match decision.outcome {
        Outcome::RequestLost | Outcome::AnswerLost => Err(Severed),
        Outcome::AnswerCut => Ok(answer.map(answer::AnswerBody::cut)),
        Outcome::Normal | Outcome::Refused(_) | Outcome::FailedAfter(_) => Ok(answer),
    }
}

async fn execute(state: &State, action: Action, body: &[u8], disturbance: Disturbance) -> Result<Vec<u8>> {
    match action {
        Action::ReceiveMessage => {
            let request = ReceiveMessage {
                disturbance,
                ..decode(body)?
            };
            poll::receive(state, &request)
                .await
                .map(|output| to_json(&output))
        }
        Action::SendMessageBatch => run(state, body, |account, now, request| {
            account.send_message_batch(
                now,
                SendMessageBatch {
                    disturbance,
                    ..request
                },
            )
        }),
        Action::DeleteMessageBatch => run(state, body, |account, now, request| {
            account.delete_message_batch(
                now,
                DeleteMessageBatch {
                    disturbance,
                    ..request
                },
            )
        }),
        Action::ChangeMessageVisibilityBatch => run(state, body, |account, now, request| {
            account.change_message_visibility_batch(
                now,
                ChangeMessageVisibilityBatch {
                    disturbance,
                    ..request
                },
            )
        }),
        Action::DeleteQueue => delete_queue(state, body),
        Action::SendMessage => run(state, body, Account::send_message),
        Action::DeleteMessage => done(state, body, |account, now, request| {
            account.delete_message(now, request)
        }),
        Action::ChangeMessageVisibility => done(state, body, |account, now, request| {
            account.change_message_visibility(now, request)
        }),
        Action::CreateQueue => run(state, body, |account, now, request| {
            account.create_queue(now, &request)
        }),
        Action::GetQueueAttributes => run(state, body, |account, now, request| {
            account.queue_attributes(now, &request)
        }),
        Action::GetQueueUrl => run(state, body, |account, _, request| account.queue_url(&request)),
        Action::ListDeadLetterSourceQueues => run(state, body, |account, _, request| {
            account.list_dead_letter_source_queues(&request)
        }),
        Action::ListQueues => run(state, body, |account, _, request| account.list_queues(&request)),
        Action::PurgeQueue => done(state, body, |account, now, request| {
            account.purge_queue(now, request)
        }),
        Action::SetQueueAttributes => done(state, body, |account, now, request| {
            account.set_queue_attributes(now, request)
        }),
    }
}

fn delete_queue(state: &State, body: &[u8]) -> Result<Vec<u8>> {
    let request: DeleteQueue = decode(body)?;
    let key = state.with_account(|account, now| {
        let key = account.key(&request.queue_url)?;
        account.delete_queue(now, &request).map(|()| key)
    })?;
    state.forget(key);
    Ok(Vec::new())
}

fn run<Q: DeserializeOwned, A: Serialize>(
    state: &State,
    body: &[u8],
    act: impl FnOnce(&mut Account, Timestamp, Q) -> Result<A>,
) -> Result<Vec<u8>> {
    let request = decode(body)?;
    state
        .with_account(|account, now| act(account, now, request))
        .map(|output| to_json(&output))
}

/// Runs an action that answers nothing.
fn done<Q: DeserializeOwned>(
    state: &State,
    body: &[u8],
    act: impl FnOnce(&mut Account, Timestamp, &Q) -> Result<()>,
) -> Result<Vec<u8>> {
    let request = decode(body)?;
    state
        .with_account(|account, now| act(account, now, &request))
        .map(|()| Vec::new())
}

fn decode<Q: DeserializeOwned>(body: &[u8]) -> Result<Q> {
    serde_json::from_slice(body).map_err(|error| Error::new(ErrorCode::Serialization, error.to_string()))
}
