//! Measures what `docs/statistics.md` reports, and writes its tables and pictures.
//!
//! ```text
//! cargo run --release -p canary --example statistics -- <calibration|theory|production|peers|pictures|all> [--runs N] [--write]
//! ```
//!
//! Seeded: the same command gives the same bytes. Without `--write` the tables go to standard output only.

use std::fmt::Write as _;
use std::path::PathBuf;

use canary::chart::{Chart, Series};
use canary::plan::{Plan, Step};
use canary::simulate::page;
use canary::simulate::peers::{self, Tried};
use canary::simulate::scenario::{Promise, Scenario, harmless_releases, intolerable_releases};
use canary::simulate::summary::{Spread, Summary, outcomes, summarise};
use canary::simulate::theory;
use canary::simulate::traffic::{Traffic, Trouble};

const SEED: u64 = 1;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let wanted = arguments.first().cloned().unwrap_or_else(|| "all".to_owned());
    let write = arguments.iter().any(|argument| argument == "--write");
    let runs = arguments
        .iter()
        .position(|argument| argument == "--runs")
        .and_then(|index| arguments.get(index + 1))
        .map(|runs| runs.parse::<u64>())
        .transpose()?;
    for (name, measure) in TABLES {
        if wanted == *name || wanted == "all" {
            let table = measure(runs)?;
            println!("{table}");
            if write {
                replace(name, &table)?;
            }
        }
    }
    if wanted == "pictures" || wanted == "all" {
        for (name, chart) in pictures(runs.unwrap_or(200))? {
            let svg = chart.svg();
            println!("{name}.svg: {} bytes", svg.len());
            if write {
                std::fs::write(docs().join("images").join(format!("{name}.svg")), svg)?;
            }
        }
    }
    Ok(())
}

type Measure = fn(Option<u64>) -> anyhow::Result<String>;

const TABLES: &[(&str, Measure)] = &[
    ("calibration", calibration),
    ("theory", theory_table),
    ("production", production),
    ("peers", peers_table),
];

fn docs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs")
}

/// Puts a table between its two marks in the page.
fn replace(name: &str, table: &str) -> anyhow::Result<()> {
    let file = docs().join("statistics.md");
    let text = std::fs::read_to_string(&file)?;
    let (begin, end) = (
        format!("<!-- measured: {name} -->\n"),
        format!("<!-- end: {name} -->"),
    );
    let found = text
        .split_once(&begin)
        .and_then(|(before, rest)| Some((before, rest.split_once(&end)?.1)));
    let (before, after) =
        found.ok_or_else(|| anyhow::anyhow!("{} has no marks for {name}", file.display()))?;
    std::fs::write(&file, format!("{before}{begin}{table}{end}{after}"))?;
    Ok(())
}

fn percent(part: f64) -> String {
    format!("{:.2} %", part * 100.0)
}

fn calibration(runs: Option<u64>) -> anyhow::Result<String> {
    let runs = runs.unwrap_or(20_000);
    let mut text = String::new();
    writeln!(text, "{runs} runs each; the interval is the 99 % one.\n")?;
    writeln!(
        text,
        "| a harmless release | suspected | rolled back | interval | at most |\n|---|---|---|---|---|"
    )?;
    calibration_rows(&mut text, harmless_releases(), runs)?;
    writeln!(
        text,
        "\n| a release at ω = 2, suspicion off | | promoted | interval | at most |\n|---|---|---|---|---|"
    )?;
    calibration_rows(&mut text, intolerable_releases(), runs)?;
    Ok(text)
}

fn calibration_rows(text: &mut String, scenarios: Vec<Scenario>, runs: u64) -> anyhow::Result<()> {
    for scenario in scenarios {
        let counted = scenario.count(runs, SEED);
        let (hits, low, high) = counted.against(scenario.promise);
        let part = |count: u64| percent(count as f64 / runs as f64);
        let (suspected, most) = match scenario.promise {
            Promise::NoRollback(most) => (part(counted.suspected), percent(most)),
            Promise::NoPromotion(most) => (String::new(), percent(most)),
            Promise::Reported => (part(counted.suspected), "nothing promised".to_owned()),
        };
        let kept = if counted.keeps(scenario.promise) {
            ""
        } else {
            " **not kept**"
        };
        eprintln!("{}: {hits} of {runs}", scenario.name);
        let interval = format!("{} – {}", percent(low), percent(high));
        writeln!(
            text,
            "| {} | {suspected} | {} | {interval} | {most}{kept} |",
            scenario.name,
            part(hits)
        )?;
    }
    Ok(())
}

