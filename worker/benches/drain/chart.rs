//! A line chart over two logarithmic axes, as SVG: no script, no font files.

use std::fmt::Write as _;

/// Lines over two axes; all numbers positive.
#[derive(Debug)]
pub(crate) struct Chart {
    pub(crate) title: &'static str,
    pub(crate) x_label: &'static str,
    pub(crate) y_label: &'static str,
    pub(crate) series: Vec<Series>,
}

/// One line.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 360.0;
/// Where the axes are: left, right, top and bottom.
const FRAME: [f64; 4] = [70.0, 540.0, 40.0, 310.0];
/// Told apart by people with any kind of colour vision (Okabe and Ito).
const COLOURS: [&str; 4] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7"];

/// From values to pixels, whole decades.
#[derive(Debug)]
struct Axis {
    decades: std::ops::RangeInclusive<i32>,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values
            .filter(|value| *value > 0.0)
            .map(|value| value.log10() + 1e-9)
            .collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max) - 1e-6;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "decades of numbers that a person reads"
        )]
        let (low, high) = (low as i32, high.ceil() as i32);
        Self {
            decades: low..=high.max(low + 1),
            from,
            to,
        }
    }

    fn place(&self, value: f64) -> f64 {
        let (low, high) = (f64::from(*self.decades.start()), f64::from(*self.decades.end()));
        self.from + (value.log10() - low) / (high - low) * (self.to - self.from)
    }
}

impl Chart {
    /// The chart as a document of its own.
    pub(crate) fn svg(&self) -> String {
        let [left, right, top, bottom] = FRAME;
        let points = || self.series.iter().flat_map(|series| series.points.iter());
        let x = Axis::over(points().map(|point| point.0), left, right);
        let y = Axis::over(points().map(|point| point.1), bottom, top);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             font-family=\"sans-serif\" font-size=\"12\"><title>{title}</title>\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{left}\" y=\"22\" font-size=\"15\">{title}</text>\n",
            title = self.title
        );
        self.draw_axes(&mut svg, &x, &y);
        for (at, series) in self.series.iter().enumerate() {
            draw_line(&mut svg, at, series, &x, &y);
        }
        svg.push_str("</svg>\n");
        svg
    }

    // Writing to a string cannot fail; likewise below.
    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) {
        let [left, right, top, bottom] = FRAME;
        for decade in y.decades.clone() {
            let value = 10_f64.powi(decade);
            let (at, text) = (y.place(value), (y.place(value) + 4.0, left - 6.0));
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {at:.1}H{right}\" stroke=\"#dddddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                text.1, text.0
            );
        }
        for decade in x.decades.clone() {
            let value = 10_f64.powi(decade);
            let _ = writeln!(
                svg,
                "<path d=\"M{at:.1} {bottom}v5\" stroke=\"#333333\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{value}</text>",
                bottom + 18.0,
                at = x.place(value)
            );
        }
        let (middle, centre) = (f64::midpoint(left, right), f64::midpoint(top, bottom));
        let _ = writeln!(
            svg,
            "<path d=\"M{left} {top}V{bottom}H{right}\" fill=\"none\" stroke=\"#333333\"/>\n\
             <text x=\"{middle}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(16 {centre}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            HEIGHT - 12.0,
            self.x_label,
            self.y_label
        );
    }
}

fn draw_line(svg: &mut String, at: usize, series: &Series, x: &Axis, y: &Axis) {
    let colour = COLOURS[at % COLOURS.len()];
    let mut line = String::new();
    for (px, py) in series.points.iter().filter(|point| point.1 > 0.0) {
        let (px, py) = (x.place(*px), y.place(*py));
        let _ = write!(line, "{px:.1},{py:.1} ");
        let _ = writeln!(
            svg,
            "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\" fill=\"{colour}\"/>"
        );
    }
    let legend = FRAME[2] + 10.0 + 20.0 * f64::from(u8::try_from(at).unwrap_or(u8::MAX));
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n\
         <rect x=\"{:.1}\" y=\"{:.1}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{:.1}\" y=\"{legend:.1}\">{}</text>",
        line.trim_end(),
        FRAME[1] + 14.0,
        legend - 6.0,
        FRAME[1] + 34.0,
        series.name
    );
}
