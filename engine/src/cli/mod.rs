//! The command line: one file per sub-command. Each is a function of its parsed arguments that returns a [`Report`].

pub mod components;
pub mod print_config;
pub mod validate;

use crate::config::Source;

/// What a sub-command says, and how it ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Exit code: 0, or 1 if the configuration is wrong.
    pub exit_code: u8,
    /// For standard output.
    pub output: String,
    /// For standard error.
    pub errors: String,
}

/// Where the configuration comes from; the same for every sub-command that reads one.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ConfigArguments {
    /// Configuration file; may be given several times: maps are merged, lists are replaced by the later file
    #[arg(long = "config", value_name = "FILE")]
    pub config: Vec<String>,
    /// One more value, `key.key=value`; the value is YAML; may be given several times
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigArguments {
    /// Reads the files, or takes the built-in configuration if none is given. The error is for standard error.
    pub fn sources(&self) -> Result<Vec<Source>, String> {
        if !self.config.is_empty() {
            return crate::config::read_sources(&self.config, &self.set);
        }
        let builtin = Source::File {
            name: crate::config::BUILTIN_NAME.to_owned(),
            text: crate::config::BUILTIN.to_owned(),
        };
        let sets = self.set.iter().cloned().map(Source::Set);
        Ok(std::iter::once(builtin).chain(sets).collect())
    }
}