fn theory_table(runs: Option<u64>) -> anyhow::Result<String> {
    let runs = runs.unwrap_or(4000);
    let mut text = format!(
        "{runs} runs each, α = 1 %; ± is one standard error. \"Known\" is what was expected: without and with cash.\n\n\
         | share | failure rate, baseline → canary | bound | mean canary messages | × bound | × bound with cash | known |\n\
         |---|---|---|---|---|---|---|\n"
    );
    for (share, others) in [("1:9", 9.0), ("1:1", 1.0)] {
        for row in theory::rows(others) {
            let (plain, cash) = (row.measure(runs, SEED, false), row.measure(runs, SEED, true));
            let known = if row.known.1.is_nan() {
                format!("{:.2}", row.known.0)
            } else {
                format!("{:.2}, {:.2}", row.known.0, row.known.1)
            };
            writeln!(
                text,
                "| {share} | {} % → {} % | {:.0} | {:.0} | {:.2} ± {:.2} | {:.2} ± {:.2} | {known} |",
                row.baseline * 100.0,
                row.canary * 100.0,
                plain.bound,
                plain.messages,
                plain.times_bound,
                plain.error,
                cash.times_bound,
                cash.error
            )?;
        }
    }
    Ok(text)
}

/// The usual plan held at share 10 %, with half an hour and no promotion: what detection alone takes.
fn held_at_ten_percent() -> anyhow::Result<Plan> {
    let text = include_str!("../../plans/usual.toml");
    let mut plan = Plan::read(text).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    plan.deadline = 1800;
    plan.steps = vec![Step {
        share: 0.1,
        least_time: 1800,
        least_messages: u64::MAX,
        least_evidence: 1.0,
    }];
    Ok(plan)
}

fn production(runs: Option<u64>) -> anyhow::Result<String> {
    let runs = runs.unwrap_or(1000);
    let plan = held_at_ten_percent()?;
    let mut text = format!(
        "Plan `usual` held at share 10 % of 500 messages/s for 30 minutes; {runs} runs each; median / 90th percentile.\n\n\
         | regression | found | suspected after | convicted after | canary messages | of them failed | messages harmed |\n\
         |---|---|---|---|---|---|---|\n"
    );
    let mut row = |name: String, traffic: Traffic| -> anyhow::Result<()> {
        let summary = summarise(&outcomes(&plan, &traffic, runs, SEED, &|| {}));
        let Summary {
            seconds_to_suspicion,
            seconds_to_verdict,
            canary_messages,
            canary_failed,
            ..
        } = summary.clone();
        let show = |spread: Option<Spread>, unit: &str| {
            spread.map_or_else(
                || "–".to_owned(),
                |s| format!("{:.0} / {:.0}{unit}", s.median, s.p90),
            )
        };
        eprintln!("{name}");
        writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            percent(summary.rollback_probability),
            show(seconds_to_suspicion, " s"),
            show(seconds_to_verdict, " s"),
            show(canary_messages, ""),
            show(canary_failed, ""),
            show(summary.messages_harmed, "")
        )?;
        Ok(())
    };
    for (baseline, canary) in [
        (0.005, 0.01),
        (0.005, 0.02),
        (0.005, 0.05),
        (0.005, 0.5),
        (0.005, 1.0),
        (0.0005, 0.01),
        (0.02, 0.04),
    ] {
        let name = format!("{} % → {} % fail", baseline * 100.0, canary * 100.0);
        row(name, Traffic::plain(500.0, baseline, canary / baseline))?;
    }
    for slowdown in [1.1, 1.3, 2.0] {
        let traffic = Traffic {
            slowdown,
            ..Traffic::plain(500.0, 0.005, 1.0)
        };
        row(format!("{slowdown} × slower"), traffic)?;
    }
    Ok(text)
}

