//! The report of a rollout: what happened, what the verdict rests on, and what would have changed it. As data, and as one page
//! that needs nothing else.

mod course;
mod page;
mod words;

use serde::Serialize;

use crate::discretion::Discretion;
use crate::journal::Journal;
use crate::moment::Moment;
use crate::rollout::{Happening, Outcome};
use crate::status::Status;

pub use course::{Course, Latency, Point, Rate};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// A rollout, told from its journal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Version of the JSON form; 1.
    pub schema: u32,
    /// When the report was made.
    pub made: Moment,
    /// Where the rollout stands, or how it ended.
    pub status: Status,
    /// How fast what was decided.
    pub times: Times,
    /// Why the verdict is what it is, and what would have changed it; a sentence each.
    pub explanation: Vec<String>,
    /// Attempts, rates, evidence and latency along the rollout.
    pub course: Course,
    /// Messages that the new release failed and handed over to the release before, as far as its processes have reported them.
    pub handed_over: u64,
    /// What went back to the queue after a rollback, or why it did not.
    pub redriven: Vec<String>,
    /// Whether texts from outside were left out.
    pub redacted: bool,
}

/// The times that are published apart. Each is a moment; the page tells them from the canary's first message on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Times {
    /// The canary's first message.
    pub first_message: Option<Moment>,
    /// Its first failed message.
    pub first_failure: Option<Moment>,
    /// A canary process stopped itself (its rate breaker).
    pub contained: Option<Moment>,
    /// The canary was cut to a trickle.
    pub suspected: Option<Moment>,
    /// Promotion or rollback was decided.
    pub decided: Option<Moment>,
    /// The last process of the release was gone; none where it was promoted.
    pub removed: Option<Moment>,
    /// It ended.
    pub ended: Option<Moment>,
}

impl Report {
    /// The report on `journal` at `now`.
    #[must_use]
    pub fn of(journal: &Journal, now: Moment, discretion: Discretion) -> Self {
        let status = Status::of(journal, now, discretion);
        let course = Course::of(journal);
        let shown = discretion.journal(journal);
        let redriven = shown
            .timeline
            .iter()
            .filter(|entry| matches!(entry.happening, Happening::Redriven { .. }))
            .map(|entry| entry.happening.to_string());
        let mut happenings = shown.timeline.iter().rev().map(|entry| &entry.happening);
        let promoted = happenings.find(|happening| matches!(happening, Happening::Promoting { .. }));
        Self {
            schema: SCHEMA,
            made: now,
            times: times(journal, &course),
            explanation: words::explanation(&status, promoted, course.points.last().map(|last| last.canary)),
            redriven: redriven.collect(),
            status,
            course,
            handed_over: journal.evidence.handed_over(&journal.state.candidate.release),
            redacted: discretion == Discretion::Redacted,
        }
    }

    /// One page of HTML: no script, no network, no other file.
    #[must_use]
    pub fn page(&self) -> String {
        page::page(self)
    }
}

fn times(journal: &Journal, course: &Course) -> Times {
    let first = |wanted: fn(&Happening) -> bool| {
        let entry = journal.timeline.iter().find(|entry| wanted(&entry.happening));
        entry.map(|entry| entry.at)
    };
    let second = |at: Option<u64>| at.map(|at| Moment::from_millis(at.saturating_mul(1000)));
    Times {
        first_message: second(course.first_message),
        first_failure: second(course.first_failure),
        contained: journal.measured.contained.map(|span| span.from),
        suspected: first(|happening| matches!(happening, Happening::Suspected)),
        decided: first(|happening| {
            matches!(
                happening,
                Happening::RollingBack { .. } | Happening::Promoting { .. }
            )
        }),
        removed: first(|happening| matches!(happening, Happening::Removed))
            .filter(|_| journal.state.outcome() != Some(Outcome::Promoted)),
        ended: first(|happening| matches!(happening, Happening::Ended { .. })),
    }
}
