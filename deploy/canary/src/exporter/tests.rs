use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::time::advance;
use worker::release::Release;

use super::catalogue::{CATALOGUE, values};
use super::rollout::{OUTCOMES, PHASES};
use super::*;
use crate::evidence::Checkpoint;
use crate::journal::{Measured, Owner, ProcessMeasured, SCHEMA, ServiceMeasured};
use crate::judge::confidence::Band;
use crate::judge::verdict::{self, ArmReport, Decision, Measure, Otherwise, SignalReport, Verdict, Windows};
use crate::moment::Moment;
use crate::rollout::{Definition, Kind, Outcome, Phase, Revision, begin};

fn revision(name: &str) -> Revision {
    Revision {
        release: Release::new(name).unwrap(),
        definition: Definition::Local {
            command: vec!["worker".to_owned()],
            environment: BTreeMap::new(),
        },
    }
}

fn measure(ln_evidence: f64, ln_bound: f64) -> Measure {
    Measure {
        ln_evidence,
        ln_bound,
        ln_evidence_without_stretch: None,
        ln_bound_without_stretch: 2.3,
        reached_at: None,
    }
}

fn arm(attempts: u64, failed: u64) -> ArmReport {
    let rate = whole(failed) / whole(attempts);
    ArmReport {
        attempts,
        failed,
        rate: Band {
            rate,
            low: rate / 2.0,
            high: rate * 2.0,
        },
    }
}

fn judged() -> Verdict {
    Verdict {
        schema: verdict::SCHEMA,
        decision: Decision::Continue,
        suspected: false,
        step_done: false,
        windows: Windows::default(),
        harm: measure(1.5, 4.6),
        promotion: measure(0.5, 3.0),
        signals: vec![SignalReport {
            name: "failures".to_owned(),
            weight: 1.0,
            canary: arm(100, 2),
            baseline: arm(900, 9),
            ln_evidence: 1.5,
            ln_bound: 4.6,
        }],
        guards: Vec::new(),
        first_failures: Vec::new(),
        icc: 0.0,
        otherwise: Otherwise::default(),
    }
}

fn service(release: &str, states: &[&str]) -> ServiceMeasured {
    let process = |(index, state): (usize, &&str)| ProcessMeasured {
        name: format!("{release}-{index}"),
        release: Release::new(release).unwrap(),
        address: Some("127.0.0.1:9000".to_owned()),
        state: (*state).to_owned(),
        restarts: 1,
    };
    ServiceMeasured {
        release: Some(Release::new(release).unwrap()),
        desired: 2,
        processes: states.iter().enumerate().map(process).collect(),
    }
}

/// A rollout in its second step.
pub(crate) fn journal() -> Journal {
    let now = Moment::from_millis(1_764_064_800_500);
    let mut state = begin(Kind::Canary, revision("2"), now).state;
    state.baseline = Some(revision("1"));
    state.phase = Phase::Step {
        index: 1,
        since: now,
        messages: 7,
    };
    Journal {
        schema: SCHEMA,
        rollout: "r".to_owned(),
        writes: 3,
        owner: Some(Owner {
            id: "x".to_owned(),
            host: "h".to_owned(),
            pid: 1,
            heartbeat: now,
        }),
        requests: Vec::new(),
        answers: Vec::new(),
        plan: "schema = 1\nname = \"usual\"\ndeadline = \"1h\"\n[[steps]]\nshare = \"10%\"\nleast_time = \"0s\"\n".to_owned(),
        state,
        evidence: Checkpoint::default(),
        measured: Measured {
            per_second: 100.0,
            share_wanted: Some(0.1),
            share: Some(0.09),
            stable: service("1", &["ready", "ready", "waiting"]),
            canary: service("2", &["starting"]),
            ..Measured::default()
        },
        verdict: Some(judged()),
        timeline: Vec::new(),
        left_out: 0,
    }
}

/// A journal that is always the same, or cannot be read; it counts how often that was tried.
#[derive(Clone, Debug)]
struct Fixed {
    journal: Option<Journal>,
    is_out: Arc<AtomicBool>,
    reads: Arc<AtomicU32>,
}

impl Fixed {
    fn new(journal: Option<Journal>) -> Self {
        Self {
            journal,
            is_out: Arc::default(),
            reads: Arc::default(),
        }
    }
}

impl Store for Fixed {
    async fn read(&self) -> Result<Option<(Journal, crate::journal::Version)>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.is_out.load(Ordering::Relaxed) {
            return Err(StoreError::Broken("cut off".to_owned()));
        }
        let version = crate::journal::Version("1".to_owned());
        Ok(self.journal.clone().map(|journal| (journal, version)))
    }

    async fn write(
        &self,
        _: &Journal,
        _: Option<&crate::journal::Version>,
    ) -> Result<crate::journal::Version, StoreError> {
        Err(StoreError::Conflict)
    }

    async fn archive(&self, _: &Journal) -> Result<(), StoreError> {
        Ok(())
    }

    async fn history(&self) -> Result<Vec<Journal>, StoreError> {
        Ok(Vec::new())
    }
}

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

