//! Who is told, as `canary.toml` says it.
//!
//! ```toml
//! [[notify]]
//! webhook = "https://hooks.example.com/rollouts"  # a POST for each note
//! shape = "json"                                  # or "slack"
//!
//! [[notify]]
//! webhook_from = "SLACK_WEBHOOK"                  # the variable that holds the URL: such URLs are secrets
//! shape = "slack"
//! redact = true                                   # leaves out errors, people's words, names of machines, ids of messages
//!
//! [[notify]]
//! sns = "arn:aws:sns:eu-west-1:123456789012:releases"
//! ```

use serde::Deserialize;

use super::{Shape, Subscriber, Target};
use crate::discretion::Discretion;

/// The most targets; each has a task of its own.
const MOST: usize = 16;

/// The part of the file that is read here.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    notify: Vec<Low>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Low {
    webhook: Option<String>,
    webhook_from: Option<String>,
    sns: Option<String>,
    shape: Option<LowShape>,
    #[serde(default)]
    redact: bool,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum LowShape {
    Json,
    Slack,
}

/// The subscribers that the file `text` names; `variable` gives the environment.
///
/// # Errors
/// The first thing that is wrong. No URL is in it.
pub fn read(text: &str, variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Vec<Subscriber>> {
    // The library's own form shows the line, and with it what may be secret.
    let File { notify } = toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start));
        let line = before.map_or(1, |before| 1 + before.matches('\n').count());
        anyhow::anyhow!("line {line}: {}", error.message())
    })?;
    anyhow::ensure!(
        notify.len() <= MOST,
        "{} [[notify]] are given, expected at most {MOST}",
        notify.len()
    );
    let numbered = notify.iter().enumerate();
    let read = |(index, low): (usize, &Low)| {
        let read = low.subscriber(&variable);
        read.map_err(|error| anyhow::anyhow!("notify[{index}]: {error}"))
    };
    numbered.map(read).collect()
}

impl Low {
    fn subscriber(&self, variable: impl Fn(&str) -> Option<String>) -> Result<Subscriber, String> {
        let shape = match self.shape {
            None | Some(LowShape::Json) => Shape::Json,
            Some(LowShape::Slack) => Shape::Slack,
        };
        let target = match (&self.webhook, &self.webhook_from, &self.sns) {
            (Some(url), None, None) => {
                Target::webhook(url, shape).map_err(|error| format!("webhook: {error}"))?
            }
            (None, Some(name), None) => {
                let url = variable(name).filter(|url| !url.is_empty());
                let url = url.ok_or_else(|| format!("webhook_from: the variable {name} is not set"))?;
                Target::webhook(&url, shape).map_err(|error| format!("webhook_from: {name}: {error}"))?
            }
            (None, None, Some(_)) if self.shape.is_some() => {
                return Err("shape is for webhooks; SNS gets JSON".to_owned());
            }
            (None, None, Some(topic)) => Target::sns(topic).map_err(|error| format!("sns: {error}"))?,
            (None, None, None) | (Some(_), ..) | (None, Some(_), Some(_)) => {
                return Err("expected one of webhook, webhook_from and sns".to_owned());
            }
        };
        let discretion = if self.redact {
            Discretion::Redacted
        } else {
            Discretion::Bounded
        };
        Ok(Subscriber { target, discretion })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        (name == "HOOK").then(|| "https://hooks.example.com/secret".to_owned())
    }

    #[test]
    fn the_documented_targets_are_read_and_the_rest_of_the_file_is_not() {
        let text = r#"
            [fleet]
            kind = "moon"
            [[notify]]
            webhook = "http://127.0.0.1:1/x"
            [[notify]]
            webhook_from = "HOOK"
            shape = "slack"
            redact = true
            [[notify]]
            sns = "arn:aws:sns:eu-west-1:123456789012:releases"
        "#;
        let read = read(text, variable).unwrap();
        assert_eq!(
            read[1],
            Subscriber {
                target: Target::webhook("https://hooks.example.com/secret", Shape::Slack).unwrap(),
                discretion: Discretion::Redacted
            }
        );
        assert_eq!((read.len(), read[0].discretion), (3, Discretion::Bounded));
        assert!(!format!("{read:?}").contains("secret"), "not even by Debug");
    }

    #[test]
    fn what_is_wrong_is_named_and_no_url_is_told() {
        for (text, expected) in [
            ("", "expected one of webhook"),
            ("webhook = \"secret\"", "webhook: expected a URL"),
            ("webhook = \"https://a/secret\"\nsns = \"x\"", "expected one of"),
            ("webhook_from = \"NO\"", "the variable NO is not set"),
            ("sns = \"releases\"", "expected the ARN of a topic"),
            (
                "sns = \"arn:aws:sns:r:1:t\"\nshape = \"slack\"",
                "shape is for webhooks",
            ),
            ("webhok = \"https://a/secret\"", "webhok"),
            ("webhook = \"https://a/secret\"\nshape = \"xml\"", "xml"),
        ] {
            let text = format!("[[notify]]\n{text}\n");
            let error = format!("{:#}", read(&text, variable).unwrap_err());
            assert!(
                error.contains(expected) && !error.contains("secret"),
                "{text}: {error}"
            );
        }
        let many = "[[notify]]\nwebhook = \"https://a/\"\n".repeat(17);
        assert!(
            read(&many, variable)
                .unwrap_err()
                .to_string()
                .contains("at most 16")
        );
        assert_eq!(read("[fleet]\n", variable).unwrap(), []);
    }
}
