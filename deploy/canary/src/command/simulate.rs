//! `canary simulate`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::whole;
use crate::plan::unit;
use crate::simulate::page::{Report, charts};
use crate::simulate::traffic::Traffic;

/// Runs a plan many times over made-up traffic.
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The plan, a TOML file.
    #[arg(long, value_name = "FILE")]
    plan: PathBuf,
    /// Messages in the queue, as 50/s, 90/m or 1000/h; both releases together.
    #[arg(long, value_parser = rate)]
    rate: f64,
    /// Failure rate of the present release, as 0.5%.
    #[arg(long, value_parser = failure_rate)]
    failure_rate: f64,
    /// Failures of the new release, as a multiple of the present one's.
    #[arg(long, default_value = "1", value_parser = multiple)]
    ratio: f64,
    /// Duration of the new release's attempts, as a multiple of the present one's.
    #[arg(long, default_value = "1", value_parser = multiple)]
    slowdown: f64,
    /// Simulated rollouts, 1 to 1000000.
    #[arg(long, default_value_t = 400, value_parser = |text: &str| whole::<u64>(text, 1..=1_000_000, "rollouts"))]
    runs: u64,
    /// The same seed gives the same numbers.
    #[arg(long, default_value_t = 1, value_parser = |text: &str| whole::<u64>(text, 0..=u64::MAX, "any size"))]
    seed: u64,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Writes a page with curves to this file too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

fn rate(text: &str) -> Result<f64, String> {
    let fits = |rate: &f64| *rate > 0.0 && *rate <= 1e6;
    unit::rate(text)
        .filter(fits)
        .ok_or_else(|| "expected a rate up to 1000000/s, as 50/s, 90/m or 1000/h".to_owned())
}

fn failure_rate(text: &str) -> Result<f64, String> {
    let fits = |rate: &f64| (0.0..1.0).contains(rate);
    let read = unit::fraction(text).filter(fits);
    // Half of all fails nowhere: who writes 0.5 means percent, mostly.
    if let Some(rate) = read.filter(|rate| *rate >= 0.05 && !text.contains('%')) {
        let percent = unit::show_fraction(rate);
        return Err(format!(
            "that is {percent}; expected the sign with it, as {text}% or {percent}"
        ));
    }
    read.ok_or_else(|| "expected a rate from 0% to below 100%, as 0.5% or 0.005".to_owned())
}

fn multiple(text: &str) -> Result<f64, String> {
    let fits = |ratio: &f64| ratio.is_finite() && *ratio >= 0.0 && *ratio <= 1e6;
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| "expected a multiple from 0 to 1000000, as 2 or 1.5".to_owned())
}

impl Simulate {
    pub(super) fn run(&self) -> anyhow::Result<()> {
        let plan = super::read_plan(&self.plan)?;
        let traffic = Traffic {
            slowdown: self.slowdown,
            ..Traffic::plain(self.rate, self.failure_rate, self.ratio)
        };
        // Draws on stderr and only where that is a terminal.
        let style =
            ProgressStyle::with_template("{spinner} {bar:40} {pos}/{len} rollouts, {eta} left {msg}")?;
        let bar = ProgressBar::new(2 * self.runs).with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        let report = Report::make(&plan, &traffic, self.runs, self.seed, &|| {
            bar.inc(1);
            if bar.position() == 2 * self.runs {
                bar.set_message("(looking for settings that would help)");
            }
        });
        if let Some(file) = &self.html {
            bar.set_message("(drawing the curves)");
            let page = report.page(&charts(&plan, &traffic, self.seed));
            std::fs::write(file, page)
                .with_context(|| format!("cannot write the page {}", file.display()))?;
        }
        bar.finish_and_clear();
        let text = if self.json {
            serde_json::to_string_pretty(&report)? + "\n"
        } else {
            report.table()
        };
        match std::io::stdout().write_all(text.as_bytes()) {
            // Who reads may have seen enough: `canary simulate … | head`.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
            written => written.context("cannot write to standard output"),
        }
    }
}
