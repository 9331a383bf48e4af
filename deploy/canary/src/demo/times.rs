//! When a release was contained, suspected, decided on and removed.

use std::path::Path;

use anyhow::Result;
use serde::Deserialize;

use super::act::{Act, EVERYTHING, FIFTH};
use super::{Played, say};
use crate::journal::Journal;
use crate::moment::Moment;
use crate::rollout::Happening;

/// What of a worker's log tells when its release first failed, and when the worker stopped itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Logged {
    /// When the first attempt that failed had begun.
    first_failure: Option<Moment>,
    /// When the rate breaker first opened.
    contained: Option<Moment>,
}

/// Four moments of a rollout, each where it came to that.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    step: Option<Moment>,
    logged: Logged,
    suspected: Option<Moment>,
    decided: Option<Moment>,
    removed: Option<Moment>,
}

/// The log lines that are looked at.
#[derive(Deserialize)]
struct Line {
    timestamp: String,
    message: String,
    release: String,
    #[serde(default)]
    kind: Option<String>,
    #[serde(default)]
    duration_ms: u64,
}

impl Logged {
    /// Of the canaries of `release`, in the directory `logs`.
    fn read(logs: &Path, release: &str) -> Result<Self> {
        let mut logged = Self::default();
        let canaries = format!("{}-canary-", crate::journal::file_name(release));
        for entry in std::fs::read_dir(logs)? {
            let path = entry?.path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            if name.starts_with(&canaries) {
                logged.take(&std::fs::read_to_string(&path)?, release);
            }
        }
        Ok(logged)
    }

    fn take(&mut self, text: &str, release: &str) {
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Line>(line).ok());
        for line in lines.filter(|line| line.release == release) {
            let Ok(at) = humantime::parse_rfc3339(&line.timestamp) else {
                continue;
            };
            let at = Moment::from(at);
            let earliest =
                |before: Option<Moment>, at: Moment| Some(before.map_or(at, |before| before.min(at)));
            if line.message == "attempt failed" {
                let began = Moment::from_millis(at.millis().saturating_sub(line.duration_ms));
                self.first_failure = earliest(self.first_failure, began);
            } else if line.kind.as_deref() == Some("rate") && line.message.starts_with("the release fails") {
                self.contained = earliest(self.contained, at);
            }
        }
    }
}

impl Times {
    pub(super) fn of(journal: &Journal, logs: &Path) -> Result<Self> {
        let first = |is: &dyn Fn(&Happening) -> bool| {
            let entry = journal.timeline.iter().find(|entry| is(&entry.happening));
            entry.map(|entry| entry.at)
        };
        Ok(Self {
            step: first(&|happening| matches!(happening, Happening::Step { .. })),
            logged: Logged::read(logs, journal.state.candidate.release.as_str())?,
            suspected: first(&|happening| *happening == Happening::Suspected),
            decided: first(&|happening| {
                matches!(
                    happening,
                    Happening::Promoting { .. } | Happening::RollingBack { .. }
                )
            }),
            removed: first(&|happening| *happening == Happening::Removed),
        })
    }

    /// Contained, suspected, decided and removed, in seconds after `origin`.
    fn after(&self, origin: Option<Moment>) -> [Option<f64>; 4] {
        [self.logged.contained, self.suspected, self.decided, self.removed]
            .map(|moment| Some(moment?.since(origin?).as_secs_f64()))
    }

    pub(super) fn after_first_step(&self) -> [Option<f64>; 4] {
        self.after(self.step)
    }

    fn after_first_failure(&self) -> [Option<f64>; 4] {
        self.after(self.logged.first_failure)
    }
}

/// What was asked for, in seconds: contained, suspected, decided; removed so many after that.
fn asked_for(what: &str) -> [Option<f64>; 3] {
    match what {
        EVERYTHING => [Some(2.0), Some(5.0), Some(40.0)],
        FIFTH => [None, Some(10.0), Some(60.0)],
        _ => [None; 3],
    }
}

/// The most time from the decision until no process was left.
const REMOVED_WITHIN: f64 = 5.0;

