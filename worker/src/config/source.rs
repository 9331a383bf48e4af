//! What somebody wrote: the values by key, each with where it came from.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use config::{Config, Environment, File, FileFormat, Value, ValueKind};
use hyper::Uri;
use serde_json::Value as Json;

use super::fields::{FIELDS, Field, Kind, find};
use super::unknown::{endpoints, is_url, strays, unknown};

/// A mistake in a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The setting's key.
    pub field: String,
    /// What it was, and where that stood.
    pub given: Option<(String, String)>,
    /// What it should be.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = find(&self.field)
            .map(|field| format!(" ({})", field.variable()))
            .unwrap_or_default();
        write!(f, "{}{variable}: ", self.field)?;
        match &self.given {
            Some((value, origin)) => write!(f, "{value:?} from {origin}")?,
            None => f.write_str("not set")?,
        }
        write!(f, "; expected {}", self.expected)
    }
}

/// The values by key, each with where it came from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    values: BTreeMap<String, Given>,
    /// What is wrong with variables that are no settings.
    problems: Vec<Problem>,
}

/// A value as somebody wrote it.
#[derive(Clone, Debug)]
struct Given {
    text: String,
    origin: String,
    /// Whether it was written as text. A bare `1.10` is the number 1.1, which no release is called.
    quoted: bool,
}

impl Source {
    /// Reads the file, if there is one, and the variables that start with `WORKER__`. Those that were perhaps meant to, and addresses
    /// of AWS that are none, are told with the mistakes in settings.
    ///
    /// # Errors
    /// When the file cannot be read or is no TOML.
    pub fn load(file: Option<&Path>, variables: HashMap<String, String>) -> Result<Self, Problem> {
        let problems = [strays(&variables), endpoints(&variables)].concat();
        let mut builder = Config::builder();
        if let Some(path) = file {
            builder = builder.add_source(File::from(path).format(FileFormat::Toml));
        }
        // Names of variables are upper case by contract; the crate would take any case. An empty value is what templates
        // leave behind where nothing was meant: it must not hide what the file says.
        let ours = variables
            .into_iter()
            .filter(|(name, value)| name.starts_with("WORKER__") && !value.is_empty())
            .collect();
        let environment = Environment::with_prefix("WORKER")
            .prefix_separator("__")
            .separator("__");
        let collected = builder.add_source(environment.source(Some(ours))).build();
        let collected = collected.and_then(|config| config.cache.into_table());
        let table = collected.map_err(|error| Problem {
            field: "--config".to_owned(),
            given: file.map(|path| (path.display().to_string(), "the command line".to_owned())),
            expected: format!("a TOML file ({})", error.to_string().replace('\n', " ")),
        })?;
        let mut values = BTreeMap::new();
        for (key, value) in table {
            flatten(&key, value, &mut values);
        }
        Ok(Self { values, problems })
    }

    /// Whether somebody set `key`.
    #[must_use]
    pub fn is_given(&self, key: &str) -> bool {
        self.given(key).is_some()
    }

    /// Sets `key` to what `origin` says, unless somebody set it.
    pub fn offer(&mut self, key: &str, value: &str, origin: &str) {
        if !self.is_given(key) {
            let given = Given {
                text: value.to_owned(),
                origin: origin.to_owned(),
                quoted: true,
            };
            self.values.insert(key.to_owned(), given);
        }
    }

    /// A reader that gathers problems.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader {
            source: self,
            problems: Vec::new(),
        }
    }

    /// Every setting in force, as TOML: what was given with its origin, and the defaults. Passwords in URLs are hidden.
    #[must_use]
    pub fn describe(&self) -> String {
        let (mut lines, mut section) = (Vec::new(), "");
        // Keys without a section come first in FIELDS, as TOML wants them.
        for field in FIELDS {
            let (table, key) = field.key.rsplit_once('.').unwrap_or(("", field.key));
            if table != section {
                lines.push(format!("\n[{table}]"));
                section = table;
            }
            let line = match (self.given(field.key), field.default) {
                (Some(Given { text, origin, .. }), _) => {
                    let origin = origin.replace(char::is_control, "?");
                    format!("{key} = {} # {origin}", toml(field, text))
                }
                (None, Some(default)) => format!("{key} = {} # default", toml(field, default)),
                (None, None) => format!("# {key} is not set"),
            };
            lines.push(line);
        }
        lines.join("\n") + "\n"
    }

    /// What was given, unless it is empty.
    fn given(&self, key: &str) -> Option<&Given> {
        self.values.get(key).filter(|given| !given.text.is_empty())
    }
}

