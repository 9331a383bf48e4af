//! What two plans, or two configurations of a release, differ in: names only, since values may be secrets.

use std::collections::BTreeSet;

use toml::{Table, Value};

use crate::rollout::{Definition, Revision};

/// Names that are told; the others are counted.
const MOST: usize = 6;

/// The keys in which two plans differ, in one line; none when they mean the same.
pub(super) fn of_plans(one: &str, other: &str) -> Option<String> {
    if one == other {
        return None;
    }
    let (Ok(one), Ok(other)) = (one.parse::<Table>(), other.parse::<Table>()) else {
        return Some("its text".to_owned());
    };
    let mut keys = BTreeSet::new();
    tables(&one, &other, "", &mut keys);
    line(keys)
}

/// What two configurations of a release differ in, in one line; none when they are the same.
pub(super) fn of_revisions(one: &Revision, other: &Revision) -> Option<String> {
    let mut keys = BTreeSet::new();
    if let (Definition::Local { command, .. }, Definition::Local { command: other, .. }) =
        (&one.definition, &other.definition)
        && command != other
    {
        keys.insert("fleet.command".to_owned());
    }
    let (before, after) = (one.definition.environment(), other.definition.environment());
    let names = before.keys().chain(after.keys());
    let changed = names.filter(|name| before.get(*name) != after.get(*name));
    keys.extend(changed.map(|name| format!("environment.{name}")));
    if keys.is_empty() && one != other {
        keys.insert("what it runs".to_owned());
    }
    line(keys)
}

fn line(keys: BTreeSet<String>) -> Option<String> {
    let more = keys.len().saturating_sub(MOST);
    let mut named: Vec<String> = keys.into_iter().take(MOST).collect();
    if named.is_empty() {
        return None;
    }
    named.extend((more > 0).then(|| format!("{more} more")));
    Some(named.join(", "))
}

fn tables(one: &Table, other: &Table, path: &str, keys: &mut BTreeSet<String>) {
    for key in one.keys().chain(other.keys()) {
        let path = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        values(one.get(key), other.get(key), &path, keys);
    }
}

fn values(one: Option<&Value>, other: Option<&Value>, path: &str, keys: &mut BTreeSet<String>) {
    match (one, other) {
        (Some(Value::Table(one)), Some(Value::Table(other))) => tables(one, other, path, keys),
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            for index in 0..one.len().max(other.len()) {
                values(
                    one.get(index),
                    other.get(index),
                    &format!("{path}[{index}]"),
                    keys,
                );
            }
        }
        (one, other) if one != other => {
            keys.insert(path.to_owned());
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use worker::release::Release;

    use super::*;

    #[test]
    fn plans_differ_in_what_they_mean_and_not_in_how_they_are_written() {
        let plan =
            "name = \"a\"\n[[steps]]\nshare = \"5%\"\n[[steps]]\nshare = \"10%\"\n[risk]\nceiling = \"2%\"\n";
        assert_eq!(of_plans(plan, &format!("# the usual one\n{plan}")), None);
        let changed = plan.replace("10%", "20%").replace("ceiling", "floor");
        assert_eq!(
            of_plans(plan, &changed).as_deref(),
            Some("risk.ceiling, risk.floor, steps[1].share")
        );
        let longer = format!("{plan}[[steps]]\nshare = \"50%\"\n");
        assert_eq!(of_plans(plan, &longer).as_deref(), Some("steps[2]"));
        assert_eq!(of_plans(plan, "no plan").as_deref(), Some("its text"));
    }

    #[test]
    fn configurations_differ_by_name_and_no_value_is_told() {
        let revision = |command: &str, variables: &[(&str, &str)]| Revision {
            release: Release::new("1").unwrap(),
            definition: Definition::Local {
                command: vec![command.to_owned()],
                environment: variables
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect::<BTreeMap<_, _>>(),
            },
        };
        let one = revision("worker", &[("A", "1"), ("TOKEN", "secret")]);
        assert_eq!(of_revisions(&one, &one), None);
        let other = revision("orders", &[("A", "1"), ("TOKEN", "other"), ("B", "2")]);
        assert_eq!(
            of_revisions(&one, &other).as_deref(),
            Some("environment.B, environment.TOKEN, fleet.command")
        );
        let names: Vec<String> = (1..=8).map(|number| format!("N{number}")).collect();
        let variables: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
        let many = of_revisions(&revision("worker", &[]), &revision("worker", &variables)).unwrap();
        assert!(many.ends_with("environment.N6, 2 more"), "{many}");
    }
}
