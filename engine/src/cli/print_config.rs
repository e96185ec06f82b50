//! `tracegate print-config`: the configuration as the gateway sees it, merged and expanded, secrets hidden.

use super::{ConfigArguments, Report};
use crate::config::{self, Machine};

/// Arguments of `print-config`.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Whether values of headers, keys and passwords are shown
    #[arg(long, value_enum, default_value_t = Mode::Redacted)]
    pub mode: Mode,
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
    let loaded = config::load(&sources, environment, machine);
    Report {
        exit_code: u8::from(loaded.has_errors()),
        output: loaded.print(arguments.mode == Mode::Redacted).unwrap_or_default(),
        errors: config::render(&loaded.diagnostics, color),
    }
}
