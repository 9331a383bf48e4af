use worker::evidence::{Failed, Totals};

use super::*;

fn release(name: &str) -> Release {
    Release::new(name).unwrap()
}

fn at(seconds: u64) -> Moment {
    Moment::from_millis(seconds * 1000)
}

/// Windows as (start, done, failed, open).
fn report(process: &str, of: &str, now: f64, windows: &[(u64, u64, u64, u64)]) -> Report {
    let windows = windows.iter().map(|(start, done, failed, open)| Counted {
        start: *start,
        started: done + failed + open,
        done: *done,
        failed: Failed {
            retry: *failed,
            ..Failed::default()
        },
        open: *open,
        ..Counted::default()
    });
    Report {
        schema: 1,
        release: release(of),
        track: if of == "new" { Track::Canary } else { Track::Stable },
        service: None,
        process: process.to_owned(),
        started_at: 0.0,
        now,
        deadline_seconds: 30.0,
        state: State::default(),
        windows: windows.collect(),
        totals: Totals::default(),
    }
}

fn collector() -> Collector {
    let mut collector = Collector::new(release("new"), Some(release("old")), Checkpoint::default());
    collector.begin(100);
    collector
}

/// Starts of complete windows with done and failed of the canary.
fn canary(collector: &Collector) -> Vec<(u64, u64, u64)> {
    let windows = collector.checkpoint().windows.iter();
    windows
        .map(|window| (window.start, window.canary.done, window.canary.failures()))
        .collect()
}

#[test]
fn a_window_waits_for_every_process_and_every_attempt() {
    let mut collector = collector();
    collector.report("s-1", report("p", "old", 100.9, &[(100, 9, 0, 0)]));
    collector.report("c-1", report("q", "new", 101.5, &[(100, 3, 0, 1)]));
    assert_eq!(collector.advance(at(102)), 0, "p has not said all of second 100");
    collector.report(
        "s-1",
        report("p", "old", 102.1, &[(100, 9, 1, 0), (101, 10, 0, 0)]),
    );
    assert_eq!(collector.advance(at(102)), 0, "an attempt is open");
    collector.report(
        "c-1",
        report("q", "new", 102.2, &[(100, 3, 1, 0), (101, 2, 0, 0)]),
    );
    assert_eq!(collector.advance(at(102)), 2);
    assert_eq!(canary(&collector), [(100, 3, 1), (101, 2, 0)]);
    assert_eq!(collector.checkpoint().windows[0].baseline.done, 9);
}

#[test]
fn a_later_window_does_not_wait_for_an_earlier_one_that_hangs_and_the_deadline_closes_that() {
    let mut collector = collector();
    collector.report(
        "c-1",
        report(
            "q",
            "new",
            103.0,
            &[(100, 3, 0, 1), (101, 4, 0, 0), (102, 4, 0, 0)],
        ),
    );
    assert_eq!(collector.advance(at(103)), 2);
    assert_eq!(canary(&collector), [(101, 4, 0), (102, 4, 0)]);
    collector.report("c-1", report("q", "new", 136.0, &[(100, 3, 0, 1)]));
    collector.advance(at(135));
    assert_eq!(canary(&collector)[0].0, 101, "deadline and grace are not over");
    collector.advance(at(136));
    assert_eq!(
        canary(&collector)[0],
        (100, 3, 1),
        "what is still open has failed"
    );
    collector.report("c-1", report("q", "new", 137.0, &[(100, 4, 0, 0)]));
    collector.advance(at(138));
    assert_eq!(canary(&collector)[0], (100, 3, 1), "late data does not join");
}

#[test]
fn what_a_dead_process_had_begun_is_lost_and_what_a_stopped_one_had_begun_does_not_count() {
    for (how, expected) in [(End::Crashed, (100, 3, 2)), (End::Stopped, (100, 3, 0))] {
        let mut collector = collector();
        collector.report("c-1", report("q", "new", 100.5, &[(100, 3, 0, 2)]));
        collector.ended("c-1", how);
        collector.advance(at(101));
        assert_eq!(canary(&collector), [expected], "{how:?}");
    }
}

#[test]
fn a_restart_nobody_told_of_is_seen_by_the_new_process() {
    let mut collector = collector();
    collector.report("c-1", report("q", "new", 100.5, &[(100, 3, 0, 2)]));
    collector.report("c-1", report("r", "new", 101.5, &[(101, 1, 0, 0)]));
    collector.report("c-1", report("q", "new", 102.5, &[(100, 5, 0, 0)]));
    collector.report("c-1", report("r", "new", 102.5, &[(101, 1, 0, 0)]));
    collector.advance(at(102));
    assert_eq!(canary(&collector), [(100, 3, 2), (101, 1, 0)]);
}

