//! A queue's settings: their names, bounds and how they read as text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use super::limits::{MAX_DELAY_SECONDS, MAX_MESSAGE_BYTES, MAX_VISIBILITY_SECONDS, MAX_WAIT_SECONDS};
use super::{Error, ErrorCode, Result};

/// Where a queue's dead messages go, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redrive {
    pub(super) target_arn: Arc<str>,
    pub(super) max_receive_count: u32,
}

/// Which queues may send their dead messages to this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum RedriveAllow {
    All,
    None,
    Only(Vec<String>),
}

/// What can be set on a queue.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) visibility_timeout: u32,
    pub(super) delay_seconds: u32,
    pub(super) retention_seconds: u32,
    pub(super) wait_seconds: u32,
    pub(super) max_message_bytes: u32,
    pub(super) fifo: bool,
    pub(super) content_based_deduplication: bool,
    pub(super) deduplication_by_group: bool,
    throughput_by_group: bool,
    pub(super) redrive: Option<Redrive>,
    pub(super) redrive_allow: RedriveAllow,
    /// Settings that are kept and given back as they came: documents and those on encryption.
    documents: BTreeMap<&'static str, String>,
}

impl Settings {
    pub(super) fn new(fifo: bool) -> Self {
        Self {
            visibility_timeout: 30,
            delay_seconds: 0,
            retention_seconds: 345_600,
            wait_seconds: 0,
            max_message_bytes: MAX_MESSAGE_BYTES,
            fifo,
            content_based_deduplication: false,
            deduplication_by_group: false,
            throughput_by_group: false,
            redrive: None,
            redrive_allow: RedriveAllow::All,
            documents: BTreeMap::from([("SqsManagedSseEnabled", "true".to_owned())]),
        }
    }

    /// These settings with the given ones changed.
    ///
    /// # Errors
    /// `InvalidAttributeName` and `InvalidAttributeValue`; nothing is changed then.
    pub(super) fn with(&self, attributes: &BTreeMap<String, String>) -> Result<Self> {
        let mut changed = self.clone();
        for (name, value) in attributes {
            changed.set(name, value)?;
        }
        if changed.throughput_by_group && !changed.deduplication_by_group {
            let message = "The perMessageGroupId value is allowed for FifoThroughputLimit only when the value for \
                           DeduplicationScope is messageGroup.";
            return Err(Error::new(ErrorCode::InvalidAttributeValue, message));
        }
        Ok(changed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<()> {
        if !self.fifo
            && matches!(
                name,
                "ContentBasedDeduplication" | "DeduplicationScope" | "FifoThroughputLimit"
            )
        {
            return Err(unknown(name));
        }
        match name {
            "VisibilityTimeout" => self.visibility_timeout = number(name, value, 0, MAX_VISIBILITY_SECONDS)?,
            "DelaySeconds" => self.delay_seconds = number(name, value, 0, MAX_DELAY_SECONDS)?,
            "MessageRetentionPeriod" => self.retention_seconds = number(name, value, 60, 1_209_600)?,
            "ReceiveMessageWaitTimeSeconds" => self.wait_seconds = number(name, value, 0, MAX_WAIT_SECONDS)?,
            "MaximumMessageSize" => self.max_message_bytes = number(name, value, 1024, MAX_MESSAGE_BYTES)?,
            "FifoQueue" => {
                if choice(name, value, "false", "true")? != self.fifo {
                    return Err(invalid(name, value));
                }
            }
            "ContentBasedDeduplication" => {
                self.content_based_deduplication = choice(name, value, "false", "true")?
            }
            "DeduplicationScope" => {
                self.deduplication_by_group = choice(name, value, "queue", "messageGroup")?
            }
            "FifoThroughputLimit" => {
                self.throughput_by_group = choice(name, value, "perQueue", "perMessageGroupId")?
            }
            "RedrivePolicy" => {
                self.redrive = (!value.is_empty()).then(|| redrive(value)).transpose()?;
                self.document("RedrivePolicy", value);
            }
            "RedriveAllowPolicy" => {
                self.redrive_allow = if value.is_empty() {
                    RedriveAllow::All
                } else {
                    redrive_allow(value)?
                };
                self.document("RedriveAllowPolicy", value);
            }
            "Policy" => self.document("Policy", value),
            "KmsMasterKeyId" => self.document("KmsMasterKeyId", value),
            "KmsDataKeyReusePeriodSeconds" => {
                number(name, value, 60, 86_400)?;
                self.document("KmsDataKeyReusePeriodSeconds", value);
            }
            "SqsManagedSseEnabled" => {
                choice(name, value, "false", "true")?;
                self.document("SqsManagedSseEnabled", value);
            }
            _ => return Err(unknown(name)),
        }
        Ok(())
    }

    fn document(&mut self, name: &'static str, value: &str) {
        if value.is_empty() {
            self.documents.remove(name);
        } else {
            self.documents.insert(name, value.to_owned());
        }
    }

    /// All settings as text.
    pub(super) fn describe(&self) -> BTreeMap<&'static str, String> {
        let mut all = self.documents.clone();
        all.insert("VisibilityTimeout", self.visibility_timeout.to_string());
        all.insert("DelaySeconds", self.delay_seconds.to_string());
        all.insert("MessageRetentionPeriod", self.retention_seconds.to_string());
        all.insert("ReceiveMessageWaitTimeSeconds", self.wait_seconds.to_string());
        all.insert("MaximumMessageSize", self.max_message_bytes.to_string());
        if self.fifo {
            let scope = if self.deduplication_by_group {
                "messageGroup"
            } else {
                "queue"
            };
            let limit = if self.throughput_by_group {
                "perMessageGroupId"
            } else {
                "perQueue"
            };
            all.insert("FifoQueue", "true".to_owned());
            all.insert(
                "ContentBasedDeduplication",
                self.content_based_deduplication.to_string(),
            );
            all.insert("DeduplicationScope", scope.to_owned());
            all.insert("FifoThroughputLimit", limit.to_owned());
        }
        all
    }
}

fn unknown(name: &str) -> Error {
    Error::new(
        ErrorCode::InvalidAttributeName,
        format!("Unknown Attribute {name}."),
    )
}

fn invalid(name: &str, value: &str) -> Error {
    Error::new(
        ErrorCode::InvalidAttributeValue,
        format!("Invalid value for the parameter {name}: {value}."),
    )
}

fn number(name: &str, value: &str, least: u32, most: u32) -> Result<u32> {
    value
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| invalid(name, value))
}

