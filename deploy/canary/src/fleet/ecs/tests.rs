//! Whole rollouts on a simulated ECS, through the real SDK clients, on tokio's paused clock: the tool with its fleet on ECS and its
//! journal on S3.

mod beginning;
mod cloudwatch;
mod trouble;
mod watchdog;

use std::pin::Pin;
use std::time::UNIX_EPOCH;

use tokio_util::sync::CancellationToken;

use super::fake::{Bucket, CANARY, CONTROL, Fake, PINNED, STABLE, World};
use super::*;
use crate::cloudwatch::Publisher;
use crate::drive::{
    ClaimError, Drive, DriveError, End, Manner, Pace, Parts, Redriver, claim, fresh, me, request,
};
use crate::journal::{Journal, S3Store, Store as _, StoreError};
use crate::plan::Plan;
use crate::rollout::{Ask, Course, Happening, Kind, Outcome, Phase, Reason};

const PLAN: &str = r#"
schema = 1
name = "short"
deadline = "5m"
trickle = "1/s"
[risk]
ceiling = "2%"
stretch = "5s"
[[steps]]
share = "10%"
least_time = "5s"
least_messages = 20
[[steps]]
share = "25%"
least_time = "20s"
least_messages = 50
[bake]
time = "20s"
share = "10%"
"#;

#[derive(Clone, Copy)]
struct NoLetters;

