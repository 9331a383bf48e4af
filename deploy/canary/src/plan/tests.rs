//! Plans as people get them right and wrong.

use super::*;

const LEAST: &str = "schema = 1\n[[steps]]\nshare = \"10%\"\n";

fn faults(text: &str) -> Vec<String> {
    Plan::read(text)
        .expect_err("is wrong")
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn a_plan_of_one_step_has_defaults_for_the_rest() {
    let plan = Plan::read(LEAST).expect("is right");
    assert_eq!(
        plan.steps,
        [Step {
            share: 0.1,
            least_time: 60,
            least_messages: 50,
            least_evidence: 1.0
        }]
    );
    assert_eq!(
        (plan.rules.alpha, plan.rules.beta, plan.rules.ceiling),
        (0.01, 0.05, None)
    );
    assert_eq!(plan.inconclusive, Inconclusive::Hold);
    assert_eq!(plan.rules.signals.len(), 1);
}

#[test]
fn all_faults_are_named_at_once_by_line_field_value_and_expectation() {
    let text = "schema = 1\ndeadline = \"soon\"\ncolour = \"red\"\n[[steps]]\nshare = \"150%\"\n[[steps]]\nleast_time = 5\n\
                [risk]\nfalse_rollback = 0\nharmless_ratio = 3\ntolerated_ratio = 2\n[signals.slow]\nquantiles = [0.5, 2]\n";
    let faults = faults(text);
    for expected in [
        "line 2: deadline: found \"soon\", expected a time",
        "line 3: colour: unknown key; known here: bake, deadline",
        "line 5: steps[0].share: found \"150%\", expected a share",
        "line 6: steps[1].share: missing, expected a share",
        "line 7: steps[1].least_time: found 5, expected a time",
        "line 9: risk.false_rollback: found 0, expected a chance",
        "line 11: risk.tolerated_ratio: found 2, expected more than harmless_ratio, 3",
        "line 13: signals.slow.quantiles: found [0.5, 2], expected a list",
    ] {
        assert!(
            faults.iter().any(|fault| fault.starts_with(expected)),
            "{expected}\nnot in\n{}",
            faults.join("\n")
        );
    }
    assert_eq!(faults.len(), 8, "{}", faults.join("\n"));
}

#[test]
fn broken_syntax_is_named_by_line() {
    let faults = faults("schema = 1\nname = \n[[steps]]\nshare = 0.1\n");
    assert!(
        faults.iter().any(|fault| fault.starts_with("line 2: ")),
        "{faults:?}"
    );
}

#[test]
fn a_text_without_quotes_is_named_as_such_and_once() {
    let text = "schema = 1\nname = test\ndeadline = 45m # later\n[risk]\nfalse_rollback = 1%\n[[steps]]\nshare = 10%\n";
    assert_eq!(
        faults(text),
        [
            "line 2: name: found test, expected it in quotes: name = \"test\"",
            "line 3: deadline: found 45m, expected it in quotes: deadline = \"45m\"",
            "line 5: risk.false_rollback: found 1%, expected it in quotes: false_rollback = \"1%\"",
            "line 7: steps.share: found 10%, expected it in quotes: share = \"10%\"",
        ]
    );
}

#[test]
fn a_key_that_is_unknown_comes_with_what_was_perhaps_meant() {
    for (text, expected) in [
        (
            "lest_time = \"5m\"",
            "line 4: steps[0].lest_time: unknown key, perhaps least_time; known here: ",
        ),
        (
            "ceiling = \"1%\"",
            "line 4: steps[0].ceiling: unknown key, perhaps risk.ceiling; known here: ",
        ),
        (
            "[risks]",
            "line 4: risks: unknown key, perhaps risk; known here: ",
        ),
        (
            "[risk]\ncolour = 1",
            "line 5: risk.colour: unknown key; known here: ",
        ),
    ] {
        let faults = faults(&format!("{LEAST}{text}\n"));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with(expected), "{expected}: {faults:?}");
    }
}

