//! How a rollout stands, in CloudWatch: what the release tool publishes while it drives a fleet on ECS.
//!
//! A handful of series by `App` alone, in the workers' own namespace: a release has no series of its own here, so their number does not
//! grow. They say how things stood when the journal was written last, every [`EVERY`] at most. The last publication says that it is
//! over, so that nothing is left standing that is not so any more.
//!
//! Never in the rollout's way: [`Meter`] does not wait. What cannot be delivered is not tried again, because the next publication
//! says more; only the last one is, [`LAST_TRIES`] times.

use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::config::Builder;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use worker::metrics::cloudwatch::NAMESPACE;

use crate::aws::said;
use crate::drive::Observer;
use crate::exporter::rollout::PHASES;
use crate::journal::{Entry, Journal};
use crate::judge::verdict::{Decision, Measure};
use crate::moment::Moment;
use crate::rollout::{Outcome, Phase};

/// Between two publications: as often as the journal is written on AWS.
pub const EVERY: Duration = Duration::from_secs(10);

/// How long one call may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often the last publication is tried.
const LAST_TRIES: u32 = 3;

/// Between two tries of it.
const AGAIN: Duration = Duration::from_secs(1);

/// The only dimension.
const DIMENSION: &str = "App";

/// A series: its name, its unit and what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Series {
    /// The metric's name.
    pub name: &'static str,
    /// Its unit, as CloudWatch spells it.
    pub unit: &'static str,
    /// What it says, in a line.
    pub help: &'static str,
}

macro_rules! series {
    ($($constant:ident = $name:literal [$unit:literal] $help:literal;)*) => {
        $(const $constant: Series = Series { name: $name, unit: $unit, help: $help };)*

        /// Every series.
        pub const ALL: &[Series] = &[$($constant,)*];
    };
}

series! {
    UNDER_WAY = "RolloutUnderWay" ["Count"]
        "1 until the rollout has ended, then 0";
    PHASE = "RolloutPhase" ["None"]
        "Where it is: 1 preflight, 2 deploying, 3 step, 4 promoting, 5 controlling, 6 baking, 7 settling, 8 rolling back; 0 when it has ended";
    STEP = "RolloutStep" ["None"]
        "The step of the plan, from 1 on; 0 outside of steps";
    HELD = "RolloutHeld" ["Count"]
        "1 while it does not go forward: a person paused it, or there was no verdict by the deadline";
    SUSPECTED = "RolloutSuspected" ["Count"]
        "1 while the canary is cut to a trickle because the evidence of harm is past its bound";
    VERDICT = "RolloutVerdict" ["None"]
        "What the judge says: 1 promote, 0 not yet, -1 roll back; left out where nothing is compared";
    HARM = "EvidenceOfHarm" ["None"]
        "Evidence that the new release is worse, as a part of what convicts it: from 1 on it is rolled back; left out where nothing is compared";
    PROMOTION = "EvidenceForPromotion" ["None"]
        "Evidence that it is not worse than tolerated, as a part of what promotes it; likewise";
    WANTED = "CanaryShareWanted" ["Percent"]
        "The canary service's share of first deliveries that is wanted; left out while it is not limited by share, 0 when it is over";
    SHARE = "CanaryShare" ["Percent"]
        "The same as measured, over the last 10 s";
    MESSAGES = "FirstDeliveries" ["Count/Second"]
        "First deliveries a second, both services together, over the last 10 s";
    PROMOTED = "RolloutPromoted" ["Count"]
        "1 when a release was promoted, or put back by hand, said once; 0 until then, and otherwise";
    ROLLED_BACK = "RolloutRolledBack" ["Count"]
        "1 when a release was rolled back, said once; 0 until then, and otherwise";
}

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq)]
struct Standing {
    at: Moment,
    over: bool,
    values: Vec<(Series, f64)>,
}

impl Standing {
    fn of(journal: &Journal) -> Self {
        let state = &journal.state;
        let outcome = state.outcome();
        let over = outcome.is_some();
        let step = if let Phase::Step { index, .. } = state.phase {
            index as u64 + 1
        } else {
            0
        };
        let flag = |is: bool| if is { 1.0 } else { 0.0 };
        let mut values = vec![
            (UNDER_WAY, flag(!over)),
            (PHASE, phase(&state.phase)),
            (STEP, whole(step)),
            (HELD, flag(state.hold.is_some() && !over)),
            (SUSPECTED, flag(state.suspected && !over)),
            (MESSAGES, journal.measured.per_second),
            (
                PROMOTED,
                flag(matches!(outcome, Some(Outcome::Promoted | Outcome::Restored))),
            ),
            (ROLLED_BACK, flag(outcome == Some(Outcome::RolledBack))),
        ];
        let measured = &journal.measured;
        for (series, share) in [(WANTED, measured.share_wanted), (SHARE, measured.share)] {
            let share = if over { Some(0.0) } else { share };
            values.extend(share.map(|share| (series, 100.0 * share)));
        }
        if let Some(verdict) = &journal.verdict {
            let decision = match verdict.decision {
                Decision::Promote => 1.0,
                Decision::Rollback => -1.0,
                Decision::Continue | Decision::Inconclusive => 0.0,
            };
            values.push((VERDICT, decision));
            values.push((HARM, part(&verdict.harm)));
            values.push((PROMOTION, part(&verdict.promotion)));
        }
        // One value that CloudWatch does not take, and it takes none.
        values.retain(|(_, value)| value.is_finite());
        let heartbeat = journal.owner.as_ref().map(|owner| owner.heartbeat);
        Self {
            at: heartbeat.unwrap_or(measured.at),
            over,
            values,
        }
    }
}

