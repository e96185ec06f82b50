//! The command line: arguments in, exit code out. One file per sub-command.
//!
//! ```text
//! tracegate [--config FILE]... [--set KEY=VALUE]...     runs the gateway; without --config the built-in configuration
//!           validate | print-config | components        look at a configuration without starting anything
//!           traces [TRACE_ID]                           ask a running gateway what it kept, and why
//! ```

pub mod banner;
pub mod port_owner;
pub mod traces;

/// Stand-ins until the files of these sub-commands are here.
mod missing {
    use std::process::ExitCode;

    #[derive(clap::Args, Debug)]
    pub struct Arguments {}

    pub(super) fn run(_: &super::Sources, _: &Arguments) -> ExitCode {
        eprintln!("not built yet");
        ExitCode::FAILURE
    }
}
use missing as validate;
use missing as print_config;
use missing as components;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Arguments of every command.
#[derive(Parser, Debug)]
#[command(
    name = "tracegate",
    version,
    about = "A gateway for OpenTelemetry traces: OTLP in, sampled by whole trace, OTLP out.",
    after_help = "Without a command the gateway runs. Without --config it runs its built-in configuration: OTLP on \
                  127.0.0.1:4317 (gRPC) and 4318 (HTTP), tail sampling, kept traces in memory."
)]
pub struct Arguments {
    /// Where the configuration comes from.
    #[command(flatten)]
    pub sources: Sources,
    /// Accepted for the Collector's sake; there are no gates.
    #[arg(long = "feature-gates", value_name = "GATES", global = true, hide = true)]
    pub feature_gates: Vec<String>,
    /// What to do; nothing means: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Where the configuration comes from.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// Configuration file; repeat it to merge several in order.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Vec<String>,
    /// One setting over the files, such as receivers.otlp.protocols.grpc.endpoint=0.0.0.0:4317; the value is YAML.
    #[arg(long, value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

/// The sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Checks the configuration and prints every error.
    Validate(validate::Arguments),
    /// Prints the configuration after merging, with defaults.
    PrintConfig(print_config::Arguments),
    /// Lists the components that are built in, one a line.
    Components(components::Arguments),
    /// Shows the traces that a running gateway kept, and why.
    Traces(traces::Arguments),
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if !arguments.feature_gates.is_empty() {
        eprintln!("warning: --feature-gates is ignored: this gateway has no feature gates");
    }
    let Arguments { sources, command, .. } = arguments;
    match command {
        None => missing::run(&sources, &missing::Arguments {}),
        Some(Command::Validate(arguments)) => validate::run(&sources, &arguments),
        Some(Command::PrintConfig(arguments)) => print_config::run(&sources, &arguments),
        Some(Command::Components(arguments)) => components::run(&sources, &arguments),
        Some(Command::Traces(arguments)) => traces::run(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parsed(line: &str) -> Arguments {
        Arguments::try_parse_from(line.split(' ')).unwrap()
    }

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn no_command_means_run_with_the_files_and_settings_in_order() {
        let arguments = parsed("tracegate --config a.yaml --set x=1 --config b.yaml --set y=2");
        assert!(arguments.command.is_none());
        assert_eq!(arguments.sources.config, ["a.yaml", "b.yaml"]);
        assert_eq!(arguments.sources.set, ["x=1", "y=2"]);
    }

    #[test]
    fn files_and_settings_may_stand_before_or_after_the_command() {
        for line in ["tracegate --config a.yaml --set x=1 validate", "tracegate validate --config a.yaml --set x=1"] {
            let arguments = parsed(line);
            assert!(matches!(arguments.command, Some(Command::Validate(_))), "{line}");
            assert_eq!(arguments.sources.config, ["a.yaml"], "{line}");
            assert_eq!(arguments.sources.set, ["x=1"], "{line}");
        }
    }

    #[test]
    fn the_collectors_feature_gates_are_accepted() {
        assert_eq!(parsed("tracegate --feature-gates=+a,-b").feature_gates, ["+a,-b"]);
    }

    #[test]
    fn traces_asks_the_default_admin_address() {
        let Some(Command::Traces(arguments)) = parsed("tracegate traces 07").command else { panic!("traces") };
        assert_eq!(arguments.trace_id.as_deref(), Some("07"));
        assert_eq!(arguments.url, "http://127.0.0.1:55679");
    }
}