#[test]
fn no_time_is_no_stretch_and_a_table_is_no_list_of_steps() {
    assert_eq!(
        faults(&format!("{LEAST}[risk]\nstretch = \"0s\"\n")),
        [
            "line 5: risk.stretch: found \"0s\", expected a time in whole seconds from 1s to 7 days, as \"30s\""
        ]
    );
    assert_eq!(
        faults("schema = \"one\"\n[steps]\nshare = \"10%\"\n"),
        [
            "line 1: schema: found \"one\", expected 1, the only form of plan there is",
            "line 2: steps: found [steps], expected a list of tables, each as [[steps]]",
        ]
    );
}

#[test]
fn what_is_there_and_wrong_is_not_called_missing_too() {
    assert_eq!(
        faults("schema = 2\nsteps = 3\n"),
        [
            "line 1: schema: found 2, expected 1, the only form of plan there is",
            "line 2: steps: found 3, expected a list of tables, each as [[steps]]"
        ]
    );
    assert_eq!(faults("schema = 1\nsteps = [{ share = 2 }]\n").len(), 1);
    assert!(faults("schema = 1\nsteps = []\n")[0].contains("steps: missing"));
}

#[test]
fn a_key_that_is_there_twice_is_named() {
    let faults = faults(&format!("{LEAST}[risk]\nceiling = 0.01\nceiling = 0.02\n"));
    assert_eq!(faults, ["line 6: duplicate key: ceiling"]);
}

#[test]
fn shares_that_fall_are_named_as_they_are_written() {
    assert_eq!(
        faults("schema = 1\n[[steps]]\nshare = \"20%\"\n[[steps]]\nshare = \"10%\"\n"),
        ["line 5: steps[1].share: found 10%, expected no less than the step before, 20%"]
    );
}

#[test]
fn numbers_the_judge_cannot_work_with_are_refused() {
    let faults = faults(&format!(
        "{LEAST}[risk]\nharmless_ratio = 50\ntolerated_ratio = 90\n[guards]\ncrash_starts = 1\n"
    ));
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].contains("risk.harmless_ratio") && faults[1].contains("guards.crash_starts"));
}

#[test]
fn an_empty_file_says_what_is_missing() {
    let faults = faults("");
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(
        faults[0].contains("schema: missing") && faults[1].contains("steps: missing"),
        "{faults:?}"
    );
}

#[test]
fn a_deadline_before_the_end_of_the_steps_is_refused() {
    let faults = faults("schema = 1\ndeadline = \"1m\"\n[[steps]]\nshare = 0.1\nleast_time = \"2m\"\n");
    assert_eq!(
        faults,
        ["line 2: deadline: the steps last at least 120 s, expected less than the deadline of 60 s"]
    );
}

#[test]
fn weights_are_shared_out_and_quality_questions_are_free_names() {
    let text =
        format!("{LEAST}[signals.failures]\nweight = 2\n[signals.slow]\n[signals.quality.empty_result]\n");
    let plan = Plan::read(&text).expect("is right");
    let signals: Vec<_> = plan
        .rules
        .signals
        .iter()
        .map(|signal| (signal.name.as_str(), signal.weight))
        .collect();
    assert_eq!(
        signals,
        [("failures", 0.5), ("slow", 0.25), ("quality.empty_result", 0.25)]
    );
}

#[test]
fn the_plans_that_are_shipped_are_right() {
    for (name, text) in [
        ("quiet", include_str!("../../../plans/quiet.toml")),
        ("usual", include_str!("../../../plans/usual.toml")),
        ("busy", include_str!("../../../plans/busy.toml")),
    ] {
        let plan = Plan::read(text).unwrap_or_else(|faults| panic!("{name}: {faults:?}"));
        assert_eq!(plan.name, name);
    }
}

mod arbitrary {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "[a-z\\[\\]=\".0-9%# \n]{0,200}") {
            let _ = super::Plan::read(&text);
        }
    }
}
