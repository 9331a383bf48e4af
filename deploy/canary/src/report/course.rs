//! The course of a rollout: its windows replayed through the judge.

use serde::Serialize;
use worker::evidence::counts::Durations;

use crate::journal::Journal;
use crate::judge::Judge;
use crate::judge::ledger::Ledger;
use crate::judge::verdict::ArmReport;
use crate::judge::window::Window;
use crate::plan::Plan;

/// Points of a curve at most: more could not be seen.
const MOST_POINTS: u64 = 200;

/// Attempts, rates, evidence and latency along a rollout.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Course {
    /// Seconds that a point stands for.
    pub seconds_a_point: u64,
    /// From left to right.
    pub points: Vec<Point>,
    /// Second of the canary's first message.
    pub first_message: Option<u64>,
    /// Second of its first failed message.
    pub first_failure: Option<u64>,
    /// Latency of the new release, over the whole rollout.
    pub canary_latency: Latency,
    /// Latency of the release before.
    pub baseline_latency: Latency,
    /// ln of the bound that the evidence of harm must reach.
    pub ln_harm_bound: f64,
    /// ln of the bound that the evidence for promotion must reach.
    pub ln_promotion_bound: f64,
}

/// Some seconds of a rollout, and all that was before them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Start, in seconds since the epoch.
    pub second: u64,
    /// The new release, so far.
    pub canary: Rate,
    /// The release before, so far.
    pub baseline: Rate,
    /// ln of the evidence of harm.
    pub ln_harm: f64,
    /// ln of the evidence that it is not worse than tolerated.
    pub ln_promotion: f64,
    /// Share that the new release was to have in these seconds.
    pub share_wanted: f64,
    /// Share that it had; none where nothing was done.
    pub share: Option<f64>,
    /// Latency of the new release in these seconds.
    pub canary_latency: Latency,
    /// Latency of the release before.
    pub baseline_latency: Latency,
}

/// A failure rate since the beginning, with the band that holds at every moment at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rate {
    /// First deliveries attempted.
    pub attempts: u64,
    /// Those that failed.
    pub failed: u64,
    /// Failed by attempted.
    pub rate: f64,
    /// Lower end of the band.
    pub low: f64,
    /// Upper end of the band.
    pub high: f64,
}

/// Quantiles of the durations of attempts that ended well, in milliseconds; none without any. At most 9 % too high.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// The median.
    pub p50: Option<f64>,
    /// What 90 % do not exceed.
    pub p90: Option<f64>,
    /// What 99 % do not exceed.
    pub p99: Option<f64>,
}

impl Latency {
    fn of(durations: &Durations) -> Self {
        Self {
            p50: quantile(durations, 0.5),
            p90: quantile(durations, 0.9),
            p99: quantile(durations, 0.99),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of messages, far below 2^52")]
fn quantile(durations: &Durations, part: f64) -> Option<f64> {
    let wanted = (durations.total() as f64 * part).ceil();
    let mut sum = 0.0;
    durations.0.iter().find_map(|(bucket, count)| {
        sum += *count as f64;
        (sum >= wanted && sum > 0.0).then(|| Durations::bound(*bucket))
    })
}

impl From<ArmReport> for Rate {
    fn from(arm: ArmReport) -> Self {
        Self {
            attempts: arm.attempts,
            failed: arm.failed,
            rate: arm.rate.rate,
            low: arm.rate.low,
            high: arm.rate.high,
        }
    }
}

impl Course {
    /// Replays the windows of `journal` by its plan. Without a plan that can be read there is no evidence to tell.
    pub(super) fn of(journal: &Journal) -> Self {
        let Ok(plan) = Plan::read(&journal.plan) else {
            return Self::default();
        };
        let mut ledger = Ledger::default();
        for window in &journal.evidence.windows {
            ledger.record(window.clone());
        }
        let windows = ledger.merged(plan.rules.span);
        let begin = windows.first().map_or(0, |window| window.start);
        let span =
            windows.last().map_or(0, |window| window.start - begin) + u64::from(plan.rules.span.max(1));
        let seconds = span.div_ceil(MOST_POINTS).max(u64::from(plan.rules.span.max(1)));
        let mut judge = Judge::new(plan.rules.clone());
        let mut course = Self {
            seconds_a_point: seconds,
            ln_harm_bound: plan.rules.suspicion_bound(),
            ln_promotion_bound: plan.rules.promotion_bound(),
            ..Self::default()
        };
        for slice in windows.chunk_by(|a, b| (a.start - begin) / seconds == (b.start - begin) / seconds) {
            course.enter(&mut judge, slice);
        }
        let all = |arm: fn(&Window) -> &Durations| Latency::of(&merged(&windows, arm));
        course.canary_latency = all(|window| &window.canary.durations);
        course.baseline_latency = all(|window| &window.baseline.durations);
        course
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of messages, far below 2^52")]
    fn enter(&mut self, judge: &mut Judge, slice: &[Window]) {
        let Some(first) = slice.first() else { return };
        let (mut canary, mut all) = (0, 0);
        for window in slice {
            judge.enter(window);
            let attempts = window.canary.attempts();
            canary += attempts;
            all += attempts + window.baseline.attempts();
            if attempts > 0 {
                self.first_message.get_or_insert(window.start);
            }
            if window.canary.failures() > 0 {
                self.first_failure.get_or_insert(window.start);
            }
        }
        let rates = judge.failure_rates();
        let (new, old) = rates.map_or_else(Default::default, |(new, old)| (new.into(), old.into()));
        let part = |arm: fn(&Window) -> &Durations| Latency::of(&merged(slice, arm));
        self.points.push(Point {
            second: first.start,
            canary: new,
            baseline: old,
            ln_harm: judge.log_harm(),
            ln_promotion: judge.log_promotion(),
            share_wanted: slice.last().map_or(0.0, |window| window.share),
            share: (all > 0).then(|| canary as f64 / all as f64),
            canary_latency: part(|window| &window.canary.durations),
            baseline_latency: part(|window| &window.baseline.durations),
        });
    }
}

fn merged(windows: &[Window], arm: fn(&Window) -> &Durations) -> Durations {
    let mut all = Durations::default();
    for window in windows {
        all.merge(arm(window));
    }
    all
}
