//! What the workers have counted, from CloudWatch: where the processes themselves cannot be reached.
//!
//! Workers publish a window when its attempts have ended, dated back to its second, every 10 s during a rollout and every minute
//! otherwise. With each publication they say `InFlight`, one datum a process: that many data in a stretch of time as processes run
//! mean that every one of them has published since the stretch began, and so everything that had ended by then is there. Until that is
//! so, a window waits; not for ever ([`PATIENCE`]).
//!
//! What CloudWatch keeps is by service and release, not by process, and has no histograms: slow attempts are those that the worker's
//! own setting `evidence.slow_after` calls slow. A call asks for some thirty series and is made every 5 s: 0.2 USD an hour.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat};
use tokio::time::Instant;
use worker::clock::Clock;
use worker::evidence::{Breaker, Durations, Failed, Quality, Receives, Report, State, Totals, Window};
use worker::metrics::cloudwatch::NAMESPACE;
use worker::release::{Release, Track};

use crate::aws::said;
use crate::drive::Source;
use crate::fleet::{ProcessState, Service, View};
use crate::moment::Moment;

/// Between two calls.
const EVERY: Duration = Duration::from_secs(5);
/// Seconds that a datum may take from a worker to where it can be read.
const INGEST: u64 = 4;
/// Seconds beyond the handlers' deadline after which a window does not wait for a publication any more.
pub const PATIENCE: u64 = 80;
/// Queries that one call may have.
const QUERIES: usize = 500;
/// Pages of an answer that are read.
const PAGES: usize = 20;
/// Stand for attempts that were not slow and for those that were, in a histogram of two buckets.
const BUCKETS: (u16, u16) = (64, 128);

/// Which series are read, and what of them.
const SERIES: [(&str, &str); 12] = [
    ("Started", "Sum"),
    ("Done", "Sum"),
    ("Failed", "Sum"),
    ("Slow", "Sum"),
    ("Lost", "Sum"),
    ("ReceiveSizesSquared", "Sum"),
    ("ReceiveFailuresSquared", "Sum"),
    ("ReceiveFailuresTimesSizes", "Sum"),
    (IN_FLIGHT, "SampleCount"),
    ("BreakerOpen", "Sum"),
    ("RateBreakerOpen", "Sum"),
    ("DurationMs", "SampleCount"),
];
const IN_FLIGHT: &str = "InFlight";

/// A service and a release that it runs, or has run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arm {
    service: Service,
    release: Release,
}

/// Values by second, of each series.
type Series = BTreeMap<String, BTreeMap<u64, f64>>;

/// The source.
#[derive(Debug)]
pub struct CloudWatch {
    client: Client,
    clock: Clock,
    /// The services' names, as the workers publish them.
    names: BTreeMap<Service, String>,
    /// How long an attempt may take.
    deadline: u64,
    /// Quality signals to ask for.
    signals: Vec<String>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    asked: Option<Instant>,
    /// The arms that were seen to run, and how many processes of each at most.
    arms: BTreeMap<Arm, u32>,
    /// Up to where each is complete.
    complete: BTreeMap<Arm, u64>,
}

impl CloudWatch {
    /// What the services of these names publish. `deadline` is how long an attempt of theirs may take.
    #[must_use]
    pub fn new(
        config: &SdkConfig,
        names: BTreeMap<Service, String>,
        deadline: Duration,
        signals: Vec<String>,
        clock: Clock,
    ) -> Self {
        Self {
            client: Client::new(config),
            clock,
            names,
            deadline: deadline.as_secs().max(1),
            signals,
            kept: Mutex::default(),
        }
    }

    /// Whether it is time for a call, and which arms it is about.
    fn due(&self, view: &View) -> Option<BTreeMap<Arm, u32>> {
        let mut kept = self.kept.lock().ok()?;
        for (arm, running) in running(view) {
            let most = kept.arms.entry(arm).or_default();
            *most = running.max(*most);
        }
        if kept.asked.is_some_and(|asked| asked.elapsed() < EVERY) || kept.arms.is_empty() {
            return None;
        }
        kept.asked = Some(Instant::now());
        Some(kept.arms.clone())
    }

