//! Reads a TOML file key by key and collects every fault with its line, instead of stopping at the first.
//!
//! What a key takes, what it is by default and what it does stands in one [`Field`]: the reader goes by it, its errors say it,
//! and the reference pages are made of it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

/// One thing that is wrong with a file.
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

/// The faults of a file, as people are told of them.
pub(crate) fn told(what: &str, file: &Path, faults: &[Fault]) -> anyhow::Error {
    let lines: Vec<String> = faults.iter().map(|fault| format!("  {fault}")).collect();
    let s = if lines.len() == 1 { "" } else { "s" };
    anyhow::anyhow!(
        "{what} {} has {} fault{s}:\n{}",
        file.display(),
        lines.len(),
        lines.join("\n")
    )
}

/// A key of a file.
#[derive(Debug)]
pub(crate) struct Field {
    /// Its full path; `[]` stands after a list of tables, `NAME` for a name that is free.
    pub(crate) path: &'static str,
    /// What it takes.
    pub(crate) takes: Takes,
    /// What it is where it is left out, as TOML; none where it must be there, or where to leave it out is a choice of its own.
    pub(crate) default: Option<&'static str>,
    /// A value other than the default, as TOML.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the reference pages, which a test makes")
    )]
    pub(crate) example: &'static str,
    /// What it does.
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for the reference pages, which a test makes")
    )]
    pub(crate) help: &'static str,
}

/// What a key takes.
#[derive(Debug)]
pub(crate) enum Takes {
    /// A number, or a text with a unit.
    Quantity(&'static Unit),
    /// A list of numbers.
    Quantities(&'static Unit),
    /// One word of a closed list.
    Word(&'static [&'static str]),
    /// `true` or `false`.
    Flag,
    /// A text.
    Text(&'static Form),
    /// A list of texts.
    Texts(&'static Form),
}

/// What a quantity must be, in words and as a test.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) expected: &'static str,
    pub(crate) parse: fn(&str) -> Option<f64>,
    pub(crate) holds: fn(f64) -> bool,
}

impl Unit {
    fn read(&self, text: &str) -> Option<f64> {
        (self.parse)(text).filter(|value| (self.holds)(*value))
    }
}

/// What a text must be, in words and as a test.
#[derive(Debug)]
pub(crate) struct Form {
    pub(crate) expected: &'static str,
    pub(crate) holds: fn(&str) -> bool,
}

impl Field {
    /// The last part of its path.
    pub(crate) fn key(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }

    /// What it takes, in words.
    pub(crate) fn expected(&self) -> String {
        match self.takes {
            Takes::Quantity(unit) | Takes::Quantities(unit) => unit.expected.to_owned(),
            Takes::Word([word]) => format!("{word:?}"),
            Takes::Word(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("{word:?}")).collect();
                format!("one of {}", words.join(", "))
            }
            Takes::Flag => "true or false".to_owned(),
            Takes::Text(form) | Takes::Texts(form) => form.expected.to_owned(),
        }
    }

    /// The default, of a quantity that has one.
    pub(crate) fn default_quantity(&self) -> f64 {
        let number = match self.takes {
            Takes::Quantity(unit) => self.default.and_then(|text| (unit.parse)(text.trim_matches('"'))),
            Takes::Quantities(_) | Takes::Word(_) | Takes::Flag | Takes::Text(_) | Takes::Texts(_) => None,
        };
        // A field without one is asked for by `quantity`; the test of the defaults finds what is not.
        number.unwrap_or_default()
    }

    /// The default, of a word or a text that has one.
    pub(crate) fn default_text(&self) -> &'static str {
        self.default.unwrap_or_default().trim_matches('"')
    }
}

/// The faults found so far, and the text they are in.
#[derive(Debug)]
pub(crate) struct Faults<'t> {
    text: &'t str,
    list: Vec<Fault>,
    /// Lines that are no TOML: what else seems to be wrong there is a consequence.
    broken: BTreeSet<usize>,
}

