//! Whether there is room for the canary's tasks, and for those of stable that a rolling update starts before it stops others: free
//! addresses in the subnets, and vCPUs of the account's quota on Fargate.
//!
//! Refused is what could not even begin: no room for the canary, or for a first task of the promotion. Where there is not room for all
//! at once, ECS goes on in smaller lots, and people are told so; as they are when it cannot be known.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aws_sdk_cloudwatch::primitives::DateTime;
use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricStat, ScanBy};

use super::api::{Placement, ServiceState};
use super::definition::Definition;
use super::{Ecs, subnets};
use crate::aws::said;
use crate::fleet::Service;

/// How far back the account's usage is looked for: CloudWatch has it every few minutes.
const RECENT: Duration = Duration::from_secs(900);
/// Capacity providers whose vCPUs have a quota, and the class of their usage.
///
/// Source: "AWS Fargate usage metrics" in the ECS developer guide.
const CLASSES: [(&str, &str); 2] = [
    ("FARGATE", "Standard/OnDemand"),
    ("FARGATE_SPOT", "Standard/Spot"),
];

/// What was found out.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Room {
    /// Why a rollout cannot begin.
    pub(super) wrong: Vec<String>,
    /// What people should know.
    pub(super) notes: Vec<String>,
}

/// Tasks that there must be room for beside what runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Need {
    canary: u32,
    /// Of stable, for the promotion to begin at all.
    first: u32,
    /// Of stable, for the promotion to replace as many at once as it may.
    all: u32,
}

impl Need {
    fn of_canary(tasks: u32) -> Self {
        Self {
            canary: tasks,
            ..Self::default()
        }
    }

    /// Of a rolling update of stable.
    fn of_stable(state: &ServiceState) -> Self {
        let placement = &state.placement;
        let all = state.desired * placement.most_percent.saturating_sub(100) / 100;
        // ECS may stop a task first where fewer than all may be healthy.
        let first = u32::from(placement.least_percent >= 100).min(all);
        Self {
            canary: 0,
            first,
            all,
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            canary: self.canary + other.canary,
            first: self.first + other.first,
            all: self.all + other.all,
        }
    }

    /// The same in `unit`s, each with what it is for: without which it cannot begin, and with which it goes at once.
    fn in_units(self, unit: f64) -> [f64; 2] {
        [self.first, self.all].map(|stable| f64::from(self.canary + stable) * unit)
    }

    fn is_none(self) -> bool {
        self == Self::default()
    }
}

impl Room {
    /// Compares what is free with what is needed. `what` is told as "what: free are …".
    fn compare(&mut self, what: &str, free: f64, need: Need, unit: f64) {
        let [least, most] = need.in_units(unit);
        let canary = need.canary;
        if free < least {
            self.wrong.push(format!(
                "{what}: free are {free}; expected {least} at least, for canary tasks ({canary}) and the first of the promotion ({})",
                need.first
            ));
        } else if free < most {
            self.notes.push(format!(
                "{what}: free are {free}; {most} would be needed for canary tasks ({canary}) and all that the promotion may start at once \
                 ({}): ECS will promote in smaller lots",
                need.all
            ));
        }
    }

    fn unknown(&mut self, what: &str, why: &str) {
        self.notes.push(format!(
            "{what}: whether there is room for more tasks is not known: {why}"
        ));
    }

    /// The subnets of each service, together where they are the same.
    fn subnets(&mut self, needs: &BTreeMap<BTreeSet<&str>, Need>, free: &BTreeMap<String, u32>) {
        for (names, need) in needs {
            let named: Vec<String> = names
                .iter()
                .map(|name| {
                    let free = free.get(*name);
                    free.map_or_else(|| format!("{name} (unknown)"), |free| format!("{name} ({free})"))
                })
                .collect();
            let what = format!("addresses in the subnets {}", named.join(", "));
            if let Some(missing) = names.iter().find(|name| !free.contains_key(**name)) {
                self.unknown(&what, &format!("EC2 does not know {missing}"));
                continue;
            }
            let sum: u32 = names.iter().filter_map(|name| free.get(*name)).sum();
            self.compare(&what, f64::from(sum), *need, 1.0);
        }
    }
}

