//! What was found and what became of it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::SystemTime;

use serde::Serialize;

use super::letter::{Letter, Origin};

/// Version of the JSON form.
const SCHEMA: u32 = 1;

/// Groups beyond so many are counted together: names come from messages, and messages from anywhere.
const MOST_GROUPS: usize = 200;

/// The longest name of a group, in characters.
const LONGEST_NAME: usize = 48;

/// The most problems that are told in words.
const MOST_PROBLEMS: usize = 5;

/// Why a message that matched stayed in the dead-letter queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kept {
    /// It was sent back as often as is allowed.
    TooOften,
    /// It was sent back in this run, failed again and came back.
    CameBack,
    /// It arrived after the run had begun.
    ArrivedLater,
    /// Which queue it came from cannot be told.
    Ambiguous,
    /// The queue does not take it.
    Refused,
    /// SQS could not be brought to take it, or the run ended before.
    NotSent,
    /// The run's limit was reached.
    Limit,
    /// It may be with somebody else by now.
    LeaseLost,
}

impl Kept {
    /// In words, after a number of messages.
    const fn text(self) -> &'static str {
        match self {
            Self::TooOften => "were sent back as often as is allowed (--max-redrives)",
            Self::CameBack => "came back: they failed again after being sent back in this run",
            Self::ArrivedLater => "arrived after the run had begun",
            Self::Ambiguous => "do not say which queue they came from; name one of its queues with --to",
            Self::Refused => "are refused by the queue",
            Self::NotSent => "were not sent",
            Self::Limit => "are over the limit (--limit)",
            Self::LeaseLost => "may be with somebody else by now",
        }
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "how", content = "error")]
pub enum Ending {
    /// The dead-letter queue was read to its end.
    Complete,
    /// A message that was kept came round again: somebody else reads the queue, or leases were lost.
    CameRound,
    /// As many were sent back as was asked for.
    Limit,
    /// It was told to stop.
    Interrupted,
    /// SQS refused, or could not be reached; the error.
    Failed(String),
}

/// Messages that failed the same release for the same reason.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The release that failed them last; none where no worker told.
    pub release: Option<String>,
    /// Why; where no worker told, what is known instead.
    pub reason: String,
    /// Messages read.
    pub found: u64,
    /// Those that the filter means.
    pub matched: u64,
    /// Those that were sent back, or in a dry run would be.
    pub moved: u64,
    /// Those that match and stayed, by why.
    pub kept: BTreeMap<Kept, u64>,
    /// Seconds since the epoch.
    pub first_failed_at: Option<u64>,
    /// Seconds since the epoch.
    pub last_failed_at: Option<u64>,
}

/// A run, so far or as a whole.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Version of this form; 1.
    pub schema: u32,
    /// The dead-letter queue's name.
    pub dead_letter_queue: String,
    /// Names of the queues that messages may go back to.
    pub sources: Vec<String>,
    /// Whether nothing was to be moved.
    pub dry_run: bool,
    /// How it ended.
    pub ending: Ending,
    /// Messages there when it began; SQS's estimate.
    pub visible: u64,
    /// Messages still to be read when it ended; SQS's estimate.
    pub unread: u64,
    /// By release and reason.
    pub groups: Vec<Group>,
    /// Deliveries of messages that this run had moved already: deleted once more, not sent again.
    pub seen_again: u64,
    /// Sends whose answer was lost before a second try: at most so many messages were sent twice.
    pub sent_twice_at_most: u64,
    /// Ids of messages that were sent and could not be deleted: the next run would send them again.
    pub not_deleted: Vec<String>,
    /// What went wrong with single messages, the first few.
    pub problems: Vec<String>,
}

