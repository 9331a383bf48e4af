//! The report as one page: readable without script, on a phone, in the dark, and by a screen reader.
//!
//! Every text goes through the template engine, which escapes it; the charts escape their own.

mod style;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::words::capital;
use super::{Latency, Point, Rate, Report};
use crate::chart::{Chart, Series};
use crate::judge::verdict::Measure;
use crate::moment::Moment;
use crate::plan::unit::{show_fraction, show_seconds};
use crate::rollout::Outcome;
use crate::status::screen::{odds, time_of_day};
use crate::status::{Progress, Told};

/// Evidence is drawn from here on; below, a release is only more surely harmless.
const LEAST_EVIDENCE: f64 = -1.0;

/// And up to here: past its bound it grows without end.
const MOST_EVIDENCE: f64 = 3.0;

pub(super) fn page(report: &Report) -> String {
    let status = &report.status;
    let title = format!("{}: {}", status.release, status.headline());
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) }
                style { (PreEscaped(style::style())) }
            }
            body {
                header { (head(report)) }
                main {
                    (explanation(report))
                    (times(report))
                    (rates(report))
                    @if let Some(evidence) = evidence(report) { (evidence) }
                    (latency(report))
                    (messages(report))
                    (timeline(report))
                }
                footer {
                    p {
                        "Made by " code { "canary report" } " on " (moment(report.made)) "."
                        @if report.redacted { " Texts from outside were left out." }
                    }
                }
            }
        }
    };
    page.into_string()
}

fn head(report: &Report) -> Markup {
    let status = &report.status;
    let tone = match status.outcome {
        Some(Outcome::Promoted | Outcome::Restored) => "good",
        Some(Outcome::RolledBack | Outcome::Refused) => "bad",
        None => "open",
    };
    let seconds = u32::try_from(status.seconds(report.made)).unwrap_or(u32::MAX);
    html! {
        p.kicker { "Rollout " (status.rollout) }
        h1 { (status.release) " " span class={ "outcome " (tone) } { (status.headline()) } }
        dl.facts {
            div { dt { "Compared with" } dd { (status.baseline.as_deref().unwrap_or("nothing: the first release")) } }
            div { dt { "How" } dd { (status.kind) @if let Some(asked) = &status.asked { ": " (asked) } } }
            div { dt { "Plan" } dd { (status.plan) } }
            div { dt { "Began" } dd { (moment(status.began)) } }
            div {
                dt { @if status.ended.is_some() { "Took" } @else { "So far" } }
                dd { (show_seconds(seconds)) }
            }
            @if status.ended.is_none() { div { dt { "Now" } dd { (status.now) } } }
            @if let Some(held) = &status.held {
                div { dt { "Held" } dd { (held.reason) ", until " (moment(held.until)) } }
            }
        }
        @if !status.steps.is_empty() {
            ol.steps aria-label="Steps of the plan" {
                @for step in &status.steps {
                    li class=(progress(step.progress).0) {
                        strong { (show_fraction(step.share)) } " "
                        span { (progress(step.progress).1) }
                    }
                }
            }
        }
    }
}

const fn progress(progress: Progress) -> (&'static str, &'static str) {
    match progress {
        Progress::Done => ("done", "done"),
        Progress::Now => ("now", "reached"),
        Progress::Ahead => ("ahead", "not begun"),
    }
}

fn explanation(report: &Report) -> Markup {
    let status = &report.status;
    html! {
        section aria-labelledby="why" {
            h2 #why { "Why" }
            @for sentence in &report.explanation { p { (sentence) } }
            @if !status.first_failures.is_empty() {
                details {
                    summary { "The first messages that it failed" }
                    ul { @for id in &status.first_failures { li { code { (id) } } } }
                }
            }
        }
    }
}