impl<'t> Faults<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        Self {
            text,
            list: Vec::new(),
            broken: BTreeSet::new(),
        }
    }

    pub(crate) fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().iter().take(offset);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    pub(crate) fn add(&mut self, line: usize, field: impl Into<String>, message: impl Into<String>) {
        if !self.broken.contains(&line) {
            self.list.push(Fault {
                line,
                field: field.into(),
                message: message.into(),
            });
        }
    }

    /// What is no TOML. Of a file that may hold secrets (`shown` is false) nothing is told but the keys.
    pub(crate) fn syntax(&mut self, errors: Vec<Error>, shown: bool) {
        for error in errors {
            let span = error.span().unwrap_or_default();
            let line = self.line(span.start);
            if self.broken.contains(&line) {
                continue;
            }
            let found = self.text.get(span.clone()).unwrap_or_default().trim();
            let fault = unquoted(self.text, span.start, line, shown).unwrap_or_else(|| Fault {
                line,
                field: String::new(),
                message: if !shown || found.is_empty() || found.len() > 60 || found.contains('\n') {
                    error.message().to_owned()
                } else {
                    format!("{}: {found}", error.message())
                },
            });
            self.list.push(fault);
            self.broken.insert(line);
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.list.len()
    }

    /// All of them by line; empty when nothing is wrong.
    pub(crate) fn sorted(mut self) -> Vec<Fault> {
        self.list.sort_by_key(|fault| fault.line);
        self.list
    }
}

/// A text without its quotes, for which a TOML parser's words depend on its first letter: what it should be.
///
/// `offset` is where the parser stopped; it must be in the value.
fn unquoted(text: &str, offset: usize, line: usize, shown: bool) -> Option<Fault> {
    let begin = text.get(..offset)?.rfind('\n').map_or(0, |end| end + 1);
    let (key, value) = text.lines().nth(line - 1)?.split_once('=')?;
    if offset <= begin + key.len() {
        return None;
    }
    let (key, value) = (key.trim(), value.split(" #").next()?.trim());
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if key.is_empty() || !key.chars().all(plain) || value.is_empty() {
        return None;
    }
    if value.starts_with(['"', '\'', '[', '{']) || value.contains(['"', '\'']) {
        return None;
    }
    let section = text
        .lines()
        .take(line - 1)
        .filter_map(|line| line.trim().strip_prefix('['))
        .last();
    let section = section.map(|section| section.split(']').next().unwrap_or_default());
    let section = section.map_or_else(String::new, |section| {
        format!("{}.", section.trim_matches(['[', ' ']))
    });
    let message = if shown {
        format!("found {value}, expected it in quotes: {key} = \"{value}\"")
    } else {
        format!("found a text without quotes, expected {key} = \"…\"")
    };
    Some(Fault {
        line,
        field: format!("{section}{key}"),
        message,
    })
}

/// One table of the file, present or not, and the keys of it that were read.
#[derive(Debug)]
pub(crate) struct Section<'t> {
    path: String,
    pub(crate) line: usize,
    table: Option<&'t DeTable<'t>>,
    read: BTreeSet<&'static str>,
    /// Every key of the file, for what was perhaps meant.
    fields: &'static [&'static [&'static Field]],
    /// Whether its values may be secret, so that no error shows them.
    private: bool,
}

impl<'t> Section<'t> {
    pub(crate) fn root(table: &'t DeTable<'t>, fields: &'static [&'static [&'static Field]]) -> Self {
        Self {
            path: String::new(),
            line: 1,
            table: Some(table),
            read: BTreeSet::new(),
            fields,
            private: false,
        }
    }

    /// One below this, at `line`.
    fn below(&self, path: String, line: usize, table: Option<&'t DeTable<'t>>) -> Section<'t> {
        Section {
            path,
            line,
            table,
            read: BTreeSet::new(),
            fields: self.fields,
            private: self.private,
        }
    }

    /// From here on no error shows a value.
    pub(crate) fn hide_values(&mut self) {
        self.private = true;
    }

