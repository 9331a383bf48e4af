//! `canary history`.

use std::fmt::Write as _;
use std::time::SystemTime;

use clap::Args;
use serde::Serialize;

use super::source::{Place, print, wait};
use super::whole;
use crate::discretion::Discretion;
use crate::journal::{Journal, Store as _};
use crate::moment::Moment;
use crate::plan::unit::show_seconds;
use crate::status::Status;

/// Shows the rollouts so far, oldest first.
#[derive(Debug, Args)]
pub(super) struct History {
    #[command(flatten)]
    place: Place,
    /// The latest so many.
    #[arg(long, value_name = "ROLLOUTS", default_value_t = 20,
          value_parser = |text: &str| whole::<usize>(text, 1..=u64::MAX, "rollouts"))]
    last: usize,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One rollout.
#[derive(Serialize)]
struct Row {
    rollout: String,
    release: String,
    baseline: Option<String>,
    began: Moment,
    seconds: u64,
    how: &'static str,
    reason: Option<String>,
}

impl Row {
    fn of(journal: &Journal, now: Moment) -> Self {
        let status = Status::of(journal, now, Discretion::Bounded);
        Self {
            seconds: status.seconds(now),
            how: status.headline(),
            rollout: status.rollout,
            release: status.release,
            baseline: status.baseline,
            began: status.began,
            reason: status.reason,
        }
    }
}

impl History {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let store = self.place.journals()?;
        let now = Moment::from(SystemTime::now());
        let mut journals = wait(store.history())?;
        let current = wait(store.read())?.map(|(journal, _)| journal);
        // The current one may be archived already.
        let current =
            current.filter(|current| journals.iter().all(|journal| journal.rollout != current.rollout));
        journals.extend(current);
        let skipped = journals.len().saturating_sub(self.last);
        let rows: Vec<Row> = journals[skipped..]
            .iter()
            .map(|journal| Row::of(journal, now))
            .collect();
        if self.json {
            return print(&(serde_json::to_string_pretty(&rows)? + "\n"));
        }
        print(&table(&rows))
    }
}

fn table(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no rollout yet\n".to_owned();
    }
    let mut cells = vec![["ROLLOUT", "RELEASE", "AGAINST", "TOOK", "HOW", "WHY"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        [
            row.rollout.clone(),
            row.release.clone(),
            row.baseline.clone().unwrap_or_else(|| "-".to_owned()),
            show_seconds(u32::try_from(row.seconds).unwrap_or(u32::MAX)),
            row.how.to_owned(),
            row.reason
                .clone()
                .unwrap_or_default()
                .replace(char::is_control, " "),
        ]
    }));
    let width = |column: usize| {
        cells
            .iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &cells {
        let line = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect::<Vec<_>>()
            .join("  ");
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}
