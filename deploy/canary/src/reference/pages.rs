//! The pages on plans, `canary.toml` and commands, and whether the tables of keys say what the readers do.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::compare;
use crate::plan::{self, Plan};
use crate::reader::{Fault, Field};

/// The table that a key is in: `steps[]` of `steps[].share`; empty at the top of the file.
fn section(path: &str) -> &str {
    path.rsplit_once('.').map_or("", |(section, _)| section)
}

/// A table's heading in a file.
fn heading(section: &str) -> String {
    match section.strip_suffix("[]") {
        Some(list) => format!("[[{list}]]"),
        None => format!("[{section}]"),
    }
}

/// A file of these keys; a key without a value gives its table's heading alone.
fn file(keys: &[(&str, Option<&str>)]) -> String {
    let mut sections: Vec<&str> = keys.iter().map(|(path, _)| section(path)).collect();
    sections.sort_by_key(|section| !section.is_empty());
    let mut seen = BTreeSet::new();
    sections.retain(|section| seen.insert(*section));
    let mut text = String::new();
    for part in sections {
        if !part.is_empty() {
            writeln!(text, "\n{}", heading(&part.replace("NAME", "empty_result"))).unwrap();
        }
        for (path, value) in keys.iter().filter(|(path, _)| section(path) == part) {
            if let Some(value) = value {
                writeln!(text, "{} = {value}", path.rsplit('.').next().unwrap()).unwrap();
            }
        }
    }
    text.trim_start().to_owned()
}

fn tables(fields: &[&Field], level: &str) -> String {
    let (mut text, mut current) = (String::new(), None);
    for field in fields {
        let part = section(field.path);
        if current != Some(part) {
            let title = if part.is_empty() {
                "At the top".to_owned()
            } else {
                format!("`{}`", heading(part))
            };
            write!(
                text,
                "\n{level} {title}\n\n| Key | Takes | Default | Example | Meaning |\n|---|---|---|---|---|\n"
            )
            .unwrap();
            current = Some(part);
        }
        let default = field
            .default
            .map_or_else(|| "–".to_owned(), |default| format!("`{default}`"));
        let takes = field.expected();
        // The column beside it has an example.
        let takes = takes.split(", as ").next().unwrap_or_default();
        writeln!(
            text,
            "| `{}` | {takes} | {default} | `{}` | {} |",
            field.key(),
            field.example,
            field.help
        )
        .unwrap();
    }
    text
}

/// The file of all examples, as a block.
fn examples(fields: &[&Field]) -> String {
    let keys: Vec<_> = fields
        .iter()
        .map(|field| (field.path, Some(field.example)))
        .collect();
    format!("```toml\n{}```\n", file(&keys))
}

/// Lines that are wrong in a file that is right otherwise, and what is said of them: a test of each, and the page's table.
///
/// `whole` makes the file of the lines.
fn wrong<T: std::fmt::Debug>(
    rows: &[(&str, &str)],
    whole: fn(&str) -> String,
    read: fn(&str) -> Result<T, Vec<Fault>>,
) -> String {
    let mut text = "| In the file | What is said |\n|---|---|\n".to_owned();
    for (lines, expected) in rows {
        let faults = read(&whole(lines)).unwrap_err();
        let said: Vec<_> = faults
            .iter()
            .map(|fault| fault.to_string().split_once(": ").unwrap().1.to_owned())
            .collect();
        assert_eq!(said, [*expected], "{lines}");
        let lines: Vec<_> = lines.lines().map(|line| format!("`{line}`")).collect();
        writeln!(text, "| {} | {expected} |", lines.join("<br>")).unwrap();
    }
    text
}

/// A reader of files, and the keys it should know.
struct Form<T> {
    fields: &'static [&'static Field],
    read: fn(&str) -> Result<T, Vec<Fault>>,
    /// What must be there.
    least: &'static [(&'static str, Option<&'static str>)],
    /// What must be there so that a key has an effect: the key, and what.
    with: &'static [(&'static str, (&'static str, &'static str))],
}

impl<T: PartialEq + std::fmt::Debug> Form<T> {
    /// The least file with `path` as said; without a value the table alone is there.
    fn with(&self, path: &'static str, value: Option<&str>) -> Result<T, Vec<Fault>> {
        (self.read)(&self.text(path, value))
    }

    fn text(&self, path: &'static str, value: Option<&str>) -> String {
        let mut keys: Vec<(&str, Option<&str>)> = self.least.to_vec();
        let with = self.with.iter().filter(|(key, _)| *key == path);
        keys.extend(with.map(|(_, (key, value))| (*key, Some(*value))));
        if value.is_some() {
            keys.retain(|(key, _)| *key != path);
        }
        if value.is_some() || !keys.iter().any(|(key, _)| *key == path) {
            keys.push((path, value));
        }
        file(&keys)
    }

