//! The status as text of 80 columns and at most so many rows, plain or coloured.

use std::fmt::Write as _;

use super::{Progress, STALE, Status, Step, ready, restarts};
use crate::journal::ServiceMeasured;
use crate::judge::verdict::{Measure, SignalReport};
use crate::moment::Moment;
use crate::plan::unit::show_fraction;

/// Columns that the text takes at most.
pub const COLUMNS: usize = 80;

/// Columns of a bar.
const BAR: usize = 34;

/// Whether to use the terminal's colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// No escape sequence at all.
    Plain,
    /// Bold, green and red.
    Colour,
}

#[derive(Clone, Copy)]
enum Tone {
    Strong,
    Good,
    Bad,
    Faint,
}

impl Paint {
    fn tone(self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Strong => "1",
            Tone::Good => "32",
            Tone::Bad => "31",
            Tone::Faint => "2",
        };
        match self {
            Self::Plain => text.to_owned(),
            Self::Colour => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }
}

/// The status in lines of at most [`COLUMNS`], the latest events in what is left of `rows`.
#[must_use]
pub fn lines(status: &Status, now: Moment, rows: usize, paint: Paint) -> Vec<String> {
    let mut lines = head(status, now, paint);
    lines.push(String::new());
    lines.extend(sharing(status, paint));
    lines.extend(rates(status, paint));
    lines.extend(evidence(status, paint));
    lines.push(service("stable", &status.measured.stable));
    lines.push(service("canary", &status.measured.canary));
    lines.extend(processes(status, now, paint));
    // A heading, and at least two events.
    let room = rows.saturating_sub(lines.len() + 1).max(2);
    lines.push(paint.tone(Tone::Strong, "last events"));
    let skipped = status.timeline.len().saturating_sub(room);
    for told in &status.timeline[skipped..] {
        let time = time_of_day(told.at);
        let text = cut(&told.text, COLUMNS - time.chars().count() - 2);
        let text = if told.trouble {
            paint.tone(Tone::Bad, &text)
        } else {
            text
        };
        lines.push(format!("{}  {text}", paint.tone(Tone::Faint, &time)));
    }
    lines
}

/// The same as one text, with all events.
#[must_use]
pub fn text(status: &Status, now: Moment) -> String {
    lines(status, now, usize::MAX, Paint::Plain).join("\n") + "\n"
}

fn head(status: &Status, now: Moment, paint: Paint) -> Vec<String> {
    let headline = status.headline();
    let tone = match headline {
        "promoted" | "restored" => Tone::Good,
        "rolled back" | "held" | "suspected" | "refused before the start" => Tone::Bad,
        _ => Tone::Strong,
    };
    let against = match &status.baseline {
        Some(baseline) => format!(" against {}", cut(baseline, 20)),
        // Refused before it was looked at what runs.
        None if headline == "refused before the start" => String::new(),
        None => " the first release".to_owned(),
    };
    let release = cut(&status.release, 24);
    let first = format!(
        "{}{against}: {}",
        paint.tone(Tone::Strong, &release),
        paint.tone(tone, headline)
    );
    let mut lines = vec![first];
    let seconds = u32::try_from(status.seconds(now)).unwrap_or(u32::MAX);
    let driver = match (&status.owner, status.stale, status.ended) {
        (Some(owner), false, None) => format!(", driven by {owner}"),
        (None, _, _) | (Some(_), true, _) | (Some(_), _, Some(_)) => String::new(),
    };
    lines.push(cut(
        &format!(
            "plan {}, {}, began {} UTC, {}{driver}",
            status.plan,
            status.kind,
            time_of_day(status.began),
            crate::plan::unit::show_seconds(seconds)
        ),
        COLUMNS,
    ));
    lines.push(cut(&status.now, COLUMNS));
    if let (true, Some(goes_on)) = (status.stale, &status.goes_on) {
        let text = format!("nobody drives it: `{goes_on}` goes on with it");
        lines.push(paint.tone(Tone::Bad, &cut(&text, COLUMNS)));
    }
    if let Some(asked) = &status.asked {
        lines.push(cut(&format!("{}: {asked}", status.kind), COLUMNS));
    }
    if let Some(held) = &status.held {
        let text = format!("held until {} UTC: {}", time_of_day(held.until), held.reason);
        lines.push(paint.tone(Tone::Bad, &cut(&text, COLUMNS)));
    }
    if let Some(reason) = &status.reason {
        lines.push(cut(&format!("why: {reason}"), COLUMNS));
    }
    if !status.steps.is_empty() {
        lines.push(cut(
            &format!(
                "steps      {}",
                status.steps.iter().map(step).collect::<Vec<_>>().join("  ")
            ),
            COLUMNS,
        ));
    }
    lines
}

