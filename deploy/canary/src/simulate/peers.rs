//! Other release tools' rules on the same simulated rollouts, from what they publish.
//!
//! Each is given its best case: no delay of metrics, no missing points, and where a rule leaves a choice the one in its own
//! documentation's example. They watch the canary at its full share until they fire, for there is no suspicion step in them.

mod ranks;

use rayon::prelude::*;
use serde::Serialize;

use super::rollout;
use super::traffic::{Source, Traffic, Wanted};
use crate::judge::verdict::Decision;
use crate::judge::window::Window;
use crate::plan::Plan;

/// A rule for taking a canary back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Peer {
    /// AWS Guidance for Canary Deployments for Queue Processing Workloads: one dead-letter queue for both services, visibility
    /// timeout 300 s, one receive; alarm at 10 or more visible dead letters, which shows 20 s after the tenth arrives. The
    /// dead-letter queue is empty at the start.
    DeadLetterAlarm,
    /// Flagger's example: success rate of the canary at least 99 % each minute; the fifth failed check rolls back.
    Flagger,
    /// Argo Rollouts' example: success rate of the canary at least 95 % each minute; more than three failures roll back.
    Argo,
    /// PipeCD: Mann–Whitney test, two-sided, p < 0.05, of the canary's failure rates against the baseline's in each interval
    /// of 5 minutes, a point each 15 s; the first significant interval rolls back.
    PipeCd,
    /// Kayenta's default judge every 5 minutes on all points so far, one a minute: the 98 % interval of the shift of location
    /// lies above a quarter of its estimate.
    Kayenta,
}

impl Peer {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::DeadLetterAlarm,
        Self::Flagger,
        Self::Argo,
        Self::PipeCd,
        Self::Kayenta,
    ];

    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::DeadLetterAlarm => "AWS Guidance alarm",
            Self::Flagger => "Flagger 99 %",
            Self::Argo => "Argo 95 %",
            Self::PipeCd => "PipeCD (Mann–Whitney)",
            Self::Kayenta => "Kayenta (Mann–Whitney)",
        }
    }

    /// The second at which it rolls back, given a window for each second; `None` if it does not.
    fn fires(self, windows: &[Window]) -> Option<u64> {
        match self {
            Self::DeadLetterAlarm => {
                let mut dead = 0;
                let tenth = windows.iter().position(|window| {
                    dead += window.canary.failures() + window.baseline.failures();
                    dead >= 10
                })?;
                let at = tenth as u64 + 1 + 300 + 20;
                (at <= windows.len() as u64).then_some(at)
            }
            Self::Flagger => threshold(windows, 0.01, 5),
            Self::Argo => threshold(windows, 0.05, 4),
            Self::PipeCd => each_interval(windows, |upto| {
                let (canary, baseline) = rates(&windows[upto - 300..upto], 15);
                ranks::differs(&canary, &baseline)
            }),
            Self::Kayenta => each_interval(windows, |upto| {
                let (canary, baseline) = rates(&windows[..upto], 60);
                ranks::shifted_up(&canary, &baseline)
            }),
        }
    }
}

/// The minute at which the canary's failure rate has exceeded `most` for the `count`th time.
fn threshold(windows: &[Window], most: f64, count: usize) -> Option<u64> {
    let (canary, _) = rates(windows, 60);
    let minute = canary
        .iter()
        .enumerate()
        .filter(|(_, rate)| **rate > most)
        .nth(count - 1)?
        .0;
    Some(60 * (minute as u64 + 1))
}

fn each_interval(windows: &[Window], fires: impl Fn(usize) -> bool) -> Option<u64> {
    (1..=windows.len() / 300)
        .map(|interval| interval * 300)
        .find(|upto| fires(*upto))
        .map(|upto| upto as u64)
}

/// Failure rates of canary and baseline by `seconds`; intervals without attempts are left out.
fn rates(windows: &[Window], seconds: usize) -> (Vec<f64>, Vec<f64>) {
    let series = |count: &dyn Fn(&Window) -> (u64, u64)| {
        windows
            .chunks_exact(seconds)
            .filter_map(|chunk| {
                let (failed, attempts) = chunk
                    .iter()
                    .map(count)
                    .fold((0, 0), |(a, b), (c, d)| (a + c, b + d));
                (attempts > 0).then(|| failed as f64 / attempts as f64)
            })
            .collect()
    };
    (
        series(&|window| (window.canary.failures(), window.canary.attempts())),
        series(&|window| (window.baseline.failures(), window.baseline.attempts())),
    )
}