    pub(crate) fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether the key is there, right or wrong.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.table.is_some_and(|table| table.contains_key(key))
    }

    /// Whether the key is there and a list.
    pub(crate) fn has_list(&self, key: &str) -> bool {
        self.table
            .and_then(|table| table.get(key))
            .is_some_and(|value| value.get_ref().as_array().is_some())
    }

    /// Its full path, as in errors.
    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    pub(crate) fn path_of(&self, key: &str) -> String {
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
    pub(crate) fn line_of(&self, key: &str, faults: &Faults<'_>) -> usize {
        self.table
            .and_then(|table| table.get(key))
            .map_or(self.line, |value| faults.line(value.span().start))
    }

    fn wrong(&self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str, faults: &mut Faults<'_>) {
        let found = if self.private {
            format!("a value of type {}", value.get_ref().type_str())
        } else {
            let found = faults.text.get(value.span()).unwrap_or_default();
            found.trim().to_owned()
        };
        faults.add(
            faults.line(value.span().start),
            self.path_of(key),
            format!("found {found}, expected {expected}"),
        );
    }

    /// `found` where it is something; else a fault.
    fn or_wrong<T>(
        &self,
        field: &Field,
        value: &Spanned<DeValue<'_>>,
        found: Option<T>,
        faults: &mut Faults<'_>,
    ) -> Option<T> {
        if found.is_none() {
            self.wrong(field.key(), value, &field.expected(), faults);
        }
        found
    }

    /// A fault where the key is not there.
    pub(crate) fn require(&mut self, field: &'static Field, faults: &mut Faults<'_>) {
        if self.get(field.key()).is_none() {
            let message = format!("missing, expected {}", field.expected());
            faults.add(self.line, self.path_of(field.key()), message);
        }
    }

    /// A fault of a value that is right by itself.
    pub(crate) fn refuse(&self, field: &Field, message: impl Into<String>, faults: &mut Faults<'_>) {
        faults.add(
            self.line_of(field.key(), faults),
            self.path_of(field.key()),
            message,
        );
    }

    /// A quantity: a number, or a text with a unit. `None` where absent or wrong.
    pub(crate) fn quantity(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> Option<f64> {
        let value = self.get(field.key())?;
        let Takes::Quantity(unit) = field.takes else {
            return self.or_wrong(field, value, None, faults);
        };
        let read = scalar(value.get_ref()).and_then(|text| unit.read(&text));
        self.or_wrong(field, value, read, faults)
    }

    /// A quantity; where it is absent or wrong, the default.
    pub(crate) fn quantity_or_default(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> f64 {
        self.quantity(field, faults)
            .unwrap_or_else(|| field.default_quantity())
    }

    /// A list of numbers. `None` where absent or wrong.
    pub(crate) fn quantities(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> Option<Vec<f64>> {
        let value = self.get(field.key())?;
        let Takes::Quantities(unit) = field.takes else {
            return self.or_wrong(field, value, None, faults);
        };
        let array = value.get_ref().as_array();
        let numbers = array.and_then(|array| {
            let number = |item: &Spanned<DeValue<'_>>| unit.read(&scalar(item.get_ref())?);
            array.iter().map(number).collect::<Option<Vec<f64>>>()
        });
        let numbers = numbers.filter(|numbers| !numbers.is_empty());
        self.or_wrong(field, value, numbers, faults)
    }

    /// One word of a closed list; where it is absent or wrong, the default.
    pub(crate) fn word(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> &'static str {
        let Some(value) = self.get(field.key()) else {
            return field.default_text();
        };
        let Takes::Word(words) = field.takes else {
            return self.or_wrong(field, value, None, faults).unwrap_or_default();
        };
        let word = value.get_ref().as_str();
        let found = words.iter().copied().find(|known| Some(*known) == word);
        self.or_wrong(field, value, found, faults)
            .unwrap_or_else(|| field.default_text())
    }

    /// `true` or `false`; where it is absent or wrong, the default.
    pub(crate) fn flag(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> bool {
        let given = self.get(field.key());
        let given = given.and_then(|value| self.or_wrong(field, value, value.get_ref().as_bool(), faults));
        given.unwrap_or_else(|| field.default == Some("true"))
    }

    /// A text. `None` where absent or wrong.
    pub(crate) fn text(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> Option<String> {
        let value = self.get(field.key())?;
        let Takes::Text(form) = field.takes else {
            return self.or_wrong(field, value, None, faults);
        };
        let text = value.get_ref().as_str().filter(|text| (form.holds)(text));
        self.or_wrong(field, value, text.map(str::to_owned), faults)
    }

    /// A list of texts. `None` where absent or wrong.
    pub(crate) fn texts(&mut self, field: &'static Field, faults: &mut Faults<'_>) -> Option<Vec<String>> {
        let value = self.get(field.key())?;
        let Takes::Texts(form) = field.takes else {
            return self.or_wrong(field, value, None, faults);
        };
        let text = |item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned);
        let array = value.get_ref().as_array();
        let texts = array.and_then(|array| array.iter().map(text).collect::<Option<Vec<String>>>());
        let texts = texts.filter(|texts| texts.first().is_none_or(|first| (form.holds)(first)));
        self.or_wrong(field, value, texts, faults)
    }

    /// Every key with its text and its line, for a table whose keys are free.
    pub(crate) fn named_texts(
        &self,
        expected: &str,
        faults: &mut Faults<'_>,
    ) -> Vec<(String, String, usize)> {
        let mut texts = Vec::new();
        for (key, value) in self.table.into_iter().flat_map(|table| table.iter()) {
            match value.get_ref().as_str() {
                Some(text) => texts.push((
                    key.get_ref().to_string(),
                    text.to_owned(),
                    faults.line(key.span().start),
                )),
                None => self.wrong(key.get_ref(), value, expected, faults),
            }
        }
        texts
    }

    /// A table below this one; an absent one where the key is missing or is no table.
    pub(crate) fn section(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Section<'t> {
        let path = self.path_of(key);
        let Some(value) = self.get(key) else {
            return self.below(path, self.line, None);
        };
        let table = value.get_ref().as_table();
        if table.is_none() {
            let expected = if value.get_ref().as_array().is_some() {
                format!("one table, as [{path}]")
            } else {
                format!("a table, as [{path}]")
            };
            self.wrong(key, value, &expected, faults);
        }
        self.below(path, faults.line(value.span().start), table)
    }

    /// The tables of an array of tables, or an empty list.
    pub(crate) fn sections(&mut self, key: &'static str, faults: &mut Faults<'_>) -> Vec<Section<'t>> {
        let Some(value) = self.get(key) else {
            return Vec::new();
        };
        let path = self.path_of(key);
        let Some(array) = value.get_ref().as_array() else {
            self.wrong(
                key,
                value,
                &format!("a list of tables, each as [[{path}]]"),
                faults,
            );
            return Vec::new();
        };
        let mut sections = Vec::new();
        for (index, item) in array.iter().enumerate() {
            let path = format!("{path}[{index}]");
            let line = faults.line(item.span().start);
            match item.get_ref().as_table() {
                Some(table) => sections.push(self.below(path, line, Some(table))),
                None => faults.add(line, path, "expected a table"),
            }
        }
        sections
    }

    /// Every table below this one by name, for tables whose keys are free.
    pub(crate) fn named_sections(&self, faults: &mut Faults<'_>) -> Vec<(String, Section<'t>)> {
        let mut sections = Vec::new();
        for (key, value) in self.table.into_iter().flat_map(|table| table.iter()) {
            let path = self.path_of(key.get_ref());
            let line = faults.line(key.span().start);
            match value.get_ref().as_table() {
                Some(table) => {
                    sections.push((key.get_ref().to_string(), self.below(path, line, Some(table))))
                }
                None => faults.add(line, path.clone(), format!("expected a table, as [{path}]")),
            }
        }
        sections
    }

    /// Names every key that was not asked for: a misspelt setting must not be silently without effect.
    pub(crate) fn finish(self, faults: &mut Faults<'_>) {
        for key in self.table.into_iter().flat_map(|table| table.keys()) {
            if !self.read.contains(key.get_ref().as_ref()) {
                let known: Vec<&str> = self.read.iter().copied().collect();
                let line = faults.line(key.span().start);
                let near = self.nearest(key.get_ref());
                let message = format!("unknown key{near}; known here: {}", known.join(", "));
                faults.add(line, self.path_of(key.get_ref()), message);
            }
        }
    }

    /// What was perhaps meant: a key of this table by the measure that clap suggests flags by, else the same key elsewhere.
    fn nearest(&self, key: &str) -> String {
        let similar = self
            .read
            .iter()
            .map(|known| (strsim::jaro(known, key), *known))
            .filter(|(likeness, _)| *likeness > 0.7)
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let elsewhere = || {
            let mut all = self.fields.iter().copied().flatten();
            all.find(|field| field.key() == key)
        };
        similar
            .map(|(_, known)| known)
            .or_else(|| elsewhere().map(|field| field.path))
            .map_or_else(String::new, |near| format!(", perhaps {near}"))
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
