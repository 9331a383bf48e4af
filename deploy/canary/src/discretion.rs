//! What of a journal people are shown: texts from outside are bounded, without control characters, and on request left out.

use worker::failure::bounded;

use crate::journal::Journal;
use crate::rollout::{Happening, HoldReason, Kind, Phase, Reason};

/// The most bytes of one text.
pub const LONGEST: usize = 400;

/// Stands where a text was left out.
pub const REDACTED: &str = "(redacted)";

/// How much is shown of texts that come from outside: errors, people's words, names of machines, ids of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discretion {
    /// Their first 400 bytes, without control characters.
    #[default]
    Bounded,
    /// Nothing: for reports that leave the company.
    Redacted,
}

impl Discretion {
    /// One text as it is shown.
    #[must_use]
    pub fn text(self, text: &str) -> String {
        match self {
            Self::Redacted if !text.is_empty() => REDACTED.to_owned(),
            // In one line, and nothing that steers a terminal.
            Self::Redacted | Self::Bounded => bounded(text, LONGEST).replace(['\n', '\r', '\t'], " "),
        }
    }

    /// The journal as it is shown. What fleets need to run a release (commands, variables of the environment) is left out always:
    /// secrets are in there.
    #[must_use]
    pub fn journal(self, journal: &Journal) -> Journal {
        let mut journal = journal.clone();
        // Made by the tool itself, but a file can be edited.
        journal.rollout = Self::Bounded.text(&journal.rollout);
        if let Some(owner) = &mut journal.owner {
            owner.host = self.text(&owner.host);
        }
        journal.requests.clear();
        journal.answers.clear();
        self.kind(&mut journal.state.kind);
        self.phase(&mut journal.state.phase);
        if let Some(hold) = &mut journal.state.hold {
            self.hold(&mut hold.reason);
        }
        for entry in &mut journal.timeline {
            self.happening(&mut entry.happening);
        }
        if let Some(verdict) = &mut journal.verdict {
            for signal in &mut verdict.signals {
                signal.name = Self::Bounded.text(&signal.name);
            }
            match self {
                Self::Redacted => verdict.first_failures.clear(),
                Self::Bounded => verdict.first_failures.iter_mut().for_each(|id| self.in_place(id)),
            }
        }
        for service in [&mut journal.measured.stable, &mut journal.measured.canary] {
            for process in &mut service.processes {
                process.name = self.text(&process.name);
                process.address = process.address.as_deref().map(|address| self.text(address));
            }
        }
        journal
    }

    fn in_place(self, text: &mut String) {
        *text = self.text(text);
    }

    fn kind(self, kind: &mut Kind) {
        match kind {
            Kind::Canary => {}
            Kind::SkipCanary { reason } | Kind::Restore { reason } => self.in_place(reason),
        }
    }

    fn phase(self, phase: &mut Phase) {
        match phase {
            Phase::RollingBack { reason, .. } => self.reason(reason),
            Phase::Ended { reason, .. } => reason.iter_mut().for_each(|reason| self.reason(reason)),
            Phase::Preflight
            | Phase::Deploying { .. }
            | Phase::Step { .. }
            | Phase::Promoting { .. }
            | Phase::Controlling { .. }
            | Phase::Baking { .. }
            | Phase::Settling { .. } => {}
        }
    }

    fn reason(self, reason: &mut Reason) {
        match reason {
            Reason::Preflight { error: text }
            | Reason::NotStarting { text }
            | Reason::NotReady { said: Some(text), .. } => self.in_place(text),
            Reason::Asked { by, why } => {
                self.in_place(by);
                self.in_place(why);
            }
            Reason::Harm
            | Reason::Guard { .. }
            | Reason::Ceiling
            | Reason::NotReady { said: None, .. }
            | Reason::Inconclusive
            | Reason::HoldExpired
            | Reason::Superseded { .. } => {}
        }
    }

    fn hold(self, reason: &mut HoldReason) {
        match reason {
            HoldReason::Inconclusive => {}
            HoldReason::Person { name, why } => {
                self.in_place(name);
                self.in_place(why);
            }
        }
    }

    fn happening(self, happening: &mut Happening) {
        match happening {
            Happening::Held { reason, .. } => self.hold(reason),
            Happening::Resumed { by } => by.iter_mut().for_each(|by| self.in_place(by)),
            Happening::Promoting { by, why } => {
                by.iter_mut().for_each(|by| self.in_place(by));
                self.in_place(why);
            }
            Happening::RollingBack { reason, .. } => self.reason(reason),
            Happening::TakenOver { by, from } => {
                self.in_place(by);
                self.in_place(from);
            }
            // How many went back when it went well, with what the messages failed of in brackets; an error otherwise.
            Happening::Redriven { text, well: true } => {
                let count = text.split_once(" (").map_or(text.as_str(), |(count, _)| count);
                *text = match self {
                    Self::Redacted => Self::Bounded.text(count),
                    Self::Bounded => self.text(text),
                };
            }
            Happening::Redriven { text, well: false }
            | Happening::Refused { text }
            | Happening::Crashed { text, .. }
            | Happening::Trouble { text } => self.in_place(text),
            Happening::Began { .. }
            | Happening::Checked { .. }
            | Happening::CanaryReady
            | Happening::Step { .. }
            | Happening::Suspected
            | Happening::Cleared
            | Happening::Promoted
            | Happening::BakeBegan { .. }
            | Happening::BakeOver
            | Happening::StableRestored { .. }
            | Happening::Removed
            | Happening::Ended { .. } => {}
        }
    }
}
