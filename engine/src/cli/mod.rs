//! The command line: arguments in, exit code out. One file per sub-command.
//!
//! ```text
//! tracegate [--config FILE]... [--set KEY=VALUE]...     runs the gateway; without --config the built-in configuration
//!           validate | print-config | components        look at a configuration without starting anything
//!           migrate FILE [--from URL]                   what becomes of a Collector's configuration and traffic
//!           ottl --statement TEXT --input FILE             try statements of `transform`
//!           traces [TRACE_ID]                           ask a running gateway what it kept, and why
//!           top                                         the figures of a running gateway, each second
//!           analyze TRACE_ID|FILE                       where the time of a trace went
//!           capacity                                    cores, memory and storage for a load
//!           explain TRACE_ID                            ask it what each policy said of a trace, kept or dropped
//!           demo                                        a gateway with load and backend, to look at and to break
//!           doctor [--url URL]                          what is wrong on this machine, or in a running gateway
//! ```

pub mod analyze;
pub mod banner;
pub mod capacity;
pub mod components;
pub mod demo;
pub mod doctor;
pub mod explain;
mod logs_on_disk;
pub mod migrate;
pub mod old_gateway;
pub mod ottl;
pub mod port_owner;
pub mod print_config;
mod reload;
pub mod run;
pub mod top;
pub mod traces;
pub mod validate;
pub mod waterfall;

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, Machine, Source};
use crate::shard::placement;

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
    pub sources: ConfigArguments,
    /// Accepted for the Collector's sake; there are no gates.
    #[arg(long = "feature-gates", value_name = "GATES", global = true, hide = true, allow_hyphen_values = true)]
    pub feature_gates: Vec<String>,
    /// What to do; nothing means: run.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The sub-commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Checks the configuration and prints every error.
    Validate,
    /// Prints the configuration after merging and expansion.
    PrintConfig(print_config::Arguments),
    /// Lists the components that are built in, one a line.
    Components(components::Arguments),
    /// Says what becomes of each part of a Collector's configuration here, and what its traffic would need.
    Migrate(migrate::Arguments),
    /// Tries statements of `transform` on spans, metrics or log records in a file, and shows what they change.
    Ottl(ottl::Arguments),
    /// Shows the traces that a running gateway kept, and why.
    Traces(traces::Arguments),
    /// Shows the figures of a running gateway in the terminal, each second.
    Top(top::Arguments),
    /// Says where the time of a trace went: self times, critical path, bottleneck.
    Analyze(analyze::Arguments),
    /// Estimates cores, memory and storage for a load.
    Capacity(capacity::Arguments),
    /// Shows what each policy of a running gateway said of a trace, kept or dropped.
    Explain(explain::Arguments),
    /// Shows a gateway at work, with a load and a backend of its own, that keys can fail, double and kill.
    Demo(demo::Arguments),
    /// Looks for what is wrong on this machine for this configuration, or where a running gateway loses spans.
    Doctor(doctor::Arguments),
}

/// Where the configuration comes from; the same for every sub-command that reads one.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct ConfigArguments {
    /// Configuration: a path or `file:`, `env:`, `yaml:`, `http:`, `https:`; may be given several times: maps are
    /// merged, lists are replaced by the later one
    #[arg(long = "config", value_name = "FILE", global = true)]
    pub config: Vec<String>,
    /// One more value, `key.key=value`; the value is YAML; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE", global = true)]
    pub set: Vec<String>,
}

impl ConfigArguments {
    /// Reads the files, or takes the built-in configuration if none is given. The error is for standard error.
    pub fn sources(&self) -> Result<Vec<Source>, String> {
        if !self.config.is_empty() {
            return config::read_sources(&self.config, &self.set);
        }
        let builtin = Source::File { name: config::BUILTIN_NAME.to_owned(), text: config::BUILTIN.to_owned() };
        let sets = self.set.iter().cloned().map(Source::Set);
        Ok(std::iter::once(builtin).chain(sets).collect())
    }

    /// What the sources are called, for people.
    pub fn names(&self) -> String {
        if self.config.is_empty() { config::BUILTIN_NAME.to_owned() } else { self.config.join(", ") }
    }
}

/// What a sub-command says, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Exit code: 0, or 1 if the configuration is wrong, or 2 if something else kept the command from its answer.
    pub exit_code: u8,
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub errors: String,
}

impl Report {
    /// Says it, and ends. A closed pipe behind us is nobody's error.
    fn tell(self) -> ExitCode {
        eprint!("{}", self.errors);
        drop(std::io::stdout().write_all(self.output.as_bytes()));
        ExitCode::from(self.exit_code)
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    for gate in gates(&arguments.feature_gates) {
        eprintln!("warning: the feature gate {gate} changes nothing: there are no feature gates here");
    }
    let Arguments { sources, command, .. } = arguments;
    let machine = Machine { memory_bytes: placement::Machine::read().memory_bytes() };
    let color = std::io::stderr().is_terminal();
    match command {
        None => run::run(sources, config::look_up, machine, color),
        Some(Command::Validate) => validate::run(&sources, &config::look_up, &machine, color).tell(),
        Some(Command::PrintConfig(arguments)) => {
            print_config::run(&sources, &arguments, &config::look_up, &machine, color).tell()
        }
        Some(Command::Components(arguments)) => components::run(&arguments).tell(),
        Some(Command::Migrate(arguments)) => migrate::run(&sources, &arguments, &config::look_up, &machine).tell(),
        Some(Command::Ottl(arguments)) => ottl::run(&arguments).tell(),
        Some(Command::Traces(arguments)) => traces::run(&arguments),
        Some(Command::Top(arguments)) => top::run(&arguments),
        Some(Command::Analyze(arguments)) => analyze::run(&arguments).tell(),
        Some(Command::Capacity(arguments)) => capacity::run(&arguments).tell(),
        Some(Command::Explain(arguments)) => explain::run(&arguments),
        Some(Command::Demo(arguments)) => match arguments.gateway_of {
            Some(parent) => demo::run_gateway(parent, sources, machine),
            None => demo::run(&sources, &arguments),
        },
        Some(Command::Doctor(arguments)) => doctor::run(&sources, &arguments, &config::look_up, &machine, color).tell(),
    }
}

/// The names in lists such as `+a,-b`, each once.
fn gates(lists: &[String]) -> Vec<&str> {
    let names = lists.iter().flat_map(|list| list.split(',')).map(|name| name.trim().trim_start_matches(['+', '-']));
    let mut gates: Vec<&str> = Vec::new();
    for name in names.filter(|name| !name.is_empty()) {
        if !gates.contains(&name) {
            gates.push(name);
        }
    }
    gates
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
            assert!(matches!(arguments.command, Some(Command::Validate)), "{line}");
            assert_eq!(arguments.sources.config, ["a.yaml"], "{line}");
            assert_eq!(arguments.sources.set, ["x=1"], "{line}");
        }
    }

    #[test]
    fn the_collectors_feature_gates_are_accepted_and_named() {
        let arguments = parsed("tracegate --feature-gates=+a.b,-c --feature-gates -c,d,");
        assert_eq!(gates(&arguments.feature_gates), ["a.b", "c", "d"]);
    }

    #[test]
    fn traces_asks_the_default_admin_address() {
        let Some(Command::Traces(arguments)) = parsed("tracegate traces 07").command else { panic!("traces") };
        assert_eq!(arguments.trace_id.as_deref(), Some("07"));
        assert_eq!(arguments.url, "http://127.0.0.1:55679");
    }
}
