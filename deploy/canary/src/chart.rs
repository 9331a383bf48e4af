//! Line charts as SVG: no script, no font files, the same bytes for the same numbers.
//!
//! Colours are attributes, so that a chart is complete by itself; each element has a class as well, by which a page can give it
//! others (dark mode): `paper`, `ink`, `grid`, `axis`, `mark`, `moment`, and `s0` to `s6` for the lines.

use std::fmt::Write as _;

use crate::plan::unit::show_fraction;

/// A chart of lines over two axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// What it shows, in a sentence, for those who do not see it.
    pub description: String,
    /// Unique on its page, if the page has several; letters, digits and `-`.
    pub id: String,
    /// Below the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic; x must then be positive.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic; y must then be positive.
    pub log_y: bool,
    /// Whether values are fractions that are shown in percent.
    pub percent: bool,
    /// For narrow screens: fewer pixels, so that the text is larger, and the legend above the lines.
    pub compact: bool,
    /// The lines.
    pub series: Vec<Series>,
    /// A level to mark, with what it is.
    pub mark: Option<(f64, String)>,
    /// Places on the horizontal axis to mark, with a short label each.
    pub moments: Vec<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend; lines of the same name share colour and entry.
    pub name: String,
    /// Points from left to right. What is not a finite number is left out.
    pub points: Vec<(f64, f64)>,
    /// A band around the line: x, lower end, upper end, from left to right.
    pub band: Vec<(f64, f64, f64)>,
}

/// Sizes in pixels.
struct Layout {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    font: u32,
}

const WIDE: Layout = Layout {
    width: 760.0,
    height: 380.0,
    left: 70.0,
    right: 190.0,
    top: 40.0,
    bottom: 50.0,
    font: 12,
};
const COMPACT: Layout = Layout {
    width: 480.0,
    height: 300.0,
    left: 62.0,
    right: 14.0,
    top: 66.0,
    bottom: 48.0,
    font: 14,
};

/// Colours that people with any kind of colour vision tell apart (Okabe and Ito).
const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#666666",
];

/// One axis: from values to pixels.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64> + Clone, log: bool, from: f64, to: f64) -> Self {
        let usable = values.filter(|value| value.is_finite() && (!log || *value > 0.0));
        let (mut low, mut high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        if !low.is_finite() {
            (low, high) = (1.0, 10.0);
        }
        if log {
            low = 10f64.powf(low.log10().floor());
            high = 10f64.powf(high.log10().ceil()).max(low * 10.0);
        } else {
            low = low.min(0.0);
            high = if high > low { high } else { low + 1.0 };
        }
        Self {
            low,
            high,
            log,
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let part = if self.log {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.from + part * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let mut ticks = Vec::new();
            let mut tick = self.low;
            let steps: &[f64] = if self.high > self.low * 1001.0 {
                &[1.0]
            } else {
                &[1.0, 2.0, 5.0]
            };
            while tick <= self.high * 1.001 {
                let between = steps.iter().map(|step| step * tick);
                ticks.extend(between.filter(|tick| *tick <= self.high * 1.001));
                tick *= 10.0;
            }
            return ticks;
        }
        let raw = (self.high - self.low) / 5.0;
        let base = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .iter()
            .map(|m| m * base)
            .find(|step| *step >= raw)
            .unwrap_or(raw);
        let mut ticks = Vec::new();
        let mut tick = (self.low / step).ceil() * step;
        while tick <= self.high + step * 0.001 {
            ticks.push(if tick.abs() < step * 0.001 { 0.0 } else { tick });
            tick += step;
        }
        ticks
    }
}

/// Text as it may stand in an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
        .replace('\'', "&#39;")
}

