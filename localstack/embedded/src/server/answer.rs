//! Answers: status, headers and a body that a fault can cut.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

use crate::model::{Error, MessageId};

const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.0");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");

/// The connection is to end here: what a fault wants.
#[derive(Debug, Clone, Copy)]
pub(super) struct Severed;

impl fmt::Display for Severed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an injected fault ended the connection")
    }
}

impl std::error::Error for Severed {}

/// The bytes of an answer; cut, it promises all and gives half.
#[derive(Debug)]
pub(super) struct AnswerBody {
    bytes: Bytes,
    promised: u64,
    state: Progress,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Whole,
    Half,
    /// The half is handed over and must leave the buffers before the connection ends.
    Flush,
    Sever,
    End,
}

impl AnswerBody {
    pub(super) fn new(bytes: Vec<u8>) -> Self {
        let state = if bytes.is_empty() {
            Progress::End
        } else {
            Progress::Whole
        };
        Self {
            promised: bytes.len() as u64,
            bytes: bytes.into(),
            state,
        }
    }

    pub(super) fn cut(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() / 2);
        self.state = Progress::Half;
        self
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Severed;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Severed>>> {
        let bytes = std::mem::take(&mut self.bytes);
        match self.state {
            Progress::Whole => {
                self.state = Progress::End;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Progress::Half => {
                self.state = Progress::Flush;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Progress::Flush => {
                self.state = Progress::Sever;
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Progress::Sever => {
                self.state = Progress::End;
                Poll::Ready(Some(Err(Severed)))
            }
            Progress::End => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.state == Progress::End
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(
            if self.state == Progress::Flush || self.state == Progress::Sever {
                1
            } else {
                self.promised
            },
        )
    }
}

pub(super) type Answer = Response<AnswerBody>;

/// An answer as the SDKs expect it.
pub(super) fn answer(request_id: u128, result: Result<Vec<u8>, Error>) -> Answer {
    let id = MessageId::from_random(request_id).to_string();
    let (bytes, error) = match result {
        Ok(bytes) => (bytes, None),
        Err(error) => (error_body(&error), Some(error.code)),
    };
    let mut answer = Response::new(AnswerBody::new(bytes));
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    if let Ok(id) = HeaderValue::try_from(id) {
        answer.headers_mut().insert(REQUEST_ID, id);
    }
    if let Some(code) = error {
        let fault = if code.sender_fault() { "Sender" } else { "Receiver" };
        if let Ok(value) = HeaderValue::try_from(format!("{};{fault}", code.query_code())) {
            answer.headers_mut().insert(QUERY_ERROR, value);
        }
        *answer.status_mut() = StatusCode::from_u16(code.status()).unwrap_or(StatusCode::BAD_REQUEST);
    }
    answer
}

/// An answer of the paths that are this endpoint's own.
pub(super) fn plain(status: StatusCode, body: &impl Serialize) -> Answer {
    let mut answer = Response::new(AnswerBody::new(to_json(body)));
    answer
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    *answer.status_mut() = status;
    answer
}

pub(super) fn to_json(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(512);
    // Writing to memory does not fail, and the types have no keys but text.
    let _ = serde_json::to_writer(&mut bytes, value);
    bytes
}

fn error_body(error: &Error) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        shape: &'a str,
        message: &'a str,
    }
    to_json(&Body {
        shape: error.code.shape(),
        message: &error.message,
    })
}

pub(super) type Dispatched = Result<Answer, Severed>;
