//! What a run leaves behind: lines while it goes on, a table, JSON, a plot.

mod json;
mod progress;
mod svg;
mod table;

pub(crate) use json::{report_json, write_json};
pub(crate) use progress::{Moment, Progress};
pub(crate) use svg::latency_plot;
pub(crate) use table::{print_line, print_report, thousands};