fn times(report: &Report) -> Markup {
    let times = &report.times;
    let rows = [
        ("First message", "of the new release", times.first_message),
        ("First failure", "of the new release", times.first_failure),
        (
            "Contained",
            match times.contained {
                Some(_) => "a worker stopped itself",
                None => "no worker stopped itself",
            },
            times.contained,
        ),
        ("Suspected", "the canary at a trickle", times.suspected),
        ("Decided", "promotion or rollback", times.decided),
        ("Removed", "its last process gone", times.removed),
        ("Ended", "", times.ended),
    ];
    let after = |at: Moment| {
        let first = times.first_message?;
        (at >= first).then(|| format!("{:.1} s", at.since(first).as_secs_f64()))
    };
    html! {
        section aria-labelledby="times" {
            h2 #times { "How fast" }
            div.scroll tabindex="0" role="group" aria-labelledby="times" {
                table {
                    thead { tr {
                        th scope="col" { "What" }
                        th.number scope="col" { "Time (UTC)" }
                        th.number scope="col" { "After the first message" }
                    } }
                    tbody {
                        @for (name, note, at) in rows {
                            tr {
                                th scope="row" { (name) @if !note.is_empty() { " " span.note { (note) } } }
                                td.number { (at.map_or_else(none, time_of_day)) }
                                td.number { (at.and_then(after).unwrap_or_else(none)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn none() -> String {
    "–".to_owned()
}

fn rates(report: &Report) -> Markup {
    let series: [fn(&Point) -> Rate; 2] = [|point| point.canary, |point| point.baseline];
    let series = releases(report, series[0], series[1]).into_iter();
    html! {
        section aria-labelledby="rates" {
            h2 #rates { "Failure rate" }
            (chart(report, &Chart {
                id: "rate-chart".to_owned(),
                title: "Failure rate so far, with its band".to_owned(),
                description: rate_description(report),
                percent: true,
                series: series.map(|(release, of)| rate_series(report, release, of)).collect(),
                ..Chart::default()
            }))
            p.note {
                "First deliveries only: later ones were selected by earlier failures. The chance that a rate ever leaves its band is 5 %."
            }
            div.scroll tabindex="0" role="group" aria-labelledby="rates" {
                table {
                    thead { tr {
                        th scope="col" { "Signal" }
                        th scope="col" { "Release" }
                        th.number scope="col" { "Messages" }
                        th.number scope="col" { "Against it" }
                        th.number scope="col" { "Rate" }
                        th.number scope="col" { "Band" }
                    } }
                    tbody {
                        @for (name, new, old) in signals(report) {
                            @let rows = releases(report, new, old);
                            @let count = rows.len();
                            @for (index, (release, rate)) in rows.into_iter().enumerate() {
                                tr {
                                    @if index == 0 { th scope="rowgroup" rowspan=(count) { (name) } }
                                    td { (release) }
                                    td.number { (rate.attempts) }
                                    td.number { (rate.failed) }
                                    td.number { (show_fraction(rate.rate)) }
                                    td.number { (show_fraction(rate.low)) " – " (show_fraction(rate.high)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The releases of the report, each with what is picked for it: the new one, and the one before if there was one.
fn releases<T>(report: &Report, new: T, old: T) -> Vec<(&str, T)> {
    let status = &report.status;
    let old = status.baseline.as_deref().map(|release| (release, old));
    [(status.release.as_str(), new)].into_iter().chain(old).collect()
}

/// Signals as the judge had them; of a first release, which is not judged by them, its failures.
fn signals(report: &Report) -> Vec<(&str, Rate, Rate)> {
    let judged = report.status.signals.iter();
    let judged = judged.map(|signal| (signal.name.as_str(), signal.canary.into(), signal.baseline.into()));
    let mut signals: Vec<_> = judged.collect();
    if signals.is_empty()
        && let Some(last) = report.course.points.last()
    {
        signals.push(("failures", last.canary, last.baseline));
    }
    signals
}

fn rate_description(report: &Report) -> String {
    let Some(last) = report.course.points.last() else {
        return "No message was compared.".to_owned();
    };
    let of = |rate: Rate| {
        format!(
            "{} (between {} and {})",
            show_fraction(rate.rate),
            show_fraction(rate.low),
            show_fraction(rate.high)
        )
    };
    let before = match report.status.baseline {
        Some(_) => format!(", and {} of those of the release before", of(last.baseline)),
        None => String::new(),
    };
    format!(
        "In the end {} of the new release's messages had failed{before}.",
        of(last.canary)
    )
}

fn rate_series(report: &Report, name: &str, of: fn(&Point) -> Rate) -> Series {
    // A band of a handful of messages spans everything and would flatten the rest.
    const ENOUGH: u64 = 20;
    let points = || {
        report
            .course
            .points
            .iter()
            .filter(|point| of(point).attempts >= ENOUGH)
    };
    Series {
        name: name.to_owned(),
        points: points()
            .map(|point| (time(report, point), of(point).rate))
            .collect(),
        band: points()
            .map(|point| (time(report, point), of(point).low, of(point).high))
            .collect(),
    }
}

/// The unit of the charts' time axis, with its seconds.
fn unit(report: &Report) -> (&'static str, f64) {
    let points = &report.course.points;
    let span = match (points.first(), points.last()) {
        (Some(first), Some(last)) => last.second - first.second,
        (None, _) | (_, None) => 0,
    };
    match span {
        0..=180 => ("seconds", 1.0),
        181..=10_800 => ("minutes", 60.0),
        _ => ("hours", 3600.0),
    }
}

/// Time since the first window.
#[expect(clippy::cast_precision_loss, reason = "seconds of a rollout")]
fn place(report: &Report, seconds: f64) -> f64 {
    let begin = report.course.points.first().map_or(0, |first| first.second);
    (seconds - begin as f64) / unit(report).1
}

#[expect(
    clippy::cast_precision_loss,
    reason = "seconds since the epoch, far below 2^52"
)]
fn time(report: &Report, point: &Point) -> f64 {
    place(report, point.second as f64)
}

/// A chart on the rollout's time, with the times that matter marked; a frame in which it may scroll.
fn chart(report: &Report, chart: &Chart) -> Markup {
    let last = report
        .course
        .points
        .last()
        .map_or(0.0, |point| time(report, point));
    let times = &report.times;
    let moments = [("suspected", times.suspected), ("decided", times.decided)];
    let inside = |(name, at): (&str, Option<Moment>)| {
        let at = place(report, f64::from(at?));
        (0.0..=last).contains(&at).then(|| (at, name.to_owned()))
    };
    let chart = Chart {
        compact: true,
        x_label: unit(report).0.to_owned(),
        moments: moments.into_iter().filter_map(inside).collect(),
        ..chart.clone()
    };
    html! { figure { (PreEscaped(chart.svg())) } }
}

/// The evidence, where two releases were compared.
fn evidence(report: &Report) -> Option<Markup> {
    let (harm, promotion) = (report.status.harm.as_ref()?, report.status.promotion.as_ref()?);
    Some(html! {
        section aria-labelledby="evidence" {
            h2 #evidence { "Evidence" }
            (evidence_chart(report, harm, promotion))
            (evidence_table(harm, promotion))
        }
    })
}

fn evidence_chart(report: &Report, harm: &Measure, promotion: &Measure) -> Markup {
    let course = &report.course;
    let part = |evidence: f64, bound: f64| (evidence / bound).clamp(LEAST_EVIDENCE, MOST_EVIDENCE);
    let series = |name: &str, of: fn(&Point) -> f64, bound: f64| Series {
        name: name.to_owned(),
        points: course
            .points
            .iter()
            .map(|point| (time(report, point), part(of(point), bound)))
            .collect(),
        band: Vec::new(),
    };
    let description = format!(
        "In the end the evidence of harm was {} of {}, and that of no harm {} of {}.",
        odds(harm.ln_evidence),
        odds(harm.ln_bound),
        odds(promotion.ln_evidence),
        odds(promotion.ln_bound)
    );
    chart(
        report,
        &Chart {
            id: "evidence-chart".to_owned(),
            title: "Evidence, as a part of what decides".to_owned(),
            description,
            series: vec![
                series("harm", |point| point.ln_harm, course.ln_harm_bound),
                series("no harm", |point| point.ln_promotion, course.ln_promotion_bound),
            ],
            mark: Some((1.0, "decides".to_owned())),
            ..Chart::default()
        },
    )
}

fn evidence_table(harm: &Measure, promotion: &Measure) -> Markup {
    html! {
        div.scroll tabindex="0" role="group" aria-labelledby="evidence" {
            table {
                thead { tr {
                    th scope="col" { "Evidence of" }
                    th.number scope="col" { "Odds" }
                    th.number scope="col" { "Decides at" }
                    th.number scope="col" { "Without any one stretch" }
                    th.number scope="col" { "Must be" }
                } }
                tbody {
                    @for (name, measure) in [("harm: roll back", harm), ("no harm: promote", promotion)] {
                        tr {
                            th scope="row" { (name) }
                            td.number { (odds(measure.ln_evidence)) }
                            td.number { (odds(measure.ln_bound)) }
                            td.number { (measure.ln_evidence_without_stretch.map_or_else(none, odds)) }
                            td.number { (odds(measure.ln_bound_without_stretch)) }
                        }
                    }
                }
            }
        }
    }
}

fn latency(report: &Report) -> Markup {
    let course = &report.course;
    let series = |name: String, of: fn(&Point) -> Latency, quantile: fn(&Latency) -> Option<f64>| Series {
        name,
        points: course
            .points
            .iter()
            .filter_map(|point| Some((time(report, point), quantile(&of(point))?)))
            .collect(),
        band: Vec::new(),
    };
    let show = |milliseconds: Option<f64>| milliseconds.map_or_else(none, |value| format!("{value:.0} ms"));
    let latencies = releases(report, &course.canary_latency, &course.baseline_latency);
    let whole: Vec<String> = latencies
        .iter()
        .map(|(release, latency)| format!("{release} {}", show(latency.p99)))
        .collect();
    let pick: [fn(&Point) -> Latency; 2] = [|point| point.canary_latency, |point| point.baseline_latency];
    let pick = releases(report, pick[0], pick[1]).into_iter();
    html! {
        section aria-labelledby="latency" {
            h2 #latency { "Latency" }
            (chart(report, &Chart {
                id: "latency-chart".to_owned(),
                title: "Milliseconds that 99 % do not exceed".to_owned(),
                description: format!("Over the whole rollout: {}.", whole.join(", ")),
                series: pick.map(|(release, of)| series(release.to_owned(), of, |latency| latency.p99)).collect(),
                ..Chart::default()
            }))
            div.scroll tabindex="0" role="group" aria-labelledby="latency" {
                table {
                    thead { tr {
                        th scope="col" { "Release" }
                        th.number scope="col" { "50 %" }
                        th.number scope="col" { "90 %" }
                        th.number scope="col" { "99 %" }
                    } }
                    tbody {
                        @for (release, latency) in &latencies {
                            tr {
                                th scope="row" { (release) }
                                td.number { (show(latency.p50)) }
                                td.number { (show(latency.p90)) }
                                td.number { (show(latency.p99)) }
                            }
                        }
                    }
                }
            }
            p.note { "Of attempts that ended well; counted in buckets, so at most 9 % too high." }
        }
    }
}

fn messages(report: &Report) -> Markup {
    let series = |name: &str, of: fn(&Point) -> Option<f64>| Series {
        name: name.to_owned(),
        points: report
            .course
            .points
            .iter()
            .filter_map(|point| Some((time(report, point), of(point)?)))
            .collect(),
        band: Vec::new(),
    };
    html! {
        section aria-labelledby="messages" {
            h2 #messages { "Messages" }
            (chart(report, &Chart {
                id: "share-chart".to_owned(),
                title: "Share of the new release".to_owned(),
                description: "The part of the messages that the new release took, and the part that it was to take.".to_owned(),
                percent: true,
                series: vec![
                    series("measured", |point| point.share),
                    series("wanted", |point| Some(point.share_wanted).filter(|share| *share > 0.0)),
                ],
                ..Chart::default()
            }))
            @match (report.handed_over, &report.status.baseline) {
                (_, None) => {}
                (0, Some(_)) => p { "No message was handed over to the release before." }
                (1, Some(_)) => p { "1 failed message was handed over to the release before." }
                (count, Some(_)) => p { (count) " failed messages were handed over to the release before." }
            }
            @if report.redriven.is_empty() {
                p { "No dead letter was sent back to its queue." }
            }
            @for text in &report.redriven { p { (capital(text)) "." } }
        }
    }
}

fn timeline(report: &Report) -> Markup {
    let status = &report.status;
    html! {
        section.wide aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            @if status.left_out > 0 { p.note { (status.left_out) " entries in the middle were not kept." } }
            table.timeline {
                thead { tr { th scope="col" { "Time (UTC)" } th scope="col" { "What happened" } } }
                tbody { @for told in &status.timeline { (entry(told)) } }
            }
        }
    }
}

fn entry(told: &Told) -> Markup {
    html! {
        tr class=[told.trouble.then_some("trouble")] {
            td { time datetime=(told.at.to_string()) { (time_of_day(told.at)) } }
            td { (told.text) }
        }
    }
}

fn moment(at: Moment) -> Markup {
    let text = at.to_string();
    let shown = text
        .get(..19)
        .map_or_else(|| text.clone(), |text| format!("{} UTC", text.replace('T', " ")));
    html! { time datetime=(text) { (shown) } }
}
