//! What was measured: on standard output, and in `docs/benchmarks.md` between its marks.

use std::path::PathBuf;

use anyhow::{Context, Result};

/// Tables and drawings by name.
#[derive(Debug, Default)]
pub(crate) struct Page {
    tables: Vec<(&'static str, String)>,
    drawings: Vec<(&'static str, String)>,
}

impl Page {
    /// Prints a table, and keeps it for the page.
    pub(crate) fn put(&mut self, name: &'static str, table: String) {
        println!("\n{name}\n\n{table}");
        self.tables.push((name, table));
    }

    /// Keeps a drawing, by the name of its file in `docs/images`.
    pub(crate) fn draw(&mut self, file: &'static str, svg: String) {
        self.drawings.push((file, svg));
    }

    /// Writes all of it.
    pub(crate) fn write(&self) -> Result<()> {
        let docs = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs");
        let page = docs.join("benchmarks.md");
        let mut text = std::fs::read_to_string(&page)?;
        for (name, table) in &self.tables {
            text =
                replaced(&text, name, table).with_context(|| format!("the page has no marks for {name}"))?;
        }
        std::fs::write(&page, text)?;
        for (file, svg) in &self.drawings {
            std::fs::write(docs.join("images").join(file), svg)?;
        }
        Ok(())
    }
}

fn replaced(text: &str, name: &str, table: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- measured: {name} -->\n"),
        format!("<!-- end: {name} -->"),
    );
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{table}{end}{after}"))
}
