//! A trace as a picture: one bar a span, the critical path in a second colour. Text in, SVG out; no script, no font but
//! the reader's.

use std::fmt::Write as _;

use super::traces::duration;
use crate::admin::critical_path::{Analysis, SpanTime};

const WIDTH: f64 = 1_200.0;
/// Room for names on the left.
const NAMES: f64 = 360.0;
const ROW: f64 = 22.0;
const HEAD: f64 = 48.0;
/// Rows drawn; the rest is said in a last line.
const ROWS_MAX: usize = 2_000;
/// Characters of a name that fit beside the bars.
const NAME_CHARACTERS: usize = 48;

/// The picture. `order` names the spans in the order of the rows and how deep each is.
pub fn svg(analysis: &Analysis, order: &[(usize, usize)]) -> String {
    let rows = order.len().min(ROWS_MAX);
    let height = HEAD + ROW * (rows as f64 + 1.5);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"system-ui, sans-serif\" \
         font-size=\"12\">\n<style>.back{{fill:#fff}}.name,.head{{fill:#1b1f24}}.bar{{fill:#9db8d9}}.path{{fill:#d1495b}}\
         .failed{{stroke:#b00020;stroke-width:1.5}}.line{{stroke:#e3e6ea}}\
         @media(prefers-color-scheme:dark){{.back{{fill:#14171a}}.name,.head{{fill:#e6e8ea}}.bar{{fill:#4a6a94}}\
         .line{{stroke:#2b3036}}}}</style>\n<rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n"
    );
    let title = format!("Trace {}, {}", analysis.trace_id, duration(analysis.duration_ns));
    write_line(&mut text, "head", 12.0, 20.0, &title);
    if let Some(span) = analysis.bottleneck.map(|at| &analysis.spans[at]) {
        let part = format!(
            "bottleneck: {} {}, {} of it on the critical path",
            span.service,
            span.name,
            duration(span.on_path_ns)
        );
        write_line(&mut text, "head", 12.0, 38.0, &part);
    }
    for (row, (at, depth)) in order.iter().take(rows).enumerate() {
        write_row(&mut text, analysis, &analysis.spans[*at], HEAD + ROW * row as f64, *depth);
    }
    if order.len() > rows {
        let rest = format!("and {} more spans", order.len() - rows);
        write_line(&mut text, "name", 12.0, HEAD + ROW * (rows as f64 + 0.7), &rest);
    }
    text.push_str("</svg>\n");
    text
}

fn write_row(text: &mut String, analysis: &Analysis, span: &SpanTime, top: f64, depth: usize) {
    let scale = (WIDTH - NAMES - 12.0) / analysis.duration_ns.max(1) as f64;
    let place = |offset: u64| NAMES + offset as f64 * scale;
    let indent = 12.0 + 8.0 * depth.min(16) as f64;
    let name: String = format!("{} {}", span.service, span.name).chars().take(NAME_CHARACTERS).collect();
    let bottom = top + ROW;
    writeln!(text, "<line class=\"line\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{bottom}\" y2=\"{bottom}\"/>").expect(INFALLIBLE);
    write_line(text, "name", indent, top + 15.0, &name);
    let class = if span.error { "bar failed" } else { "bar" };
    // A span of no time is still a span.
    let width = (span.duration_ns as f64 * scale).max(1.0);
    let tip = format!(
        "{} {}: {}, self {}, {} on the critical path",
        span.service,
        span.name,
        duration(span.duration_ns),
        duration(span.self_ns),
        duration(span.on_path_ns)
    );
    writeln!(
        text,
        "<rect class=\"{class}\" x=\"{:.2}\" y=\"{}\" width=\"{width:.2}\" height=\"14\"><title>{}</title></rect>",
        place(span.offset_ns),
        top + 4.0,
        escaped(&tip)
    )
    .expect(INFALLIBLE);
    for (start, end) in &span.path {
        let width = ((end - start) as f64 * scale).max(1.0);
        writeln!(
            text,
            "<rect class=\"path\" x=\"{:.2}\" y=\"{}\" width=\"{width:.2}\" height=\"5\"/>",
            place(*start),
            top + 13.0
        )
        .expect(INFALLIBLE);
    }
}

const INFALLIBLE: &str = "writing to a string cannot fail";

fn write_line(text: &mut String, class: &str, x: f64, y: f64, line: &str) {
    writeln!(text, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(line)).expect(INFALLIBLE);
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analysis(name: &str, spans: usize) -> Analysis {
        let span = |at: usize| SpanTime {
            name: name.to_owned(),
            service: "shop".to_owned(),
            offset_ns: at as u64,
            duration_ns: 10,
            path: vec![(at as u64, at as u64 + 1)],
            ..SpanTime::default()
        };
        let spans = (0..spans).map(span).collect();
        Analysis { trace_id: "07".repeat(16), duration_ns: 100, bottleneck: Some(0), spans, ..Analysis::default() }
    }

    #[test]
    fn every_span_has_a_bar_and_its_part_of_the_path_a_second() {
        let drawn = svg(&analysis("GET /", 3), &[(0, 0), (1, 1), (2, 1)]);
        assert_eq!(drawn.matches("class=\"bar\"").count(), 3);
        assert_eq!(drawn.matches("class=\"path\"").count(), 3);
        assert!(drawn.contains("x=\"360.00\""), "the first begins where the bars begin");
        assert!(drawn.ends_with("</svg>\n"));
    }

    #[test]
    fn a_peers_text_stays_text() {
        let drawn = svg(&analysis("<script>\"&", 1), &[(0, 0)]);
        assert!(!drawn.contains("<script>"));
        assert!(drawn.contains("&lt;script&gt;&quot;&amp;"));
    }

    #[test]
    fn a_giant_trace_is_drawn_in_part_and_says_so() {
        let order: Vec<(usize, usize)> = (0..2_100).map(|at| (at, at)).collect();
        let drawn = svg(&analysis("x", 2_100), &order);
        assert_eq!(drawn.matches("class=\"bar\"").count(), 2_000);
        assert!(drawn.contains("and 100 more spans"));
    }
}
