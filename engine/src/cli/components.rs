//! `tracegate components`: every component that runs, one `section/type` a line, sorted.

use super::Report;

/// Arguments of `components`; there are none.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {}

/// Lists the components. Both spellings of renamed ones are listed, so a script can look for either.
pub fn run(_arguments: &Arguments) -> Report {
    let mut lines: Vec<String> = crate::config::built_components().collect();
    lines.sort_unstable();
    Report { exit_code: 0, output: lines.join("\n") + "\n", errors: String::new() }
}