/// `value` as TOML spells it. Numbers are spelled anew: Rust reads some, such as `007` and `.5`, that TOML does not.
fn toml(field: &Field, value: &str) -> String {
    let number = match field.kind {
        Kind::Count { .. } => value.parse::<usize>().ok().map(|count| count.to_string()),
        Kind::Ratio => value.parse::<f64>().ok().map(|ratio| format!("{ratio:?}")),
        Kind::Text(_)
        | Kind::Choice(_)
        | Kind::Duration { .. }
        | Kind::Url
        | Kind::WebUrl
        | Kind::Address => None,
    };
    // A string of JSON is one of TOML, but for the character DEL.
    number.unwrap_or_else(|| Json::from(hidden(value)).to_string().replace('\u{7f}', "\\u007f"))
}

/// `value` with user and password of a URL hidden. A queue's URL has no `@` elsewhere, so the last one counts.
pub(super) fn hidden(value: &str) -> String {
    match value
        .split_once("://")
        .map(|(scheme, rest)| (scheme, rest.rsplit_once('@')))
    {
        Some((scheme, Some((_, host)))) => format!("{scheme}://***@{host}"),
        Some((_, None)) | None => value.to_owned(),
    }
}

fn flatten(key: &str, value: Value, values: &mut BTreeMap<String, Given>) {
    let origin = value
        .origin()
        .map_or_else(|| "the settings".to_owned(), str::to_owned);
    if let ValueKind::Table(table) = value.kind {
        for (name, value) in table {
            flatten(&format!("{key}.{name}"), value, values);
        }
        return;
    }
    let given = Given {
        quoted: matches!(value.kind, ValueKind::String(_)),
        text: value.to_string(),
        origin,
    };
    values.insert(key.to_owned(), given);
}