    /// The defaults are those of the reader, every example is right and does something, and no key is missing in the table.
    fn hold(&self) {
        for field in self.fields {
            let without = self.with(field.path, None).unwrap_or_else(|faults| {
                panic!("{}: {faults:?}\n{}", field.path, self.text(field.path, None))
            });
            if let Some(default) = field.default {
                assert_eq!(
                    self.with(field.path, Some(default)).as_ref(),
                    Ok(&without),
                    "{} = {default}",
                    field.path
                );
            }
            let with = self
                .with(field.path, Some(field.example))
                .unwrap_or_else(|faults| panic!("{}: {faults:?}", field.path));
            let is_fixed = self
                .least
                .iter()
                .any(|(path, value)| *path == field.path && *value == Some(field.example));
            assert!(
                is_fixed || with != without,
                "{} = {} does nothing",
                field.path,
                field.example
            );
        }
        let sections: BTreeSet<&str> = self.fields.iter().map(|field| section(field.path)).collect();
        for part in &sections {
            let bogus: &'static str = format!("{part}{}zzz", if part.is_empty() { "" } else { "." }).leak();
            let faults = self.with(bogus, Some("1")).unwrap_err();
            let told = faults
                .iter()
                .find_map(|fault| fault.message.split_once("known here: "));
            let (_, known) = told.unwrap_or_else(|| panic!("{part}: {faults:?}"));
            let listed = |key: &&str| {
                let path = if part.is_empty() {
                    (*key).to_owned()
                } else {
                    format!("{part}.{key}")
                };
                let is_table = |other: &&str| {
                    other
                        .strip_prefix(&path)
                        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                };
                !sections.iter().any(is_table) && !["environment", "fleet", "notify"].contains(key)
            };
            let known: BTreeSet<&str> = known.split(", ").filter(listed).collect();
            let fields = self.fields.iter().filter(|field| section(field.path) == *part);
            assert_eq!(
                known,
                fields.map(|field| field.key()).collect(),
                "keys of [{part}]"
            );
        }
    }
}

const PLAN: Form<Plan> = Form {
    fields: plan::fields::FIELDS,
    read: Plan::read,
    least: &[("schema", Some("1")), ("steps[].share", Some("\"10%\""))],
    // A weight counts against others.
    with: &[("signals.failures.weight", ("signals.slow.weight", "1"))],
};

const WRONG_PLANS: &[(&str, &str)] = &[
    (
        "deadline = 45m",
        "deadline: found 45m, expected it in quotes: deadline = \"45m\"",
    ),
    (
        "deadline = \"soon\"",
        "deadline: found \"soon\", expected a time in whole seconds up to 7 days, as \"90s\" or \"10m\"",
    ),
    (
        "deadline = \"30s\"",
        "deadline: the steps last at least 60 s, expected less than the deadline of 30 s",
    ),
    (
        "trickle = 5",
        "trickle: found 5, expected a rate of messages above 0, as \"1/s\", \"90/m\" or \"1000/h\"",
    ),
    (
        "inconclusive = \"promote\"",
        "inconclusive: found \"promote\", expected one of \"hold\", \"rollback\"",
    ),
    (
        "ceiling = \"1%\"",
        "ceiling: unknown key, perhaps risk.ceiling; known here: bake, deadline, guards, inconclusive, name, redrive, risk, schema, signals, steps, trickle, window",
    ),
    (
        "[risk]\nfalse_rolback = \"2%\"",
        "risk.false_rolback: unknown key, perhaps false_rollback; known here: ceiling, false_rollback, harmless_ratio, stretch, tolerated_ratio, wrong_promotion",
    ),
    (
        "[risk]\nfalse_rollback = 0",
        "risk.false_rollback: found 0, expected a chance above 0% and at most 50%, as \"1%\" or 0.01",
    ),
    (
        "[risk]\nharmless_ratio = 3",
        "risk.tolerated_ratio: found 2, expected more than harmless_ratio, 3",
    ),
    (
        "[risk]\nstretch = \"0s\"",
        "risk.stretch: found \"0s\", expected a time in whole seconds from 1s to 7 days, as \"30s\"",
    ),
    (
        "[[steps]]\nshare = \"5%\"",
        "steps[1].share: found 5%, expected no less than the step before, 10%",
    ),
    (
        "[signals.slow]\nquantiles = []",
        "signals.slow.quantiles: found [], expected a list of quantiles, each above 0 and below 1",
    ),
    (
        "[redrive]\nafter_rollback = \"yes\"",
        "redrive.after_rollback: found \"yes\", expected true or false",
    ),
    ("[redrive]\nrate = \"1/s\"\nrate = \"2/s\"", "duplicate key: rate"),
];

