//! Settings that do not exist, and variables that nearly are settings: what was perhaps meant.

use std::collections::HashMap;

use hyper::Uri;

use super::fields::{FIELDS, Field, Kind};
use super::source::{Problem, hidden};

/// Where variables come from.
const ENVIRONMENT: &str = "the environment";

/// What the SDK takes another address of AWS from, as far as the worker calls it.
const ENDPOINTS: [&str; 6] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SQS",
    "AWS_ENDPOINT_URL_CLOUDWATCH",
    "AWS_ENDPOINT_URL_SSM",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
];

/// An unknown setting. Its value is nobody's business, since it may be a secret that was meant for somebody else; it is
/// told only where a setting of nearly the same name takes it and is a number, a duration or a word of a choice.
pub(super) fn unknown(key: &str, text: &str, origin: &str) -> Problem {
    let near = nearest(key);
    let value = if near.is_some_and(|field| takes(field, text)) {
        text
    } else {
        "***"
    };
    let perhaps = near
        .map(|field| format!(", perhaps {} ({})", field.key, field.variable()))
        .unwrap_or_default();
    let field = if origin == ENVIRONMENT {
        format!("{key} (WORKER__{})", key.to_uppercase().replace('.', "__"))
    } else {
        key.to_owned()
    };
    Problem {
        field,
        given: Some((value.to_owned(), origin.to_owned())),
        expected: format!("a setting that exists{perhaps}"),
    }
}

/// Variables that would be settings with two underscores where they have one, such as `WORKER_CONCURRENCY`: they would be ignored
/// without a word. Where the setting's own variable is there as well, the other is somebody else's.
pub(super) fn strays(variables: &HashMap<String, String>) -> Vec<Problem> {
    let single = |name: &str| name.replace("__", "_");
    FIELDS
        .iter()
        .filter(|field| !variables.contains_key(&field.variable()))
        .flat_map(|field| {
            let meant = single(&field.variable());
            let mut names: Vec<_> = variables
                .iter()
                .filter(|(name, value)| {
                    name.starts_with("WORKER_")
                        && !name.starts_with("WORKER__")
                        && !value.is_empty()
                        && single(name) == meant
                })
                .collect();
            names.sort();
            names.into_iter().map(|(name, value)| Problem {
                field: name.clone(),
                given: Some((hidden(value), ENVIRONMENT.to_owned())),
                expected: format!("two underscores: {}", field.variable()),
            })
        })
        .collect()
}

/// Addresses of AWS that are none: the SDK would say so with a whole request, and not name the variable.
pub(super) fn endpoints(variables: &HashMap<String, String>) -> Vec<Problem> {
    if variables
        .get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Vec::new();
    }
    ENDPOINTS
        .into_iter()
        .filter_map(|name| Some((name, variables.get(name)?)))
        .filter(|(_, value)| !value.is_empty() && !is_url(value))
        .map(|(name, value)| Problem {
            field: name.to_owned(),
            given: Some((hidden(value), ENVIRONMENT.to_owned())),
            expected: "a URL with scheme and host, such as http://127.0.0.1:4566".to_owned(),
        })
        .collect()
}

/// Whether `value` is a URL with scheme and host.
pub(super) fn is_url(value: &str) -> bool {
    value.parse::<Uri>().is_ok_and(|url| {
        matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some_and(|host| !host.is_empty())
    })
}

/// Whether `value` is what `field` takes, and can be no secret.
fn takes(field: &Field, value: &str) -> bool {
    match field.kind {
        Kind::Count { .. } => value.parse::<usize>().is_ok(),
        Kind::Ratio => value.parse::<f64>().is_ok(),
        Kind::Duration { .. } => humantime::parse_duration(value).is_ok(),
        Kind::Choice(words) => words.contains(&value),
        Kind::Text(_) | Kind::Url | Kind::WebUrl | Kind::Address => false,
    }
}

/// The known setting that differs by at most three characters; else the URL of the same section for a name or an ARN of it, since
/// only the main queue may be named otherwise; else the first one of the same last part.
fn nearest(key: &str) -> Option<&'static Field> {
    let similar = FIELDS
        .iter()
        .min_by_key(|field| edits(field.key, key))
        .filter(|field| edits(field.key, key) <= 3);
    let url = || {
        let (section, last) = key.rsplit_once('.')?;
        let url = format!("{section}.url");
        ["name", "arn"]
            .contains(&last)
            .then(|| FIELDS.iter().find(|field| field.key == url))?
    };
    similar
        .or_else(url)
        .or_else(|| FIELDS.iter().find(|field| last_part(field.key) == last_part(key)))
}

fn last_part(key: &str) -> &str {
    key.rsplit_once('.').map_or(key, |(_, last)| last)
}

/// Levenshtein's distance.
fn edits(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let cost = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or(0)
}
