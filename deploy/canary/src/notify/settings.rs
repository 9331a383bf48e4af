//! Who is told, as `canary.toml` says it.

use super::{Shape, Subscriber, Target};
use crate::discretion::Discretion;
use crate::reader::{Faults, Field, Form, Section, Takes};

/// The most targets; each has a task of its own.
const MOST: usize = 16;

static ADDRESS: Form = Form {
    expected: "a URL in quotes",
    holds: |_| true,
};
static VARIABLE: Form = Form {
    expected: "the name of a variable, as \"SLACK_WEBHOOK\"",
    holds: |text| !text.is_empty(),
};
static TOPIC: Form = Form {
    expected: "the ARN of a topic in quotes",
    holds: |_| true,
};

static WEBHOOK: Field = Field {
    path: "notify[].webhook",
    takes: Takes::Text(&ADDRESS),
    default: None,
    example: "\"https://hooks.example.com/rollouts\"",
    help: "Gets a POST for each note. One of this and the next two must be there",
};
static WEBHOOK_FROM: Field = Field {
    path: "notify[].webhook_from",
    takes: Takes::Text(&VARIABLE),
    default: None,
    example: "\"SLACK_WEBHOOK\"",
    help: "The same, by the variable that holds the URL: such URLs are secrets",
};
static SNS: Field = Field {
    path: "notify[].sns",
    takes: Takes::Text(&TOPIC),
    default: None,
    example: "\"arn:aws:sns:eu-west-1:123456789012:releases\"",
    help: "A topic of SNS, which gets JSON",
};
static SHAPE: Field = Field {
    path: "notify[].shape",
    takes: Takes::Word(&["json", "slack"]),
    default: Some("\"json\""),
    example: "\"slack\"",
    help: "What a webhook gets",
};
static REDACT: Field = Field {
    path: "notify[].redact",
    takes: Takes::Flag,
    default: Some("false"),
    example: "true",
    help: "Leaves out errors, people's words, names of machines, ids of messages",
};

/// The keys of a target.
pub(crate) static FIELDS: &[&Field] = &[&WEBHOOK, &WEBHOOK_FROM, &SNS, &SHAPE, &REDACT];

/// The subscribers that the tables `[[notify]]` name; `variable` gives the environment. No URL is in a fault.
pub(crate) fn read(
    targets: Vec<Section<'_>>,
    variable: impl Fn(&str) -> Option<String>,
    faults: &mut Faults<'_>,
) -> Vec<Subscriber> {
    if let Some(beyond) = targets.get(MOST) {
        let message = format!("{} [[notify]] are given, expected at most {MOST}", targets.len());
        faults.add(beyond.line, "notify", message);
    }
    let mut subscribers = Vec::new();
    for mut target in targets {
        // The URL of a webhook is a secret.
        target.hide_values();
        let before = faults.count();
        let read = subscriber(&mut target, &variable, faults);
        // A target that is wrong in itself is not told again that it lacks something.
        if faults.count() == before {
            match read {
                Ok(subscriber) => subscribers.push(subscriber),
                Err(error) => faults.add(target.line, target.path(), error),
            }
        }
        target.finish(faults);
    }
    subscribers
}

fn subscriber(
    target: &mut Section<'_>,
    variable: impl Fn(&str) -> Option<String>,
    faults: &mut Faults<'_>,
) -> Result<Subscriber, String> {
    let shaped = target.has(SHAPE.key());
    let shape = match target.word(&SHAPE, faults) {
        "slack" => Shape::Slack,
        _ => Shape::Json,
    };
    let discretion = if target.flag(&REDACT, faults) {
        Discretion::Redacted
    } else {
        Discretion::Bounded
    };
    let webhook = target.text(&WEBHOOK, faults);
    let named = target.text(&WEBHOOK_FROM, faults);
    let topic = target.text(&SNS, faults);
    let target = match (webhook, named, topic) {
        (Some(url), None, None) => {
            Target::webhook(&url, shape).map_err(|error| format!("webhook: {error}"))?
        }
        (None, Some(name), None) => {
            let url = variable(&name).filter(|url| !url.is_empty());
            let url = url.ok_or_else(|| format!("webhook_from: the variable {name} is not set"))?;
            Target::webhook(&url, shape).map_err(|error| format!("webhook_from: {name}: {error}"))?
        }
        (None, None, Some(_)) if shaped => {
            return Err("shape is for webhooks; SNS gets JSON".to_owned());
        }
        (None, None, Some(topic)) => Target::sns(&topic).map_err(|error| format!("sns: {error}"))?,
        (None, None, None) | (Some(_), ..) | (None, Some(_), Some(_)) => {
            return Err("expected one of webhook, webhook_from and sns".to_owned());
        }
    };
    Ok(Subscriber { target, discretion })
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;
    use crate::reader::Fault;

    fn variable(name: &str) -> Option<String> {
        (name == "HOOK").then(|| "https://hooks.example.com/secret".to_owned())
    }

    const KEYS: &[&[&Field]] = &[FIELDS];

    fn read(text: &str) -> Result<Vec<Subscriber>, Vec<Fault>> {
        let mut faults = Faults::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        faults.syntax(syntax, false);
        let mut root = Section::root(table.get_ref(), KEYS);
        let targets = root.sections("notify", &mut faults);
        let read = super::read(targets, variable, &mut faults);
        let list = faults.sorted();
        if list.is_empty() { Ok(read) } else { Err(list) }
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
        let read = read(text).unwrap();
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
            ("", "line 1: notify[0]: expected one of webhook"),
            ("webhook = \"secret\"", "webhook: expected a URL"),
            ("webhook = \"https://a/secret\"\nsns = \"x\"", "expected one of"),
            ("webhook_from = \"NO\"", "the variable NO is not set"),
            ("sns = \"releases\"", "expected the ARN of a topic"),
            (
                "sns = \"arn:aws:sns:r:1:t\"\nshape = \"slack\"",
                "shape is for webhooks",
            ),
            (
                "webhok = \"https://a/secret\"",
                "line 2: notify[0].webhok: unknown key, perhaps webhook",
            ),
            (
                "webhook = \"https://a/\"\nshape = \"secret\"",
                "line 3: notify[0].shape: found a value of type string, expected one of \"json\", \"slack\"",
            ),
            (
                "webhook = [\"https://a/secret\"]",
                "notify[0].webhook: found a value of type array, expected a URL",
            ),
            (
                "webhook = https://a/secret",
                "line 2: notify.webhook: found a text without quotes, expected webhook = ",
            ),
        ] {
            let text = format!("[[notify]]\n{text}\n");
            let faults = read(&text).unwrap_err();
            let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
            let told = told.join("\n");
            assert!(
                told.contains(expected) && !told.contains("secret"),
                "{text}: {told}"
            );
        }
        let many = "[[notify]]\nwebhook = \"https://a/\"\n".repeat(17);
        assert!(read(&many).unwrap_err()[0].message.contains("at most 16"));
        assert_eq!(read("[fleet]\n").unwrap(), []);
    }
}
