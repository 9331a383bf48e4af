//! What a message costs, and how many of them a worker drains.
//!
//! ```text
//! cargo bench -p worker --bench drain                          # everything, about ten minutes
//! cargo bench -p worker --bench drain -- cost                  # some parts: cost, footprint, pair, curve, localstack
//! cargo bench -p worker --bench drain -- cost --write          # and what was measured into docs/benchmarks.md
//! ```
//!
//! Everything that is measured runs in a process of its own: this program starts itself again as the endpoint, as a
//! worker, and as the bare loop that the worker is compared with.

mod bare;
mod chart;
mod cost;
mod curve;
mod endpoint;
mod footprint;
mod localstack;
mod orders;
mod page;
mod pair;
mod process;
mod usage;
mod watch;
mod worker;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::page::Page;

/// Of `--rounds`.
const ROUNDS: usize = 7;

/// What was asked for.
#[derive(Debug)]
struct Arguments {
    parts: Vec<String>,
    rounds: usize,
    write: bool,
}

const PARTS: [&str; 5] = ["cost", "footprint", "pair", "curve", "localstack"];

impl Arguments {
    fn parse(mut given: impl Iterator<Item = String>) -> Result<Self> {
        let mut arguments = Self {
            parts: Vec::new(),
            rounds: ROUNDS,
            write: false,
        };
        while let Some(argument) = given.next() {
            match argument.as_str() {
                "--bench" => {} // cargo's own
                "--write" => arguments.write = true,
                "--rounds" => {
                    let rounds = given.next().context("--rounds needs a number")?;
                    arguments.rounds = rounds.parse().context("--rounds needs a number")?;
                }
                part if PARTS.contains(&part) => arguments.parts.push(part.to_owned()),
                other => bail!("{other:?} is no part; expected some of {}", PARTS.join(", ")),
            }
        }
        if arguments.parts.is_empty() {
            arguments.parts = PARTS.map(str::to_owned).to_vec();
        }
        Ok(arguments)
    }
}

fn main() -> Result<()> {
    let mut given = std::env::args().skip(1);
    if let Some(role) = given
        .next()
        .and_then(|first| first.strip_prefix("role=").map(str::to_owned))
    {
        let order = given.next().unwrap_or_default();
        return match role.as_str() {
            "endpoint" => endpoint::serve(),
            "worker" => worker::work(&order),
            "bare" => bare::work(&order),
            other => bail!("{other:?} is no role"),
        };
    }
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(measure(&arguments))
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let mut page = Page::default();
    for part in &arguments.parts {
        eprintln!("measuring: {part}");
        match part.as_str() {
            "cost" => cost::measure(arguments.rounds, &mut page).await?,
            "footprint" => footprint::measure(&mut page).await?,
            "pair" => pair::measure(&mut page).await?,
            "curve" => curve::measure(&mut page).await?,
            _ => localstack::measure(&mut page).await?,
        }
    }
    if arguments.write {
        page.write()?;
    }
    Ok(())
}

/// The middle of `values`, which are not empty.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    if values.len() % 2 == 1 {
        values[middle]
    } else {
        f64::midpoint(values[middle - 1], values[middle])
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
