//! The limits SQS sets, from the pages on quotas and the API reference of AWS.

/// Largest message, and largest batch of messages, in bytes: 1 MiB. Body and attributes count.
pub const MAX_MESSAGE_BYTES: u32 = 1_048_576;
/// Most messages in flight in one queue.
pub const MAX_IN_FLIGHT: usize = 120_000;
/// Most entries of a batch, and most messages of a receive.
pub const MAX_BATCH_ENTRIES: usize = 10;
/// Most attributes of a message.
pub const MAX_MESSAGE_ATTRIBUTES: usize = 10;
/// Longest name or type of a message attribute, in characters.
pub const MAX_ATTRIBUTE_NAME: usize = 256;
/// Longest visibility timeout, and the longest a message can stay in flight in all: 12 hours, in seconds.
pub const MAX_VISIBILITY_SECONDS: u32 = 43_200;
/// Longest delay of a message or a queue: 15 minutes, in seconds.
pub const MAX_DELAY_SECONDS: u32 = 900;
/// Longest wait of a receive, in seconds.
pub const MAX_WAIT_SECONDS: u32 = 20;
/// For how long a FIFO queue remembers a deduplication id: 5 minutes, in seconds.
pub const DEDUPLICATION_SECONDS: u32 = 300;
/// For how long a name is taken after its queue was deleted, and the least time between two purges, in seconds.
pub const WAITING_PERIOD_SECONDS: u32 = 60;
/// Longest name of a queue, with the suffix `.fifo`.
pub const MAX_QUEUE_NAME: usize = 80;
/// Longest message group id, deduplication id or attempt id.
pub const MAX_TOKEN: usize = 128;
/// Most queues in one answer of a listing.
pub const MAX_LISTED: usize = 1000;