impl Summary {
    pub(super) fn new(dead_letter_queue: &str, sources: Vec<String>, dry_run: bool, visible: u64) -> Self {
        Self {
            schema: SCHEMA,
            dead_letter_queue: dead_letter_queue.to_owned(),
            sources,
            dry_run,
            ending: Ending::Complete,
            visible,
            unread: 0,
            groups: Vec::new(),
            seen_again: 0,
            sent_twice_at_most: 0,
            not_deleted: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Messages read.
    #[must_use]
    pub fn found(&self) -> u64 {
        self.groups.iter().map(|group| group.found).sum()
    }

    /// Messages that the filter means.
    #[must_use]
    pub fn matched(&self) -> u64 {
        self.groups.iter().map(|group| group.matched).sum()
    }

    /// Messages that were sent back, or in a dry run would be.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.groups.iter().map(|group| group.moved).sum()
    }

    /// Messages that match and stayed for this reason.
    #[must_use]
    pub fn kept(&self, why: Kept) -> u64 {
        self.groups.iter().filter_map(|group| group.kept.get(&why)).sum()
    }

    /// What a person has to do something about; none when all went as asked.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        match &self.ending {
            Ending::Failed(error) => return Some(error.clone()),
            Ending::Interrupted => return Some("interrupted; what was in hand was handed back".to_owned()),
            Ending::Complete | Ending::CameRound | Ending::Limit => {}
        }
        let ambiguous = self.kept(Kept::Ambiguous);
        if ambiguous > 0 {
            return Some(format!(
                "{ambiguous} messages do not say which of the queues of {} they came from; expected --to with one of: {}",
                self.dead_letter_queue,
                self.sources.join(", ")
            ));
        }
        if !self.not_deleted.is_empty() {
            return Some(format!(
                "{} messages were sent and could not be deleted; the next run would send them again: {}",
                self.not_deleted.len(),
                self.not_deleted.join(", ")
            ));
        }
        None
    }

    /// Counts a message; gives its group.
    pub(super) fn count(&mut self, letter: &Letter, matched: bool) -> usize {
        let (release, reason) = names(letter);
        let known = |group: &Group| group.release == release && group.reason == reason;
        let index = match self.groups.iter().position(known) {
            Some(index) => index,
            None if self.groups.len() < MOST_GROUPS => self.add(release, reason),
            None => {
                let other = |group: &Group| group.release.is_none() && group.reason == OTHER;
                let index = self.groups.iter().position(other);
                index.unwrap_or_else(|| self.add(None, OTHER.to_owned()))
            }
        };
        let group = &mut self.groups[index];
        group.found += 1;
        group.matched += u64::from(matched);
        if let Some(at) = letter.failed_at().and_then(seconds) {
            group.first_failed_at = Some(group.first_failed_at.map_or(at, |first| first.min(at)));
            group.last_failed_at = Some(group.last_failed_at.map_or(at, |last| last.max(at)));
        }
        index
    }

    fn add(&mut self, release: Option<String>, reason: String) -> usize {
        self.groups.push(Group {
            release,
            reason,
            found: 0,
            matched: 0,
            moved: 0,
            kept: BTreeMap::new(),
            first_failed_at: None,
            last_failed_at: None,
        });
        self.groups.len() - 1
    }

    pub(super) fn keep(&mut self, group: usize, why: Kept) {
        *self.groups[group].kept.entry(why).or_default() += 1;
    }

    pub(super) fn problem(&mut self, message_id: &str, problem: &dyn std::fmt::Display) {
        if self.problems.len() < MOST_PROBLEMS {
            self.problems.push(format!("{message_id}: {problem}"));
        }
    }

    /// The table for a terminal.
    #[must_use]
    pub fn table(&self) -> String {
        let moved = if self.dry_run { "WOULD MOVE" } else { "MOVED" };
        let heading = [
            "RELEASE",
            "REASON",
            "FOUND",
            "MATCH",
            moved,
            "FIRST FAILED",
            "LAST FAILED",
        ]
        .map(str::to_owned);
        let mut groups: Vec<&Group> = self.groups.iter().collect();
        groups.sort_by_key(|group| (std::cmp::Reverse(group.matched), std::cmp::Reverse(group.found)));
        let mut rows = vec![heading];
        rows.extend(groups.into_iter().map(row));
        let widths: [usize; 7] = std::array::from_fn(|column| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        });
        let mut text = String::new();
        if self.groups.is_empty() {
            let _ = writeln!(text, "{} is empty", self.dead_letter_queue);
        } else {
            for row in &rows {
                let mut line = String::new();
                for (column, cell) in row.iter().enumerate() {
                    let width = widths[column];
                    let _ = if (2..5).contains(&column) {
                        write!(line, "{cell:>width$}  ")
                    } else {
                        write!(line, "{cell:width$}  ")
                    };
                }
                let _ = writeln!(text, "{}", line.trim_end());
            }
            text.push('\n');
        }
        self.conclude(&mut text);
        text
    }

    fn conclude(&self, text: &mut String) {
        let (what, to) = if self.dry_run {
            ("would be sent back", "")
        } else {
            ("sent back", "; the others are where they were")
        };
        let _ = writeln!(
            text,
            "{} read, {} match, {} {what} to {}{to}",
            self.found(),
            self.matched(),
            self.moved(),
            self.sources.join(" or ")
        );
        let mut kept: BTreeMap<Kept, u64> = BTreeMap::new();
        for (why, count) in self.groups.iter().flat_map(|group| &group.kept) {
            *kept.entry(*why).or_default() += count;
        }
        for (why, count) in kept {
            let _ = writeln!(text, "{count} match and stay: they {}", why.text());
        }
        if self.unread > 0 {
            let _ = writeln!(
                text,
                "about {} more were not read (on a FIFO queue: behind messages of their group that stay)",
                self.unread
            );
        }
        if self.seen_again > 0 {
            let _ = writeln!(
                text,
                "{} came a second time and were deleted again",
                self.seen_again
            );
        }
        if self.sent_twice_at_most > 0 {
            let _ = writeln!(
                text,
                "{} may have been sent twice: the answer to the first try was lost",
                self.sent_twice_at_most
            );
        }
        if self.ending == Ending::CameRound {
            let _ = writeln!(
                text,
                "reading ended early: messages came round again, so somebody else reads this queue as well"
            );
        }
        for problem in &self.problems {
            let _ = writeln!(text, "problem: {problem}");
        }
    }
}