/// A plan of one step with these lines in it.
fn plan_with(lines: &str) -> String {
    let step = "[[steps]]\nshare = \"10%\"\n";
    if lines.starts_with('[') {
        format!("schema = 1\n{step}{lines}\n")
    } else {
        format!("schema = 1\n{lines}\n{step}")
    }
}

#[test]
fn the_keys_of_a_plan_are_those_of_its_reader() {
    PLAN.hold();
}

#[test]
fn the_page_of_plans_is_what_the_code_says() {
    let mut made = tables(PLAN.fields, "##");
    write!(made, "\n## A plan with every key\n\n{}\n", examples(PLAN.fields)).unwrap();
    assert!(
        Plan::read(
            made.split("```toml\n")
                .nth(1)
                .unwrap()
                .split("```")
                .next()
                .unwrap()
        )
        .is_ok()
    );
    let wrong = wrong(WRONG_PLANS, plan_with, Plan::read);
    write!(made, "## What is wrong, and what is said\n\n{wrong}\n").unwrap();
    compare("plan.md", &made, "reference");
}

#[cfg(feature = "ecs")]
mod of_settings {
    use std::path::Path;

    use super::*;
    use crate::notify;
    use crate::settings::{Settings, fields};

    fn read(text: &str) -> Result<Settings, Vec<Fault>> {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("worker.json"), "{}").unwrap();
        let read = Settings::read(text, directory.path(), |name| {
            (name == "SLACK_WEBHOOK").then(|| "https://hooks.example.com/".to_owned())
        });
        read.map(|settings| Settings {
            // The directory is another each time.
            directory: settings
                .directory
                .strip_prefix(directory.path())
                .map_or(settings.directory.clone(), Path::to_owned),
            ..settings
        })
    }

    const LOCAL: Form<Settings> = Form {
        fields: fields::LOCAL,
        read,
        least: &[("fleet.kind", Some("\"local\""))],
        with: &[],
    };
    const ECS: Form<Settings> = Form {
        fields: fields::ECS,
        read,
        least: &[
            ("fleet.kind", Some("\"ecs\"")),
            ("fleet.app", Some("\"x\"")),
            ("fleet.journal", Some("\"s3://b/x/journal.json\"")),
        ],
        with: &[("fleet.admin_port", ("fleet.evidence", "\"scrape\""))],
    };
    const NOTIFY: Form<Settings> = Form {
        fields: notify::settings::FIELDS,
        read,
        least: &[("fleet.kind", Some("\"local\""))],
        with: &[
            ("notify[].shape", ("notify[].webhook", "\"https://example.com/\"")),
            (
                "notify[].redact",
                ("notify[].webhook", "\"https://example.com/\""),
            ),
            ("notify[].zzz", ("notify[].webhook", "\"https://example.com/\"")),
        ],
    };

    const WRONG: &[(&str, &str)] = &[
        (
            "stable = \"three\"",
            "fleet.stable: found \"three\", expected a whole number from 1 to 200",
        ),
        (
            "stabel = 3",
            "fleet.stabel: unknown key, perhaps stable; known here: canary, command, directory, kind, ready_within, stable, stop_within",
        ),
        (
            "stop_within = 35",
            "fleet.stop_within: found 35, expected a time of 1s to 1h, as \"35s\"",
        ),
        (
            "command = \"worker run\"",
            "fleet.command: found \"worker run\", expected a program and its arguments as a list, as [\"worker\", \"run\"]",
        ),
        (
            "directory = canary",
            "fleet.directory: found a text without quotes, expected directory = \"…\"",
        ),
        (
            "[environment]\nA = 1",
            "environment.A: found a value of type integer, expected a text in quotes",
        ),
        (
            "[environment]\nWORKER__RELEASE = \"1\"",
            "environment.WORKER__RELEASE: WORKER__RELEASE is set by the fleet; expected other variables",
        ),
        (
            "[[notify]]\nshape = \"slack\"",
            "notify[0]: expected one of webhook, webhook_from and sns",
        ),
        (
            "[[notify]]\nsns = \"releases\"",
            "notify[0]: sns: \"releases\": expected the ARN of a topic, as arn:aws:sns:eu-west-1:123456789012:releases",
        ),
    ];

    #[test]
    fn the_keys_of_canary_toml_are_those_of_its_reader() {
        LOCAL.hold();
        ECS.hold();
    }

    #[test]
    fn the_keys_of_a_target_are_those_of_its_reader() {
        for field in NOTIFY.fields {
            let with = NOTIFY.with(field.path, Some(field.example));
            let with = with.unwrap_or_else(|faults| panic!("{}: {faults:?}", field.path));
            assert_eq!(with.notify.len(), 1);
            if let Some(default) = field.default {
                let without = NOTIFY.with(field.path, None).unwrap();
                assert_eq!(NOTIFY.with(field.path, Some(default)).as_ref(), Ok(&without));
                assert_ne!(with, without, "{} = {}", field.path, field.example);
            }
        }
        let faults = NOTIFY.with("notify[].zzz", Some("1")).unwrap_err();
        let (_, known) = faults[0].message.split_once("known here: ").unwrap();
        let known: BTreeSet<&str> = known.split(", ").collect();
        assert_eq!(known, NOTIFY.fields.iter().map(|field| field.key()).collect());
    }

    #[test]
    fn the_page_of_canary_toml_is_what_the_code_says() {
        let mut made = String::new();
        for (title, fields) in [("On one machine", LOCAL.fields), ("On Amazon ECS", ECS.fields)] {
            write!(
                made,
                "\n## {title}\n{}\n{}",
                tables(fields, "###"),
                examples(fields)
            )
            .unwrap();
        }
        made += "\n## Who is told\n";
        made += &tables(NOTIFY.fields, "###");
        made += "\n## What is wrong, and what is said\n\n";
        made += &wrong(
            WRONG,
            |lines| format!("[fleet]\nkind = \"local\"\n{lines}\n"),
            read,
        );
        compare("canary-toml.md", &(made + "\n"), "reference");
    }
}

