//! The report as one page: readable without script, on a phone, in the dark, and by a screen reader.
//!
//! Every text goes through the template engine, which escapes it; the charts escape their own.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::words::capital;
use super::{Latency, Point, Rate, Report};
use crate::chart::{Chart, Series};
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
                style { (PreEscaped(style())) }
            }
            body {
                header { (head(report)) }
                main {
                    (explanation(report))
                    (times(report))
                    (rates(report))
                    (evidence(report))
                    (latency(report))
                    (sharing(report))
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
        ("Contained", "a worker stopped itself", times.contained),
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
            div.scroll tabindex="0" role="region" aria-labelledby="times" {
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
    let status = &report.status;
    let old = old_name(report);
    html! {
        section aria-labelledby="rates" {
            h2 #rates { "Failure rate" }
            (chart(report, &Chart {
                id: "rate-chart".to_owned(),
                title: "Failure rate so far, with its band".to_owned(),
                description: rate_description(report),
                percent: true,
                series: vec![
                    rate_series(report, &status.release, |point| point.canary),
                    rate_series(report, &old, |point| point.baseline),
                ],
                ..Chart::default()
            }))
            p.note {
                "First deliveries only: later ones were selected by earlier failures. The chance that a rate ever leaves its band is 5 %."
            }
            div.scroll tabindex="0" role="region" aria-labelledby="rates" {
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
                        @for signal in &status.signals {
                            @for (index, (release, arm)) in [(&status.release, &signal.canary), (&old, &signal.baseline)].into_iter().enumerate() {
                                tr {
                                    @if index == 0 { th scope="rowgroup" rowspan="2" { (signal.name) } }
                                    td { (release) }
                                    td.number { (arm.attempts) }
                                    td.number { (arm.failed) }
                                    td.number { (show_fraction(arm.rate.rate)) }
                                    td.number { (show_fraction(arm.rate.low)) " – " (show_fraction(arm.rate.high)) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn old_name(report: &Report) -> String {
    report
        .status
        .baseline
        .clone()
        .unwrap_or_else(|| "no release before".to_owned())
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
    format!(
        "In the end {} of the new release's messages had failed, and {} of those of the release before.",
        of(last.canary),
        of(last.baseline)
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
            .map(|point| (minutes(report, point), of(point).rate))
            .collect(),
        band: points()
            .map(|point| (minutes(report, point), of(point).low, of(point).high))
            .collect(),
    }
}

/// Minutes since the first window.
#[expect(clippy::cast_precision_loss, reason = "seconds of a rollout")]
fn minutes(report: &Report, point: &Point) -> f64 {
    let begin = report.course.points.first().map_or(0, |first| first.second);
    (point.second - begin) as f64 / 60.0
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a rollout")]
fn moment_in_minutes(report: &Report, at: Moment) -> f64 {
    let begin = report.course.points.first().map_or(0, |first| first.second);
    (at.millis() as f64 / 1000.0 - begin as f64) / 60.0
}

/// A chart on the rollout's time, with the times that matter marked; a frame in which it may scroll.
fn chart(report: &Report, chart: &Chart) -> Markup {
    let last = report
        .course
        .points
        .last()
        .map_or(0.0, |point| minutes(report, point));
    let times = &report.times;
    let moments = [("suspected", times.suspected), ("decided", times.decided)];
    let inside = |(name, at): (&str, Option<Moment>)| {
        let at = moment_in_minutes(report, at?);
        (0.0..=last).contains(&at).then(|| (at, name.to_owned()))
    };
    let chart = Chart {
        compact: true,
        x_label: "minutes".to_owned(),
        moments: moments.into_iter().filter_map(inside).collect(),
        ..chart.clone()
    };
    html! { figure { (PreEscaped(chart.svg())) } }
}

fn evidence(report: &Report) -> Markup {
    let course = &report.course;
    let status = &report.status;
    let series = |name: &str, of: fn(&Point) -> f64, bound: f64| Series {
        name: name.to_owned(),
        points: course
            .points
            .iter()
            .map(|point| {
                (
                    minutes(report, point),
                    (of(point) / bound).clamp(LEAST_EVIDENCE, MOST_EVIDENCE),
                )
            })
            .collect(),
        band: Vec::new(),
    };
    let description = match (&status.harm, &status.promotion) {
        (Some(harm), Some(promotion)) => format!(
            "In the end the evidence of harm was {} of {}, and that of no harm {} of {}.",
            odds(harm.ln_evidence),
            odds(harm.ln_bound),
            odds(promotion.ln_evidence),
            odds(promotion.ln_bound)
        ),
        (None, _) | (_, None) => "There was no evidence.".to_owned(),
    };
    let measures = [
        ("harm: roll back", &status.harm),
        ("no harm: promote", &status.promotion),
    ];
    html! {
        section aria-labelledby="evidence" {
            h2 #evidence { "Evidence" }
            (chart(report, &Chart {
                id: "evidence-chart".to_owned(),
                title: "Evidence, as a part of what decides".to_owned(),
                description,
                series: vec![
                    series("harm", |point| point.ln_harm, course.ln_harm_bound),
                    series("no harm", |point| point.ln_promotion, course.ln_promotion_bound),
                ],
                mark: Some((1.0, "decides".to_owned())),
                ..Chart::default()
            }))
            div.scroll tabindex="0" role="region" aria-labelledby="evidence" {
                table {
                    thead { tr {
                        th scope="col" { "Evidence of" }
                        th.number scope="col" { "Odds" }
                        th.number scope="col" { "Decides at" }
                        th.number scope="col" { "Without any one stretch" }
                        th.number scope="col" { "Must be" }
                    } }
                    tbody {
                        @for (name, measure) in measures {
                            @if let Some(measure) = measure {
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
    }
}

fn latency(report: &Report) -> Markup {
    let course = &report.course;
    let series = |name: String, of: fn(&Point) -> Latency, quantile: fn(&Latency) -> Option<f64>| Series {
        name,
        points: course
            .points
            .iter()
            .filter_map(|point| Some((minutes(report, point), quantile(&of(point))?)))
            .collect(),
        band: Vec::new(),
    };
    let (new, old) = (&report.status.release, old_name(report));
    let show = |milliseconds: Option<f64>| milliseconds.map_or_else(none, |value| format!("{value:.0} ms"));
    html! {
        section aria-labelledby="latency" {
            h2 #latency { "Latency" }
            (chart(report, &Chart {
                id: "latency-chart".to_owned(),
                title: "Milliseconds that 99 % do not exceed".to_owned(),
                description: format!(
                    "Over the whole rollout {} for the new release and {} for the release before.",
                    show(course.canary_latency.p99),
                    show(course.baseline_latency.p99)
                ),
                series: vec![
                    series(new.clone(), |point| point.canary_latency, |latency| latency.p99),
                    series(old.clone(), |point| point.baseline_latency, |latency| latency.p99),
                ],
                ..Chart::default()
            }))
            div.scroll tabindex="0" role="region" aria-labelledby="latency" {
                table {
                    thead { tr {
                        th scope="col" { "Release" }
                        th.number scope="col" { "50 %" }
                        th.number scope="col" { "90 %" }
                        th.number scope="col" { "99 %" }
                    } }
                    tbody {
                        @for (release, latency) in [(new, &course.canary_latency), (&old, &course.baseline_latency)] {
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

fn sharing(report: &Report) -> Markup {
    let series = |name: &str, of: fn(&Point) -> Option<f64>| Series {
        name: name.to_owned(),
        points: report
            .course
            .points
            .iter()
            .filter_map(|point| Some((minutes(report, point), of(point)?)))
            .collect(),
        band: Vec::new(),
    };
    html! {
        section aria-labelledby="share" {
            h2 #share { "Share of the work" }
            (chart(report, &Chart {
                id: "share-chart".to_owned(),
                title: "Share of the new release".to_owned(),
                description: "The part of the messages that the new release took, and the part that it was to take.".to_owned(),
                percent: true,
                series: vec![
                    series("measured", |point| point.share),
                    series("wanted", |point| Some(point.share_wanted)),
                ],
                ..Chart::default()
            }))
        }
    }
}

fn messages(report: &Report) -> Markup {
    html! {
        section aria-labelledby="messages" {
            h2 #messages { "Messages" }
            @match (report.handed_over, &report.status.baseline) {
                (_, None) => {}
                (0, Some(_)) => p { "No message was handed over to the release before." }
                (1, Some(_)) => p { "1 failed message was handed over to the release before." }
                (count, Some(_)) => p { (count) " failed messages were handed over to the release before." }
            }
            @if report.redriven.is_empty() {
                p { "No dead letter was sent back to its queue." }
            }
            @for text in &report.redriven { p { (capital(text)) } }
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

/// Colours of light and dark by what they are for: name, light, dark.
const PALETTE: [(&str, &str, &str); 11] = [
    ("paper", "#ffffff", "#15181d"),
    ("ink", "#1c2127", "#e4e7eb"),
    ("quiet", "#56606b", "#a3adb8"),
    ("line", "#d5dae0", "#39414b"),
    ("good", "#0a6b3d", "#5fd39a"),
    ("bad", "#a3211b", "#ff9a8f"),
    ("open", "#7a4b00", "#f0b95a"),
    ("s0", "#0072b2", "#6cbcf0"),
    ("s1", "#b44a00", "#ffa263"),
    ("s2", "#00795a", "#4fd0a5"),
    ("panel", "#f4f6f8", "#1e232a"),
];

fn style() -> String {
    let variables = |pick: fn(&(&str, &str, &str)) -> String| PALETTE.iter().map(pick).collect::<String>();
    let light = variables(|(name, light, _)| format!("--{name}:{light};"));
    let dark = variables(|(name, _, dark)| format!("--{name}:{dark};"));
    format!(
        ":root{{color-scheme:light dark;{light}}}@media(prefers-color-scheme:dark){{:root{{{dark}}}}}{}",
        include_str!("page.css")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// WCAG 2.2's relative luminance.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(one: &str, other: &str) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn every_text_has_contrast_in_the_light_and_in_the_dark() {
        let of = |name: &str| *PALETTE.iter().find(|colour| colour.0 == name).unwrap();
        for text in ["ink", "quiet", "good", "bad", "open", "s0", "s1", "s2"] {
            for ground in ["paper", "panel"] {
                let (text, ground) = (of(text), of(ground));
                for (text, ground) in [(text.1, ground.1), (text.2, ground.2)] {
                    assert!(
                        contrast(text, ground) >= 4.5,
                        "{text} on {ground}: {}",
                        contrast(text, ground)
                    );
                }
            }
        }
        assert!((contrast("#000000", "#ffffff") - 21.0).abs() < 1e-9);
    }

    #[test]
    fn the_style_asks_nobody_for_anything() {
        let style = style();
        assert!(
            !style.contains("url(") && !style.contains("@import") && !style.contains('<'),
            "{style}"
        );
    }
}
