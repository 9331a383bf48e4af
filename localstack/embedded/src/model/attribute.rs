//! Message attributes: the typed values that travel beside a body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::content::{first_forbidden, is_number};
use super::limits::{MAX_ATTRIBUTE_NAME, MAX_MESSAGE_ATTRIBUTES};
use super::{Error, ErrorCode, Result};

/// Bytes, in JSON as Base64.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Binary(pub Vec<u8>);

impl Serialize for Binary {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Binary {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Binary)
            .map_err(|_| serde::de::Error::custom("not Base64"))
    }
}

/// One attribute: a type (`String`, `Number` or `Binary`, with a label of one's own after a dot) and a value.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct MessageAttribute {
    /// Text or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_value: Option<String>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binary_value: Option<Binary>,
    /// The type, at most 256 characters.
    #[serde(deserialize_with = "super::action::nullable")]
    pub data_type: String,
}

pub(super) enum Value<'a> {
    Text(&'a str),
    Bytes(&'a [u8]),
}

impl MessageAttribute {
    /// An attribute of type `String`.
    pub fn string(value: impl Into<String>) -> Self {
        Self {
            string_value: Some(value.into()),
            binary_value: None,
            data_type: "String".into(),
        }
    }

    /// An attribute of type `Number`, which SQS keeps as text.
    pub fn number(value: impl Into<String>) -> Self {
        Self {
            data_type: "Number".into(),
            ..Self::string(value)
        }
    }

    /// An attribute of type `Binary`.
    pub fn binary(value: impl Into<Vec<u8>>) -> Self {
        Self {
            string_value: None,
            binary_value: Some(Binary(value.into())),
            data_type: "Binary".into(),
        }
    }

    pub(super) fn value(&self) -> Value<'_> {
        match (&self.string_value, &self.binary_value) {
            (Some(text), _) => Value::Text(text),
            (None, Some(bytes)) => Value::Bytes(&bytes.0),
            (None, None) => Value::Text(""),
        }
    }

    fn bytes(&self) -> usize {
        self.data_type.len()
            + match self.value() {
                Value::Text(text) => text.len(),
                Value::Bytes(bytes) => bytes.len(),
            }
    }

    fn check(&self, name: &str) -> Result<()> {
        let invalid = |message: String| Err(Error::new(ErrorCode::InvalidParameterValue, message));
        let base = self.data_type.split('.').next().unwrap_or_default();
        if self.data_type.len() > MAX_ATTRIBUTE_NAME || !matches!(base, "String" | "Number" | "Binary") {
            return invalid(format!(
                "The type of message (user) attribute '{name}' is invalid. You must use only the following supported type \
                 prefixes: Binary, Number, String."
            ));
        }
        let wanted_text = base != "Binary";
        let given = if wanted_text {
            self.string_value.is_some()
        } else {
            self.binary_value.is_some()
        };
        let other = if wanted_text {
            self.binary_value.is_some()
        } else {
            self.string_value.is_some()
        };
        let empty = match self.value() {
            Value::Text(text) => text.is_empty(),
            Value::Bytes(bytes) => bytes.is_empty(),
        };
        if !given || other || empty {
            return invalid(format!(
                "The message (user) attribute '{name}' must contain a non-empty message attribute value for message \
                 attribute type '{base}'."
            ));
        }
        if let Value::Text(text) = self.value() {
            if base == "Number" && !is_number(text) {
                return invalid(format!(
                    "Can't cast the value of message (user) attribute '{name}' to a number."
                ));
            }
            if first_forbidden(text).is_some() {
                return invalid(format!(
                    "Invalid characters in the value of message (user) attribute '{name}'."
                ));
            }
        }
        Ok(())
    }
}

/// The attributes of a message by name, at most ten.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageAttributes(BTreeMap<String, MessageAttribute>);

impl MessageAttributes {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Sets the attribute of this name.
    pub fn insert(&mut self, name: impl Into<String>, attribute: MessageAttribute) {
        self.0.insert(name.into(), attribute);
    }

    /// The attribute of this name.
    pub fn get(&self, name: &str) -> Option<&MessageAttribute> {
        self.0.get(name)
    }

    /// All attributes, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &MessageAttribute)> {
        self.0.iter().map(|(name, attribute)| (name.as_str(), attribute))
    }

    /// What the attributes count towards the size of a message, in bytes: names, types and values.
    pub fn bytes(&self) -> usize {
        self.0
            .iter()
            .map(|(name, attribute)| name.len() + attribute.bytes())
            .sum()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.len() > MAX_MESSAGE_ATTRIBUTES {
            let message = format!(
                "Number of message attributes [{}] exceeds the allowed maximum [{MAX_MESSAGE_ATTRIBUTES}].",
                self.len()
            );
            return Err(Error::new(ErrorCode::InvalidParameterValue, message));
        }
        for (name, attribute) in self.iter() {
            if !is_attribute_name(name) {
                let message = format!(
                    "The message (user) attribute name '{name}' is invalid: up to {MAX_ATTRIBUTE_NAME} letters, digits, \
                     hyphens, underscores and single dots inside, not starting with AWS. or Amazon."
                );
                return Err(Error::new(ErrorCode::InvalidParameterValue, message));
            }
            attribute.check(name)?;
        }
        Ok(())
    }
}

impl<N: Into<String>> FromIterator<(N, MessageAttribute)> for MessageAttributes {
    fn from_iter<I: IntoIterator<Item = (N, MessageAttribute)>>(attributes: I) -> Self {
        Self(
            attributes
                .into_iter()
                .map(|(name, attribute)| (name.into(), attribute))
                .collect(),
        )
    }
}

fn is_attribute_name(name: &str) -> bool {
    let reserved = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    (1..=MAX_ATTRIBUTE_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
        && !name.starts_with('.')
        && !name.ends_with('.')
        && !name.contains("..")
        && !reserved("AWS.")
        && !reserved("Amazon.")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(name: &str, attribute: MessageAttribute) -> bool {
        MessageAttributes::from_iter([(name, attribute)]).check().is_err()
    }

    #[test]
    fn names_follow_the_rules_of_sqs() {
        for name in ["a", "A-b_c.d9", "aws", "awsome.x"] {
            assert!(!refused(name, MessageAttribute::string("v")), "{name}");
        }
        for name in [
            "",
            ".a",
            "a.",
            "a..b",
            "aws.x",
            "AMAZON.x",
            "a b",
            "ä",
            &"x".repeat(257),
        ] {
            assert!(refused(name, MessageAttribute::string("v")), "{name}");
        }
    }

    #[test]
    fn types_and_values_must_agree() {
        assert!(!refused(
            "a",
            MessageAttribute {
                data_type: "Number.int".into(),
                ..MessageAttribute::number("-1.5e3")
            }
        ));
        assert!(refused("a", MessageAttribute::number("one")));
        assert!(refused("a", MessageAttribute::string("")));
        assert!(refused("a", MessageAttribute::binary(Vec::new())));
        assert!(refused(
            "a",
            MessageAttribute {
                data_type: "Text".into(),
                ..MessageAttribute::string("v")
            }
        ));
        assert!(refused(
            "a",
            MessageAttribute {
                data_type: "Binary".into(),
                ..MessageAttribute::string("v")
            }
        ));
        assert!(refused("a", MessageAttribute::string("nul\0")));
    }

    #[test]
    fn ten_attributes_are_the_most() {
        let many = |n: usize| {
            (0..n)
                .map(|i| (format!("a{i}"), MessageAttribute::string("v")))
                .collect::<MessageAttributes>()
        };
        assert!(many(10).check().is_ok());
        assert!(many(11).check().is_err());
    }
}