fn step(step: &Step) -> String {
    let sign = match step.progress {
        Progress::Done => '✓',
        Progress::Now => '▶',
        Progress::Ahead => '·',
    };
    format!("{sign} {}", show_fraction(step.share))
}

fn sharing(status: &Status, paint: Paint) -> Vec<String> {
    let measured = &status.measured;
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), show_fraction);
    let bar = match (measured.share, measured.share_wanted) {
        (Some(share), wanted) => filled(share, wanted),
        (None, _) => String::new(),
    };
    let mut lines = vec![
        paint.tone(Tone::Strong, "canary service"),
        format!(
            "  share    wanted {:>6} measured {:>6}  {bar}  {:.0}/s in all",
            percent(measured.share_wanted),
            percent(measured.share),
            measured.per_second
        ),
    ];
    // Why so little is measured.
    let open = measured.contained.filter(|span| span.to >= measured.at);
    if let (Some(span), None) = (open, status.ended) {
        let since = time_of_day(span.from);
        let text = format!("  breaker  first open at {since}: a canary has stopped itself, and only probes");
        lines.push(paint.tone(Tone::Bad, &text));
    }
    lines
}

/// A bar of a part of the whole, with a mark where it should be.
fn filled(part: f64, wanted: Option<f64>) -> String {
    let width = BAR - 12;
    let at = |part: f64| position(part, width);
    let mut cells: Vec<char> = (0..width)
        .map(|cell| if cell < at(part) { '█' } else { '░' })
        .collect();
    if let Some(wanted) = wanted {
        cells[at(wanted).min(width - 1)] = '┃';
    }
    cells.into_iter().collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "clamped to the width of a bar; NaN becomes 0"
)]
fn position(part: f64, width: usize) -> usize {
    (part.clamp(0.0, 1.0) * width as f64).round() as usize
}

fn rates(status: &Status, paint: Paint) -> Vec<String> {
    let Some(failures) = status.signals.first() else {
        return vec!["no message of both releases has been compared yet".to_owned()];
    };
    let high = failures.canary.rate.high.max(failures.baseline.rate.high);
    let top = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0]
        .into_iter()
        .find(|top| *top >= high)
        .unwrap_or(1.0);
    let heading = format!(
        "{:44}0%{:>width$}",
        cut(&signal_name(failures), 43),
        show_fraction(top),
        width = BAR - 2
    );
    let mut lines = vec![paint.tone(Tone::Strong, &heading)];
    for (release, arm) in [
        (status.release.as_str(), &failures.canary),
        (status.baseline.as_deref().unwrap_or("-"), &failures.baseline),
    ] {
        lines.push(format!(
            "  {:14} {:>7} of {:>10}     {}",
            cut(release, 14),
            show_fraction(arm.rate.rate),
            arm.attempts,
            interval(arm.rate.low / top, arm.rate.rate / top, arm.rate.high / top)
        ));
    }
    for signal in &status.signals[1..] {
        let text = format!(
            "  {:14} {:>7} against {:>7}",
            cut(&signal.name, 14),
            show_fraction(signal.canary.rate.rate),
            show_fraction(signal.baseline.rate.rate)
        );
        lines.push(text);
    }
    lines
}

