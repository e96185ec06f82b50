//! `tracegate print-config`: the configuration as the gateway sees it, merged and expanded, secrets hidden; or, with
//! `--for otelcol`, as the Collector takes it: merged, with its variables, without what is ours.

use super::{ConfigArguments, Report};
use crate::config::{self, Machine};

/// Arguments of `print-config`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Whether values of headers, keys and passwords are shown
    #[arg(long, value_enum, default_value_t = Mode::Redacted)]
    pub mode: Mode,
    /// Prints what another program takes: what is ours is left out, variables stay as they are written
    #[arg(long = "for", value_enum, value_name = "PROGRAM")]
    pub reader: Option<Reader>,
}

/// A program that reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Reader {
    /// The OpenTelemetry Collector.
    Otelcol,
}

/// Whether secrets are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Hidden.
    #[default]
    Redacted,
    /// Shown.
    Unredacted,
}

/// Prints a configuration; what is wrong with it goes to standard error, and exit code 1 says that there are errors.
pub fn run(
    config: &ConfigArguments,
    arguments: &Arguments,
    environment: &dyn Fn(&str) -> Option<String>,
    machine: &Machine,
    color: bool,
) -> Report {
    let sources = match config.sources() {
        Ok(sources) => sources,
        Err(error) => {
            return Report { exit_code: 1, output: String::new(), errors: format!("error: {error}\n") };
        }
    };
    if arguments.reader == Some(Reader::Otelcol) {
        return for_otelcol(&sources, arguments.mode == Mode::Redacted, color);
    }
    let loaded = config::load(&sources, environment, machine);
    Report {
        exit_code: u8::from(loaded.has_errors()),
        output: loaded.print(arguments.mode == Mode::Redacted).unwrap_or_default(),
        errors: config::render(&loaded.diagnostics, color),
    }
}

/// The file on standard output, what was changed on standard error.
fn for_otelcol(sources: &[config::Source], redacted: bool, color: bool) -> Report {
    match config::otelcol::translate(sources, redacted) {
        Ok(translated) => {
            let notes = translated.notes.iter().map(|note| format!("note: {note}\n")).collect();
            Report { exit_code: 0, output: translated.text, errors: notes }
        }
        Err(diagnostics) => Report { exit_code: 1, output: String::new(), errors: config::render(&diagnostics, color) },
    }
}
