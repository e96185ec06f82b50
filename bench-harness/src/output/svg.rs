//! A latency plot, written as SVG by hand: percentiles on a scale of nines, milliseconds on a logarithmic one.

use std::fmt::Write;

use crate::measure::Latency;
use crate::report::Report;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 50.0;

/// The scale ends at 99.999 %.
const NINES_MAX: f64 = 5.0;

/// Points of a curve.
const STEPS: usize = 200;

const CURVES: [(&str, &str); 3] =
    [("ack", "#1a6fb0"), ("arrival at the sink", "#2f8f4e"), ("kept spans late by", "#b5532a")];

/// The plot of a report.
pub(crate) fn latency_plot(report: &Report) -> String {
    let curves: Vec<(&str, &str, &Latency)> = CURVES
        .iter()
        .zip([&report.ack, &report.arrival, &report.lateness])
        .map(|((name, colour), latency)| (*name, *colour, latency))
        .filter(|(_, _, latency)| latency.count() > 0)
        .collect();
    let ends = curves.iter().flat_map(|(_, _, latency)| [latency.at(0.0), latency.at(1.0)]);
    let (low, high) = ends.fold((f64::MAX, f64::MIN), |(low, high), end| (low.min(end), high.max(end)));
    let decades = if low > high { (-1, 1) } else { (low.max(1e-3).log10().floor() as i32, high.log10().ceil() as i32) };
    let decades = (decades.0, decades.1.max(decades.0 + 1));
    let mut svg = String::new();
    draw(&mut svg, report, &curves, decades);
    svg
}

fn draw(svg: &mut String, report: &Report, curves: &[(&str, &str, &Latency)], decades: (i32, i32)) {
    let x = |nines: f64| LEFT + nines / NINES_MAX * (WIDTH - LEFT - RIGHT);
    let y = |ms: f64| {
        let share = (ms.max(1e-3).log10() - f64::from(decades.0)) / f64::from(decades.1 - decades.0);
        HEIGHT - BOTTOM - share.clamp(0.0, 1.0) * (HEIGHT - TOP - BOTTOM)
    };
    let mut add = |text: String| {
        svg.push_str(&text);
        svg.push('\n');
    };
    add(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>"
    ));
    add(format!("<text x=\"{LEFT}\" y=\"24\" font-size=\"14\">{}</text>", escape(&report.title)));
    for (label, share) in
        [("0", 0.0), ("50", 0.5), ("90", 0.9), ("99", 0.99), ("99.9", 0.999), ("99.99", 0.9999), ("99.999", 0.99999)]
    {
        let at = x(nines(share));
        add(format!(
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label} %</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 18.0
        ));
    }
    for decade in decades.0..=decades.1 {
        let at = y(10_f64.powi(decade));
        add(format!(
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{} ms</text>",
            WIDTH - RIGHT,
            LEFT - 8.0,
            at + 4.0,
            10_f64.powi(decade)
        ));
    }
    for (number, (name, colour, latency)) in curves.iter().enumerate() {
        let mut points = String::new();
        for step in 0..=STEPS {
            let nines = NINES_MAX * step as f64 / STEPS as f64;
            let share = 1.0 - 10_f64.powf(-nines);
            let _infallible = write!(points, "{:.1},{:.1} ", x(nines), y(latency.at(share)));
        }
        add(format!(
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            points.trim_end()
        ));
        let at = TOP + 16.0 * (number as f64 + 1.0);
        add(format!("<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{name}</text>", WIDTH - RIGHT + 10.0));
    }
    add("</svg>".to_owned());
}

fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