/// The number of a phase: its place in [`PHASES`], from 1 on; 0 for the end.
fn phase(phase: &Phase) -> f64 {
    let place = PHASES.iter().position(|name| *name == phase.name());
    let is_over = matches!(phase, Phase::Ended { .. });
    place
        .filter(|_| !is_over)
        .map_or(0.0, |index| whole(index as u64 + 1))
}

/// The evidence as a part of its bound.
fn part(measure: &Measure) -> f64 {
    measure.ln_evidence.max(0.0) / measure.ln_bound
}

#[expect(clippy::cast_precision_loss, reason = "counts of a plan's steps")]
const fn whole(count: u64) -> f64 {
    count as f64
}

/// Hands what the journal says to a [`Publisher`]; never waits.
#[derive(Debug)]
pub struct Meter(watch::Sender<Standing>);

impl Observer for Meter {
    fn happened(&mut self, _entry: &Entry, _journal: &Journal) {}

    fn looked(&mut self, journal: &Journal) {
        self.0.send_replace(Standing::of(journal));
    }
}

/// Publishes in the background.
#[derive(Debug)]
pub struct Publisher(JoinHandle<()>);

impl Publisher {
    /// A publisher for `app`, and the meter that it reads; must be called in a runtime.
    #[must_use]
    pub fn start(config: &SdkConfig, app: &str) -> (Self, Meter) {
        let config = Builder::from(config)
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(TIMEOUT).build())
            .build();
        let (meter, latest) = watch::channel(Standing::default());
        let publication = Publication {
            client: Client::from_conf(config),
            app: app.to_owned(),
            complained: false,
        };
        (Self(tokio::spawn(publication.run(latest))), Meter(meter))
    }

    /// Publishes what is still to be said once the meter is dropped, for at most `limit`.
    pub async fn close(mut self, limit: Duration) {
        if timeout(limit, &mut self.0).await.is_err() {
            self.0.abort();
            tracing::warn!(?limit, "CloudWatch was not told how the rollout ended");
        }
    }
}

struct Publication {
    client: Client,
    app: String,
    /// Whether the latest call failed.
    complained: bool,
}

impl Publication {
    async fn run(mut self, mut latest: watch::Receiver<Standing>) {
        // Until the rollout is over, or the meter is dropped and what it said last is published.
        while latest.changed().await.is_ok() {
            let standing = latest.borrow_and_update().clone();
            if standing.over {
                return self.last(&standing).await;
            }
            self.put(&standing).await;
            // The end does not wait for its turn.
            let mut end = latest.clone();
            tokio::select! {
                () = sleep(EVERY) => {}
                _ = end.wait_for(|standing| standing.over) => {}
            }
        }
    }

    async fn last(&mut self, standing: &Standing) {
        for _ in 1..LAST_TRIES {
            if self.put(standing).await {
                return;
            }
            sleep(AGAIN).await;
        }
        self.put(standing).await;
    }

    /// Whether it was delivered. The first failure, and the end of failing, are log lines.
    async fn put(&mut self, standing: &Standing) -> bool {
        let data = standing.values.iter().map(|value| self.datum(standing.at, value));
        let call = self
            .client
            .put_metric_data()
            .namespace(NAMESPACE)
            .set_metric_data(Some(data.collect()));
        let failed = call
            .send()
            .await
            .map_err(|error| said!("PutMetricData", error))
            .err();
        match &failed {
            Some(error) if !self.complained => {
                tracing::warn!(%error, "the rollout's metrics do not reach CloudWatch; the rollout goes on");
            }
            None if self.complained => tracing::warn!("the rollout's metrics reach CloudWatch again"),
            Some(_) | None => {}
        }
        self.complained = failed.is_some();
        failed.is_none()
    }

    fn datum(&self, at: Moment, (series, value): &(Series, f64)) -> MetricDatum {
        MetricDatum::builder()
            .metric_name(series.name)
            .unit(StandardUnit::from(series.unit))
            .dimensions(Dimension::builder().name(DIMENSION).value(&self.app).build())
            .timestamp(DateTime::from_secs(
                i64::try_from(at.second()).unwrap_or(i64::MAX),
            ))
            // Steps may be shorter than a minute; it costs the same.
            .storage_resolution(1)
            .value(*value)
            .build()
    }
}

#[cfg(test)]
mod tests;