impl Redriver for NoLetters {
    fn redrive(
        &self,
        _release: Release,
        _per_second: f64,
    ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send>> {
        Box::pin(async { Ok("none".to_owned()) })
    }
}

/// The cloud, and a tool that may die.
#[derive(Clone)]
struct Bench {
    fake: Fake,
    config: SdkConfig,
    clock: Clock,
    ready_within: u32,
}

fn options() -> Options {
    Options {
        app: "orders".to_owned(),
        cluster: "orders".to_owned(),
        stable: STABLE.to_owned(),
        canary: CANARY.to_owned(),
        names: Names::of("orders"),
        container: "worker".to_owned(),
        tasks: 1,
        admin_port: None,
        ignored_alarms: Vec::new(),
        first: None,
        autoscaled: true,
    }
}

impl Bench {
    async fn new() -> Self {
        let clock = Clock::Simulated {
            start: UNIX_EPOCH + Duration::from_secs(1_764_000_000),
            since: Instant::now(),
        };
        let fake = Fake::new(clock, "a");
        Self {
            config: fake.config().await,
            fake,
            clock,
            ready_within: 120,
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn store(&self) -> S3Store {
        S3Store::new(&self.config, "s3://journals/orders/journal.json").unwrap()
    }

    async fn journal(&self) -> Option<Journal> {
        self.store().read().await.unwrap().map(|(journal, _)| journal)
    }

    /// One life of the tool.
    async fn live(&self) -> Result<End, DriveError> {
        let mut fleet = Ecs {
            checks: preflight::Clients::simulated(&self.config),
            ..Ecs::new(&self.config, options(), self.clock)
        };
        let image = format!("r/orders-worker@sha256:{}", "b".repeat(64));
        let origin = Origin::Image(image, BTreeMap::new());
        let release = Release::new("b").unwrap();
        let under_way = self.journal().await;
        let revision = fleet
            .revision(&release, &origin, under_way.as_ref())
            .await
            .unwrap();
        let now = self.now();
        let mut me = me(now);
        me.host = me.id.clone();
        let claim = match claim(
            &self.store(),
            Some(fresh(Kind::Canary, revision, PLAN, now)),
            me,
            true,
        )
        .await
        {
            Ok(claim) => claim,
            Err(ClaimError::Store(error)) => return Err(error.into()),
            Err(error) => panic!("{error}"),
        };
        let mut course = Course::new(Plan::read(PLAN).unwrap());
        course.ready_within = self.ready_within;
        course.hold = 60;
        fleet.set_share(0.25);
        fleet.set_on_trial(claim.journal.state.abandoned().cloned());
        let (publisher, meter) = Publisher::start(&self.config, "orders");
        let parts = Parts {
            store: self.store(),
            fleet,
            source: self.fake.clone(),
            redriver: NoLetters,
            observer: meter,
            clock: self.clock,
        };
        let manner = Manner {
            pace: Pace::REMOTE,
            ..Manner::default()
        };
        let mut drive = Drive::new(parts, claim, course);
        let end = drive.run(manner, &CancellationToken::new()).await;
        drop(drive); // and with it the meter
        publisher.close(Duration::from_secs(30)).await;
        end
    }

    async fn to_the_end(&self) -> Outcome {
        match self.live().await.unwrap() {
            End::Over(outcome) => outcome,
            other @ (End::Held | End::Stopped) => panic!("{other:?}"),
        }
    }

    /// To the end, with a tool that is killed after `each` and started again when it counts as dead.
    async fn to_the_end_in_pieces(&self, each: Duration) -> Outcome {
        for _ in 0..200 {
            match tokio::time::timeout(each, self.live()).await {
                Ok(Ok(End::Over(outcome))) => return outcome,
                Ok(other) => panic!("{other:?}"),
                Err(_) => tokio::time::sleep(crate::drive::DEAD_AFTER).await,
            }
            let journal = self.journal().await;
            if let Some(journal) = journal.filter(|journal| journal.owner.is_none())
                && let Some(outcome) = journal.state.outcome()
            {
                return outcome; // killed after its last deed
            }
        }
        panic!(
            "it never ends: {:?}",
            self.journal().await.map(|journal| journal.state)
        )
    }

    async fn until(&self, is: impl Fn(&Journal) -> bool) -> Journal {
        for _ in 0..3600 {
            if let Some(journal) = self.journal().await.filter(&is) {
                return journal;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!(
            "it never came to that: {:?}",
            self.journal().await.map(|journal| journal.state)
        )
    }

    /// Changes the cloud when the rollout is where `is` says, and waits for the rollout's end.
    async fn with_change(&self, is: impl Fn(&Journal) -> bool, change: impl FnOnce(&mut World)) -> Outcome {
        let end = tokio::spawn({
            let bench = self.clone();
            async move { bench.to_the_end().await }
        });
        self.until(is).await;
        self.fake.change(change);
        end.await.unwrap()
    }

    async fn reason(&self) -> String {
        let journal = self.journal().await.unwrap();
        journal
            .state
            .reason()
            .map(ToString::to_string)
            .unwrap_or_default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_tasks_are_looked_at_within_half_of_what_ecs_allows() {
    let bench = Bench::new().await;
    let now = bench.now();
    bench.fake.change(|world| {
        // The old tasks stay while the new ones run: a deployment that is stuck, with as many as there can be.
        world.protects.insert("a".to_owned());
        world.services.get_mut(STABLE).unwrap().desired = 1000;
        // ECS fills it by 20 a second; the other half is for others.
        world.reads = Some(Bucket {
            most: 100.0,
            per_second: 10.0,
            tokens: 100.0,
            filled: now,
            taken: 0,
            refused: 0,
        });
    });
    let mut fleet = Ecs::new(&bench.config, options(), bench.clock);
    fleet.set_share(0.25);
    let image = format!("r/orders-worker@sha256:{}", "b".repeat(64));
    let origin = Origin::Image(image, BTreeMap::new());
    let release = Release::new("b").unwrap();
    let revision = fleet.revision(&release, &origin, None).await.unwrap();
    let mut view = View::default();
    for service in [Service::Canary, Service::Stable] {
        fleet.run(service, &revision, Count::Few).await.unwrap();
        for _ in 0..90 {
            view = fleet.observe().await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    let of = |service: &ServiceView| {
        let new = service
            .processes
            .iter()
            .filter(|process| process.release == release);
        new.count()
    };
    assert_eq!((of(&view.stable), of(&view.canary)), (1000, 334));
    assert!(
        view.stable.processes.len() > 1900,
        "{}",
        view.stable.processes.len()
    );
    let reads = bench.fake.change(|world| world.reads.unwrap());
    assert_eq!(reads.refused, 0, "{reads:?}");
    // And it does look: 28 requests each time at least.
    assert!(reads.taken > 28 * 20, "{reads:?}");
}

fn is_step(journal: &Journal) -> bool {
    matches!(journal.state.phase, Phase::Step { .. })
}

fn end(release: &str) -> Vec<String> {
    let mut state = vec![format!("{STABLE} runs {release}"); 3];
    state.push(format!("pinned {release}"));
    state.push("tracks {} scaling null".to_owned());
    state.push("Some(Target { min: 2, max: 20, in_suspended: false })".to_owned());
    state
}

const PROMOTED: [&str; 7] = [
    "registered b",
    "orders-canary runs b × 1",
    "pinned b",
    "orders-stable runs b × 3",
    "orders-canary runs a × 1",
    "orders-canary × 0",
    "",
];

#[tokio::test(start_paused = true)]
async fn a_good_release_is_promoted_as_the_revision_that_was_tested() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.to_the_end().await,
        Outcome::Promoted,
        "{}",
        bench.reason().await
    );
    assert_eq!(bench.fake.change(|world| world.deeds.clone()), PROMOTED[..6]);
    assert_eq!(bench.fake.end_state(), end("b"));
    let pinned = bench.fake.change(|world| world.parameters[PINNED].clone());
    let stable = bench
        .fake
        .change(|world| world.services[STABLE].task_definition.clone());
    assert_eq!(pinned, stable);
    assert!(
        pinned.ends_with(":2"),
        "one revision was registered, and it is the one that runs: {pinned}"
    );
    let history = bench.store().history().await.unwrap();
    assert_eq!(history.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_bad_release_is_rolled_back_although_its_tasks_protect_themselves() {
    let bench = Bench::new().await;
    bench.fake.change(|world| {
        world.failures.insert("b".to_owned(), 6);
        world.protects.insert("b".to_owned());
    });
    assert_eq!(bench.to_the_end().await, Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));
    let journal = bench.journal().await.unwrap();
    assert_eq!(journal.state.reason(), Some(&Reason::Harm));
    let called = bench.fake.change(|world| world.called.clone());
    assert!(called.contains("UpdateTaskProtection"));
}

#[tokio::test(start_paused = true)]
async fn scale_in_is_suspended_while_it_lasts_and_the_canary_grows_with_stable() {
    let bench = Bench::new().await;
    let outcome = bench
        .with_change(is_step, |world| {
            let target = world.target.unwrap();
            assert!(target.in_suspended && target.min == 3, "{target:?}");
            world.services.get_mut(STABLE).unwrap().desired = 12;
        })
        .await;
    assert_eq!(outcome, Outcome::Promoted);
    let deeds = bench.fake.change(|world| world.deeds.clone());
    assert!(
        deeds.contains(&"orders-canary × 4".to_owned()),
        "a quarter of the work beside 12 tasks: {deeds:?}"
    );
    let state = bench.fake.end_state();
    assert_eq!(
        state
            .iter()
            .filter(|line| line.ends_with("stable runs b"))
            .count(),
        12
    );
    assert!(state.contains(&end("b")[5]), "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn what_fails_after_promotion_goes_back_on_the_stable_service() {
    let bench = Bench::new().await;
    let outcome = bench
        .with_change(
            |journal| matches!(journal.state.phase, Phase::Baking { .. }),
            |world| {
                world.failures.insert("b".to_owned(), 10);
            },
        )
        .await;
    assert_eq!(outcome, Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));
    let deeds = bench.fake.change(|world| world.deeds.clone());
    let full = deeds.iter().position(|deed| deed == "orders-canary × 3");
    let back = deeds.iter().position(|deed| deed == "orders-stable runs a × 3");
    assert!(
        full.is_some() && full < back,
        "the control group carries the work first: {deeds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_a_person_asks_is_followed_and_the_canary_is_shut_by_the_control_document() {
    let bench = Bench::new().await;
    let run = tokio::spawn({
        let bench = bench.clone();
        async move { bench.to_the_end().await }
    });
    bench.until(is_step).await;
    let ask = async |ask: Ask| {
        for _ in 0..50 {
            let (mut journal, version) = bench.store().read().await.unwrap().unwrap();
            journal.requests.push(request(ask.clone(), bench.now()));
            if bench.store().write(&journal, Some(&version)).await.is_ok() {
                return;
            }
        }
        panic!("no gap");
    };
    let by = || "somebody".to_owned();
    ask(Ask::Pause {
        by: by(),
        why: String::new(),
        seconds: Some(600),
        shut: true,
    })
    .await;
    bench.until(|journal| journal.state.hold.is_some()).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let control: serde_json::Value =
        serde_json::from_str(&bench.fake.change(|world| world.parameters[CONTROL].clone())).unwrap();
    assert_eq!(control["tracks"]["canary"]["paused"], true, "{control}");
    assert_eq!(
        control["scaling"]["min"], 2,
        "how it was is remembered: {control}"
    );
    ask(Ask::Abort {
        by: by(),
        why: String::new(),
    })
    .await;
    assert_eq!(run.await.unwrap(), Outcome::RolledBack);
    assert_eq!(bench.fake.end_state(), end("a"));
}
