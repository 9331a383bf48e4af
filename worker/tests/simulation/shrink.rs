//! Makes a failing case smaller for as long as it fails.

use crate::case::{Act, Case, Operation};
use crate::run::run;

/// A case that is shorter than `case` and still fails, and how. Deterministic; a few hundred runs.
pub(crate) fn shrink(case: &Case) -> (Case, String) {
    let violation = |case: &Case| run(case, false).violation;
    let mut best = case.clone();
    let mut why = violation(case).unwrap_or_else(|| "it no longer fails".to_owned());
    // Every round but the last makes the case smaller.
    while let Some((smaller, violation)) = candidates(&best)
        .into_iter()
        .find_map(|candidate| Some((candidate.clone(), violation(&candidate)?)))
    {
        (best, why) = (smaller, violation);
    }
    (best, why)
}

/// Cases with less in them, the boldest first.
fn candidates(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let length = case.operations.len();
    let mut chunk = length / 2;
    // Halves each time.
    while chunk > 0 {
        for start in (0..length).step_by(chunk) {
            let mut smaller = case.clone();
            smaller.operations.drain(start..(start + chunk).min(length));
            all.push(smaller);
        }
        chunk /= 2;
    }
    for index in 0..case.faults.len() {
        let mut smaller = case.clone();
        smaller.faults.remove(index);
        all.push(smaller);
    }
    for index in 0..length {
        for operation in simpler(&case.operations[index]) {
            let mut smaller = case.clone();
            smaller.operations[index] = operation;
            all.push(smaller);
        }
    }
    all
}

fn simpler(operation: &Operation) -> Vec<Operation> {
    match operation {
        Operation::Send {
            group,
            attributes,
            delay,
            script,
        } => {
            let with = |attributes, delay, script| Operation::Send {
                group: *group,
                attributes,
                delay,
                script,
            };
            let mut all = Vec::new();
            if script.len() > 1 {
                for index in 0..script.len() {
                    let mut shorter = script.clone();
                    shorter.remove(index);
                    all.push(with(*attributes, *delay, shorter));
                }
            }
            if *attributes > 0 || *delay > 0 {
                all.push(with(0, 0, script.clone()));
            }
            if script.len() == 1 && script[0] != Act::Done(1) {
                all.push(with(*attributes, *delay, vec![Act::Done(1)]));
            }
            all
        }
        Operation::Wait(ms) if *ms > 1 => vec![Operation::Wait(ms / 2)],
        Operation::Jump(ms) if *ms > 1 => vec![Operation::Jump(ms / 2)],
        Operation::Outage(ms) if *ms > 1 => vec![Operation::Outage(ms / 2)],
        Operation::Start(_)
        | Operation::Crash(_)
        | Operation::Stop(_)
        | Operation::Wait(_)
        | Operation::Jump(_)
        | Operation::Outage(_)
        | Operation::Redrive => Vec::new(),
    }
}
