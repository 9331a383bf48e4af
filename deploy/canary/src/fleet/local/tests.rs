//! A fleet's record, and processes that are shell scripts.

use worker::release::Release;

use super::*;
use crate::rollout::Definition;

fn revision(release: &str) -> Revision {
    Revision {
        release: Release::new(release).unwrap(),
        definition: Definition::Local {
            command: vec!["worker".to_owned()],
            environment: BTreeMap::new(),
        },
    }
}

#[tokio::test]
async fn a_fleet_that_was_stopped_is_started_again_with_what_was_stable() {
    let directory = tempfile::tempdir().unwrap();
    let open = || {
        let options = Options {
            directory: directory.path().to_owned(),
            stable: 3,
            canary: 1,
            stop_within: Duration::from_secs(1),
        };
        Local::open(options, Clock::System).unwrap()
    };
    let wanted = || open().record.wanted(Service::Stable).cloned();
    open().start_again().unwrap();
    assert_eq!(wanted(), None, "nothing was ever stable");

    let mut fleet = open();
    fleet.record(Some(&revision("1.1.0"))).await.unwrap();
    fleet
        .run(Service::Stable, &revision("2.0.0"), Count::Full)
        .await
        .unwrap();
    open().start_again().unwrap();
    let other = wanted().unwrap().revision;
    assert_eq!(other, revision("2.0.0"), "what runs stays as it is");

    let mut fleet = open();
    fleet.stop(Service::Stable).await.unwrap();
    open().start_again().unwrap();
    let again = Wanted {
        revision: revision("1.1.0"),
        count: 3,
    };
    assert_eq!(wanted(), Some(again));
}

fn script(release: &str, text: &str) -> Revision {
    Revision {
        release: Release::new(release).unwrap(),
        definition: Definition::Local {
            command: ["/bin/sh", "-c", text].map(str::to_owned).into(),
            environment: BTreeMap::new(),
        },
    }
}

/// Looks until `is`, 30 s at most.
async fn until(fleet: &mut Local, is: impl Fn(&View) -> bool) -> View {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let view = fleet.observe().await.unwrap();
        if is(&view) {
            return view;
        }
        assert!(Instant::now() < until, "{view:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_canary_that_crashed_and_was_taken_away_is_not_missed() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        directory: directory.path().to_owned(),
        stable: 1,
        canary: 1,
        stop_within: Duration::from_secs(1),
    };
    let mut fleet = Local::open(options, Clock::System).unwrap();
    let crashes = script("2", "echo no table; exit 3");
    fleet.run(Service::Canary, &crashes, Count::Few).await.unwrap();
    let view = until(&mut fleet, |view| !view.ended.is_empty()).await;
    assert_eq!(
        view.canary.said.as_deref(),
        Some("canary-1: exit code 3; its last words: no table")
    );
    assert!(directory.path().join("logs/2-canary-1.log").is_file());
    let seen = sight::look(directory.path()).await.unwrap().unwrap();
    assert_eq!(
        seen.amiss.as_deref(),
        Some("1 process is gone; `canary fleet run` starts it again")
    );
    fleet.stop(Service::Canary).await.unwrap();
    until(&mut fleet, |view| view.canary.processes.is_empty()).await;
    drop(fleet);
    let seen = sight::look(directory.path()).await.unwrap().unwrap();
    assert_eq!((seen.canary.processes.len(), seen.amiss), (0, None));
}

#[tokio::test]
async fn a_fifo_queue_is_for_releases_that_are_compared_with_none() {
    let directory = tempfile::tempdir().unwrap();
    let options = Options {
        directory: directory.path().to_owned(),
        stable: 1,
        canary: 1,
        stop_within: Duration::from_secs(1),
    };
    let mut fleet = Local::open(options, Clock::System).unwrap();
    let mut candidate = script("1", "exit 0");
    let Definition::Local { environment, .. } = &mut candidate.definition else {
        unreachable!()
    };
    environment.insert("WORKER__QUEUE__NAME".to_owned(), "orders.fifo".to_owned());
    let refused = fleet.preflight(&candidate).await.unwrap_err();
    assert!(
        refused.starts_with("WORKER__QUEUE__NAME is orders.fifo, a FIFO queue; expected a standard one"),
        "{refused}"
    );
    fleet.set_kind(Kind::SkipCanary {
        reason: "groups are in order".to_owned(),
    });
    fleet.preflight(&candidate).await.unwrap();
}
