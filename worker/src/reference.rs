//! Compares the reference pages under `docs/` with the tables in the code that they are made of.
//!
//! A page is written by hand but for what stands between two markers. With `WRITE_DOCS=1` the tests write that part
//! anew; without, they fail when it is not what the code says.

use std::fmt::Write;
use std::path::Path;

use crate::attempt::Ending;
use crate::breaker;
use crate::config::fields::{FIELDS, Field, Kind};
use crate::control::reader::ReadResult;
use crate::failure::StoryFate;
use crate::handler::Reason;
use crate::lease::LossCause;
use crate::message::Delivery;
use crate::metrics::{
    self, Action, BUCKETS, CATALOGUE, HandoverResult, MAX_FAILED_RELEASES, OTHER_RELEASE, RequestResult,
    Settlement, UNKNOWN_RELEASE,
};
use crate::release::Track;

const BEGIN: &str = "<!-- made of the code: do not edit from here -->\n";
const END: &str = "<!-- to here -->\n";
const COMMAND: &str = "WRITE_DOCS=1 cargo test -p worker --lib --no-default-features reference";

/// `page` with `made` between the markers.
fn spliced(page: &str, made: &str) -> Result<String, String> {
    let (before, rest) = page
        .split_once(BEGIN)
        .ok_or_else(|| format!("no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).ok_or_else(|| format!("no line {END:?}"))?;
    Ok(format!("{before}{BEGIN}{made}{END}{after}"))
}

/// What is wrong with `page`, of which the part between the markers should be `made`.
fn difference(page: &str, made: &str) -> Option<String> {
    let expected = match spliced(page, made) {
        Ok(expected) => expected,
        Err(error) => return Some(error),
    };
    let differs = |(index, (is, should)): (usize, (&str, &str))| {
        (is != should).then(|| format!("line {}:\n  is     {is}\n  should {should}", index + 1))
    };
    let pairs = page.lines().zip(expected.lines()).enumerate();
    (page != expected).then(|| {
        pairs
            .into_iter()
            .find_map(differs)
            .unwrap_or_else(|| "it ends too soon or too late".to_owned())
    })
}

fn compare(name: &str, made: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let page = std::fs::read_to_string(&path).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, spliced(&page, made).unwrap()).unwrap();
        return;
    }
    if let Some(difference) = difference(&page, made) {
        panic!("docs/{name} is not what the code says, {difference}\nWrite it anew by: {COMMAND}");
    }
}

fn settings() -> String {
    let (mut text, mut section) = (String::new(), None);
    for field in FIELDS {
        let name = field.key.split_once('.').map(|(section, _)| section);
        if section != Some(name) {
            let title = name.map_or_else(|| "Without a section".to_owned(), |name| format!("`[{name}]`"));
            write!(
                text,
                "\n### {title}\n\n| Setting, variable | Takes | Default | Meaning |\n|---|---|---|---|\n"
            )
            .unwrap();
            section = Some(name);
        }
        let default = field
            .default
            .map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
        let (key, variable, takes) = (field.key, field.variable(), takes(field));
        writeln!(
            text,
            "| `{key}`<br>`{variable}` | {takes} | {default} | {} |",
            field.help
        )
        .unwrap();
    }
    text + "\n"
}

fn takes(field: &Field) -> String {
    let whole = field.kind.to_string();
    match field.kind {
        // The example is for error messages; the page says once how durations are written.
        Kind::Duration { .. } => whole
            .split(" (")
            .next()
            .unwrap_or_default()
            .replace("a duration with a unit", "a duration"),
        Kind::Choice(words) => code(words, ", "),
        Kind::Text(_) | Kind::Count { .. } | Kind::Ratio | Kind::Url | Kind::WebUrl | Kind::Address => whole,
    }
}

/// The words as code.
fn code(words: &[&str], separator: &str) -> String {
    let words: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
    words.join(separator)
}

