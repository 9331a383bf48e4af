//! Reads a TOML table key by key and collects every fault with its line, instead of stopping at the first.

use std::collections::BTreeSet;
use std::fmt;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line in the file, from 1.
    pub line: usize,
    /// The field, by its full path; empty for the syntax of the file.
    pub field: String,
    /// What was found and what is expected.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { line, field, message } = self;
        let separator = if field.is_empty() { "" } else { ": " };
        write!(formatter, "line {line}: {field}{separator}{message}")
    }
}

/// The faults found so far, and the text they are in.
#[derive(Debug)]
pub(super) struct Faults<'t> {
    text: &'t str,
    pub(super) list: Vec<Fault>,
}

impl<'t> Faults<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            list: Vec::new(),
        }
    }

    pub(super) fn line(&self, offset: usize) -> usize {
        1 + self
            .text
            .as_bytes()
            .iter()
            .take(offset)
            .filter(|byte| **byte == b'\n')
            .count()
    }

    pub(super) fn add(&mut self, line: usize, field: impl Into<String>, message: impl Into<String>) {
        self.list.push(Fault {
            line,
            field: field.into(),
            message: message.into(),
        });
    }
}

/// One table of the plan, present or not, and the keys of it that were read.
pub(super) struct Section<'t> {
    path: String,
    pub(super) line: usize,
    table: Option<&'t DeTable<'t>>,
    read: BTreeSet<&'static str>,
}

/// What a value must be, in words and as a test.
pub(super) struct Bounds {
    pub(super) expected: &'static str,
    pub(super) holds: fn(f64) -> bool,
}

impl<'t> Section<'t> {
    pub(super) fn root(table: &'t DeTable<'t>) -> Self {
        Self {
            path: String::new(),
            line: 1,
            table: Some(table),
            read: BTreeSet::new(),
        }
    }

    pub(super) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is there, right or wrong.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether the key is there and a list.
    pub(super) fn has_list(&self, key: &str) -> bool {
        self.table
            .and_then(|table| table.get(key))
            .is_some_and(|value| value.get_ref().as_array().is_some())
    }

    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn get(&mut self, key: &'static str) -> Option<&'t Spanned<DeValue<'t>>> {
        self.read.insert(key);
        self.table.and_then(|table| table.get(key))
    }

    /// The line of a key's value, else of the table.
    pub(super) fn line_of(&self, key: &str, faults: &Faults<'_>) -> usize {
        self.table
            .and_then(|table| table.get(key))
            .map_or(self.line, |value| faults.line(value.span().start))
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, faults: &mut Faults<'_>) {
        let found = faults
            .text
            .get(value.span())
            .unwrap_or_default()
            .trim()
            .to_owned();
        faults.add(
            faults.line(value.span().start),
            self.path_of(key),
            format!("found {found}, expected {expected}"),
        );
    }

    /// A quantity: a number, or a text that `parse` understands. `None` where absent or wrong.
    pub(super) fn quantity(
        &mut self,
        key: &'static str,
        parse: fn(&str) -> Option<f64>,
        bounds: &Bounds,
        faults: &mut Faults<'_>,
    ) -> Option<f64> {
        let value = self.get(key)?;
        let parsed = scalar(value.get_ref()).and_then(|text| parse(&text));
        match parsed.filter(|parsed| (bounds.holds)(*parsed)) {
            Some(parsed) => Some(parsed),
            None => {
                self.wrong(key, value, bounds.expected, faults);
                None
            }
        }
    }

    /// A list of numbers, each within bounds. `None` where absent or wrong.
    pub(super) fn numbers(
        &mut self,
        key: &'static str,
        bounds: &Bounds,
        faults: &mut Faults<'_>,
    ) -> Option<Vec<f64>> {
        let value = self.get(key)?;
        let numbers: Option<Vec<f64>> = value.get_ref().as_array().and_then(|array| {
            let number = |item: &Spanned<DeValue<'_>>| scalar(item.get_ref())?.parse::<f64>().ok();
            array
                .iter()
                .map(|item| number(item).filter(|number| (bounds.holds)(*number)))
                .collect()
        });
        if numbers.is_none() {
            self.wrong(key, value, bounds.expected, faults);
        }
        numbers
    }

    /// One word of a closed list. `None` where absent or wrong.
    pub(super) fn choice<T: Copy>(
        &mut self,
        key: &'static str,
        choices: &[(&str, T)],
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        let value = self.get(key)?;
        let flag = value.get_ref().as_bool().map(|flag| flag.to_string());
        let word = flag.or_else(|| value.get_ref().as_str().map(str::to_owned));
        let found = choices
            .iter()
            .find(|(name, _)| Some(*name) == word.as_deref())
            .map(|(_, choice)| *choice);
        if found.is_none() {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.wrong(key, value, &format!("one of {}", names.join(", ")), faults);
        }
        found
    }

    /// A text. `None` where absent or wrong.
    pub(super) fn text(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Option<String> {
        let value = self.get(key)?;
        let text = value
            .get_ref()
            .as_str()
            .filter(|text| !text.is_empty())
            .map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a text that is not empty", faults);
        }
        text
    }

    /// A table below this one; an absent one where the key is missing or is no table.
    pub(super) fn section(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Section<'t> {
        let path = self.path_of(key);
        let Some(value) = self.get(key) else {
            return Section {
                path,
                line: self.line,
                table: None,
                read: BTreeSet::new(),
            };
        };
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.wrong(key, value, "a table", faults);
        }
        Section {
            path,
            line: faults.line(value.span().start),
            table,
            read: BTreeSet::new(),
        }
    }

    /// The tables of an array of tables, or an empty list.
    pub(super) fn sections(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Section<'t>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(key, value, "an array of tables", faults);
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            let line = faults.line(item.span().start);
            match item.get_ref().as_table() {
                Some(table) => sections.push(Section {
                    path,
                    line,
                    table: Some(table),
                    read: BTreeSet::new(),
                }),
                None => faults.add(line, path, "expected a table"),
            }
        }
        sections
    }

    /// Every table below this one by name, for tables whose keys are free.
    pub(super) fn named_sections(&self, faults: &mut Faults<'_>) -> Vec<(String, Section<'t>)> {
        let mut sections = Vec::new();
        for (key, value) in self.table.into_iter().flat_map(|table| table.iter()) {
            let path = self.path_of(key.get_ref());
            let line = faults.line(key.span().start);
            match value.get_ref().as_table() {
                Some(table) => sections.push((
                    key.get_ref().to_string(),
                    Section {
                        path,
                        line,
                        table: Some(table),
                        read: BTreeSet::new(),
                    },
                )),
                None => faults.add(line, path, "expected a table"),
            }
        }
        sections
    }

    /// Names every key that was not asked for: a misspelt setting must not be silently without effect.
    pub(super) fn finish(self, faults: &mut Faults<'_>) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            if !self.read.contains(key.get_ref().as_ref()) {
                let known: Vec<&str> = self.read.iter().copied().collect();
                let line = faults.line(key.span().start);
                let message = format!("unknown key; known here: {}", known.join(", "));
                faults.add(line, self.path_of(key.get_ref()), message);
            }
        }
    }
}

/// A number or text as text.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    if let Some(text) = value.as_str() {
        return Some(text.to_owned());
    }
    if let Some(float) = value.as_float() {
        return Some(float.as_str().to_owned());
    }
    value
        .as_integer()
        .filter(|integer| integer.radix() == 10)
        .map(|integer| integer.as_str().to_owned())
}