/// How many of `tasks` each capacity provider gets: its base first, then by weight, rounded up.
fn split(placement: &Placement, tasks: u32) -> BTreeMap<&str, u32> {
    let total: u32 = placement.providers.iter().map(|provider| provider.weight).sum();
    let based: u32 = placement.providers.iter().map(|provider| provider.base).sum();
    let rest = tasks.saturating_sub(based);
    let share = |weight: u32| (rest * weight).div_ceil(total.max(1));
    placement
        .providers
        .iter()
        .map(|provider| {
            (
                provider.name.as_str(),
                provider.base.min(tasks) + share(provider.weight),
            )
        })
        .collect()
}

/// What is needed of each class of Fargate. Tasks on instances of one's own have no quota here.
fn of_classes(states: &BTreeMap<Service, ServiceState>, canary: u32) -> BTreeMap<&'static str, Need> {
    let mut needs: BTreeMap<&'static str, Need> = BTreeMap::new();
    for (service, state) in states {
        let need = match service {
            Service::Canary => Need::of_canary(canary),
            Service::Stable => Need::of_stable(state),
        };
        let placement = &state.placement;
        let alone = placement.providers.len() == 1;
        let [few, all] = [need.canary, need.all].map(|tasks| split(placement, tasks));
        for (provider, class) in CLASSES {
            let of = |tasks: &BTreeMap<&str, u32>| tasks.get(provider).copied().unwrap_or(0);
            let of_class = Need {
                canary: of(&few),
                // Of two providers, the first task goes where there is room.
                first: if alone { need.first.min(of(&all)) } else { 0 },
                all: of(&all),
            };
            let before = needs.entry(class).or_default();
            *before = before.and(of_class);
        }
    }
    needs.retain(|_, need| !need.is_none());
    needs
}

fn of_subnets(states: &BTreeMap<Service, ServiceState>, canary: u32) -> BTreeMap<BTreeSet<&str>, Need> {
    let mut needs: BTreeMap<BTreeSet<&str>, Need> = BTreeMap::new();
    for (service, state) in states {
        let need = match service {
            Service::Canary => Need::of_canary(canary),
            Service::Stable => Need::of_stable(state),
        };
        let names = state.placement.subnets.iter().map(String::as_str).collect();
        let before = needs.entry(names).or_default();
        *before = before.and(need);
    }
    // Tasks that share the address of their instance need none.
    needs.retain(|names, need| !names.is_empty() && !need.is_none());
    needs
}

impl Ecs {
    /// What room there is for a rollout of `after` beside what runs.
    pub(super) async fn room(&self, states: &BTreeMap<Service, ServiceState>, after: &Definition) -> Room {
        let mut room = Room::default();
        let canary = self.few(states[&Service::Stable].desired);
        let needs = of_subnets(states, canary);
        let names: BTreeSet<String> = needs.keys().flatten().map(|name| (*name).to_owned()).collect();
        if !names.is_empty() {
            let names: Vec<String> = names.into_iter().collect();
            match subnets::free(&self.checks.config, &names).await {
                Ok(free) => room.subnets(&needs, &free),
                Err(error) => room.unknown(&format!("addresses in the subnets {}", names.join(", ")), &error),
            }
        }
        for (class, need) in of_classes(states, canary) {
            let what = format!("vCPUs of the account on Fargate, {class}");
            let free = match after.vcpus() {
                Some(vcpus) => self.free_vcpus(class).await.map(|free| (free, vcpus)),
                None => Err(format!("{} does not say its cpu", after.name())),
            };
            match free {
                Ok((free, vcpus)) => room.compare(&what, free, need, vcpus),
                Err(error) => room.unknown(&what, &error),
            }
        }
        room
    }

