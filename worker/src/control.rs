//! The control document: how the release tool steers running workers, by one small JSON document they read.
//!
//! It says what each *track* may do: at which rate it receives, whether it is paused, which failure rate is allowed, and
//! whether failed messages are handed over. [`reader`] reads it again and again and keeps [`Directives`] up to date.

pub mod document;
pub mod reader;
pub mod share;
pub mod source;
#[cfg(feature = "ssm")]
pub mod ssm;

pub use self::document::{Document, InvalidDocument, TrackControl, Tracks};
pub use self::reader::{Directives, Reader};
pub use self::source::{File, ReadError, Source};
