//! The errors of the actions, with the codes SQS gives them.

/// What an action of the model gives.
pub type Result<T> = std::result::Result<T, Error>;

/// A refusal, as SQS words it: a code of a closed set and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}")]
pub struct Error {
    /// Which kind of error.
    pub code: ErrorCode,
    /// What was wrong, for people.
    pub message: String,
}

impl Error {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn value(parameter: &str, value: impl std::fmt::Display, reason: &str) -> Self {
        let message = format!("Value {value} for parameter {parameter} is invalid. Reason: {reason}");
        Self::new(ErrorCode::InvalidParameterValue, message)
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        let message = format!("The request must contain the parameter {parameter}.");
        Self::new(ErrorCode::MissingParameter, message)
    }

    pub(crate) fn no_queue() -> Self {
        Self::new(
            ErrorCode::QueueDoesNotExist,
            "The specified queue does not exist.",
        )
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $status:literal $shape:literal $query:literal,)*) => {
        /// The kinds of errors. The name is that of the API reference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code.
            pub const ALL: &[ErrorCode] = &[$(ErrorCode::$name,)*];

            /// What the field `__type` of an answer says.
            pub const fn shape(self) -> &'static str {
                match self { $(ErrorCode::$name => $shape,)* }
            }

            /// The code of SQS's older query protocol, which the header `x-amzn-query-error` and the failed entries of a
            /// batch carry.
            pub const fn query_code(self) -> &'static str {
                match self { $(ErrorCode::$name => $query,)* }
            }

            /// The HTTP status of the answer.
            pub const fn status(self) -> u16 {
                match self { $(ErrorCode::$name => $status,)* }
            }
        }
    };
}

codes! {
    /// Two entries of a batch have the same id.
    BatchEntryIdsNotDistinct => 400 "com.amazonaws.sqs#BatchEntryIdsNotDistinct"
        "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
    /// All messages of a batch together are too long.
    BatchRequestTooLong => 400 "com.amazonaws.sqs#BatchRequestTooLong" "AWS.SimpleQueueService.BatchRequestTooLong",
    /// A batch without entries.
    EmptyBatchRequest => 400 "com.amazonaws.sqs#EmptyBatchRequest" "AWS.SimpleQueueService.EmptyBatchRequest",
    /// The server failed; the action may or may not have happened. Only faults give it.
    InternalError => 500 "com.amazonaws.sqs#InternalError" "InternalError",
    /// The queue's address is not one of this endpoint.
    InvalidAddress => 400 "com.amazonaws.sqs#InvalidAddress" "InvalidAddress",
    /// An attribute of this name does not exist.
    InvalidAttributeName => 400 "com.amazonaws.sqs#InvalidAttributeName" "InvalidAttributeName",
    /// An attribute of a queue cannot have this value.
    InvalidAttributeValue => 400 "com.amazonaws.sqs#InvalidAttributeValue" "InvalidAttributeValue",
    /// The id of an entry has characters or a length it may not have.
    InvalidBatchEntryId => 400 "com.amazonaws.sqs#InvalidBatchEntryId" "AWS.SimpleQueueService.InvalidBatchEntryId",
    /// The body has characters XML does not allow.
    InvalidMessageContents => 400 "com.amazonaws.sqs#InvalidMessageContents" "InvalidMessageContents",
    /// A parameter cannot have this value.
    InvalidParameterValue => 400 "com.amazon.coral.service#InvalidParameterValueException" "InvalidParameterValue",
    /// The message is not in flight.
    MessageNotInflight => 400 "com.amazonaws.sqs#MessageNotInflight" "AWS.SimpleQueueService.MessageNotInflight",
    /// The action lacks a parameter it needs.
    MissingParameter => 400 "com.amazon.coral.service#MissingRequiredParameterException" "MissingParameter",
    /// A limit was reached: messages in flight, or the memory of this endpoint.
    OverLimit => 400 "com.amazonaws.sqs#OverLimit" "OverLimit",
    /// The queue was purged less than a minute ago.
    PurgeQueueInProgress => 400 "com.amazonaws.sqs#PurgeQueueInProgress" "AWS.SimpleQueueService.PurgeQueueInProgress",
    /// A queue of this name was deleted less than a minute ago.
    QueueDeletedRecently => 400 "com.amazonaws.sqs#QueueDeletedRecently" "AWS.SimpleQueueService.QueueDeletedRecently",
    /// There is no such queue.
    QueueDoesNotExist => 400 "com.amazonaws.sqs#QueueDoesNotExist" "AWS.SimpleQueueService.NonExistentQueue",
    /// A queue of this name exists with other attributes.
    QueueNameExists => 400 "com.amazonaws.sqs#QueueNameExists" "QueueAlreadyExists",
    /// The handle was not given out by this queue.
    ReceiptHandleIsInvalid => 400 "com.amazonaws.sqs#ReceiptHandleIsInvalid" "ReceiptHandleIsInvalid",
    /// The request is longer than any valid one.
    RequestEntityTooLarge => 413 "com.amazon.coral.service#RequestEntityTooLargeException" "RequestEntityTooLarge",
    /// Too many requests. Only faults give it.
    RequestThrottled => 400 "com.amazonaws.sqs#RequestThrottled" "RequestThrottled",
    /// The request is not the JSON the action takes.
    Serialization => 400 "com.amazon.coral.service#SerializationException" "SerializationException",
    /// The server cannot answer now. Only faults and a stopping server give it.
    ServiceUnavailable => 503 "com.amazonaws.sqs#ServiceUnavailable" "ServiceUnavailable",
    /// More than ten entries.
    TooManyEntriesInBatchRequest => 400 "com.amazonaws.sqs#TooManyEntriesInBatchRequest"
        "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
    /// There is no such action.
    UnknownOperation => 400 "com.amazon.coral.service#UnknownOperationException" "InvalidAction",
    /// SQS has this action, this endpoint does not.
    UnsupportedOperation => 400 "com.amazonaws.sqs#UnsupportedOperation" "AWS.SimpleQueueService.UnsupportedOperation",
}

impl ErrorCode {
    /// Whether the caller is to blame. Faults of the server are the others, and SDKs repeat those.
    pub const fn sender_fault(self) -> bool {
        self.status() < 500
    }
}