    /// The account's quota without what is in use, as CloudWatch knows both.
    async fn free_vcpus(&self, class: &str) -> Result<f64, String> {
        let now = self.clock.now();
        let dimension = |(name, value): (&str, &str)| Dimension::builder().name(name).value(value).build();
        let dimensions = [
            ("Service", "Fargate"),
            ("Type", "Resource"),
            ("Resource", "vCPU"),
            ("Class", class),
        ];
        let metric = Metric::builder()
            .namespace("AWS/Usage")
            .metric_name("ResourceCount")
            .set_dimensions(Some(dimensions.map(dimension).into()))
            .build();
        let used = MetricStat::builder()
            .metric(metric)
            .period(60)
            .stat("Maximum")
            .build();
        let call = self
            .checks
            .cloudwatch
            .get_metric_data()
            .start_time(DateTime::from(now - RECENT))
            .end_time(DateTime::from(now))
            .scan_by(ScanBy::TimestampDescending)
            .metric_data_queries(MetricDataQuery::builder().id("used").metric_stat(used).build())
            .metric_data_queries(
                MetricDataQuery::builder()
                    .id("quota")
                    .expression("SERVICE_QUOTA(used)")
                    .build(),
            );
        let answer = call.send().await.map_err(|error| said!("GetMetricData", error))?;
        let results = answer.metric_data_results.unwrap_or_default();
        let latest = |id: &str| {
            let series = results.iter().find(|result| result.id.as_deref() == Some(id))?;
            series.values.as_ref()?.first().copied()
        };
        let [used, quota] = ["used", "quota"].map(latest);
        used.zip(quota)
            .map(|(used, quota)| quota - used)
            .ok_or_else(|| "CloudWatch has no usage of the last 15 minutes, or no quota".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::super::api::Provider;
    use super::*;

    fn provider(name: &str, base: u32, weight: u32) -> Provider {
        Provider {
            name: name.to_owned(),
            base,
            weight,
        }
    }

    fn service(desired: u32, providers: Vec<Provider>, subnets: &[&str]) -> ServiceState {
        ServiceState {
            desired,
            placement: Placement {
                subnets: subnets.iter().map(|name| (*name).to_owned()).collect(),
                providers,
                most_percent: 200,
                least_percent: 100,
            },
            ..ServiceState::default()
        }
    }

    #[test]
    fn what_cannot_begin_is_refused_and_what_goes_slowly_is_told() {
        let states = BTreeMap::from([
            (
                Service::Stable,
                service(10, vec![provider("FARGATE", 0, 1)], &["a", "b"]),
            ),
            (
                Service::Canary,
                service(0, vec![provider("FARGATE", 0, 1)], &["b", "a"]),
            ),
        ]);
        let needs = of_subnets(&states, 3);
        let found = |a: u32, b: u32| {
            let mut room = Room::default();
            room.subnets(
                &needs,
                &BTreeMap::from([("a".to_owned(), a), ("b".to_owned(), b)]),
            );
            room
        };
        assert_eq!(found(7, 6), Room::default(), "3 of the canary, 10 of stable");
        let slow = found(4, 0);
        assert!(
            slow.wrong.is_empty() && slow.notes[0].contains("13 would be needed"),
            "{slow:?}"
        );
        let none = found(3, 0);
        assert_eq!(
            none.wrong,
            [
                "addresses in the subnets a (3), b (0): free are 3; expected 4 at least, for canary tasks (3) and the first of the \
              promotion (1)"
            ]
        );
        let mut unknown = Room::default();
        unknown.subnets(&needs, &BTreeMap::from([("a".to_owned(), 9)]));
        assert!(
            unknown.wrong.is_empty() && unknown.notes[0].contains("b (unknown)"),
            "{unknown:?}"
        );
    }

    #[test]
    fn each_class_of_fargate_has_its_quota_and_instances_have_none() {
        let mixed = vec![provider("FARGATE", 2, 1), provider("FARGATE_SPOT", 0, 3)];
        let states = BTreeMap::from([
            (Service::Stable, service(10, mixed, &[])),
            (Service::Canary, service(0, vec![provider("FARGATE", 0, 1)], &[])),
        ]);
        let need = |canary, first, all| Need { canary, first, all };
        assert_eq!(
            of_classes(&states, 3),
            BTreeMap::from([
                ("Standard/OnDemand", need(3, 0, 4)),
                ("Standard/Spot", need(0, 0, 6))
            ])
        );
        let own = BTreeMap::from([
            (
                Service::Stable,
                service(10, vec![provider("instances", 0, 1)], &[]),
            ),
            (Service::Canary, service(0, Vec::new(), &[])),
        ]);
        assert_eq!(of_classes(&own, 3), BTreeMap::new());
        assert_eq!(of_subnets(&own, 3), BTreeMap::new());
    }
}