    async fn series(&self, arms: &[&Arm], from: u64, to: u64) -> Result<BTreeMap<Arm, Series>, String> {
        let mut queries = Vec::new();
        let mut meanings = BTreeMap::new();
        for arm in arms {
            let quality = self.signals.iter().flat_map(|signal| {
                ["QualityAsked", "QualityBad"].map(|name| (name, "Sum", Some(signal.as_str())))
            });
            let plain = SERIES.iter().map(|(name, stat)| (*name, *stat, None));
            for (name, stat, signal) in plain.chain(quality) {
                let id = format!("q{}", queries.len());
                meanings.insert(id.clone(), ((*arm).clone(), key(name, signal)));
                queries.push(self.query(&id, arm, name, stat, signal));
            }
        }
        let mut found: BTreeMap<Arm, Series> = BTreeMap::new();
        for some in queries.chunks(QUERIES) {
            let mut next = None;
            for _ in 0..PAGES {
                let time = |second: u64| DateTime::from_secs(i64::try_from(second).unwrap_or(i64::MAX));
                let call = self
                    .client
                    .get_metric_data()
                    .start_time(time(from))
                    .end_time(time(to))
                    .set_metric_data_queries(Some(some.to_vec()))
                    .set_next_token(next.take());
                let answer = call.send().await.map_err(|error| said!("GetMetricData", error))?;
                for result in answer.metric_data_results.unwrap_or_default() {
                    let Some((arm, name)) = result.id.as_ref().and_then(|id| meanings.get(id)) else {
                        continue;
                    };
                    let times = result.timestamps.unwrap_or_default().into_iter();
                    let values = times.zip(result.values.unwrap_or_default());
                    let values =
                        values.filter_map(|(time, value)| Some((u64::try_from(time.secs()).ok()?, value)));
                    let series = found.entry(arm.clone()).or_default();
                    series.entry(name.clone()).or_default().extend(values);
                }
                next = answer.next_token;
                if next.is_none() {
                    break;
                }
            }
        }
        Ok(found)
    }

    fn query(&self, id: &str, arm: &Arm, name: &str, stat: &str, signal: Option<&str>) -> MetricDataQuery {
        let dimension = |name: &str, value: &str| Dimension::builder().name(name).value(value).build();
        let service = self.names.get(&arm.service).map_or("", String::as_str);
        let mut dimensions = vec![
            dimension("Service", service),
            dimension("Release", arm.release.as_str()),
        ];
        dimensions.extend(signal.map(|signal| dimension("Signal", signal)));
        let metric = Metric::builder()
            .namespace(NAMESPACE)
            .metric_name(name)
            .set_dimensions(Some(dimensions))
            .build();
        let stat = MetricStat::builder().metric(metric).period(1).stat(stat).build();
        MetricDataQuery::builder()
            .id(id)
            .metric_stat(stat)
            .return_data(true)
            .build()
    }
}

fn key(name: &str, signal: Option<&str>) -> String {
    signal.map_or_else(|| name.to_owned(), |signal| format!("{name} {signal}"))
}

/// Processes at work of each arm.
fn running(view: &View) -> BTreeMap<Arm, u32> {
    let mut arms = BTreeMap::new();
    for service in Service::ALL {
        for process in &view.service(service).processes {
            let arm = Arm {
                service,
                release: process.release.clone(),
            };
            let count = arms.entry(arm).or_default();
            // One that is starting or stopping may not publish: it is not waited for.
            *count += u32::from(process.state == ProcessState::Ready);
        }
    }
    arms
}

/// The second before which everything is known that `running` processes have counted, by the publications in `in_flight`.
fn complete(in_flight: &BTreeMap<u64, f64>, running: u32, deadline: u64, now: u64) -> u64 {
    let patience = now.saturating_sub(deadline + PATIENCE);
    if running == 0 {
        // The last words of processes that have ended are on their way.
        return now.saturating_sub(3 * INGEST).max(patience);
    }
    let mut heard = 0.0;
    for (second, samples) in in_flight.iter().rev() {
        heard += samples;
        if heard + 0.5 >= f64::from(running) {
            return second.saturating_sub(deadline).max(patience);
        }
    }
    patience
}

/// The share of the processes for which the gauge `name` is not 0, by the publications since `from`.
fn part(series: &Series, name: &str, from: u64) -> f64 {
    let sum = |name: &str| -> f64 {
        series
            .get(name)
            .map_or(0.0, |values| values.range(from..).map(|(_, value)| value).sum())
    };
    let all = sum(IN_FLIGHT);
    if all > 0.0 {
        (sum(name) / all).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sums of counts; a float-to-int cast saturates, and NaN becomes 0"
)]
fn counted(value: f64) -> u64 {
    value.round() as u64
}