fn choice(name: &str, value: &str, no: &str, yes: &str) -> Result<bool> {
    match value {
        _ if value == yes => Ok(true),
        _ if value == no => Ok(false),
        _ => Err(invalid(name, value)),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum NumberOrText {
    Number(u32),
    Text(String),
}

fn redrive(value: &str) -> Result<Redrive> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        dead_letter_target_arn: String,
        max_receive_count: NumberOrText,
    }
    let refused = || invalid("RedrivePolicy", value);
    let document: Document = serde_json::from_str(value).map_err(|_| refused())?;
    let count = match document.max_receive_count {
        NumberOrText::Number(count) => Some(count),
        NumberOrText::Text(text) => text.parse().ok(),
    };
    let max_receive_count = count
        .filter(|count| (1..=1000).contains(count))
        .ok_or_else(refused)?;
    Ok(Redrive {
        target_arn: document.dead_letter_target_arn.into(),
        max_receive_count,
    })
}

fn redrive_allow(value: &str) -> Result<RedriveAllow> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Document {
        redrive_permission: String,
        source_queue_arns: Option<Vec<String>>,
    }
    let document: Option<Document> = serde_json::from_str(value).ok();
    match document.map(|document| (document.redrive_permission, document.source_queue_arns)) {
        Some((permission, None)) if permission == "allowAll" => Ok(RedriveAllow::All),
        Some((permission, None)) if permission == "denyAll" => Ok(RedriveAllow::None),
        Some((permission, Some(arns))) if permission == "byQueue" && (1..=10).contains(&arns.len()) => {
            Ok(RedriveAllow::Only(arns))
        }
        _ => Err(invalid("RedriveAllowPolicy", value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(fifo: bool, name: &str, value: &str) -> Result<Settings> {
        Settings::new(fifo).with(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn numbers_keep_their_bounds() {
        for (name, least, most) in [
            ("VisibilityTimeout", 0, 43_200),
            ("DelaySeconds", 0, 900),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("MaximumMessageSize", 1024, 1_048_576_i64),
        ] {
            for good in [least, most] {
                let described = set(false, name, &good.to_string()).unwrap().describe();
                assert_eq!(described[name], good.to_string());
            }
            for bad in [
                (least - 1).to_string(),
                (most + 1).to_string(),
                String::new(),
                "1.5".into(),
            ] {
                assert_eq!(
                    set(false, name, &bad).unwrap_err().code,
                    ErrorCode::InvalidAttributeValue,
                    "{name} {bad}"
                );
            }
        }
    }

    #[test]
    fn a_redrive_policy_takes_its_count_as_number_or_text() {
        for count in ["5", "\"5\""] {
            let value = format!(r#"{{"deadLetterTargetArn":"arn:x","maxReceiveCount":{count}}}"#);
            assert_eq!(
                set(false, "RedrivePolicy", &value)
                    .unwrap()
                    .redrive
                    .unwrap()
                    .max_receive_count,
                5
            );
        }
        for bad in ["{}", "x", r#"{"deadLetterTargetArn":"a","maxReceiveCount":0}"#] {
            assert_eq!(
                set(false, "RedrivePolicy", bad).unwrap_err().code,
                ErrorCode::InvalidAttributeValue
            );
        }
    }

    #[test]
    fn fifo_settings_are_unknown_to_standard_queues() {
        assert_eq!(
            set(false, "DeduplicationScope", "queue").unwrap_err().code,
            ErrorCode::InvalidAttributeName
        );
        assert!(set(true, "DeduplicationScope", "messageGroup").is_ok());
        assert_eq!(
            set(true, "FifoThroughputLimit", "perMessageGroupId")
                .unwrap_err()
                .code,
            ErrorCode::InvalidAttributeValue
        );
    }
}
