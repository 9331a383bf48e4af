use super::*;
use crate::exporter::tests::journal;
use crate::rollout::Reason;

fn value(standing: &Standing, series: Series) -> Option<f64> {
    let mut of_it = standing.values.iter().filter(|(other, _)| *other == series);
    let value = of_it.next().map(|(_, value)| *value);
    assert_eq!(of_it.next(), None, "{} is there twice", series.name);
    value
}

#[test]
fn a_rollout_in_a_step_is_told_as_it_is() {
    let journal = journal();
    let standing = Standing::of(&journal);
    assert_eq!(Some(standing.at), journal.owner.map(|owner| owner.heartbeat));
    for (series, expected) in [
        (UNDER_WAY, 1.0),
        (PHASE, 3.0),
        (STEP, 2.0),
        (HELD, 0.0),
        (SUSPECTED, 0.0),
        (VERDICT, 0.0),
        (HARM, 1.5 / 4.6),
        (PROMOTION, 0.5 / 3.0),
        (WANTED, 10.0),
        (SHARE, 9.0),
        (MESSAGES, 100.0),
        (PROMOTED, 0.0),
        (ROLLED_BACK, 0.0),
    ] {
        assert_eq!(value(&standing, series), Some(expected), "{}", series.name);
    }
    assert_eq!(standing.values.len(), ALL.len());
}

#[test]
fn what_is_over_leaves_nothing_standing() {
    let mut journal = journal();
    journal.state.suspected = true;
    journal.state.phase = Phase::Ended {
        outcome: Outcome::RolledBack,
        reason: Some(Reason::Harm),
        at: Moment::from_millis(1),
    };
    let standing = Standing::of(&journal);
    assert!(standing.over);
    for series in [UNDER_WAY, PHASE, STEP, HELD, SUSPECTED, WANTED, SHARE, PROMOTED] {
        assert_eq!(value(&standing, series), Some(0.0), "{}", series.name);
    }
    assert_eq!(value(&standing, ROLLED_BACK), Some(1.0));
    journal.state.phase = Phase::Ended {
        outcome: Outcome::Restored,
        reason: None,
        at: Moment::from_millis(1),
    };
    assert_eq!(value(&Standing::of(&journal), PROMOTED), Some(1.0));
}

#[test]
fn what_cloudwatch_does_not_take_or_is_not_known_is_left_out() {
    let mut journal = journal();
    journal.measured.share = None;
    if let Some(verdict) = &mut journal.verdict {
        verdict.harm.ln_evidence = f64::INFINITY;
    }
    let standing = Standing::of(&journal);
    assert_eq!(value(&standing, SHARE), None);
    assert_eq!(value(&standing, HARM), None);
    assert_eq!(value(&standing, PROMOTION), Some(0.5 / 3.0));
    journal.verdict = None;
    assert_eq!(value(&Standing::of(&journal), VERDICT), None);
}

#[test]
fn the_page_lists_every_series() {
    let mut table = "\n| Metric | Unit | What it is |\n|---|---|---|\n".to_owned();
    for Series { name, unit, help } in ALL {
        table += &format!("| `{name}` | {unit} | {help} |\n");
    }
    crate::reference::compare("cloudwatch.md", &format!("{table}\n"), "cloudwatch");
}
