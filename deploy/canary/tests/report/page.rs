//! The page and the JSON of the report.

use std::path::Path;

use canary::discretion::{Discretion, LONGEST, REDACTED};
use canary::journal::Journal;
use canary::judge::window::Arm;
use canary::report::Report;
use canary::rollout::{Happening, Kind};
use serde_json::Value;

use crate::made::{SECRET, at, hostile, promoted, rolled_back, under_way};

fn report(journal: &Journal) -> Report {
    Report::of(journal, at(5000), Discretion::Bounded)
}

/// Writes the page where CI looks for it.
fn keep(name: &str, page: &str) {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("report-{name}.html"));
    std::fs::write(file, page).unwrap();
}

#[test]
fn a_rollback_is_told_with_its_reasons_and_times() {
    let report = report(&rolled_back());
    let page = report.page();
    keep("rolled-back", &page);
    for part in [
        "2.0",
        "rolled back",
        "Compared with",
        "1.9",
        "How fast",
        "Contained",
        "Timeline",
        "17 of 17 messages",
    ] {
        assert!(page.contains(part), "{part}");
    }
    let why = report.explanation.join(" ");
    assert!(
        why.contains("it does worse than the release before")
            && why.contains("would not have been suspected"),
        "{why}"
    );
    assert_eq!(report.times.suspected, Some(at(24)));
    assert_eq!(report.times.contained, Some(at(19)));
    assert!(report.times.removed.is_some() && report.times.first_failure >= report.times.first_message);
    assert_eq!(page.matches("<svg").count(), 4);
}

#[test]
fn a_promotion_and_a_rollout_under_way_have_a_report_as_well() {
    let good = report(&promoted());
    keep("promoted", &good.page());
    assert_eq!(good.times.removed, None);
    assert!(
        good.explanation
            .iter()
            .any(|sentence| sentence.contains("more in one further window")),
        "{:?}",
        good.explanation
    );
    let mut journal = under_way(30, 0.005);
    keep("under-way", &report(&journal).page());
    // Nothing counted, nothing judged, a plan that cannot be read: still a page.
    journal.evidence.windows.clear();
    journal.verdict = None;
    journal.plan = "schema = 9".to_owned();
    let page = report(&journal).page();
    keep("empty", &page);
    assert!(page.contains("No message of the new release was judged"));
    assert!(!page.contains("NaN") && !page.contains(">inf"), "{page}");
}

#[test]
fn messages_handed_over_are_counted_where_there_was_somebody_to_hand_them_to() {
    let mut journal = rolled_back();
    journal.evidence.handed_over = 17;
    let told = report(&journal);
    assert_eq!(told.handed_over, 17);
    assert!(
        told.page()
            .contains("17 failed messages were handed over to the release before")
    );
    journal.state.baseline = None;
    assert!(!report(&journal).page().contains("handed over"));
}

#[test]
fn a_first_release_is_told_without_one_to_compare_it_with() {
    let mut journal = promoted();
    journal.state.baseline = None;
    journal.verdict = None;
    for window in &mut journal.evidence.windows {
        window.baseline = Arm::default();
    }
    let told = report(&journal);
    let page = told.page();
    keep("first", &page);
    assert!(told.explanation[0].contains("it is the first release"));
    assert!(
        told.explanation[1].starts_with("2.0 failed 18 of 4589"),
        "{:?}",
        told.explanation
    );
    assert!(!page.contains("Evidence") && page.contains(">4589</td>"));
    assert!(
        !page.contains("Steps of the plan") && !page.contains(">1.9<"),
        "{page}"
    );
}

#[test]
fn a_promotion_says_who_asked_for_it() {
    let mut journal = promoted();
    assert!(report(&journal).explanation[0].contains("it is not worse than tolerated"));
    let by = Some("ann".to_owned());
    let why = "the fix cannot wait".to_owned();
    journal.tell(at(411), [Happening::Promoting { by, why }]);
    assert_eq!(
        report(&journal).explanation[0],
        "Promoted: asked for by ann: the fix cannot wait."
    );
}

#[test]
fn who_skipped_the_canary_said_why() {
    let mut journal = promoted();
    journal.state.kind = Kind::SkipCanary {
        reason: "the old one loses orders".to_owned(),
    };
    let told = report(&journal);
    assert!(
        told.page()
            .contains("at once, without a canary: the old one loses orders")
    );
    let redacted = Report::of(&journal, at(500), Discretion::Redacted);
    assert!(!redacted.page().contains("loses orders"));
}

#[test]
fn the_curves_end_where_the_verdict_stands() {
    for journal in [rolled_back(), promoted()] {
        let report = report(&journal);
        let last = report.course.points.last().unwrap();
        let (verdict, failures) = (journal.verdict.unwrap(), &report.status.signals[0]);
        assert!((last.ln_harm - verdict.harm.ln_evidence).abs() < 1e-9);
        assert!((last.ln_promotion - verdict.promotion.ln_evidence).abs() < 1e-9);
        assert_eq!(
            (last.canary.attempts, last.canary.failed),
            (failures.canary.attempts, failures.canary.failed)
        );
        assert!(report.course.points.len() <= 201 && report.course.points.len() > 50);
    }
}

#[test]
fn the_page_needs_nothing_and_nobody() {
    let page = report(&rolled_back()).page();
    assert!(
        !page.contains("<script")
            && !page.contains("<link")
            && !page.contains(" src=")
            && !page.contains("href=")
    );
    assert!(
        !page.replace("http://www.w3.org/2000/svg", "").contains("http"),
        "no address"
    );
}

#[test]
fn what_comes_from_outside_stays_text_and_short() {
    let report = report(&hostile());
    let page = report.page();
    keep("hostile", &page);
    assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert_eq!(page.matches("</title>").count(), 5, "the page's and four charts'");
    let longest = report
        .status
        .timeline
        .iter()
        .map(|told| told.text.len())
        .max()
        .unwrap();
    assert!(longest <= LONGEST + 100, "{longest}");
    assert!(!page.contains('\u{1b}'));
}

#[test]
fn secrets_of_the_fleet_are_never_shown_and_texts_not_when_redacted() {
    for discretion in [Discretion::Bounded, Discretion::Redacted] {
        let report = Report::of(&rolled_back(), at(200), discretion);
        let text = report.page() + &serde_json::to_string(&report).unwrap();
        assert!(!text.contains(SECRET) && !text.contains("PASSWORD"));
        let redacted = discretion == Discretion::Redacted;
        assert_eq!(text.contains("db-3.internal"), !redacted);
        assert_eq!(text.contains(REDACTED), redacted);
        // Counts are nobody's secret.
        assert!(text.contains("17 of 17 messages"));
    }
    let report = Report::of(&hostile(), at(200), Discretion::Redacted);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["status"]["first_failures"], Value::Array(Vec::new()));
    assert!(!json["status"]["reason"].as_str().unwrap().contains("onerror"));
}

#[test]
fn the_json_has_what_the_page_has() {
    let json = serde_json::to_value(report(&rolled_back())).unwrap();
    assert_eq!(json["status"]["outcome"], "rolled_back");
    assert_eq!(json["status"]["schema"], 1);
    for field in ["times", "explanation", "course", "redriven"] {
        assert!(!json[field].is_null(), "{field}");
    }
    let point = &json["course"]["points"][20];
    for field in ["canary", "baseline", "ln_harm", "share", "canary_latency"] {
        assert!(!point[field].is_null(), "{field}: {point}");
    }
}
