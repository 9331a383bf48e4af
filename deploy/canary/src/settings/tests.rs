//! Files of settings as people get them right and wrong.

use super::*;

fn settings(text: &str, base: &str) -> Result<Settings, String> {
    Settings::read(text, Path::new(base), |_| None).map_err(|faults| {
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        lines.join("\n")
    })
}

#[test]
fn a_short_file_has_defaults_and_paths_are_absolute() {
    let text = "[fleet]\nkind = \"local\"\n[environment]\nA = \"1\"\n";
    let settings = settings(text, "/srv/app").unwrap();
    assert_eq!(settings.directory, Path::new("/srv/app/.canary"));
    assert_eq!(settings.command, ["worker", "run"]);
    assert_eq!(
        (settings.stable, settings.canary, settings.ready_within),
        (3, 1, 120)
    );
    let revision = settings.revision(Release::new("1").unwrap(), &[("A".to_owned(), "2".to_owned())]);
    assert_eq!(revision.definition.environment()["A"], "2");
}

#[test]
fn all_faults_are_named_at_once_by_line_field_value_and_expectation() {
    let text = "[fleet]\nkind = \"local\"\nstable = \"three\"\ncanary = 1.5\nstop_within = 35\ncommand = \"worker run\"\n\
                stabel = 1\n[environment]\nA = 1\nWORKER__RELEASE = \"1\"\n[notfy]\n";
    let told = settings(text, "").unwrap_err();
    let expected = [
        "line 3: fleet.stable: found \"three\", expected a whole number from 1 to 200",
        "line 4: fleet.canary: found 1.5, expected a whole number from 1 to 200",
        "line 5: fleet.stop_within: found 35, expected a time of 1s to 1h, as \"35s\"",
        "line 6: fleet.command: found \"worker run\", expected a program and its arguments as a list, as [\"worker\", \"run\"]",
        "line 7: fleet.stabel: unknown key, perhaps stable; known here: canary, command, directory, kind, ready_within, stable, stop_within",
        "line 9: environment.A: found a value of type integer, expected a text in quotes",
        "line 10: environment.WORKER__RELEASE: WORKER__RELEASE is set by the fleet; expected other variables",
        "line 11: notfy: unknown key, perhaps notify; known here: environment, fleet, notify",
    ];
    assert_eq!(told, expected.join("\n"));
}

#[test]
fn what_is_wrong_is_named() {
    for (text, expected) in [
        ("", "line 1: fleet.kind: missing, expected one of \"local\""),
        (
            "[fleet]\n",
            "line 1: fleet.kind: missing, expected one of \"local\"",
        ),
        (
            "[fleet]\nkind = \"moon\"\n",
            "line 2: fleet.kind: found \"moon\", expected one of \"local\"",
        ),
        (
            "[fleet]\nkind = local\n",
            "line 2: fleet.kind: found a text without quotes, expected kind = \"…\"",
        ),
        (
            "fleet = 3\n",
            "line 1: fleet: found 3, expected a table, as [fleet]",
        ),
        (
            "stable = 3\n[fleet]\nkind = \"local\"\n",
            "line 1: stable: unknown key, perhaps fleet.stable; known here: ",
        ),
        (
            "[fleet]\nkind = \"local\"\nstable = 0\n",
            "line 3: fleet.stable: found 0, expected",
        ),
        (
            "[fleet]\nkind = \"local\"\ncommand = []\n",
            "line 3: fleet.command: found [], expected a program",
        ),
        ("[fleet\n", "line 1: "),
    ] {
        let told = settings(text, "").unwrap_err();
        assert!(told.starts_with(expected), "{text}: {told}");
        assert_eq!(told.lines().count(), 1, "{text}: {told}");
    }
}

/// A file may hold secrets in lines that are broken.
#[test]
fn no_value_of_a_broken_line_is_told() {
    let told = settings(
        "[fleet]\nkind = \"local\"\n[environment]\nTOKEN = sesame\nOTHER = \"sesame\n",
        "",
    )
    .unwrap_err();
    assert!(
        told.contains("line 4: environment.TOKEN") && told.contains("line 5: ") && !told.contains("sesame"),
        "{told}"
    );
}

#[cfg(feature = "ecs")]
mod on_ecs {
    use super::*;

    fn settings(more: &str) -> Result<Settings, String> {
        super::settings(&format!("[fleet]\nkind = \"ecs\"\n{more}"), "")
    }

    const LEAST: &str = "app = \"orders\"\njournal = \"s3://b/orders/journal.json\"\n";

    #[test]
    fn a_short_file_names_services_and_parameters_by_the_app() {
        let settings = settings(LEAST).unwrap();
        assert_eq!((settings.kind(), settings.ready_within), ("ecs", 600));
        let ecs = settings.ecs.unwrap();
        let options = &ecs.options;
        assert_eq!(
            (
                options.cluster.as_str(),
                options.stable.as_str(),
                options.canary.as_str()
            ),
            ("orders", "orders-stable", "orders-canary")
        );
        assert_eq!(options.names.control, "/orders/canary/control");
        assert_eq!((ecs.counting, options.admin_port), (Counting::CloudWatch, None));
        assert_eq!((ecs.metrics, options.autoscaled), (Metrics::CloudWatch, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (more, expected) in [
            (
                "journal = \"s3://b/o/j\"\n",
                "line 1: fleet.app: missing, expected 1 to 255 letters",
            ),
            (
                "app = \"orders\"\n",
                "line 1: fleet.journal: missing, expected s3://BUCKET",
            ),
            (
                "app = \"or/ders\"\njournal = \"s3://b/o/j\"\n",
                "line 3: fleet.app: found \"or/ders\", expected 1 to 255 letters",
            ),
            (
                "app = \"orders\"\njournal = \"file\"\n",
                "line 4: fleet.journal: found \"file\", expected s3://BUCKET",
            ),
            (
                &format!("{LEAST}canary = 0\n"),
                "line 5: fleet.canary: found 0, expected a whole number from 1 to 5000",
            ),
            (
                &format!("{LEAST}evidence = \"hearsay\"\n"),
                "line 5: fleet.evidence: found \"hearsay\", expected one of \"cloudwatch\", \"scrape\"",
            ),
            (
                &format!("{LEAST}metrics = \"abacus\"\n"),
                "line 5: fleet.metrics: found \"abacus\"",
            ),
            (
                &format!("{LEAST}admin_port = \"http\"\n"),
                "line 5: fleet.admin_port: found \"http\", expected a port",
            ),
            (
                &format!("{LEAST}autoscaling = \"no\"\n"),
                "line 5: fleet.autoscaling: found \"no\", expected true or false",
            ),
            (
                &format!("{LEAST}ignored_alarms = [1]\n"),
                "line 5: fleet.ignored_alarms: found [1], expected a list of names",
            ),
            (
                &format!("{LEAST}stable_servce = \"x\"\n"),
                "line 5: fleet.stable_servce: unknown key, perhaps stable_service",
            ),
            (
                &format!("{LEAST}first = \"/nowhere.json\"\n"),
                "line 5: fleet.first: cannot read /nowhere.json",
            ),
            (
                &format!("{LEAST}[environment]\nA = \"1\"\n"),
                "line 6: environment.A: has no place on ECS",
            ),
        ] {
            let told = settings(more).unwrap_err();
            assert!(told.starts_with(expected), "{more}: {told}");
            assert_eq!(told.lines().count(), 1, "{more}: {told}");
        }
    }
}