/// The windows of an arm, by second.
fn windows(series: &Series, signals: &[String]) -> Vec<Window> {
    let at = |name: &str, second: u64| {
        counted(
            series
                .get(name)
                .and_then(|values| values.get(&second))
                .copied()
                .unwrap_or(0.0),
        )
    };
    let seconds = series.get("Started").into_iter().flat_map(BTreeMap::keys);
    let window = |second: &u64| {
        let second = *second;
        let of = |name: &str| at(name, second);
        let (done, failed, lost) = (of("Done"), of("Failed"), of("Lost"));
        // The parts of a publication become readable one by one.
        let started = of("Started").max(done + failed + lost);
        let slow = of("Slow").min(done);
        let mut durations = Durations::default();
        for (bucket, count) in [(BUCKETS.0, done - slow), (BUCKETS.1, slow)] {
            if count > 0 {
                durations.add(bucket, count);
            }
        }
        let quality = signals.iter().filter_map(|signal| {
            let asked = of(&key("QualityAsked", Some(signal)));
            let bad = of(&key("QualityBad", Some(signal))).min(asked);
            (asked > 0).then(|| (signal.clone(), Quality { asked, bad }))
        });
        Window {
            start: second,
            started: done + failed + lost,
            done,
            failed: Failed {
                retry: failed,
                ..Failed::default()
            },
            slow,
            lost,
            durations,
            receives: Receives {
                s: started,
                ss: of("ReceiveSizesSquared"),
                f: failed.min(started),
                ff: of("ReceiveFailuresSquared"),
                fs: of("ReceiveFailuresTimesSizes"),
            },
            quality: quality.collect(),
            ..Window::default()
        }
    };
    seconds.map(window).collect()
}

impl CloudWatch {
    /// One report for the arm's counts, and more, without counts, so that there are as many as processes: guards count them.
    fn reports(
        &self,
        arm: &Arm,
        most: u32,
        running: u32,
        series: &Series,
        until: u64,
    ) -> Vec<(String, Result<Report, String>)> {
        let recent = until.saturating_sub(INGEST);
        let of = |name: &str| counted(part(series, name, recent) * f64::from(running));
        let (rate, any) = (of("RateBreakerOpen"), of("BreakerOpen"));
        let mut windows = windows(series, &self.signals);
        (0..most.max(1))
            .map(|index| {
                let open = |is: bool| if is { Breaker::Open } else { Breaker::Closed };
                let index = u64::from(index);
                let name = format!("{}/{}/{index}", arm.service, arm.release);
                let report = Report {
                    schema: worker::evidence::report::SCHEMA,
                    release: arm.release.clone(),
                    track: match arm.service {
                        Service::Stable => Track::Stable,
                        Service::Canary => Track::Canary,
                    },
                    service: self.names.get(&arm.service).cloned(),
                    process: name.clone(),
                    started_at: 0.0,
                    now: until as f64,
                    deadline_seconds: (self.deadline + PATIENCE) as f64,
                    state: State {
                        polling: true,
                        rate_breaker: open(index < rate),
                        dependency_breaker: open(index >= rate && index < any),
                        ..State::default()
                    },
                    windows: std::mem::take(&mut windows),
                    totals: Totals::default(),
                };
                (name, Ok(report))
            })
            .collect()
    }
}

impl Source for CloudWatch {
    async fn ask(&self, view: &View, since: u64) -> Vec<(String, Result<Report, String>)> {
        let Some(arms) = self.due(view) else {
            return Vec::new();
        };
        let now = Moment::from(self.clock.now()).second();
        let from = since.min(now.saturating_sub(PATIENCE));
        let names: Vec<&Arm> = arms.keys().collect();
        let found = self.series(&names, from, now + 1).await;
        let Ok(mut kept) = self.kept.lock() else {
            return Vec::new();
        };
        let mut reports = Vec::new();
        // Without an answer, processes are known all the same: their windows wait for the next one.
        let found = found.unwrap_or_else(|error| {
            reports.push(("CloudWatch".to_owned(), Err(error)));
            BTreeMap::new()
        });
        let running = running(view);
        for (arm, most) in &arms {
            let none = Series::new();
            let series = found.get(arm).unwrap_or(&none);
            let at_work = running.get(arm).copied().unwrap_or(0);
            let nothing = BTreeMap::new();
            let in_flight = series.get(IN_FLIGHT).unwrap_or(&nothing);
            let until = complete(in_flight, at_work, self.deadline, now);
            // What was complete stays so, whatever is asked for later.
            let until = until.max(kept.complete.get(arm).copied().unwrap_or(0));
            kept.complete.insert(arm.clone(), until);
            reports.extend(self.reports(arm, *most, at_work, series, until));
        }
        reports
    }

