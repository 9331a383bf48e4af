//! The labels of requests to SQS, and of what is settled by them.

use crate::queue::ErrorKind;

/// What is asked of SQS: the label `action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `ReceiveMessage`
    Receive,
    /// `DeleteMessageBatch`
    Delete,
    /// `ChangeMessageVisibilityBatch`
    ChangeVisibility,
    /// `SendMessageBatch`
    Send,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 4] = [Self::Receive, Self::Delete, Self::ChangeVisibility, Self::Send];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Receive => "receive",
            Self::Delete => "delete",
            Self::ChangeVisibility => "change_visibility",
            Self::Send => "send",
        }
    }
}

/// How a request ended: the label `result`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestResult {
    /// Every entry succeeded.
    Ok,
    /// The call succeeded, some entries did not.
    Partial,
    /// The call failed.
    Failed(ErrorKind),
}

impl RequestResult {
    /// Every result.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::Ok, Self::Partial]
            .into_iter()
            .chain(ErrorKind::ALL.into_iter().map(Self::Failed))
    }

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed(kind) => kind.as_str(),
        }
    }
}

/// What is done with messages that have been attempted: the label `action` of [`SETTLE_DURATION`](super::SETTLE_DURATION).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Settlement {
    /// Deleted: done, or copied.
    Delete,
    /// Made visible again after a delay.
    ChangeVisibility,
    /// Copied to the dead-letter queue.
    DeadLetter,
    /// Copied to the handover queue.
    Handover,
    /// Copied to the queue they came from.
    Requeue,
}

impl Settlement {
    /// Every settlement.
    pub const ALL: [Self; 5] = [
        Self::Delete,
        Self::ChangeVisibility,
        Self::DeadLetter,
        Self::Handover,
        Self::Requeue,
    ];

    /// The label's value.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Delete => "delete",
            Self::ChangeVisibility => "change_visibility",
            Self::DeadLetter => "dead_letter",
            Self::Handover => "handover",
            Self::Requeue => "requeue",
        }
    }

    /// What is asked of SQS for it.
    #[must_use]
    pub const fn action(self) -> Action {
        match self {
            Self::Delete => Action::Delete,
            Self::ChangeVisibility => Action::ChangeVisibility,
            Self::DeadLetter | Self::Handover | Self::Requeue => Action::Send,
        }
    }
}
