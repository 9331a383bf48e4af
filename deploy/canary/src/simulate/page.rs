//! What a simulation found, as a table, as JSON and as one self-contained page.

use std::fmt::Write as _;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::summary::{Spread, Summary, outcomes, summarise};
use super::traffic::Traffic;
use super::{advice, rollout};
use crate::chart::{Chart, Series};
use crate::plan::Plan;
use crate::plan::unit::{show_fraction, show_seconds};

/// A simulation's question and answer.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The plan's name.
    pub plan: String,
    /// Messages a second.
    pub rate: f64,
    /// Failure rate of the baseline.
    pub failure_rate: f64,
    /// The canary's, as a multiple.
    pub ratio: f64,
    /// Duration of its attempts, as a multiple.
    pub slowdown: f64,
    /// The seed.
    pub seed: u64,
    /// What the plan does with that canary.
    #[serde(flatten)]
    pub summary: Summary,
    /// What it does with one as good as the baseline.
    pub harmless: Summary,
    /// What will not work.
    pub warnings: Vec<String>,
    /// What the plan leaves out of account at this failure rate.
    pub notes: Vec<String>,
}

/// Runs of the curves' points; a curve needs less than a table.
const CURVE_RUNS: u64 = 100;

/// Light and dark as the reader's system is; on a narrow screen wide things scroll in their own frame and stay legible.
const STYLE: &str = "\
    :root{color-scheme:light dark}\
    body{font:1rem/1.5 system-ui,sans-serif;max-width:50rem;margin:0 auto;padding:1rem;color:#222;background:#fff}\
    h1{font-size:1.6rem;line-height:1.2}table{border-collapse:collapse}\
    td,th{padding:.3em .8em;border-bottom:1px solid #8884;text-align:right}\
    tbody th{text-align:left;font-weight:400;padding-left:0}\
    .warning{background:#fff3d6;padding:.4em 1em;margin:.3em 0}\
    figure{margin:1.5em 0 0}figcaption{font-size:.85rem}svg{display:block;width:100%;height:auto}\
    @media(max-width:40em){td,th{padding:.3em .4em}}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#17191d}.warning{background:#4a3a10}\
    svg .paper{fill:none}svg .ink{fill:#ddd}svg .grid{stroke:#333a44}svg .axis{stroke:#99a}svg .mark{stroke:#f77}\
    svg .mark-text{fill:#f77}svg polyline.s0,svg path.s0{stroke:#6cbcf0}svg polyline.s1,svg path.s1{stroke:#ffa263}\
    svg polyline.s2,svg path.s2{stroke:#4fd0a5}}";

impl Report {
    /// Simulates `runs` rollouts of the canary asked for and as many of a harmless one. `tick` is called 2 × `runs` times.
    pub fn make(plan: &Plan, traffic: &Traffic, runs: u64, seed: u64, tick: &(impl Fn() + Sync)) -> Self {
        let summary = summarise(&outcomes(plan, traffic, runs, seed, tick));
        let good = Traffic {
            ratio: 1.0,
            slowdown: 1.0,
            quality_ratio: 1.0,
            ..traffic.clone()
        };
        let harmless = summarise(&outcomes(plan, &good, runs, seed, tick));
        let warnings = advice::warnings(plan, traffic, harmless.inconclusive_probability, seed);
        Self {
            plan: plan.name.clone(),
            rate: traffic.rate,
            failure_rate: traffic.failure_rate,
            ratio: traffic.ratio,
            slowdown: traffic.slowdown,
            seed,
            summary,
            harmless,
            warnings,
            notes: advice::below_the_ceiling(plan, traffic).into_iter().collect(),
        }
    }