const OTHER: &str = "(others)";

fn names(letter: &Letter) -> (Option<String>, String) {
    match (&letter.origin, &letter.message.dead_letter_source) {
        (Origin::Told(story), _) => (Some(plain(story.release.as_str())), plain(&story.reason)),
        (Origin::Untold, Some(_)) => (None, "(no story; moved by SQS)".to_owned()),
        (Origin::Untold, None) => (None, "(no story)".to_owned()),
        (Origin::Broken(_), _) => (None, "(broken story)".to_owned()),
    }
}

/// Text of a message as a terminal may show it: short, in one line, without control characters.
fn plain(text: &str) -> String {
    let shown = |c: char| {
        if c.is_control() {
            char::REPLACEMENT_CHARACTER
        } else {
            c
        }
    };
    let mut plain: String = text.chars().take(LONGEST_NAME).map(shown).collect();
    if text.chars().nth(LONGEST_NAME).is_some() {
        plain.pop();
        plain.push('…');
    }
    plain
}

fn seconds(time: SystemTime) -> Option<u64> {
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs())
}

fn row(group: &Group) -> [String; 7] {
    let time = |at: Option<u64>| {
        let at = at.and_then(|at| SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(at)));
        at.map_or_else(
            || "-".to_owned(),
            |at| humantime::format_rfc3339_seconds(at).to_string(),
        )
    };
    [
        group.release.clone().unwrap_or_else(|| "-".to_owned()),
        group.reason.clone(),
        group.found.to_string(),
        group.matched.to_string(),
        group.moved.to_string(),
        time(group.first_failed_at),
        time(group.last_failed_at),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redrive::letter::tests::{foreign, told};

    fn summary() -> Summary {
        Summary::new(
            "orders-dlq",
            vec!["orders".to_owned(), "other".to_owned()],
            true,
            9,
        )
    }

    #[test]
    fn messages_are_grouped_by_release_and_reason_and_those_without_a_story_are_a_group() {
        let mut summary = summary();
        for at in [300, 100, 200] {
            let group = summary.count(&told("2.0", "panic", at), true);
            summary.groups[group].moved += 1;
        }
        summary.count(&told("1.9", "panic", 1), false);
        summary.count(&foreign(Some("arn:aws:sqs:r:1:orders")), false);
        let group = summary.count(&foreign(None), true);
        summary.keep(group, Kept::Ambiguous);
        let table = summary.table();
        let rows: Vec<&str> = table.lines().take(5).collect();
        let row = rows[1].split_whitespace().collect::<Vec<_>>();
        assert_eq!(
            row,
            [
                "2.0",
                "panic",
                "3",
                "3",
                "3",
                "1970-01-01T00:01:40Z",
                "1970-01-01T00:05:00Z"
            ]
        );
        assert!(
            table.contains("WOULD MOVE") && table.contains("6 read, 4 match, 3 would be sent back"),
            "{table}"
        );
        assert!(
            table.contains("(no story; moved by SQS)") && table.contains("name one of its queues with --to"),
            "{table}"
        );
        let failure = summary.failure().unwrap();
        assert!(
            failure.contains("1 messages") && failure.ends_with("orders, other"),
            "{failure}"
        );
    }

    #[test]
    fn what_messages_claim_cannot_steer_a_terminal_or_fill_the_memory() {
        let mut summary = summary();
        summary.count(&told("2.0", "\u{1b}[2J\nroot", 1), true);
        summary.count(&told("2.0", &"x".repeat(5000), 1), true);
        for n in 0..2 * MOST_GROUPS {
            summary.count(&told("2.0", &format!("reason-{n}"), 1), true);
        }
        assert!(summary.groups.len() <= MOST_GROUPS + 1);
        let table = summary.table();
        assert!(
            !table.contains('\u{1b}') && table.lines().all(|line| line.chars().count() < 200),
            "{table}"
        );
        assert_eq!(summary.found(), 2 + 2 * MOST_GROUPS as u64);
    }
}
