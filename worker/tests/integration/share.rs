//! The canary's share of the work, by real processes on the embedded endpoint: whatever the handlers' speeds, and however full the queue.
//!
//! `SHARE_MESSAGES=5000 SHARE_WRITE=1 cargo test -p worker --test integration share` measures the long form, six minutes, and
//! writes its table into `docs/control.md`.

mod page;
mod service;
mod tool;

use std::time::Duration;

use tokio::task::JoinSet;

use self::service::{Service, Speed, Traffic};
use self::tool::Tool;

/// From the first control document until what is begun counts: the rate on a busy queue has come to its end.
const SETTLING: Duration = Duration::from_secs(75);

/// First deliveries of the long form.
const LONG: u64 = 5000;

/// What is measured.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// The canary's target, 0 to 1.
    target: f64,
    traffic: Traffic,
    speed: Speed,
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
struct Measured {
    case: Case,
    canary: u64,
    all: u64,
}

impl Measured {
    fn share(&self) -> f64 {
        number(self.canary) / number(self.all)
    }

    /// How far the share may be from the target: 2 points, or what chance does to so many messages (3 σ), whichever is more. Of so few
    /// as in the short form both, since there chance alone is nearly as much as is allowed.
    fn tolerance(&self) -> f64 {
        let target = self.case.target;
        let (points, chance) = (0.02, 3.0 * (target * (1.0 - target) / number(self.all)).sqrt());
        if self.all < LONG {
            points + chance
        } else {
            chance.max(points)
        }
    }

    fn is_held(&self) -> bool {
        (self.share() - self.case.target).abs() <= self.tolerance()
    }
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// First deliveries that are counted at least, of each case.
fn messages() -> u64 {
    std::env::var("SHARE_MESSAGES").map_or(600, |count| count.parse().unwrap())
}

fn cases() -> impl Iterator<Item = Case> {
    let speeds = [Speed::Equal, Speed::CanaryFaster];
    let traffics = [Traffic::Busy, Traffic::NearlyIdle];
    let targets = [0.1, 0.5];
    targets.into_iter().flat_map(move |target| {
        traffics.into_iter().flat_map(move |traffic| {
            speeds.into_iter().map(move |speed| Case {
                target,
                traffic,
                speed,
            })
        })
    })
}

async fn measure(case: Case, messages: u64) -> Measured {
    let mut service = Service::start(case.traffic, case.speed).await;
    let mut tool = Tool::new(case.target, service.control());
    tool.steer(&mut service, SETTLING).await;
    let (canary, all) = tool.count(&mut service, messages).await;
    service.stop().await;
    Measured { case, canary, all }
}

/// All at the same time: most of each is waiting.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_canarys_share_is_its_target_whatever_the_handlers_speeds_and_however_full_the_queue() {
    let mut running = JoinSet::new();
    for (index, case) in cases().enumerate() {
        running.spawn(async move { (index, measure(case, messages()).await) });
    }
    let mut all = running.join_all().await;
    all.sort_unstable_by_key(|(index, _)| *index);
    let all: Vec<_> = all.into_iter().map(|(_, measured)| measured).collect();
    let table = page::table(&all);
    println!("{table}");
    if std::env::var_os("SHARE_WRITE").is_some() {
        page::write(&table);
    }
    assert!(all.iter().all(Measured::is_held), "{table}");
}