fn number(value: f64) -> String {
    let text = if value != 0.0 && value.abs() < 0.01 {
        format!("{value:.4}")
    } else {
        format!("{value:.2}")
    };
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

impl Chart {
    fn layout(&self) -> &'static Layout {
        if self.compact { &COMPACT } else { &WIDE }
    }

    /// The chart as an SVG element of its own.
    pub fn svg(&self) -> String {
        let layout = self.layout();
        let Layout {
            width,
            height,
            left,
            font,
            ..
        } = *layout;
        let points = || self.series.iter().flat_map(|series| &series.points);
        let bands = || self.series.iter().flat_map(|series| &series.band);
        let x = Axis::of(
            points().map(|point| point.0),
            self.log_x,
            left,
            width - layout.right,
        );
        let marked = self.mark.iter().map(|(level, _)| *level);
        let ends = bands().flat_map(|(_, low, high)| [*low, *high]);
        let y = Axis::of(
            points().map(|point| point.1).chain(marked).chain(ends),
            self.log_y,
            height - layout.bottom,
            layout.top,
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\"{named} \
             font-family=\"sans-serif\" font-size=\"{font}\">{titles}\n\
             <rect class=\"paper\" width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
             <text class=\"ink\" x=\"{heading}\" y=\"22\" font-size=\"15\">{title}</text>\n",
            named = self.named(),
            titles = self.titles(),
            heading = if self.compact { 8.0 } else { left },
            title = escape(&self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        self.draw_mark(&mut svg, &y);
        self.draw_moments(&mut svg, &x);
        self.draw_lines(&mut svg, &x, &y);
        svg.push_str("</svg>\n");
        svg
    }

    fn named(&self) -> String {
        if self.id.is_empty() {
            return String::new();
        }
        let description = if self.description.is_empty() {
            String::new()
        } else {
            format!(" {}-description", self.id)
        };
        format!(" aria-labelledby=\"{}-title{description}\"", self.id)
    }

    fn titles(&self) -> String {
        let id = |part: &str| {
            if self.id.is_empty() {
                String::new()
            } else {
                format!(" id=\"{}-{part}\"", self.id)
            }
        };
        let title = format!("<title{}>{}</title>", id("title"), escape(&self.title));
        if self.description.is_empty() {
            return title;
        }
        format!(
            "{title}<desc{}>{}</desc>",
            id("description"),
            escape(&self.description)
        )
    }

    fn tick(&self, value: f64) -> String {
        if self.percent {
            show_fraction(value)
        } else {
            number(value)
        }
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let Layout {
            width,
            height,
            left,
            top,
            ..
        } = *self.layout();
        let (right, bottom) = (width - self.layout().right, height - self.layout().bottom);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
                 <text class=\"ink\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                left - 6.0,
                at + 4.0,
                self.tick(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#333333\"/>\
                 <text class=\"ink\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 5.0,
                bottom + 18.0,
                number(tick)
            );
        }
        let (middle, centre) = ((left + right) / 2.0, (top + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<path class=\"axis\" d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#333333\"/>\
             <text class=\"ink\" x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            height - 12.0,
            escape(&self.x_label),
        );
        if !self.y_label.is_empty() {
            let _ = writeln!(
                svg,
                "<text class=\"ink\" transform=\"translate(16 {centre:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
                escape(&self.y_label)
            );
        }
    }

    fn draw_mark(&self, svg: &mut String, y: &Axis) {
        let Layout {
            width, left, right, ..
        } = *self.layout();
        if let Some((level, name)) = &self.mark {
            let at = y.place(*level);
            let _ = writeln!(
                svg,
                "<line class=\"mark\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#aa0000\" \
                 stroke-dasharray=\"5 4\"/>\
                 <text class=\"mark-text\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#aa0000\">{}</text>",
                width - right,
                width - right - 4.0,
                at - 5.0,
                escape(name)
            );
        }
    }

    fn draw_moments(&self, svg: &mut String, x: &Axis) {
        let Layout {
            height, top, bottom, ..
        } = *self.layout();
        let mut last = f64::NEG_INFINITY;
        for (at, name) in &self.moments {
            let at = x.place(*at);
            let _ = write!(
                svg,
                "<line class=\"moment\" x1=\"{at:.1}\" y1=\"{top}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#777777\" \
                 stroke-dasharray=\"2 3\"/>",
                height - bottom
            );
            // Labels that would stand on each other are left out; their lines stay.
            if at - last >= 9.0 * name.chars().count() as f64 + 6.0 {
                let _ = writeln!(
                    svg,
                    "<text class=\"ink\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                    top - 4.0,
                    escape(name)
                );
                last = at;
            }
        }
    }

    fn draw_lines(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let mut names: Vec<&str> = Vec::new();
        for series in &self.series {
            let known = names.iter().position(|name| *name == series.name);
            let index = known.unwrap_or(names.len()) % COLOURS.len();
            let colour = COLOURS[index];
            let drawable = |px: f64, py: f64| {
                px.is_finite() && py.is_finite() && (!self.log_x || px > 0.0) && (!self.log_y || py > 0.0)
            };
            let place = |(px, py): (f64, f64)| format!("{:.1},{:.1}", x.place(px), y.place(py));
            let upper = series.band.iter().map(|(px, _, high)| (*px, *high));
            let lower = series.band.iter().rev().map(|(px, low, _)| (*px, *low));
            let outline: Vec<String> = upper
                .chain(lower)
                .filter(|(px, py)| drawable(*px, *py))
                .map(place)
                .collect();
            if !outline.is_empty() {
                let _ = writeln!(
                    svg,
                    "<polygon class=\"s{index}\" points=\"{}\" fill=\"{colour}\" fill-opacity=\"0.18\" stroke=\"none\"/>",
                    outline.join(" ")
                );
            }
            let line: Vec<String> = series
                .points
                .iter()
                .copied()
                .filter(|(px, py)| drawable(*px, *py))
                .map(place)
                .collect();
            // Told apart without colour, too.
            let dashes = if self.compact && index % 2 == 1 {
                " stroke-dasharray=\"7 3\""
            } else {
                ""
            };
            let _ = writeln!(
                svg,
                "<polyline class=\"s{index}\" points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}/>",
                line.join(" ")
            );
            if known.is_none() {
                self.draw_legend(svg, index, &names, &series.name);
                names.push(&series.name);
            }
        }
    }

    fn draw_legend(&self, svg: &mut String, index: usize, before: &[&str], name: &str) {
        let Layout {
            width, right, top, ..
        } = *self.layout();
        let (x, y) = if self.compact {
            let taken: usize = before.iter().map(|name| name.chars().count()).sum();
            (8.0 + 8.0 * taken as f64 + 40.0 * before.len() as f64, 44.0)
        } else {
            (width - right + 12.0, top + 10.0 + 20.0 * before.len() as f64)
        };
        let colour = COLOURS[index];
        let dashes = if self.compact && index % 2 == 1 {
            " stroke-dasharray=\"7 3\""
        } else {
            ""
        };
        let _ = writeln!(
            svg,
            "<path class=\"s{index}\" d=\"M{x:.1} {:.1}h16\" stroke=\"{colour}\" stroke-width=\"4\" fill=\"none\"{dashes}/>\
             <text class=\"ink\" x=\"{:.1}\" y=\"{y:.1}\">{}</text>",
            y - 4.0,
            x + 22.0,
            escape(name)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_the_same_bytes_for_the_same_numbers_and_has_no_strange_ones() {
        let chart = Chart {
            title: "a < b & c".into(),
            log_x: true,
            series: vec![
                Series {
                    name: "one".into(),
                    points: vec![(0.0, 1.0), (1.0, 2.0), (100.0, f64::NAN), (10.0, 3.0)],
                    band: vec![(1.0, 0.5, f64::INFINITY), (10.0, 2.5, 3.5)],
                },
                Series::default(),
            ],
            mark: Some((4.0, "bound".into())),
            ..Chart::default()
        };
        let svg = chart.svg();
        assert_eq!(svg, chart.clone().svg());
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("bound"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(!Chart::default().svg().contains("NaN"));
    }

    #[test]
    fn what_it_shows_is_told_to_those_who_do_not_see_it() {
        let chart = Chart {
            title: "Rate".into(),
            description: "It rises.".into(),
            id: "rate".into(),
            ..Chart::default()
        };
        let svg = chart.svg();
        assert!(
            svg.contains("role=\"img\" aria-labelledby=\"rate-title rate-description\""),
            "{svg}"
        );
        assert!(
            svg.contains(
                "<title id=\"rate-title\">Rate</title><desc id=\"rate-description\">It rises.</desc>"
            )
        );
    }

    #[test]
    fn names_from_outside_stay_text() {
        let hostile = "\"><script>alert('1')</script>";
        let chart = Chart {
            title: hostile.into(),
            description: hostile.into(),
            x_label: hostile.into(),
            y_label: hostile.into(),
            series: vec![Series {
                name: hostile.into(),
                ..Series::default()
            }],
            mark: Some((1.0, hostile.into())),
            moments: vec![(1.0, hostile.into())],
            ..Chart::default()
        };
        let svg = chart.svg();
        assert!(!svg.contains("<script") && svg.contains("&lt;script"), "{svg}");
    }
}
