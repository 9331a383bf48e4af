//! What the command line can say about the messages.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::failure::ATTRIBUTE;
use crate::message::{self, Attributes, MAX_ATTRIBUTES};
use crate::queue::{Description, MAX_BATCH, Outgoing};

/// The arguments of `worker send`.
#[derive(Clone, Debug, Default, Args)]
pub struct Arguments {
    /// The file to send, one message a line; standard input without one, or for `-`
    #[arg(value_name = "FILE")]
    pub file: Option<PathBuf>,

    /// An attribute of every message, of type String; can be given up to ten times
    #[arg(long = "attribute", value_name = "NAME=VALUE")]
    pub attributes: Vec<Attribute>,

    /// The message group of every message; required on a FIFO queue
    #[arg(long, value_name = "ID", value_parser = token)]
    pub group: Option<String>,

    /// On a FIFO queue: line 7 gets the deduplication id PREFIX-7, so that sending the file again within five minutes
    /// doubles nothing. Default: a prefix of its own for each run
    #[arg(long, value_name = "PREFIX", value_parser = token)]
    pub deduplication: Option<String>,

    /// How long a message stays hidden after it was sent, up to 15m; standard queues only
    #[arg(long, value_name = "DURATION", value_parser = delay)]
    pub delay: Option<Duration>,

    /// Messages a second, such as 50 or 0.5/s; as fast as SQS takes them without it
    #[arg(long, value_name = "N/s")]
    pub rate: Option<Rate>,
}

/// An attribute as it was typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    name: String,
    value: String,
}

impl FromStr for Attribute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, value)) = text.split_once('=') else {
            return Err("expected NAME=VALUE".to_owned());
        };
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
        let lower = name.to_ascii_lowercase();
        let reserved = lower.starts_with("aws.") || lower.starts_with("amazon.") || name == ATTRIBUTE;
        let dots = name.starts_with('.') || name.ends_with('.') || name.contains("..");
        if name.is_empty() || name.len() > 256 || !name.chars().all(allowed) || dots {
            return Err(format!(
                "{name:?} is no attribute's name; expected 1 to 256 characters of A-Z a-z 0-9 _ - . without a dot at \
                 either end or two together"
            ));
        }
        if reserved {
            return Err(format!("the name {name:?} is reserved"));
        }
        if value.is_empty() {
            return Err(format!("{name} has no value; SQS takes no empty one"));
        }
        Ok(Self {
            name: name.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// Messages a second; more than 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.strip_suffix("/s").unwrap_or(text).trim();
        let rate = number.parse().ok().filter(|rate| (0.001..=1e6).contains(rate));
        rate.map(Self)
            .ok_or_else(|| "expected a number from 0.001 to 1000000, such as 50 or 0.5/s".to_owned())
    }
}

impl Rate {
    /// How many messages a request may have: those of a tenth of a second, so that the rate is even.
    pub(super) fn batch(self) -> usize {
        (1..MAX_BATCH)
            .find(|count| self.time(*count) >= Duration::from_millis(100))
            .unwrap_or(MAX_BATCH)
    }

    /// How long `count` messages take.
    pub(super) fn time(self, count: usize) -> Duration {
        Duration::from_secs_f64(1.0 / self.0).saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

/// An id as SQS takes it.
fn token(text: &str) -> Result<String, String> {
    let whole = (1..=100).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    let expected = "expected 1 to 100 printable ASCII characters without spaces";
    whole.then(|| text.to_owned()).ok_or_else(|| expected.to_owned())
}

fn delay(text: &str) -> Result<Duration, String> {
    let delay = humantime::parse_duration(text).ok();
    delay
        .filter(|delay| *delay <= Duration::from_secs(900) && delay.subsec_nanos() == 0)
        .ok_or_else(|| "expected a duration in whole seconds up to 15m, such as 30s".to_owned())
}

impl Arguments {
    /// Whether they fit the queue.
    ///
    /// # Errors
    /// What does not, for a person.
    pub fn fit(&self, queue: &Description) -> Result<(), String> {
        let name = queue.name();
        if self.attributes.len() > MAX_ATTRIBUTES {
            return Err(format!(
                "--attribute: {} times; expected at most {MAX_ATTRIBUTES}",
                self.attributes.len()
            ));
        }
        for (index, attribute) in self.attributes.iter().enumerate() {
            if self.attributes[..index]
                .iter()
                .any(|other| other.name == attribute.name)
            {
                return Err(format!(
                    "--attribute: {} twice; expected each name once",
                    attribute.name
                ));
            }
        }
        if queue.fifo && self.group.is_none() {
            return Err(format!(
                "--group: not given; expected one, since {name} is a FIFO queue"
            ));
        }
        if queue.fifo && self.delay.is_some() {
            return Err(format!("--delay: expected none, since {name} is a FIFO queue"));
        }
        if !queue.fifo && self.deduplication.is_some() {
            return Err(format!(
                "--deduplication: expected none, since {name} is a standard queue"
            ));
        }
        Ok(())
    }

    /// What every message has.
    pub(super) fn template(&self, queue: &Description) -> Template {
        let attribute = |attribute: &Attribute| {
            let value = message::Attribute::text(&attribute.value);
            (attribute.name.clone(), value)
        };
        let of_this_run = || format!("{:016x}", fastrand::u64(..));
        Template {
            attributes: self.attributes.iter().map(attribute).collect(),
            group: self.group.clone(),
            deduplication: queue
                .fifo
                .then(|| self.deduplication.clone().unwrap_or_else(of_this_run)),
            delay: self.delay.unwrap_or_default(),
        }
    }
}

/// What every message has.
#[derive(Clone, Debug)]
pub(super) struct Template {
    attributes: Attributes,
    group: Option<String>,
    deduplication: Option<String>,
    delay: Duration,
}

impl Template {
    pub(super) fn outgoing(&self, body: String, line: u64) -> Outgoing {
        Outgoing {
            body,
            attributes: self.attributes.clone(),
            delay: self.delay,
            group: self.group.clone(),
            deduplication_id: self
                .deduplication
                .as_ref()
                .map(|prefix| format!("{prefix}-{line}")),
            trace_header: None,
        }
    }
}
