//! The stretch rule: no single stretch of time decides alone.
//!
//! E_{−i} is what the evidence would be had the windows of stretch i carried none. Each is an e-process over the other windows,
//! so if the windows of one stretch are arbitrary and the rest is harmless, the least of them reaches 10 with chance at most
//! 1/10.

use super::process::{Process, log_sum};

/// Weighted processes, as ln weight and process.
type Parts<'p> = [(f64, &'p mut Process)];

/// Whether at least `bound` of the evidence is left whichever stretch is left out, each in all processes at once.
///
/// Looks first at the stretch that stood in the way last time, which is kept up to date with every window: so a long
/// suspicion does not cost a look at all stretches each second. `shadow_end` is where that stretch ends, in seconds.
pub(crate) fn stands_without_any(
    parts: &mut Parts<'_>,
    shadow_end: &mut Option<u64>,
    bound: f64,
    starts: &[u64],
    length: u32,
) -> bool {
    let shadow = log_sum(
        parts
            .iter()
            .map(|(weight, process)| weight + process.log_shadow()),
    );
    if shadow_end.is_some() && shadow < bound {
        return false;
    }
    let stretches = stretches(starts, length);
    let shared: Vec<(f64, &Process)> = parts
        .iter()
        .map(|(weight, process)| (*weight, &**process))
        .collect();
    let (least, value) = weakest(&shared, &stretches);
    let Some((from, to)) = least.map(|index| stretches[index]).filter(|_| value < bound) else {
        return true;
    };
    for (_, process) in parts {
        process.cast_shadow(from, to);
    }
    *shadow_end = Some(starts[from].saturating_add(u64::from(length)));
    false
}

/// The stretch without which the least evidence is left, and how much that is.
pub(crate) fn weakest(parts: &[(f64, &Process)], stretches: &[(usize, usize)]) -> (Option<usize>, f64) {
    let parts: Vec<(f64, Vec<f64>)> = parts
        .iter()
        .map(|(weight, process)| (*weight, process.log_evidence_without(stretches)))
        .collect();
    let mut weakest = (None, f64::INFINITY);
    for index in 0..stretches.len() {
        let value = log_sum(parts.iter().map(|(weight, values)| weight + values[index]));
        if value < weakest.1 {
            weakest = (Some(index), value);
        }
    }
    weakest
}

/// The stretches that must not decide alone: from each window on, `length` seconds, as ranges of window indices.
pub(crate) fn stretches(starts: &[u64], length: u32) -> Vec<(usize, usize)> {
    if length == 0 {
        return Vec::new();
    }
    let mut end = 0;
    let range = |(from, start): (usize, &u64)| {
        while starts
            .get(end)
            .is_some_and(|other| *other < start.saturating_add(u64::from(length)))
        {
            end += 1;
        }
        (from, end)
    };
    starts.iter().enumerate().map(range).collect()
}