fn peer_rows() -> Vec<(&'static str, Traffic)> {
    let plain = |ratio: f64| Traffic::plain(500.0, 0.005, ratio);
    let trouble = |trouble: Trouble| Traffic {
        trouble,
        ..plain(1.0)
    };
    vec![
        ("harmless", plain(1.0)),
        ("harmless, 40 % outage in both for 60 s", trouble(Trouble::Outage)),
        ("harmless, poison bursts", trouble(Trouble::Poison)),
        ("harmless, failure rate wanders", trouble(Trouble::Wandering)),
        (
            "harmless, one of three tasks bad for 30 s",
            Traffic {
                tasks: (27, 3),
                ..trouble(Trouble::SickCanary)
            },
        ),
        ("failures × 2", plain(2.0)),
        ("failures × 4", plain(4.0)),
        ("failures × 20", plain(20.0)),
        ("half of the messages fail", plain(100.0)),
    ]
}

fn peers_table(runs: Option<u64>) -> anyhow::Result<String> {
    let runs = runs.unwrap_or(1000);
    let plan = held_at_ten_percent()?;
    let mut text = format!(
        "500 messages/s, 0.5 % of which fail, share 10 %, 30 minutes, {runs} rollouts each. In each cell: rolled back, after \
         (median), messages harmed (mean). For harmless releases a rollback is false.\n\n"
    );
    for (index, (name, traffic)) in peer_rows().into_iter().enumerate() {
        let tried = peers::compare(&plan, &traffic, runs, SEED);
        if index == 0 {
            let names: Vec<&str> = tried.iter().map(|tried| tried.name).collect();
            writeln!(
                text,
                "| the release | {} |\n|---|{}",
                names.join(" | "),
                "---|".repeat(names.len())
            )?;
        }
        let cells: Vec<String> = tried.iter().map(peer_cell).collect();
        eprintln!("{name}");
        writeln!(text, "| {name} | {} |", cells.join(" | "))?;
    }
    Ok(text)
}

fn peer_cell(tried: &Tried) -> String {
    let after = tried
        .seconds
        .map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.0} s"));
    format!(
        "{:.1} %, {after}, {:.0}",
        tried.rollback_probability * 100.0,
        tried.harmed.max(0.0)
    )
}

fn pictures(runs: u64) -> anyhow::Result<Vec<(&'static str, Chart)>> {
    let usual =
        Plan::read(include_str!("../../plans/usual.toml")).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let traffic = Traffic::plain(500.0, 0.005, 2.0);
    let plan = held_at_ten_percent()?;
    let ratios = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0, 20.0, 50.0, 100.0];
    let mut power: Vec<Series> = Vec::new();
    let mut harmed: Vec<Series> = Vec::new();
    for ratio in ratios {
        for (index, tried) in peers::compare(
            &plan,
            &Traffic {
                ratio,
                ..traffic.clone()
            },
            runs,
            SEED,
        )
        .iter()
        .enumerate()
        {
            if power.len() <= index {
                power.push(Series {
                    name: tried.name.to_owned(),
                    ..Series::default()
                });
                harmed.push(Series {
                    name: tried.name.to_owned(),
                    ..Series::default()
                });
            }
            power[index].points.push((ratio, tried.rollback_probability));
            harmed[index].points.push((ratio, tried.harmed.max(0.0)));
        }
    }
    let x_label = "failures of the canary, as a multiple of the baseline's";
    Ok(vec![
        ("power", page::power(&usual, &traffic, SEED)),
        ("time-to-verdict", page::times(&usual, &traffic, SEED)),
        ("evidence", page::paths(&usual, &traffic, SEED)),
        (
            "peers-power",
            Chart {
                title: "Rollbacks within half an hour (at 1 all are false)".to_owned(),
                x_label: x_label.to_owned(),
                y_label: "part of the rollouts".to_owned(),
                log_x: true,
                series: power,
                ..Chart::default()
            },
        ),
        (
            "peers-harm",
            Chart {
                title: "Messages harmed by one bad release, mean".to_owned(),
                x_label: x_label.to_owned(),
                y_label: "messages".to_owned(),
                log_x: true,
                log_y: true,
                series: harmed,
                ..Chart::default()
            },
        ),
    ])
}