/// Reads settings one by one and notes every mistake.
#[derive(Debug)]
pub struct Reader<'a> {
    source: &'a Source,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// The problems so far and the unknown settings, in the order of the documentation.
    #[must_use]
    pub fn problems(mut self) -> Vec<Problem> {
        let source = self.source;
        for (key, given) in &source.values {
            let Some(field) = find(key) else {
                self.problems.push(unknown(key, &given.text, &given.origin));
                continue;
            };
            let told = self.problems.iter().any(|problem| problem.field == *key);
            if matches!(field.kind, Kind::Text(_)) && !given.quoted && !told {
                self.note(key, &format!("text in quotes: {}", field.kind));
            }
        }
        let place = |problem: &Problem| FIELDS.iter().position(|field| field.key == problem.field);
        self.problems
            .sort_by_key(|problem| place(problem).unwrap_or(usize::MAX));
        self.problems.extend(source.problems.iter().cloned());
        self.problems
    }

    /// Notes that the setting `key` is not as `expected`.
    pub fn note(&mut self, key: &str, expected: &str) {
        let given = self
            .source
            .values
            .get(key)
            .map(|given| (hidden(&given.text), given.origin.clone()));
        let given = given.or_else(|| Some((find(key)?.default?.to_owned(), "the defaults".to_owned())));
        self.problems.push(Problem {
            field: key.to_owned(),
            given,
            expected: expected.to_owned(),
        });
    }

    /// The value, if it was given or has a default. An empty one counts as not given: templates leave such behind.
    pub fn optional(&mut self, key: &str) -> Option<String> {
        let given = self.source.given(key).map(|given| given.text.as_str());
        let default = find(key).and_then(|field| field.default);
        given.or(default).map(str::to_owned)
    }

    /// The value; a problem when there is none.
    pub fn required(&mut self, key: &str) -> Option<String> {
        let value = self.optional(key);
        if value.is_none() {
            self.refuse(key);
        }
        value
    }

    /// What `parse` makes of the value; a problem when it makes nothing.
    pub fn parse<T, E>(&mut self, key: &str, value: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let parsed = parse(value).ok();
        if parsed.is_none() {
            self.refuse(key);
        }
        parsed
    }

    /// One of the words of a choice.
    pub fn choice(&mut self, key: &str) -> Option<&'static str> {
        let Some(Kind::Choice(words)) = find(key).map(|field| field.kind) else {
            return self.misdeclared(key);
        };
        let value = self.required(key)?;
        self.parse(key, &value, |value| {
            words.iter().copied().find(|word| *word == value).ok_or(())
        })
    }

    /// A whole number in its bounds.
    pub fn count(&mut self, key: &str) -> Option<usize> {
        let Some(Kind::Count { min, max }) = find(key).map(|field| field.kind) else {
            return self.misdeclared(key);
        };
        let value = self.required(key)?;
        let within = |value: &str| {
            value
                .parse()
                .ok()
                .filter(|count| (min..=max).contains(count))
                .ok_or(())
        };
        self.parse(key, &value, within)
    }

    /// A number from 0 to 1.
    pub fn ratio(&mut self, key: &str) -> Option<f64> {
        let value = self.required(key)?;
        let within = |value: &str| {
            value
                .parse()
                .ok()
                .filter(|ratio| (0.0..=1.0).contains(ratio))
                .ok_or(())
        };
        self.parse(key, &value, within)
    }

    /// A number from 0 to 1, if there is one.
    /// The outer option is none for a problem, the inner one for nothing given.
    pub fn optional_ratio(&mut self, key: &str) -> Option<Option<f64>> {
        match self.optional(key) {
            None => Some(None),
            Some(_) => self.ratio(key).map(Some),
        }
    }

    /// A duration in its bounds.
    pub fn duration(&mut self, key: &str) -> Option<Duration> {
        self.required(key)?;
        self.optional_duration(key)?
    }

    /// A duration in its bounds, if there is one.
    /// The outer option is none for a problem, the inner one for nothing given.
    pub fn optional_duration(&mut self, key: &str) -> Option<Option<Duration>> {
        let Some(Kind::Duration {
            min,
            max,
            whole_seconds,
        }) = find(key).map(|field| field.kind)
        else {
            return self.misdeclared(key);
        };
        let Some(value) = self.optional(key) else {
            return Some(None);
        };
        let within = |value: &str| {
            let duration = humantime::parse_duration(value).ok();
            let fits = |duration: &Duration| {
                (min..=max).contains(duration) && !(whole_seconds && duration.subsec_nanos() > 0)
            };
            duration.filter(fits).ok_or(())
        };
        self.parse(key, &value, within).map(Some)
    }

    /// The URL of a queue, if there is one.
    /// The outer option is none for a problem, the inner one for nothing given.
    pub fn url(&mut self, key: &str) -> Option<Option<String>> {
        let Some(value) = self.optional(key) else {
            return Some(None);
        };
        let url = |value: &str| {
            let rest = value
                .strip_prefix("https://")
                .or_else(|| value.strip_prefix("http://"))
                .ok_or(())?;
            let (host, path) = rest.split_once('/').ok_or(())?;
            let whole = !host.is_empty() && !path.is_empty() && !value.contains(char::is_whitespace);
            if whole { Ok(value.to_owned()) } else { Err(()) }
        };
        self.parse(key, &value, url).map(Some)
    }

    /// A URL with scheme and host.
    pub fn web_url(&mut self, key: &str) -> Option<Uri> {
        self.required(key)?;
        self.optional_web_url(key)?
    }

    /// A URL with scheme and host, if there is one.
    /// The outer option is none for a problem, the inner one for nothing given.
    pub fn optional_web_url(&mut self, key: &str) -> Option<Option<Uri>> {
        let Some(value) = self.optional(key) else {
            return Some(None);
        };
        self.parse(key, &value, |value| {
            // A user and a password in it would be sent nowhere: refuse them rather than seem to use them.
            let whole = is_url(value) && !value.contains('@');
            value.parse::<Uri>().ok().filter(|_| whole).ok_or(())
        })
        .map(Some)
    }

    /// Yes or no.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        self.choice(key).map(|word| word == "true")
    }

    /// An address to listen on.
    pub fn address(&mut self, key: &str) -> Option<SocketAddr> {
        let value = self.required(key)?;
        self.parse(key, &value, str::parse)
    }

    fn refuse(&mut self, key: &str) {
        let expected = find(key).map_or_else(String::new, |field| field.kind.to_string());
        self.note(key, &expected);
    }

    /// The field's kind does not fit its reader: a mistake in this crate, which the test of the defaults finds.
    fn misdeclared<T>(&mut self, key: &str) -> Option<T> {
        self.refuse(key);
        None
    }
}