#[test]
fn a_tool_started_again_goes_on_with_the_same_counts() {
    let feed = |collector: &mut Collector, second: u64| {
        let second_before = second - 1;
        let windows = [(second_before, 4, second % 2, 0), (second, 2, 0, 1)];
        collector.report("c-1", report("q", "new", second as f64 + 0.5, &windows));
        collector.report(
            "s-1",
            report(
                "p",
                "old",
                second as f64 + 0.5,
                &[(second_before, 40, 0, 0), (second, 9, 0, 0)],
            ),
        );
        collector.note(
            at(second),
            Second {
                share: 0.1,
                ..Second::default()
            },
        );
        collector.advance(at(second));
    };
    let (mut undisturbed, mut restarted) = (collector(), collector());
    for second in 101..160 {
        feed(&mut undisturbed, second);
        // Written down and read back at every second, in the middle of a window.
        let text = serde_json::to_string(restarted.checkpoint()).unwrap();
        restarted = Collector::new(
            release("new"),
            Some(release("old")),
            serde_json::from_str(&text).unwrap(),
        );
        feed(&mut restarted, second);
    }
    assert_eq!(undisturbed.checkpoint(), restarted.checkpoint());
    assert_eq!(undisturbed.ledger().merged(1), restarted.ledger().merged(1));
    assert!(undisturbed.ledger().len() > 50);
}

#[test]
fn what_is_kept_is_bounded_and_a_gap_is_no_data() {
    let mut collector = collector();
    for second in 101..2000 {
        if !(500..600).contains(&second) {
            let windows = [(second - 1, 4, 0, 0)];
            collector.report("c-1", report("q", "new", second as f64 + 0.1, &windows));
            collector.report(
                "s-1",
                report("p", "old", second as f64 + 0.1, &[(second - 1, 40, 0, 0)]),
            );
        }
        collector.note(at(second), Second::default());
        collector.advance(at(second));
        let kept = collector.checkpoint();
        assert!(kept.seconds.len() < 60, "{}", kept.seconds.len());
        assert!(kept.processes.values().all(|process| process.windows.len() < 60));
    }
    let windows = &collector.checkpoint().windows;
    assert_eq!(windows.len(), 1899);
    let empty = windows.iter().filter(|window| window.canary.started == 0).count();
    assert_eq!(empty, 100, "nothing was reported for them");
}

#[test]
fn shares_are_measured_by_track() {
    let mut collector = collector();
    let of = |done| (100..120).map(|start| (start, done, 0, 0)).collect::<Vec<_>>();
    collector.report("c-1", report("q", "new", 120.0, &of(5)));
    collector.report("s-1", report("p", "old", 120.0, &of(45)));
    let flow = collector.flow(at(120));
    assert!((flow.per_second - 50.0).abs() < 1e-9 && (flow.canary_share.unwrap() - 0.1).abs() < 1e-9);
    assert_eq!(collector.flow(at(500)).canary_share, None);
}

#[test]
fn work_is_measured_since_the_first_process_started() {
    let young = |process: &str, of: &str, started_at: f64| Report {
        started_at,
        ..report(process, of, 120.0, &[(118, 20, 0, 0), (119, 20, 0, 0)])
    };
    let mut collector = collector();
    collector.report("s-1", young("p", "old", 117.2));
    let per_second = |collector: &Collector| collector.flow(at(120)).per_second;
    assert!(
        (per_second(&collector) - 20.0).abs() < 1e-9,
        "{}",
        per_second(&collector)
    );
    // One that was there for long and did nothing: the work is little.
    collector.report(
        "s-2",
        Report {
            started_at: 3.0,
            ..report("r", "old", 120.0, &[])
        },
    );
    assert!(
        (per_second(&collector) - 2.0).abs() < 1e-9,
        "{}",
        per_second(&collector)
    );
}

#[test]
fn what_was_handed_over_is_counted_once_also_of_processes_that_are_gone() {
    let mut collector = collector();
    let handed_over = |process: &str, of: &str, now: f64, count: u64| Report {
        totals: Totals {
            handed_over: count,
            ..Totals::default()
        },
        ..report(process, of, now, &[(100, 1, 0, 0)])
    };
    collector.report("c-1", handed_over("p", "new", 101.0, 3));
    collector.report("c-1", handed_over("p", "new", 102.0, 5));
    collector.report("s-1", handed_over("s", "old", 102.0, 100));
    collector.report("c-1", handed_over("q", "new", 103.0, 2)); // crashed, and started again
    let of_new = |collector: &Collector| collector.checkpoint().handed_over(&release("new"));
    assert_eq!(of_new(&collector), 7);
    collector.ended("c-1", End::Stopped);
    collector.advance(at(200));
    assert!(!collector.checkpoint().processes.contains_key("p"), "forgotten");
    assert_eq!(of_new(&collector), 7);
    let written = serde_json::to_string(collector.checkpoint()).unwrap();
    let read: Checkpoint = serde_json::from_str(&written).unwrap();
    assert_eq!(read.handed_over(&release("new")), 7);
}