    /// The rows of the table: what it is, for the canary asked for, for a harmless one.
    fn rows(&self) -> Vec<(&'static str, String, String)> {
        let part = |of: fn(&Summary) -> f64| {
            (
                show_fraction(of(&self.summary)),
                show_fraction(of(&self.harmless)),
            )
        };
        let spread = |of: fn(&Summary) -> Option<Spread>, show: fn(f64) -> String| {
            let text = |summary: &Summary| {
                of(summary).map_or_else(
                    || "-".to_owned(),
                    |s| format!("{} / {}", show(s.median), show(s.p90)),
                )
            };
            (text(&self.summary), text(&self.harmless))
        };
        let seconds: fn(f64) -> String = |value| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "seconds of a rollout"
            )]
            show_seconds(value.round() as u32)
        };
        let count: fn(f64) -> String = |value| format!("{:.0}", value.round().max(0.0));
        [
            ("rolled back", part(|summary| summary.rollback_probability)),
            ("promoted", part(|summary| summary.promotion_probability)),
            ("inconclusive", part(|summary| summary.inconclusive_probability)),
            (
                "suspected at least once",
                part(|summary| summary.suspicion_probability),
            ),
            (
                "time to suspicion, median / p90",
                spread(|summary| summary.seconds_to_suspicion, seconds),
            ),
            (
                "time to verdict, median / p90",
                spread(|summary| summary.seconds_to_verdict, seconds),
            ),
            (
                "canary messages to verdict, median / p90",
                spread(|summary| summary.canary_messages, count),
            ),
            (
                "canary messages failed, median / p90",
                spread(|summary| summary.canary_failed, count),
            ),
            (
                "messages harmed, median / p90",
                spread(|summary| summary.messages_harmed, count),
            ),
        ]
        .into_iter()
        .map(|(name, (asked, harmless))| (name, asked, harmless))
        .collect()
    }

    fn question(&self) -> String {
        format!(
            "plan {}, {} messages/s, failure rate {}, {} runs, seed {}",
            self.plan,
            self.rate,
            show_fraction(self.failure_rate),
            self.summary.runs,
            self.seed
        )
    }

    fn heading(&self) -> String {
        let slow = if (self.slowdown - 1.0).abs() > 1e-9 {
            format!(", {} × slower", self.slowdown)
        } else {
            String::new()
        };
        format!("failures × {}{slow}", self.ratio)
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        let mut text = format!("{}\n\n", self.question());
        let _ = writeln!(
            text,
            "{:42} {:>24} {:>24}",
            "",
            self.heading(),
            "harmless release"
        );
        for (name, asked, harmless) in self.rows() {
            let _ = writeln!(text, "{name:42} {asked:>24} {harmless:>24}");
        }
        if let Some((first, rest)) = self.warnings.split_first() {
            let _ = writeln!(text, "\nwarning: {first}");
            for remedy in rest {
                let _ = writeln!(text, "  {remedy}");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "\nnote: {note}");
        }
        text
    }

    /// The page: table, warnings, curves. Contains no script and asks no network.
    pub fn page(&self, charts: &[Chart]) -> String {
        let title = format!("Simulation of plan {}", self.plan);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    title { (title) }
                    style { (PreEscaped(STYLE)) }
                }
                body {
                    main {
                        h1 { (title) }
                        p { (self.question()) }
                        @for warning in &self.warnings { p.warning { (warning) } }
                        @for note in &self.notes { p { "Note: " (note) "." } }
                        (self.html_table())
                        @for (index, chart) in charts.iter().enumerate() { (figure(index, chart)) }
                    }
                    footer { p { "Made by " code { "canary simulate" } ". The same seed gives the same page." } }
                }
            }
        };
        page.into_string()
    }

    fn html_table(&self) -> Markup {
        html! {
            table {
                thead { tr {
                    td {}
                    th scope="col" { (self.heading()) }
                    th scope="col" { "harmless release" }
                } }
                tbody {
                    @for (name, asked, harmless) in self.rows() {
                        tr { th scope="row" { (name) } td { (asked) } td { (harmless) } }
                    }
                }
            }
        }
    }
}

/// A chart that can be read on a phone.
fn figure(index: usize, chart: &Chart) -> Markup {
    // Beside the axis there is no room for more than a word or two.
    let vertical = &chart.y_label;
    let chart = Chart {
        compact: true,
        id: format!("chart-{index}"),
        y_label: String::new(),
        ..chart.clone()
    };
    html! { figure { (PreEscaped(chart.svg())) figcaption { "Upwards: " (vertical) } } }
}

/// The curves of the page: power against ratio, time to verdict against traffic, some paths of evidence.
pub fn charts(plan: &Plan, traffic: &Traffic, seed: u64) -> Vec<Chart> {
    vec![
        power(plan, traffic, seed),
        times(plan, traffic, seed),
        paths(plan, traffic, seed),
    ]
}

