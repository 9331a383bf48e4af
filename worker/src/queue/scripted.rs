//! A queue for unit tests that answers by a script and notes what it was asked.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{BatchResult, Description, ErrorKind, Outgoing, Queue, QueueError, ReceiveRequest, Visibility};
use crate::message::Message;

/// What was asked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call {
    /// Handles.
    Delete(Vec<String>),
    /// Handles, and for how many seconds.
    Change(Vec<(String, u64)>),
    Send(Vec<Outgoing>),
}

impl Call {
    /// How many entries the call has.
    pub(crate) fn entries(&self) -> usize {
        match self {
            Self::Delete(handles) => handles.len(),
            Self::Change(changes) => changes.len(),
            Self::Send(messages) => messages.len(),
        }
    }
}

/// How a call is answered.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Done,
    /// The entries at these places fail.
    Partly(Vec<(usize, ErrorKind)>),
    /// The last so many entries have no result.
    Short(usize),
    Refused(ErrorKind),
    /// Done, so much later.
    Late(Duration),
    Never,
}

type Script = dyn Fn(usize, &Call) -> Answer + Send + Sync;

/// A queue whose answer to the n-th call, counted from 0, is by a function.
pub(crate) struct Scripted {
    script: Box<Script>,
    calls: Mutex<Vec<(Instant, Call)>>,
}

impl Scripted {
    pub(crate) fn new(script: impl Fn(usize, &Call) -> Answer + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            script: Box::new(script),
            calls: Mutex::default(),
        })
    }

    /// What was asked so far, and when.
    pub(crate) fn calls(&self) -> Vec<(Instant, Call)> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was asked so far.
    pub(crate) fn asked(&self) -> Vec<Call> {
        self.calls().into_iter().map(|(_, call)| call).collect()
    }

    async fn call(&self, call: Call) -> BatchResult<()> {
        let entries = call.entries();
        let answer = {
            let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
            let answer = (self.script)(calls.len(), &call);
            calls.push((Instant::now(), call));
            answer
        };
        let mut results = vec![Ok(()); entries];
        match answer {
            Answer::Done => {}
            Answer::Partly(failed) => {
                for (place, kind) in failed {
                    results[place] = Err(QueueError::new(kind, "scripted"));
                }
            }
            Answer::Short(missing) => results.truncate(entries - missing),
            Answer::Refused(kind) => return Err(QueueError::new(kind, "scripted")),
            Answer::Late(delay) => sleep(delay).await,
            Answer::Never => std::future::pending().await,
        }
        Ok(results)
    }
}

impl Queue for Scripted {
    async fn receive(&self, _: ReceiveRequest) -> Result<Vec<Message>, QueueError> {
        unreachable!("these tests receive nothing")
    }

    async fn delete(&self, receipts: &[Arc<str>]) -> BatchResult<()> {
        let handles = receipts.iter().map(ToString::to_string).collect();
        self.call(Call::Delete(handles)).await
    }

    async fn change_visibility(&self, entries: &[Visibility]) -> BatchResult<()> {
        let change = |entry: &Visibility| (entry.receipt.to_string(), entry.after.as_secs());
        self.call(Call::Change(entries.iter().map(change).collect()))
            .await
    }

    async fn send(&self, entries: &[Outgoing]) -> BatchResult<String> {
        let results = self.call(Call::Send(entries.to_vec())).await?;
        Ok(results
            .into_iter()
            .map(|result| result.map(|()| "id".to_owned()))
            .collect())
    }

    async fn description(&self) -> Result<Description, QueueError> {
        unreachable!("these tests ask for no description")
    }
}

/// Events that go nowhere.
pub(crate) fn events() -> Arc<crate::events::Events> {
    events_to(&metrics::NoopRecorder)
}

/// Events whose series are `recorder`'s.
pub(crate) fn events_to(recorder: &dyn metrics::Recorder) -> Arc<crate::events::Events> {
    let identity = crate::release::Identity {
        release: crate::release::Release::new("1.0").unwrap(),
        track: crate::release::Track::Stable,
    };
    let metrics = crate::metrics::Metrics::register(recorder, &identity, "orders", &[]);
    Arc::new(crate::events::Events::new(Arc::new(metrics), "orders", 10))
}
