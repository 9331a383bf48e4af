//! The actions: what they take and what they give, in the JSON of SQS.

mod message;
mod queue;

use serde::{Deserialize, Deserializer, Serialize};

pub use message::{
    BatchOutput, ChangeMessageVisibility, ChangeMessageVisibilityBatch, ChangeVisibilityEntry, DeleteEntry,
    DeleteMessage, DeleteMessageBatch, EntryDone, EntryFailure, ReceiveMessage, ReceiveMessageOutput,
    ReceivedMessage, SendEntry, SendMessage, SendMessageBatch, SendMessageOutput, SentEntry,
    SystemAttributes,
};
pub use queue::{
    CreateQueue, DeleteQueue, GetQueueAttributes, GetQueueUrl, ListDeadLetterSourceQueues,
    ListDeadLetterSourceQueuesOutput, ListQueues, ListQueuesOutput, PurgeQueue, QueueAttributesOutput,
    QueueUrlOutput, SetQueueAttributes,
};

use super::limits::MAX_BATCH_ENTRIES;

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// The actions this endpoint knows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// Every action.
            pub const ALL: &[Action] = &[$(Action::$name,)*];

            /// The name in the API reference.
            pub const fn name(self) -> &'static str {
                match self { $(Action::$name => stringify!($name),)* }
            }
        }
    };
}

actions! {
    /// Changes how long a received message stays invisible.
    ChangeMessageVisibility,
    /// The same for up to ten messages.
    ChangeMessageVisibilityBatch,
    /// Makes a queue.
    CreateQueue,
    /// Deletes a received message.
    DeleteMessage,
    /// Deletes up to ten received messages.
    DeleteMessageBatch,
    /// Deletes a queue with its messages.
    DeleteQueue,
    /// Gives a queue's settings and depth.
    GetQueueAttributes,
    /// Gives the address of a queue by its name.
    GetQueueUrl,
    /// Lists the queues whose redrive policy names this one.
    ListDeadLetterSourceQueues,
    /// Lists the queues.
    ListQueues,
    /// Deletes all messages of a queue.
    PurgeQueue,
    /// Receives up to ten messages.
    ReceiveMessage,
    /// Sends a message.
    SendMessage,
    /// Sends up to ten messages.
    SendMessageBatch,
    /// Changes a queue's settings.
    SetQueueAttributes,
}

/// What faults do to one action inside the queues; none by default.
///
/// Bit `n` of a mask stands for entry or message `n` of a batch. See [`faults`](crate::faults) for where they come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Disturbance {
    /// Entries of a batch that fail although nothing is wrong with them, and change nothing.
    pub failed_entries: u16,
    /// Messages of a receive that stay visible, so that they are delivered again. Standard queues only.
    pub duplicates: u16,
    /// A receive takes messages from anywhere near the front instead of in order. Standard queues only.
    pub shuffle: Option<u64>,
    /// A short poll finds nothing although messages are there. Long polls look everywhere, so they are not touched.
    pub miss: bool,
}

impl Disturbance {
    pub(super) fn fails(&self, entry: usize) -> bool {
        entry < MAX_BATCH_ENTRIES && self.failed_entries >> entry & 1 == 1
    }

    pub(super) fn duplicates(&self, message: usize) -> bool {
        message < MAX_BATCH_ENTRIES && self.duplicates >> message & 1 == 1
    }
}

/// Reads `null` as an absent value, as AWS's services do.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}
