//! The extended client library's pointer to a body in S3.
//!
//! Source: the Amazon SQS Extended Client Library for Java, and its payload offloading library.

use std::fmt;

use serde::Deserialize;

use crate::message::Message;

/// What marks a message whose body is in S3: today's attribute, and that of versions before 2.
pub const SIZE_ATTRIBUTES: [&str; 2] = ["ExtendedPayloadSize", "SQSLargePayloadSize"];

/// The class that the pointer names: today's, and that of versions before 2.
const CLASSES: [&str; 2] = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
];

/// Where a body is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Pointer {
    /// The bucket.
    #[serde(rename = "s3BucketName")]
    pub bucket: String,
    /// The object's key in it.
    #[serde(rename = "s3Key")]
    pub key: String,
}

/// A message that says it has a pointer and has none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the attribute {attribute} says that the body is in S3, and the body is no pointer ({problem}); expected [class, {{\"s3BucketName\": …, \"s3Key\": …}}]"
)]
pub struct BrokenPointer {
    attribute: &'static str,
    problem: String,
}

impl Pointer {
    /// The pointer in `message`; none when no attribute says that there is one.
    ///
    /// # Errors
    /// When an attribute says so and the body is anything else.
    pub fn of(message: &Message) -> Result<Option<Self>, BrokenPointer> {
        let Some(attribute) = SIZE_ATTRIBUTES
            .into_iter()
            .find(|name| message.attributes.contains_key(*name))
        else {
            return Ok(None);
        };
        let broken = |problem: String| BrokenPointer { attribute, problem };
        let (class, pointer): (String, Self) =
            serde_json::from_str(&message.body).map_err(|error| broken(error.to_string()))?;
        if !CLASSES.contains(&class.as_str()) {
            return Err(broken("it names another class".to_owned()));
        }
        if pointer.bucket.is_empty() || pointer.key.is_empty() {
            return Err(broken("bucket or key is empty".to_owned()));
        }
        Ok(Some(pointer))
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}
