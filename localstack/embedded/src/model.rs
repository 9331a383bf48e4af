//! The queues themselves: a pure state machine with the clock and the randomness passed in.
//!
//! [`Account`] holds the queues and carries out the actions. Nothing in here waits, reads a clock or touches the network,
//! so a test can drive it on any clock. A caller that wants long polling asks [`Account::next_visible_at`] when to try
//! again, and learns from [`Account::take_woken`] which queues an action has made readable.

pub mod action;

mod account;
mod attribute;
mod content;
mod digest;
mod error;
mod fifo;
mod limits;
mod message;
mod queue;
mod receipt;
mod selection;
mod settings;
mod time;

pub use account::{Account, AccountConfig, QueueKey};
pub use attribute::{Binary, MessageAttribute, MessageAttributes};
pub use content::MessageContent;
pub use digest::Md5;
pub use error::{Error, ErrorCode, Result};
pub use limits::*;
pub use message::{MessageId, SequenceNumber};
pub use queue::Depth;
pub use receipt::ReceiptHandle;
pub use time::Timestamp;
