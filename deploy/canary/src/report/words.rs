//! Why the verdict is what it is, in sentences.

use super::Rate;
use crate::judge::verdict::{ArmReport, Measure, Otherwise, SignalReport};
use crate::plan::unit::show_fraction;
use crate::rollout::{Happening, Outcome};
use crate::status::Status;
use crate::status::screen::odds;

/// A sentence for each thing that a verdict rests on. `promoted` is why it was promoted, if it was, and `rate` what the new release
/// had failed in the end.
pub(super) fn explanation(status: &Status, promoted: Option<&Happening>, rate: Option<Rate>) -> Vec<String> {
    let mut sentences: Vec<String> = verdict(status, promoted).into_iter().collect();
    let failures = status.signals.first().filter(|signal| signal.canary.attempts > 0);
    let (Some(failures), Some(harm), Some(promotion)) = (failures, &status.harm, &status.promotion) else {
        sentences.push(match rate.filter(|rate| rate.attempts > 0) {
            Some(rate) => format!("{} failed {}.", status.release, failed_of(rate)),
            None => "No message of the new release was judged.".to_owned(),
        });
        return sentences;
    };
    sentences.push(rates(status, failures));
    sentences.push(harmed(harm));
    sentences.extend(by_signal(&status.signals));
    sentences.push(cleared(promotion));
    if let Some(otherwise) = &status.otherwise {
        sentences.extend(changes(otherwise, status.outcome));
    }
    sentences
}

/// How it stands, and why.
fn verdict(status: &Status, promoted: Option<&Happening>) -> Option<String> {
    let headline = capital(status.headline());
    if let Some(reason) = &status.reason {
        return Some(format!("{headline}: {reason}."));
    }
    if let Some(asked) = &status.asked {
        return Some(format!("{headline}, {}: {asked}.", status.kind));
    }
    if status.outcome != Some(Outcome::Promoted) {
        return None;
    }
    Some(match promoted {
        Some(Happening::Promoting { by: Some(by), why }) if why.is_empty() => {
            format!("{headline}: asked for by {by}.")
        }
        Some(Happening::Promoting { by: Some(by), why }) => format!("{headline}: asked for by {by}: {why}."),
        Some(_) | None if status.baseline.is_none() => format!(
            "{headline}: it is the first release, with nothing to compare it with; it was healthy, and failed less than the plan's ceiling."
        ),
        Some(_) | None => format!("{headline}: it is not worse than tolerated."),
    })
}

fn failed_of(rate: Rate) -> String {
    format!(
        "{} of {} first deliveries ({}; 95 % band {} to {})",
        rate.failed,
        rate.attempts,
        show_fraction(rate.rate),
        show_fraction(rate.low),
        show_fraction(rate.high)
    )
}

fn rates(status: &Status, failures: &SignalReport) -> String {
    let arm = |arm: ArmReport| failed_of(arm.into());
    match &status.baseline {
        Some(baseline) => format!(
            "{} failed {}, {baseline} at the same time {}.",
            status.release,
            arm(failures.canary),
            arm(failures.baseline)
        ),
        None => format!(
            "{} failed {}; there was nothing to compare it with.",
            status.release,
            arm(failures.canary)
        ),
    }
}

fn harmed(harm: &Measure) -> String {
    let (evidence, bound) = (odds(harm.ln_evidence), odds(harm.ln_bound));
    match (harm.ln_evidence >= harm.ln_bound, harm.reached_at) {
        (_, Some(_)) => format!(
            "The evidence that it does harm is {evidence}, where {bound} convicts, and it stands when any one stretch of the time is left out."
        ),
        (true, None) => format!(
            "The evidence that it does harm is {evidence}, which is past the {bound} of a suspicion; but one short stretch alone carries it, so it does not convict."
        ),
        (false, None) => format!("The evidence that it does harm is {evidence}; it would take {bound}."),
    }
}

/// Which of several signals it is.
fn by_signal(signals: &[SignalReport]) -> Option<String> {
    let mut parts: Vec<&SignalReport> = signals.iter().collect();
    parts.sort_by(|a, b| b.ln_evidence.total_cmp(&a.ln_evidence));
    let parts: Vec<String> = parts
        .iter()
        .map(|signal| format!("{} {}", signal.name, odds(signal.ln_evidence)))
        .collect();
    (parts.len() > 1).then(|| format!("By signal, each alone: {}.", parts.join(", ")))
}

fn cleared(promotion: &Measure) -> String {
    let (evidence, bound) = (odds(promotion.ln_evidence), odds(promotion.ln_bound));
    if promotion.ln_evidence >= promotion.ln_bound {
        format!("The evidence that it is not worse than tolerated is {evidence}, where {bound} promotes.")
    } else {
        format!("The evidence that it is not worse than tolerated is {evidence}; it would take {bound}.")
    }
}

fn changes(otherwise: &Otherwise, outcome: Option<Outcome>) -> Vec<String> {
    let mut sentences = Vec::new();
    if let Some(count) = otherwise.fewer_failures_to_clear {
        sentences.push(format!(
            "With {} fewer, the latest taken first, it would not have been suspected.",
            failed(count)
        ));
    }
    if let Some(count) = otherwise.more_failures_to_suspect {
        sentences.push(format!(
            "{} more in one further window would have made it suspect.",
            capital(&failed(count))
        ));
    }
    if let Some(count) = otherwise.more_failures_to_refuse {
        sentences.push(format!(
            "{} more in one further window would have kept it from promotion.",
            capital(&failed(count))
        ));
    }
    if let Some(count) = otherwise.more_messages_to_promote
        && outcome != Some(Outcome::RolledBack)
    {
        sentences.push(format!(
            "About {count} more messages, failing as those of the release before do, would likely have promoted it."
        ));
    }
    sentences
}

fn failed(count: u64) -> String {
    if count == 1 {
        "one failed message".to_owned()
    } else {
        format!("{count} failed messages")
    }
}

pub(super) fn capital(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + characters.as_str()
}