/// Chances of rollback and promotion against the canary's failures.
pub fn power(plan: &Plan, traffic: &Traffic, seed: u64) -> Chart {
    let ratios = [1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, 6.0, 10.0];
    let summaries: Vec<(f64, Summary)> = ratios
        .iter()
        .map(|ratio| {
            let changed = Traffic {
                ratio: *ratio,
                ..traffic.clone()
            };
            (
                *ratio,
                summarise(&outcomes(plan, &changed, CURVE_RUNS, seed, &|| {})),
            )
        })
        .collect();
    let line = |name: &str, of: fn(&Summary) -> f64| Series {
        name: name.to_owned(),
        points: summaries
            .iter()
            .map(|(ratio, summary)| (*ratio, of(summary)))
            .collect(),
        ..Series::default()
    };
    Chart {
        title: "Power: how a release fares against how much worse it is".to_owned(),
        x_label: "failures of the canary, as a multiple of the baseline's".to_owned(),
        y_label: "part of the rollouts".to_owned(),
        log_x: true,
        series: vec![
            line("rolled back", |summary| summary.rollback_probability),
            line("promoted", |summary| summary.promotion_probability),
            line("no verdict", |summary| summary.inconclusive_probability),
        ],
        ..Chart::default()
    }
}

/// Median time to verdict against traffic, for the canary asked for and a harmless one.
pub fn times(plan: &Plan, traffic: &Traffic, seed: u64) -> Chart {
    let rates: Vec<f64> = [0.1, 0.3, 1.0, 3.0, 10.0]
        .iter()
        .map(|times| times * traffic.rate)
        .collect();
    let line = |name: String, ratio: f64| Series {
        name,
        points: rates
            .iter()
            .filter_map(|rate| {
                let changed = Traffic {
                    rate: *rate,
                    ratio,
                    ..traffic.clone()
                };
                let summary = summarise(&outcomes(plan, &changed, CURVE_RUNS / 2, seed, &|| {}));
                // Where few runs come to a verdict, those few are the lucky ones and their time says nothing.
                summary
                    .seconds_to_verdict
                    .filter(|_| summary.inconclusive_probability <= 0.5)
                    .map(|spread| (*rate, spread.median / 60.0))
            })
            .collect(),
        ..Series::default()
    };
    let mut series = vec![line("harmless".to_owned(), 1.0)];
    if (traffic.ratio - 1.0).abs() > 1e-9 {
        series.push(line(format!("failures × {}", traffic.ratio), traffic.ratio));
    }
    Chart {
        title: "Time to verdict against traffic".to_owned(),
        x_label: "messages a second".to_owned(),
        y_label: "minutes, median where most runs have a verdict".to_owned(),
        log_x: true,
        series,
        ..Chart::default()
    }
}

/// The evidence of harm along five rollouts of the canary asked for and five of a harmless one.
pub fn paths(plan: &Plan, traffic: &Traffic, seed: u64) -> Chart {
    let lines = |name: &str, ratio: f64| -> Vec<Series> {
        (0..5)
            .map(|run| {
                let changed = Traffic {
                    ratio,
                    ..traffic.clone()
                };
                let path = rollout::run(plan, &changed, seed, run, true).path;
                let points = path
                    .into_iter()
                    .map(|(second, ln)| (second as f64, (ln / 10f64.ln()).clamp(-3.0, 6.0)));
                Series {
                    name: name.to_owned(),
                    points: points.collect(),
                    ..Series::default()
                }
            })
            .collect()
    };
    let mut series = lines("harmless", 1.0);
    if (traffic.ratio - 1.0).abs() > 1e-9 {
        series.extend(lines(&format!("failures × {}", traffic.ratio), traffic.ratio));
    }
    Chart {
        title: "Evidence of harm along single rollouts (cut off at 10⁶)".to_owned(),
        x_label: "seconds".to_owned(),
        y_label: "log₁₀ E".to_owned(),
        series,
        mark: Some((
            plan.rules.suspicion_bound() / 10f64.ln(),
            "suspicion: 1/α".to_owned(),
        )),
        ..Chart::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_the_promised_fields_and_the_page_needs_nothing_else() {
        let plan = Plan::read(include_str!("../../../plans/usual.toml")).expect("is right");
        let report = Report::make(&plan, &Traffic::plain(500.0, 0.005, 20.0), 4, 1, &|| {});
        let json = serde_json::to_value(&report).expect("writes");
        assert!(
            json["rollback_probability"].as_f64().is_some_and(|p| p > 0.9),
            "{json}"
        );
        assert!(
            json["promotion_probability"].is_number()
                && json["harmless"]["promotion_probability"].is_number()
        );
        let page = report.page(&[paths(&plan, &Traffic::plain(500.0, 0.005, 20.0), 1)]);
        assert!(page.contains("<svg") && page.contains("rolled back") && !page.contains("<script"));
        assert!(!page.replace("http://www.w3.org/2000/svg", "").contains("http"));
        assert!(report.table().contains("messages harmed"));
    }
}
