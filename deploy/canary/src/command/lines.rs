//! What a person sees of a rollout: a line for each thing that happens, and on a terminal one that changes.

use std::fmt;
use std::io::Write;

use crate::drive::Observer;
use crate::journal::{Entry, Journal};
use crate::moment::Moment;
use crate::rollout::{Happening, Phase};

/// Writes them for people to read.
pub(crate) struct Lines {
    began: Moment,
    to: Box<dyn Write + Send>,
    /// Whether `to` is a terminal: colours, and one line that changes.
    terminal: bool,
}

impl fmt::Debug for Lines {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Lines")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl Lines {
    pub(crate) fn new(began: Moment, to: impl Write + Send + 'static, terminal: bool) -> Self {
        Self {
            began,
            to: Box::new(to),
            terminal,
        }
    }

    fn clear(&self) -> &'static str {
        if self.terminal { "\r\x1b[2K" } else { "" }
    }
}

/// The colour of a line: what is bad red, what is good green, what waits for people yellow.
fn colour(happening: &Happening) -> &'static str {
    match happening {
        Happening::Suspected
        | Happening::RollingBack { .. }
        | Happening::Crashed { .. }
        | Happening::Trouble { .. }
        | Happening::Redriven { well: false, .. } => "\x1b[31m",
        Happening::Held { .. } | Happening::Refused { .. } | Happening::TakenOver { .. } => "\x1b[33m",
        Happening::Promoted | Happening::Ended { .. } | Happening::StableRestored { .. } => "\x1b[32m",
        Happening::Began { .. }
        | Happening::Checked { .. }
        | Happening::CanaryReady
        | Happening::Step { .. }
        | Happening::Cleared
        | Happening::Resumed { .. }
        | Happening::Promoting { .. }
        | Happening::BakeBegan { .. }
        | Happening::BakeOver
        | Happening::Removed
        | Happening::Redriven { .. } => "",
    }
}

/// One line on where things stand: share, failures, and the evidence against its bounds.
pub(crate) fn standing(journal: &Journal) -> String {
    let measured = &journal.measured;
    let mut parts = vec![format!("{:.0} messages/s", measured.per_second)];
    if let Some(share) = measured.share {
        let wanted = measured
            .share_wanted
            .map(|wanted| format!(" of {:.1} %", wanted * 100.0));
        parts.push(format!(
            "canary {:.1} %{}",
            share * 100.0,
            wanted.unwrap_or_default()
        ));
    }
    if let Some(verdict) = &journal.verdict {
        if let Some(failures) = verdict.signals.iter().find(|signal| signal.name == "failures") {
            let rate = |arm: &crate::judge::verdict::ArmReport| format!("{:.2} %", arm.rate.rate * 100.0);
            parts.push(format!(
                "failed: new {}, old {}",
                rate(&failures.canary),
                rate(&failures.baseline)
            ));
        }
        let part = |measure: &crate::judge::verdict::Measure| {
            format!("{:.1}/{:.1}", measure.ln_evidence.max(0.0), measure.ln_bound)
        };
        parts.push(format!(
            "harm {}, promotion {}",
            part(&verdict.harm),
            part(&verdict.promotion)
        ));
    }
    parts.join(", ")
}

/// `text` in lines of at most `width` columns where its words allow it, those after the first indented by `indent`; the first begins
/// in column `indent`.
pub(crate) fn folded(text: &str, indent: usize, width: usize) -> String {
    let mut folded = String::new();
    let mut column = indent;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > indent && column + 1 + length > width {
            folded.push('\n');
            folded.extend(std::iter::repeat_n(' ', indent));
            column = indent;
        }
        if column > indent {
            folded.push(' ');
            column += 1;
        }
        folded.push_str(word);
        column += length;
    }
    folded
}

/// As much of `text` as fits into a line of `width`: what wraps cannot be written over.
fn fitting(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

/// Columns of the terminal; 80 where it does not say.
fn columns() -> usize {
    crossterm::terminal::size().map_or(80, |(columns, _)| usize::from(columns))
}

impl Observer for Lines {
    fn happened(&mut self, entry: &Entry, journal: &Journal) {
        let since = entry.at.since(self.began).as_secs_f64();
        let (on, off) = match (self.terminal, colour(&entry.happening)) {
            (true, colour) if !colour.is_empty() => (colour, "\x1b[0m"),
            _ => ("", ""),
        };
        let release = &journal.state.candidate.release;
        let head = format!("{since:>7.1} s  {release}  ");
        let mut text = entry.happening.to_string();
        if self.terminal {
            text = folded(&text, head.chars().count(), columns());
        }
        // A closed terminal must not end a rollout.
        let clear = self.clear();
        let _ = writeln!(self.to, "{clear}{head}{on}{text}{off}");
    }

    fn looked(&mut self, journal: &Journal) {
        if self.terminal && !matches!(journal.state.phase, Phase::Ended { .. }) {
            let clear = self.clear();
            let line = format!("           {}", standing(journal));
            let _ = write!(self.to, "{clear}{}", fitting(&line, columns().saturating_sub(1)));
            let _ = self.to.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_its_text() {
        assert_eq!(folded("one two three", 4, 11), "one two\n    three");
        assert_eq!(folded("as it is", 4, 80), "as it is");
        assert_eq!(
            folded("unbreakable word", 2, 6),
            "unbreakable\n  word",
            "no word is cut"
        );
    }

    #[test]
    fn a_line_that_is_written_over_never_wraps() {
        assert_eq!(fitting("ä 30.0 %", 4), "ä 30");
        assert_eq!(fitting("short", 80), "short");
    }
}