fn exporter<S: Store>(store: S) -> Exporter<S> {
    let config = aws_config::SdkConfig::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new("us-east-1"))
        .build();
    Exporter::new(
        Some(store),
        EVERY,
        Vec::new(),
        Sqs::new(&config, Duration::from_secs(1)),
    )
}

async fn scraped(journal: Option<Journal>) -> String {
    exporter(Fixed::new(journal)).scrape().await
}

/// The value of the one series of `text` that begins with `series`.
fn value(text: &str, series: &str) -> Option<f64> {
    let mut found = text
        .lines()
        .filter_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    let first = found.next();
    assert_eq!(found.next(), None, "{series} is there twice");
    first
}

#[tokio::test]
async fn a_journal_is_shown_as_it_is() {
    let text = scraped(Some(journal())).await;
    for (series, expected) in [
        (
            r#"canary_rollout_info{release="2",baseline="1",rollout="r",kind="canary",plan="usual"}"#,
            1.0,
        ),
        (r#"canary_rollout_under_way{release="2"}"#, 1.0),
        (r#"canary_rollout_phase{release="2",phase="step"}"#, 1.0),
        (r#"canary_rollout_phase{release="2",phase="baking"}"#, 0.0),
        (r#"canary_rollout_step{release="2"}"#, 2.0),
        (r#"canary_rollout_steps{release="2"}"#, 1.0),
        (
            r#"canary_rollout_outcome{release="2",outcome="rolled_back"}"#,
            0.0,
        ),
        (
            r#"canary_heartbeat_timestamp_seconds{release="2"}"#,
            1_764_064_800.5,
        ),
        (r#"canary_evidence{release="2",question="harm"}"#, 1.5),
        (r#"canary_evidence_bound{release="2",question="promotion"}"#, 3.0),
        (
            r#"canary_signal_failed{release="2",signal="failures",arm="baseline"}"#,
            9.0,
        ),
        (
            r#"canary_signal_rate{release="2",signal="failures",arm="canary",bound="high"}"#,
            0.04,
        ),
        (r#"canary_share{release="2",which="measured"}"#, 0.09),
        (
            r#"canary_processes{service="stable",release="1",state="ready"}"#,
            2.0,
        ),
        (
            r#"canary_processes{service="stable",release="1",state="waiting"}"#,
            1.0,
        ),
        (r#"canary_process_restarts{service="stable"}"#, 3.0),
        (r#"canary_exporter_errors{source="journal"}"#, 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

#[tokio::test]
async fn what_is_over_is_told_as_over() {
    let mut over = journal();
    let at = Moment::from_millis(1_764_065_000_000);
    over.owner = None;
    over.state.phase = Phase::Ended {
        outcome: Outcome::RolledBack,
        reason: None,
        at,
    };
    let text = scraped(Some(over)).await;
    for (series, expected) in [
        (r#"canary_rollout_under_way{release="2"}"#, 0.0),
        (
            r#"canary_rollout_outcome{release="2",outcome="rolled_back"}"#,
            1.0,
        ),
        (r#"canary_rollout_outcome{release="2",outcome="promoted"}"#, 0.0),
        (
            r#"canary_rollout_ended_timestamp_seconds{release="2"}"#,
            1_764_065_000.0,
        ),
        (r#"canary_heartbeat_timestamp_seconds{release="2"}"#, 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series} in\n{text}");
    }
}

const JOURNAL_IS_UP: &str = "canary_journal_up ";
const UNDER_WAY: &str = r#"canary_rollout_under_way{release="2"}"#;
const JOURNAL_ERRORS: &str = r#"canary_exporter_errors{source="journal"}"#;

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_read_is_told_as_it_was_for_a_while() {
    let store = Fixed::new(Some(journal()));
    let mut exporter = exporter(store.clone());
    let text = exporter.scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(1.0));
    let read = value(&text, "canary_journal_read_timestamp_seconds ");
    assert!(read.is_some_and(|at| at > 1e9), "{text}");

    store.is_out.store(true, Ordering::Relaxed);
    advance(EVERY).await;
    let text = exporter.scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(0.0));
    assert_eq!(value(&text, JOURNAL_ERRORS), Some(1.0));
    assert_eq!(value(&text, UNDER_WAY), Some(1.0), "as it was read last");
    assert_eq!(value(&text, "canary_journal_read_timestamp_seconds "), read);
    assert!(exporter.journal().await.is_ok_and(|kept| kept.is_some()));

    advance(KEPT_FOR).await;
    let text = exporter.scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(0.0));
    assert!(!text.contains("canary_rollout_"), "too old to be told: {text}");
    assert!(exporter.journal().await.is_err());

    store.is_out.store(false, Ordering::Relaxed);
    advance(EVERY).await;
    let text = exporter.scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(1.0));
    assert_eq!(value(&text, UNDER_WAY), Some(1.0));
    assert_eq!(value(&text, JOURNAL_ERRORS), Some(2.0));
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_could_never_be_read_hides_nothing_else() {
    let store = Fixed::new(None);
    store.is_out.store(true, Ordering::Relaxed);
    let text = exporter(store).scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(0.0));
    assert_eq!(
        value(&text, r#"canary_exporter_errors{source="queue"}"#),
        Some(0.0)
    );
    assert!(!text.contains("canary_rollout_"), "{text}");
    let text = scraped(None).await;
    assert_eq!(
        value(&text, JOURNAL_IS_UP),
        Some(1.0),
        "no rollout yet is no fault"
    );
}

#[tokio::test(start_paused = true)]
async fn however_often_it_is_scraped_it_looks_seldom() {
    let store = Fixed::new(Some(journal()));
    let mut exporter = exporter(store.clone());
    let scrapes = 100;
    for _ in 0..scrapes {
        exporter.scrape().await;
        exporter.journal().await.unwrap();
        advance(Duration::from_millis(100)).await;
    }
    assert_eq!(store.reads.load(Ordering::Relaxed), 2, "in ten seconds");
    store.is_out.store(true, Ordering::Relaxed);
    for _ in 0..scrapes {
        exporter.scrape().await;
        advance(Duration::from_millis(100)).await;
    }
    assert_eq!(
        store.reads.load(Ordering::Relaxed),
        4,
        "nor when it cannot be read"
    );
}

#[cfg(feature = "ecs")]
#[tokio::test(start_paused = true)]
async fn a_journal_on_s3_is_told_like_one_in_a_file() {
    use worker::clock::Clock;

    use crate::fleet::ecs::fake::Fake;
    use crate::journal::S3Store;

    let fake = Fake::new(Clock::System, "1");
    let store = S3Store::new(&fake.config().await, "s3://journals/orders/journal.json").unwrap();
    let mut exporter = exporter(store.clone());
    let text = exporter.scrape().await;
    assert_eq!(value(&text, JOURNAL_IS_UP), Some(1.0), "no rollout yet");
    assert!(!text.contains("canary_rollout_"), "{text}");

    store.write(&journal(), None).await.unwrap();
    advance(EVERY).await;
    let text = exporter.scrape().await;
    assert_eq!(value(&text, UNDER_WAY), Some(1.0));
    assert_eq!(value(&text, r#"canary_rollout_step{release="2"}"#), Some(2.0));
}

#[tokio::test]
async fn every_series_has_the_labels_and_values_of_the_catalogue() {
    let text = scraped(Some(journal())).await;
    let mut met = BTreeSet::new();
    for line in text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
    {
        let (name, rest) = line
            .split_once('{')
            .unwrap_or_else(|| (line.split(' ').next().unwrap(), "}"));
        let metric = CATALOGUE.iter().find(|metric| metric.name == name);
        let metric = metric.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let labels: Vec<(&str, &str)> = rest
            .split_once('}')
            .unwrap()
            .0
            .split(',')
            .filter_map(|label| label.split_once('='))
            .collect();
        let names: Vec<&str> = labels.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, metric.labels, "{line}");
        for (label, value) in labels {
            let known = values(label);
            let value = value.trim_matches('"');
            assert!(
                known.is_none_or(|known| known.contains(&value)),
                "{line}: {label} is never {value}"
            );
        }
        met.insert(name);
    }
    // The queues' depths need an endpoint.
    let all: BTreeSet<&str> = CATALOGUE.iter().map(|metric| metric.name).collect();
    let missing: Vec<&&str> = all.difference(&met).collect();
    assert_eq!(missing, [&QUEUE_MESSAGES]);
}

#[test]
fn the_closed_sets_are_complete() {
    let unique: BTreeSet<_> = PHASES.into_iter().collect();
    assert_eq!(unique.len(), PHASES.len());
    assert_eq!(OUTCOMES.len(), 4);
}

fn tables() -> String {
    let code = |words: &[&str]| {
        words
            .iter()
            .map(|word| format!("`{word}`"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = "\n| Metric | Kind | Labels | Meaning |\n|---|---|---|---|\n".to_owned();
    for metric in CATALOGUE {
        text += &format!(
            "| `{}` | gauge | {} | {} |\n",
            metric.name,
            code(metric.labels),
            metric.help
        );
    }
    text += "\n| Label | On | Values |\n|---|---|---|\n";
    let labels: BTreeSet<&str> = CATALOGUE
        .iter()
        .flat_map(|metric| metric.labels)
        .copied()
        .collect();
    for label in labels {
        let on: Vec<&str> = CATALOGUE
            .iter()
            .filter(|metric| metric.labels.contains(&label))
            .map(|metric| metric.name)
            .collect();
        if let Some(values) = values(label) {
            text += &format!(
                "| `{label}` | {} | {} |\n",
                code(&on).replace(", ", "<br>"),
                code(&values)
            );
        }
    }
    text + "\n"
}

#[test]
fn the_page_of_metrics_is_what_the_code_says() {
    crate::reference::compare("metrics.md", &tables(), "exporter");
}