#[cfg(all(feature = "demo", feature = "ecs", feature = "lambda"))]
mod of_commands {
    use clap::{Arg, Command};

    use super::*;

    /// The command, and those below it.
    fn describe(command: &Command, text: &mut String) {
        let name = command.get_bin_name().unwrap_or_default();
        let level = if name.contains(' ') { "###" } else { "##" };
        let about = command.get_long_about().or(command.get_about());
        let about = about.map_or_else(String::new, |about| about.to_string().replace('\n', " ") + ".");
        let usage = command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim().replace('\n', " ");
        write!(text, "\n{level} `{name}`\n\n{about}\n\n    {usage}\n").unwrap();
        let own = |arg: &&Arg| {
            let is_common = ["help", "version"].contains(&arg.get_id().as_str());
            let is_above = arg.is_global_set() && name.contains(' ');
            !(is_common || is_above || arg.is_hide_set())
        };
        let arguments: Vec<_> = command.get_arguments().filter(own).collect();
        if !arguments.is_empty() {
            *text += "\n| Argument | Default | Meaning |\n|---|---|---|\n";
        }
        for argument in arguments {
            let row = meaning(command, argument);
            let is_value = argument.get_action().takes_values();
            let defaults: Vec<_> = argument
                .get_default_values()
                .iter()
                .map(|value| format!("`{}`", value.display()))
                .filter(|value| is_value && value != "``")
                .collect();
            let default = if defaults.is_empty() {
                "–".to_owned()
            } else {
                defaults.join(", ")
            };
            writeln!(text, "| `{argument}` | {default} | {row} |").unwrap();
        }
        for below in command
            .get_subcommands()
            .filter(|below| below.get_name() != "help")
        {
            describe(below, text);
        }
    }

    fn meaning(command: &Command, argument: &Arg) -> String {
        let help = argument.get_long_help().or(argument.get_help());
        let mut text = help.map_or_else(String::new, |help| help.to_string().replace('\n', " "));
        if !text.ends_with(['.', '!', '?']) {
            text.push('.');
        }
        let values = argument.get_possible_values();
        if !values.is_empty() && argument.get_action().takes_values() {
            let values = values.iter().map(|value| {
                let help = value.get_help().map(|help| format!(" ({help})"));
                format!("`{}`{}", value.get_name(), help.unwrap_or_default())
            });
            write!(text, " One of {}.", values.collect::<Vec<_>>().join(", ")).unwrap();
        }
        let others: Vec<_> = command
            .get_arg_conflicts_with(argument)
            .into_iter()
            .filter_map(|other| Some(format!("`--{}`", other.get_long()?)))
            .collect();
        if !others.is_empty() {
            write!(text, " Not with {}.", others.join(", ")).unwrap();
        }
        if argument.is_required_set() {
            text += " Must be given.";
        }
        text.replace('|', "\\|")
    }

    #[test]
    fn the_page_of_commands_is_what_the_code_says() {
        let mut made = String::new();
        for command in [crate::command::command_line(), worker::cli::command()] {
            let name = command.get_name().to_owned();
            let mut command = command.bin_name(name);
            command.build();
            describe(&command, &mut made);
        }
        compare("commands.md", &(made + "\n"), "reference");
    }
}
