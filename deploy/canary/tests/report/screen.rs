//! The status on a terminal.

use canary::discretion::Discretion;
use canary::journal::{Journal, Span};
use canary::rollout::{Hold, HoldReason};
use canary::status::Status;
use canary::status::screen::{COLUMNS, Paint, lines, odds};

use crate::made::{at, hostile, promoted, rolled_back, under_way};

fn screen(journal: &Journal, rows: usize, paint: Paint) -> Vec<String> {
    let now = at(60);
    lines(&Status::of(journal, now, Discretion::Bounded), now, rows, paint)
}

#[test]
fn everything_fits_on_the_smallest_terminal() {
    let mut held = under_way(40, 0.02);
    held.state.hold = Some(Hold {
        reason: HoldReason::Inconclusive,
        since: at(30),
        until: at(3630),
        shut: false,
    });
    let mut contained = held.clone();
    contained.measured.contained = Some(Span {
        from: at(20),
        to: contained.measured.at,
    });
    for journal in [
        under_way(40, 0.005),
        held,
        contained,
        rolled_back(),
        promoted(),
        hostile(),
    ] {
        let lines = screen(&journal, 23, Paint::Plain);
        assert!(lines.len() <= 23, "{} rows:\n{}", lines.len(), lines.join("\n"));
        for line in &lines {
            assert!(line.chars().count() <= COLUMNS, "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}

#[test]
fn a_canary_that_has_stopped_itself_is_said_to() {
    let mut journal = under_way(40, 0.02);
    let said = |journal: &Journal| {
        screen(journal, 23, Paint::Plain)
            .join("\n")
            .contains("has stopped itself")
    };
    assert!(!said(&journal));
    let now = journal.measured.at;
    journal.measured.contained = Some(Span {
        from: at(20),
        to: now,
    });
    assert!(said(&journal));
    journal.measured.at = now.after(1);
    assert!(!said(&journal), "its breaker has closed again");
}

#[test]
fn what_is_known_of_processes_is_dated_once_it_is_old() {
    let journal = promoted();
    let at = journal.measured.at;
    let said = |seconds: u32| {
        let now = at.after(seconds);
        lines(
            &Status::of(&journal, now, Discretion::Bounded),
            now,
            23,
            Paint::Plain,
        )
        .join("\n")
    };
    let date = at.to_string()[..19].replace('T', " ");
    assert!(!said(30).contains("as of"), "{}", said(30));
    assert!(said(31).contains(&format!("as of {date} UTC")), "{}", said(31));
}

#[test]
fn it_shows_steps_share_rates_evidence_and_the_latest_events() {
    let text = screen(&under_way(40, 0.005), 23, Paint::Plain).join("\n");
    for part in [
        "2.0 against 1.9: under way",
        "step 1 of",
        "▶ ",
        "wanted",
        "measured",
        "├",
        "●",
        "of harm",
        "of no harm",
        "stable service: 1.9, 3 of 3 processes ready",
        "driven by process 4711 on build-7",
        "the canary is ready",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "plain is plain");
    assert!(
        screen(&rolled_back(), 23, Paint::Colour)
            .join("\n")
            .contains("\u{1b}[31mrolled back\u{1b}[0m")
    );
}

#[test]
fn a_rollout_that_nobody_drives_says_so() {
    let journal = under_way(40, 0.005);
    let status = |second| Status::of(&journal, at(second), Discretion::Bounded);
    assert!(!status(53).stale);
    assert!(status(53 + 60).stale);
    let text = lines(&status(113), at(113), 23, Paint::Plain).join("\n");
    assert!(
        text.contains("nobody drives it") && !text.contains("driven by"),
        "{text}"
    );
}

#[test]
fn odds_are_said_as_people_say_them() {
    for (ln, text) in [
        (0.0, "1.0:1"),
        (100f64.ln(), "100:1"),
        (-(20f64.ln()), "1:20"),
        (1e9f64.ln(), "10^9:1"),
        (-(1e9f64.ln()), "1:10^9"),
    ] {
        assert_eq!(odds(ln), text);
    }
}