/// What one rule did over many rollouts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Tried {
    /// The rule's name.
    pub name: &'static str,
    /// Part of the rollouts that it rolled back.
    pub rollback_probability: f64,
    /// Median seconds to rollback, of those.
    pub seconds: Option<f64>,
    /// Mean messages failed that a canary as good as the baseline would not have failed, of all rollouts.
    pub harmed: f64,
}

/// Half an hour at share 10 %, `runs` times: this tool's judge by `plan`, which should not promote earlier, and every peer.
pub fn compare(plan: &Plan, traffic: &Traffic, runs: u64, seed: u64) -> Vec<Tried> {
    let each: Vec<Vec<(Option<u64>, f64)>> = (0..runs)
        .into_par_iter()
        .map(|run| one_rollout(plan, traffic, seed, run))
        .collect();
    let names = std::iter::once("this judge").chain(Peer::ALL.into_iter().map(Peer::name));
    names
        .enumerate()
        .map(|(index, name)| {
            let mut fired: Vec<u64> = each.iter().filter_map(|rules| rules[index].0).collect();
            fired.sort_unstable();
            Tried {
                name,
                rollback_probability: fired.len() as f64 / runs as f64,
                seconds: fired.get(fired.len() / 2).map(|second| *second as f64),
                harmed: each.iter().map(|rules| rules[index].1).sum::<f64>() / runs as f64,
            }
        })
        .collect()
}

/// For this judge and each peer: when it rolled back, and the messages harmed until then.
fn one_rollout(plan: &Plan, traffic: &Traffic, seed: u64, run: u64) -> Vec<(Option<u64>, f64)> {
    let outcome = rollout::run(plan, traffic, seed, run, false);
    let ours = (outcome.decision == Decision::Rollback).then_some(outcome.seconds);
    let share = plan.steps.last().map_or(0.1, |step| step.share);
    let mut source = Source::new(traffic.clone(), Wanted::default(), rollout::seeded(seed, run));
    let mut harmed = 0.0;
    let (windows, sums): (Vec<Window>, Vec<f64>) = (0..u64::from(plan.deadline))
        .map(|second| {
            let simulated = source.window(second, 1, share);
            harmed += simulated.harmed;
            (simulated.window, harmed)
        })
        .unzip();
    let peers = Peer::ALL.into_iter().map(|peer| {
        let fired = peer.fires(&windows);
        let until = fired.map_or(sums.len(), |second| usize::try_from(second).unwrap_or(sums.len()));
        (
            fired,
            until
                .checked_sub(1)
                .and_then(|index| sums.get(index))
                .copied()
                .unwrap_or(harmed),
        )
    });
    std::iter::once((ours, outcome.harmed)).chain(peers).collect()
}

#[cfg(test)]
mod tests {
    use super::super::traffic::Trouble;
    use super::*;

    fn windows(rate: f64, ratio: f64) -> Vec<Window> {
        let traffic = Traffic {
            trouble: Trouble::None,
            ..Traffic::plain(100.0, rate, ratio)
        };
        let mut source = Source::new(traffic, Wanted::default(), rollout::seeded(1, 1));
        (0..1800)
            .map(|second| source.window(second, 1, 0.1).window)
            .collect()
    }

    #[test]
    fn the_alarm_cannot_fire_before_320_seconds() {
        let at = Peer::DeadLetterAlarm.fires(
            &windows(0.0, 1.0)
                .iter()
                .map(|window| {
                    let mut window = window.clone();
                    window.canary.failed.retry = window.canary.done;
                    window
                })
                .collect::<Vec<_>>(),
        );
        assert!(at.is_some_and(|second| (321..=325).contains(&second)), "{at:?}");
        assert_eq!(Peer::DeadLetterAlarm.fires(&windows(0.0, 1.0)), None);
    }

    #[test]
    fn thresholds_see_only_what_lies_above_them() {
        assert_eq!(Peer::Argo.fires(&windows(0.01, 2.0)), None);
        assert_eq!(Peer::Argo.fires(&windows(0.01, 20.0)), Some(240));
        assert_eq!(Peer::Flagger.fires(&windows(0.001, 50.0)), Some(300));
    }

    #[test]
    fn rank_tests_see_a_gross_difference_at_the_first_interval() {
        for peer in [Peer::PipeCd, Peer::Kayenta] {
            assert_eq!(peer.fires(&windows(0.02, 20.0)), Some(300), "{peer:?}");
        }
    }
}
