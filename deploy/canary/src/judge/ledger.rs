//! The windows that have come in, each once, in the order of time whatever order they came in.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::window::{Arm, Window};

/// What became of a window that was handed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is evidence now.
    New,
    /// It was evidence already; what came with the repeat is ignored, so that late counts cannot join.
    Repeated,
    /// It has attempts without an end: kept for the guards, not evidence yet.
    Incomplete,
    /// Its counts cannot be; the reason. It is no data.
    Refused(&'static str),
}

/// A set of windows by id (start and stratum): the same windows in any order, with repeats, make the same ledger.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    complete: BTreeMap<(u64, String), Window>,
    incomplete: BTreeMap<(u64, String), Window>,
    refused: u64,
}

impl Ledger {
    /// Takes a window. A complete one is evidence from then on and never changes; of an incomplete one the report that is
    /// further along is kept.
    pub fn record(&mut self, window: Window) -> Recorded {
        let id = (window.start, window.stratum.clone());
        if self.complete.contains_key(&id) {
            return Recorded::Repeated;
        }
        if let Some(fault) = window.fault() {
            self.refused += 1;
            return Recorded::Refused(fault);
        }
        if window.is_complete() {
            self.incomplete.remove(&id);
            self.complete.insert(id, window);
            return Recorded::New;
        }
        match self.incomplete.entry(id) {
            Entry::Vacant(vacant) => {
                vacant.insert(window);
            }
            Entry::Occupied(mut kept) if progress(&window) >= progress(kept.get()) => {
                kept.insert(window);
            }
            Entry::Occupied(_) => {}
        }
        Recorded::Incomplete
    }

    /// Complete windows so far.
    pub fn len(&self) -> usize {
        self.complete.len()
    }

    /// Whether there is no complete window.
    pub fn is_empty(&self) -> bool {
        self.complete.is_empty()
    }

    /// Windows that were refused because their counts cannot be.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// The complete windows in order, merged to spans of `seconds` (those whose start falls into the same multiple of it).
    ///
    /// A window must not enter half, so a span is left out while a window in it is incomplete; and the last span of a stratum
    /// until it is full or a later one has begun. A source therefore hands in windows that are incomplete, too.
    pub fn merged(&self, seconds: u32) -> Vec<Window> {
        let span = u64::from(seconds.max(1));
        let begin_of = |start: u64| start - start % span;
        let mut merged: BTreeMap<(u64, &str), (Window, u64)> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for ((start, stratum), window) in &self.complete {
            let begin = begin_of(*start);
            last.insert(stratum, begin);
            merged
                .entry((begin, stratum))
                .and_modify(|(whole, covered)| {
                    whole.merge(window);
                    *covered = covered.saturating_add(u64::from(window.seconds));
                })
                .or_insert_with(|| (window.clone(), u64::from(window.seconds)));
        }
        for (start, stratum) in self.incomplete.keys() {
            let begin = begin_of(*start);
            merged.remove(&(begin, stratum.as_str()));
            last.entry(stratum).and_modify(|last| *last = begin.max(*last));
        }
        merged
            .into_iter()
            .filter(|((begin, stratum), (_, covered))| *covered >= span || last[stratum] > *begin)
            .map(|((begin, _), (window, _))| Window {
                start: begin,
                ..window
            })
            .collect()
    }

    /// All windows of the last `seconds` before the newest, incomplete ones included, in order: what the guards look at.
    pub fn recent(&self, seconds: u64) -> Vec<&Window> {
        let newest = [&self.complete, &self.incomplete]
            .into_iter()
            .filter_map(|windows| windows.values().next_back())
            .map(Window::end)
            .max()
            .unwrap_or_default();
        let from = (newest.saturating_sub(seconds), String::new());
        let mut recent: Vec<&Window> = self
            .complete
            .range(from.clone()..)
            .chain(self.incomplete.range(from..))
            .map(|(_, window)| window)
            .collect();
        recent.sort_by_key(|window| window.start);
        recent
    }
}

/// How far along a report of an incomplete window is: counts only grow.
fn progress(window: &Window) -> (u64, u64) {
    let sum = |of: fn(&Arm) -> u64| of(&window.canary).saturating_add(of(&window.baseline));
    (sum(|arm| arm.started), sum(Arm::ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(start: u64, done: u64, open: u64) -> Window {
        let canary = Arm {
            started: done + open,
            done,
            open,
            ..Arm::default()
        };
        Window {
            start,
            seconds: 1,
            canary,
            ..Window::default()
        }
    }

    #[test]
    fn a_window_enters_once_and_never_changes() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.record(window(5, 1, 2)), Recorded::Incomplete);
        assert!(ledger.is_empty());
        assert_eq!(ledger.recent(10).len(), 1);
        assert_eq!(ledger.record(window(5, 3, 0)), Recorded::New);
        assert_eq!(ledger.record(window(5, 9, 0)), Recorded::Repeated);
        assert_eq!(ledger.record(window(5, 9, 1)), Recorded::Repeated);
        assert_eq!(ledger.merged(1)[0].canary.done, 3);
        assert_eq!(ledger.recent(10).len(), 1);
    }

    #[test]
    fn merging_leaves_the_last_span_out_until_it_is_full() {
        let mut ledger = Ledger::default();
        for start in [13, 10, 12, 11] {
            ledger.record(window(start, 1, 0));
        }
        assert_eq!(ledger.merged(5).len(), 0);
        ledger.record(window(15, 1, 0));
        let merged = ledger.merged(5);
        assert_eq!(merged.len(), 1);
        assert_eq!((merged[0].start, merged[0].canary.done), (10, 4));
    }

    #[test]
    fn a_span_waits_for_the_windows_in_it_that_are_not_complete() {
        let mut ledger = Ledger::default();
        for start in [10, 11, 13, 14, 15] {
            ledger.record(window(start, 1, 0));
        }
        ledger.record(window(12, 1, 1));
        assert_eq!(
            ledger.merged(5).len(),
            0,
            "the slow window would join a span that was evidence already"
        );
        ledger.record(window(12, 2, 0));
        assert_eq!(ledger.merged(5)[0].canary.done, 6);
    }

    #[test]
    fn of_two_reports_of_an_incomplete_window_the_later_one_stays_whatever_the_order() {
        let (early, late) = (window(5, 1, 9), window(5, 8, 3));
        for order in [[&early, &late], [&late, &early]] {
            let mut ledger = Ledger::default();
            for report in order {
                ledger.record(report.clone());
            }
            assert_eq!(ledger.recent(10)[0].canary.done, 8);
        }
    }

    #[test]
    fn attempts_without_an_account_are_open() {
        let mut ledger = Ledger::default();
        let mut partial = window(5, 3, 0);
        partial.canary.started = 10;
        assert_eq!(ledger.record(partial.clone()), Recorded::Incomplete);
        partial.closed = true;
        assert_eq!(ledger.record(partial), Recorded::New);
    }

    #[test]
    fn windows_that_cannot_be_are_refused_and_counted() {
        let mut ledger = Ledger::default();
        let mut broken = window(1, 1, 0);
        broken.canary.started = 0;
        assert!(matches!(ledger.record(broken), Recorded::Refused(_)));
        assert_eq!((ledger.len(), ledger.refused()), (0, 1));
    }
}
