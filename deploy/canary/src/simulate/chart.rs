//! Line charts as SVG: no script, no font files, the same bytes for the same numbers.

use std::fmt::Write as _;

/// A chart of lines over two axes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Above the chart.
    pub title: String,
    /// Below the horizontal axis.
    pub x_label: String,
    /// Beside the vertical axis.
    pub y_label: String,
    /// Whether the horizontal axis is logarithmic; x must then be positive.
    pub log_x: bool,
    /// Whether the vertical axis is logarithmic; y must then be positive.
    pub log_y: bool,
    /// The lines.
    pub series: Vec<Series>,
    /// A level to mark, with what it is.
    pub mark: Option<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// In the legend; lines of the same name share colour and entry.
    pub name: String,
    /// Points from left to right. What is not a finite number is left out.
    pub points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 190.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
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

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
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
    /// The chart as an SVG element of its own.
    pub fn svg(&self) -> String {
        let all = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::of(all().map(|point| point.0), self.log_x, LEFT, WIDTH - RIGHT);
        let marked = self.mark.iter().map(|(level, _)| *level);
        let y = Axis::of(
            all().map(|point| point.1).chain(marked),
            self.log_y,
            HEIGHT - BOTTOM,
            TOP,
        );
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"12\"><title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n",
            title = escape(&self.title)
        );
        self.draw_axes(&mut svg, &x, &y);
        self.draw_mark(&mut svg, &y);
        self.draw_lines(&mut svg, &x, &y);
        svg.push_str("</svg>\n");
        svg
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(tick)
            );
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = writeln!(
                svg,
                "<line x1=\"{at:.1}\" y1=\"{bottom}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#333333\"/>\
                 <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 5.0,
                bottom + 18.0,
                number(tick)
            );
        }
        let (middle, centre) = ((LEFT + right) / 2.0, (TOP + bottom) / 2.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#333333\"/>\
             <text x=\"{middle:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text transform=\"translate(16 {centre:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 12.0,
            escape(&self.x_label),
            escape(&self.y_label)
        );
    }

    fn draw_mark(&self, svg: &mut String, y: &Axis) {
        if let Some((level, name)) = &self.mark {
            let at = y.place(*level);
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#aa0000\" stroke-dasharray=\"5 4\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#aa0000\" text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                WIDTH - RIGHT - 4.0,
                at - 5.0,
                escape(name)
            );
        }
    }

    fn draw_lines(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let mut names: Vec<&str> = Vec::new();
        for series in &self.series {
            let known = names.iter().position(|name| *name == series.name);
            let colour = COLOURS[known.unwrap_or(names.len()) % COLOURS.len()];
            let mut line = String::new();
            for (px, py) in &series.points {
                let drawable = px.is_finite()
                    && py.is_finite()
                    && (!self.log_x || *px > 0.0)
                    && (!self.log_y || *py > 0.0);
                if drawable {
                    let _ = write!(line, "{:.1},{:.1} ", x.place(*px), y.place(*py));
                }
            }
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                line.trim_end()
            );
            if known.is_none() {
                let at = TOP + 10.0 + 20.0 * names.len() as f64;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                    WIDTH - RIGHT + 12.0,
                    at - 6.0,
                    WIDTH - RIGHT + 32.0,
                    at,
                    escape(&series.name)
                );
                names.push(&series.name);
            }
        }
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
}