    fn is_by_process(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: &[(&str, &[(u64, f64)])]) -> Series {
        let values = values
            .iter()
            .map(|(name, values)| ((*name).to_owned(), values.iter().copied().collect()));
        values.collect()
    }

    #[test]
    fn a_second_is_complete_when_every_process_has_published_since() {
        let heard = |values: &[(u64, f64)]| values.iter().copied().collect::<BTreeMap<_, _>>();
        let spread = heard(&[(101, 1.0), (104, 1.0), (108, 1.0), (111, 1.0), (114, 1.0)]);
        assert_eq!(complete(&spread, 3, 0, 115), 108);
        assert_eq!(
            complete(&spread, 3, 30, 115),
            78,
            "what began may have taken its whole deadline"
        );
        assert_eq!(complete(&spread, 5, 0, 115), 101);
        assert_eq!(
            complete(&spread, 6, 0, 115),
            115 - PATIENCE,
            "one of them is not heard of"
        );
        assert_eq!(
            complete(&BTreeMap::new(), 0, 5, 115),
            115 - 3 * INGEST,
            "nobody is left to wait for"
        );
    }

    #[test]
    fn counts_become_windows_that_can_be() {
        let series = series(&[
            ("Started", &[(7, 10.0), (8, 0.0)]),
            ("Done", &[(7, 7.0), (8, 4.0)]),
            ("Failed", &[(7, 2.0)]),
            ("Lost", &[(7, 1.0)]),
            ("Slow", &[(7, 3.0), (8, 9.0)]),
            ("ReceiveSizesSquared", &[(7, 100.0)]),
            ("QualityAsked empty", &[(7, 7.0)]),
            ("QualityBad empty", &[(7, 1.0)]),
        ]);
        let windows = windows(&series, &["empty".to_owned()]);
        let first = &windows[0];
        assert_eq!(
            (first.start, first.started, first.done, first.lost),
            (7, 10, 7, 1)
        );
        assert_eq!(first.failed.total(), 2);
        assert_eq!(first.durations.0, [(BUCKETS.0, 4), (BUCKETS.1, 3)]);
        assert_eq!(
            (first.receives.s, first.receives.ss, first.receives.f),
            (10, 100, 2)
        );
        assert_eq!(first.quality["empty"], Quality { asked: 7, bad: 1 });
        let second = &windows[1];
        assert_eq!(
            (second.started, second.slow),
            (4, 4),
            "half of a publication is no impossible window"
        );
    }

    #[test]
    fn breakers_are_counted_as_processes() {
        let source = CloudWatch::new(
            &SdkConfig::builder()
                .behavior_version(aws_config::BehaviorVersion::latest())
                .build(),
            BTreeMap::from([(Service::Canary, "orders-canary".to_owned())]),
            Duration::from_secs(5),
            Vec::new(),
            Clock::System,
        );
        let arm = Arm {
            service: Service::Canary,
            release: Release::new("2").unwrap(),
        };
        let series = series(&[
            (IN_FLIGHT, &[(100, 2.0), (103, 2.0)]),
            ("RateBreakerOpen", &[(100, 1.0), (103, 1.0)]),
            ("BreakerOpen", &[(100, 1.0), (103, 2.0)]),
            ("Started", &[(99, 5.0)]),
            ("Done", &[(99, 5.0)]),
        ]);
        let reports: Vec<Report> = source
            .reports(&arm, 4, 4, &series, 104)
            .into_iter()
            .map(|(_, report)| report.unwrap())
            .collect();
        let open = |which: fn(&State) -> Breaker| {
            reports
                .iter()
                .filter(|report| which(&report.state) == Breaker::Open)
                .count()
        };
        assert_eq!((reports.len(), open(|state| state.rate_breaker)), (4, 2));
        assert_eq!(open(|state| state.dependency_breaker), 1);
        let done: u64 = reports
            .iter()
            .flat_map(|report| &report.windows)
            .map(|window| window.done)
            .sum();
        assert_eq!(done, 5, "counted once");
        assert_eq!(reports[0].service.as_deref(), Some("orders-canary"));
    }
}