/// The times as a table of Markdown: medians, and the worst.
pub(super) fn show(played: &[Played], rate: u32) {
    say(&format!(
        "\nSeconds after the release's first failing attempt began, at {rate} messages/s and a share of 10 %: median (worst)\n"
    ));
    say("| release | runs | contained | suspected | decided | removed after that |");
    say("|---|---|---|---|---|---|");
    for what in [EVERYTHING, FIFTH] {
        let of_kind = |played: &&Played| played.act.what == what;
        let runs: Vec<[Option<f64>; 4]> = played
            .iter()
            .filter(of_kind)
            .map(|played| played.times.after_first_failure())
            .collect();
        let column = |index: usize| runs.iter().filter_map(|run| run[index]).collect::<Vec<f64>>();
        let removed = runs.iter().filter_map(|run| Some(run[3]? - run[2]?)).collect();
        let asked = asked_for(what);
        say(&format!(
            "| {what} | {} | {} | {} | {} | {} |",
            runs.len(),
            cell(column(0), asked[0]),
            cell(column(1), asked[1]),
            cell(column(2), asked[2]),
            cell(removed, Some(REMOVED_WITHIN)),
        ));
    }
}

fn cell(mut seconds: Vec<f64>, asked: Option<f64>) -> String {
    seconds.sort_by(f64::total_cmp);
    let Some(worst) = seconds.last() else {
        return "–".to_owned();
    };
    let median = seconds[seconds.len() / 2];
    let asked = asked.map_or_else(String::new, |asked| format!("; ≤ {asked:.0} asked for"));
    format!("{median:.1} ({worst:.1}){asked}")
}

/// Checks that what was measured is what was asked for.
///
/// # Errors
/// Which time of which release was missed.
pub(super) fn missed(act: &Act, times: &Times) -> Vec<String> {
    let found = times.after_first_failure();
    let names = ["contained", "suspected", "decided"];
    let mut missed = Vec::new();
    for ((name, found), asked) in names.into_iter().zip(found).zip(asked_for(act.what)) {
        if let Some(asked) = asked
            && found.is_none_or(|found| found > asked)
        {
            let found = found.map_or_else(|| "never".to_owned(), |found| format!("after {found:.1} s"));
            missed.push(format!(
                "{} was {name} {found}, asked for is {asked:.0} s",
                act.release
            ));
        }
    }
    missed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_found_by_the_names_that_a_fleet_gives_them() {
        let directory = tempfile::tempdir().unwrap();
        let line = r#"{"timestamp":"2026-11-25T14:05:43.100Z","message":"the release fails more than it may: …","release":"C","kind":"rate"}"#;
        let read = || Logged::read(directory.path(), "C").unwrap().contained;
        for other in ["B-canary-1.log", "C-stable-1.log"] {
            std::fs::write(directory.path().join(other), line).unwrap();
        }
        assert_eq!(read(), None);
        std::fs::write(directory.path().join("C-canary-10.1.log"), line).unwrap();
        assert!(read().is_some());
    }

    #[test]
    fn a_log_tells_the_first_failure_and_the_first_containment_of_its_release() {
        let text = r#"
{"timestamp":"2026-11-25T14:05:41.000Z","message":"attempt failed","release":"B","duration_ms":10}
{"timestamp":"2026-11-25T14:05:42.100Z","message":"attempt failed","release":"C","duration_ms":20}
{"timestamp":"2026-11-25T14:05:42.200Z","message":"attempt failed","release":"C","duration_ms":20}
no JSON
{"timestamp":"2026-11-25T14:05:43.100Z","message":"the release fails more than it may: …","release":"C","kind":"rate"}
{"timestamp":"2026-11-25T14:05:49.100Z","message":"the release fails more than it may: …","release":"C","kind":"rate"}
"#;
        let mut logged = Logged::default();
        logged.take(text, "C");
        let (first, contained) = (logged.first_failure.unwrap(), logged.contained.unwrap());
        assert_eq!(contained.since(first).as_millis(), 1020);
    }

    #[test]
    fn a_cell_has_the_median_and_the_worst() {
        assert_eq!(cell(vec![3.0, 1.0, 2.0], Some(5.0)), "2.0 (3.0); ≤ 5 asked for");
        assert_eq!(cell(Vec::new(), None), "–");
    }
}