fn signal_name(signal: &SignalReport) -> String {
    if signal.name == "failures" {
        "failed attempts".to_owned()
    } else {
        signal.name.clone()
    }
}

/// An interval with its middle, on a line from 0 to 1.
fn interval(low: f64, middle: f64, high: f64) -> String {
    let last = BAR - 1;
    let (from, to) = (position(low, last), position(high, last));
    let cell = |at: usize| match at {
        at if at == position(middle, last) => '●',
        at if at == from => '├',
        at if at == to => '┤',
        at if at > from && at < to => '─',
        _ => '·',
    };
    (0..BAR).map(cell).collect()
}

fn evidence(status: &Status, paint: Paint) -> Vec<String> {
    let (Some(harm), Some(promotion)) = (&status.harm, &status.promotion) else {
        return Vec::new();
    };
    let heading = format!(
        "{:45}none{:>width$}",
        "evidence, as odds",
        "bound",
        width = BAR - 4
    );
    vec![
        paint.tone(Tone::Strong, &heading),
        measure("of harm", harm),
        measure("of no harm", promotion),
    ]
}

fn measure(name: &str, measure: &Measure) -> String {
    let part = measure.ln_evidence / measure.ln_bound;
    let bar: String = (0..BAR)
        .map(|cell| if cell < position(part, BAR) { '█' } else { '░' })
        .collect();
    let odds = format!("{} of {}", odds(measure.ln_evidence), odds(measure.ln_bound));
    format!("  {name:14} {odds:>27} {bar}")
}

/// An e-value, given by its logarithm, as people say it: `120:1`.
#[must_use]
pub fn odds(ln: f64) -> String {
    let value = ln.exp();
    if ln > 1e6_f64.ln() {
        format!("10^{:.0}:1", ln / 10f64.ln())
    } else if value >= 10.0 {
        format!("{value:.0}:1")
    } else if value >= 1.0 {
        format!("{value:.1}:1")
    } else if ln < -(1e6_f64.ln()) {
        format!("1:10^{:.0}", -ln / 10f64.ln())
    } else {
        format!("1:{:.0}", 1.0 / value)
    }
}

fn service(name: &str, service: &ServiceMeasured) -> String {
    let mut text = format!("{name} service: ");
    match &service.release {
        None => text.push_str("nothing runs"),
        Some(release) => {
            let _ = write!(
                text,
                "{}, {} of {} processes ready",
                cut(release.as_str(), 24),
                ready(service),
                service.desired
            );
        }
    }
    let restarts = restarts(service);
    if restarts > 0 {
        let _ = write!(text, ", started again {restarts} times");
    }
    cut(&text, COLUMNS)
}

/// What is amiss with the processes, or how old is what is known of them.
fn processes(status: &Status, now: Moment, paint: Paint) -> Option<String> {
    let at = status.measured.at;
    let text = match &status.amiss {
        Some(amiss) => amiss.clone(),
        None if at.millis() > 0 && now.since(at).as_secs() > STALE => {
            let text = at.to_string();
            return Some(format!(
                "as of {} UTC",
                text.get(..19).unwrap_or(&text).replace('T', " ")
            ));
        }
        None => return None,
    };
    Some(paint.tone(Tone::Bad, &cut(&text, COLUMNS)))
}

/// `10:12:31`.
#[must_use]
pub fn time_of_day(at: Moment) -> String {
    let text = at.to_string();
    text.get(11..19).unwrap_or("").to_owned()
}

/// At most so many characters, in one line, without what would steer a terminal.
fn cut(text: &str, most: usize) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let mut cut: String = text.chars().take(most).map(plain).collect();
    if text.chars().nth(most).is_some() {
        cut.pop();
        cut.push('…');
    }
    cut
}
