//! `canary report`.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::Context as _;
use clap::Args;

use super::source::{Source, print};
use crate::discretion::Discretion;
use crate::journal::{Journal, file_name};
use crate::moment::Moment;
use crate::report::Report as Told;
use crate::status::screen;

/// Tells a rollout from its journal.
#[derive(Debug, Args)]
pub(super) struct Report {
    #[command(flatten)]
    source: Source,
    /// Writes the report to this file instead, as one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Prints it as JSON instead of text.
    #[arg(long)]
    json: bool,
    /// Leaves out what comes from outside: errors, people's words, names of machines, ids of messages.
    #[arg(long)]
    redact: bool,
}

/// Writes the page on `journal` beside the journals in `directory`; its path.
///
/// # Errors
/// What the system says.
pub(crate) fn keep(directory: &Path, journal: &Journal) -> anyhow::Result<PathBuf> {
    let directory = directory.join("reports");
    let file = directory.join(format!("{}.html", file_name(&journal.rollout)));
    let page = Told::of(journal, Moment::from(SystemTime::now()), Discretion::Bounded).page();
    std::fs::create_dir_all(&directory)
        .and_then(|()| std::fs::write(&file, page))
        .with_context(|| format!("cannot write the page {}", file.display()))?;
    Ok(file)
}

impl Report {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let journal = self.source.read()?;
        let discretion = if self.redact {
            Discretion::Redacted
        } else {
            Discretion::Bounded
        };
        let now = Moment::from(SystemTime::now());
        let report = Told::of(&journal, now, discretion);
        if let Some(file) = &self.html {
            std::fs::write(file, report.page())
                .with_context(|| format!("cannot write the page {}", file.display()))?;
            if !self.json {
                return print(&format!("report: {}\n", file.display()));
            }
            eprintln!("report: {}", file.display());
        }
        if self.json {
            return print(&(serde_json::to_string_pretty(&report)? + "\n"));
        }
        let mut text = screen::text(&report.status, now);
        text.push('\n');
        for sentence in report.explanation.iter().chain(&report.redriven) {
            text.push_str(sentence);
            text.push('\n');
        }
        print(&text)
    }
}