fn metric_tables() -> String {
    let mut text = "\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for metric in CATALOGUE {
        let kind = match metric.kind {
            metrics::Kind::Counter => "counter",
            metrics::Kind::Gauge => "gauge",
            metrics::Kind::Histogram => "histogram",
        };
        writeln!(
            text,
            "| `{}` | {kind} | {} | {} |",
            metric.name,
            code(metric.labels, ", "),
            metric.help
        )
        .unwrap();
    }
    let buckets = BUCKETS.map(|bucket| bucket.to_string());
    writeln!(
        text,
        "\nBuckets of the histograms, upper bounds in seconds: {}.",
        buckets.join(", ")
    )
    .unwrap();

    text += "\n| Label | On | Values |\n|---|---|---|\n";
    let everywhere = ["release", "track", "queue"];
    let own = CATALOGUE.iter().flat_map(|metric| metric.labels).copied();
    let mut labels: Vec<&str> = everywhere.into_iter().chain(own).collect();
    let mut seen = Vec::new();
    labels.retain(|label| {
        !seen.contains(label) && {
            seen.push(*label);
            true
        }
    });
    for label in labels {
        let on: Vec<_> = CATALOGUE
            .iter()
            .filter(|metric| metric.labels.contains(&label))
            .map(|metric| metric.name)
            .collect();
        let on = if on.is_empty() {
            "all".to_owned()
        } else {
            code(&on, "<br>")
        };
        writeln!(text, "| `{label}` | {on} | {} |", values(label)).unwrap();
    }

    text += "\n| `outcome` | `reason` |\n|---|---|\n";
    for ending in Ending::ALL {
        let reasons: Vec<_> = ending.reasons(&Reason::BUILT_IN).map(Reason::as_str).collect();
        let own = if ending == Ending::Reject {
            ", and those the handler declares"
        } else {
            ""
        };
        writeln!(text, "| `{}` | {}{own} |", ending.as_str(), code(&reasons, ", ")).unwrap();
    }
    text + "\n"
}

fn values(label: &str) -> String {
    let words: Vec<&str> = match label {
        "release" => return "the setting `release`".to_owned(),
        "queue" => {
            return "the name of the queue the messages come from; not on `worker_build_info`".to_owned();
        }
        "version" => return "the worker's own version".to_owned(),
        "revision" => {
            return "the commit it was built from, as the build said by `WORKER_REVISION`".to_owned();
        }
        "track" => Track::ALL.map(Track::as_str).into(),
        "outcome" => Ending::ALL.map(Ending::as_str).into(),
        "reason" => {
            let built_in = Reason::BUILT_IN.map(Reason::as_str);
            return format!(
                "{}, and those the handler declares (`Handler::reasons`)",
                code(&built_in, ", ")
            );
        }
        "delivery" => Delivery::ALL.map(Delivery::as_str).into(),
        "story" => StoryFate::ALL.map(StoryFate::as_str).into(),
        "action" => {
            return format!(
                "of requests and their entries {}; of settled batches {}",
                code(&Action::ALL.map(Action::as_str), ", "),
                code(&Settlement::ALL.map(Settlement::as_str), ", "),
            );
        }
        "result" => {
            let requests: Vec<_> = RequestResult::all().map(RequestResult::as_str).collect();
            return format!(
                "of requests {}; of reads {}; of handovers {}",
                code(&requests, ", "),
                code(&ReadResult::ALL.map(ReadResult::as_str), ", "),
                code(&HandoverResult::ALL.map(HandoverResult::as_str), ", "),
            );
        }
        "failed_release" => {
            return format!(
                "the canary's release that failed the message, the first {MAX_FAILED_RELEASES} met; then `{OTHER_RELEASE}`; \
                 `{UNKNOWN_RELEASE}` where its story found no room"
            );
        }
        "kind" => breaker::Kind::ALL.map(breaker::Kind::as_str).into(),
        "cause" => LossCause::ALL.map(LossCause::as_str).into(),
        unknown => panic!("the label {unknown} has no values here"),
    };
    code(&words, ", ")
}

#[test]
fn the_page_of_settings_is_what_the_code_says() {
    compare("configuration.md", &settings());
}

#[test]
fn the_page_of_metrics_is_what_the_code_says() {
    compare("metrics.md", &metric_tables());
}

#[test]
fn a_page_that_differs_is_told() {
    let page = |made: &str| format!("by hand\n{BEGIN}{made}{END}by hand\n");
    assert_eq!(difference(&page("one\ntwo\n"), "one\ntwo\n"), None);
    let told = difference(&page("one\ntwo\n"), "one\nthree\n").unwrap();
    assert!(
        told.starts_with("line 4:") && told.contains("two") && told.contains("three"),
        "{told}"
    );
    assert!(difference(&page("one\n"), "one\ntwo\n").is_some());
    assert!(difference("by hand\n", "").unwrap().contains("made of the code"));
    assert_eq!(spliced(&page("old\n"), "new\n").unwrap(), page("new\n"));
}
