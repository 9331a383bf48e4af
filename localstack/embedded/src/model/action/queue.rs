//! Actions on queues.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::nullable;

/// Makes a queue, or gives the address of one that has this name and no other settings.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct CreateQueue {
    /// 1–80 letters, digits, hyphens and underscores; FIFO queues end in `.fifo`.
    #[serde(deserialize_with = "nullable")]
    pub queue_name: String,
    /// Settings by name.
    #[serde(deserialize_with = "nullable")]
    pub attributes: BTreeMap<String, String>,
    /// Accepted, not kept.
    #[serde(rename = "tags", deserialize_with = "nullable")]
    pub tags: BTreeMap<String, String>,
}

macro_rules! on_a_queue {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, Deserialize)]
        #[serde(rename_all = "PascalCase", default)]
        pub struct $name {
            /// The queue's address.
            #[serde(deserialize_with = "nullable")]
            pub queue_url: String,
            $($(#[$field_doc])* #[serde(deserialize_with = "nullable")] pub $field: $type,)*
        }
    )*};
}

on_a_queue! {
    /// Gives settings and depth of a queue.
    GetQueueAttributes {
        /// Names, or `All`; none gives nothing.
        attribute_names: Vec<String>,
    }
    /// Changes settings of a queue.
    SetQueueAttributes {
        /// Settings by name; those not named stay.
        attributes: BTreeMap<String, String>,
    }
    /// Deletes all messages, once a minute at most.
    PurgeQueue {}
    /// Deletes a queue with its messages.
    DeleteQueue {}
    /// Lists the queues whose redrive policy names this one.
    ListDeadLetterSourceQueues {
        /// 1–1000; with it, the answer can carry a token for the rest.
        max_results: Option<i32>,
        /// From the answer before.
        next_token: Option<String>,
    }
}

/// Gives the address of a queue.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct GetQueueUrl {
    /// The queue's name.
    #[serde(deserialize_with = "nullable")]
    pub queue_name: String,
    /// Only this endpoint's own account has queues.
    #[serde(rename = "QueueOwnerAWSAccountId")]
    pub queue_owner: Option<String>,
}

/// Lists queues in the order of their names.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ListQueues {
    /// Only queues whose name starts so.
    pub queue_name_prefix: Option<String>,
    /// 1–1000; with it, the answer can carry a token for the rest.
    pub max_results: Option<i32>,
    /// From the answer before.
    pub next_token: Option<String>,
}

/// Where a queue is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueueUrlOutput {
    /// The queue's address.
    pub queue_url: String,
}

/// Settings and depth by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct QueueAttributesOutput {
    /// Values as text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<&'static str, String>,
}

/// Addresses of queues.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListQueuesOutput {
    /// Sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub queue_urls: Vec<String>,
    /// There are more; ask with this token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}

/// Addresses of the queues that name a dead-letter queue.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ListDeadLetterSourceQueuesOutput {
    /// Sorted by name. The lower-case name is SQS's.
    #[serde(rename = "queueUrls")]
    pub queue_urls: Vec<String>,
    /// There are more; ask with this token.
    #[serde(rename = "NextToken", skip_serializing_if = "Option::is_none")]
    pub next_token: Option<String>,
}
