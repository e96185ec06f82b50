//! `tracegate validate`: says everything that is wrong with a configuration, without starting anything.

use super::{ConfigArguments, Report};
use crate::config::{self, Machine, Severity};

/// Checks a configuration. Exit code 1 if it has errors; a part without `service` is fine if its contents are.
pub fn run(
    arguments: &ConfigArguments,
    environment: &dyn Fn(&str) -> Option<String>,
    machine: &Machine,
    color: bool,
) -> Report {
    let sources = match arguments.sources() {
        Ok(sources) => sources,
        Err(error) => return failed(format!("error: {error}\n")),
    };
    let loaded = config::load(&sources, environment, machine);
    let rendered = config::render(&loaded.diagnostics, color);
    if loaded.has_errors() {
        return failed(rendered);
    }
    let output = match &loaded.config {
        Some(config) => format!("valid: {}\n", summary(config)),
        None => "valid fragment, no service: it can be merged with others, but not run alone\n"
            .to_owned(),
    };
    debug_assert!(
        loaded
            .diagnostics
            .iter()
            .all(|diagnostic| diagnostic.severity == Severity::Warning)
    );
    Report {
        exit_code: 0,
        output,
        errors: rendered,
    }
}

fn failed(errors: String) -> Report {
    Report {
        exit_code: 1,
        output: String::new(),
        errors,
    }
}

/// The pipelines in one line: `traces: otlp -> memory_limiter, batch -> otlp/tempo`.
fn summary(config: &config::checked::Config) -> String {
    let pipelines = config.pipelines.iter().map(|pipeline| {
        let receivers = pipeline
            .receivers
            .iter()
            .map(|number| config.receivers[*number].id.to_string());
        let processors = pipeline
            .processors
            .iter()
            .map(|number| config.processors[*number].id.to_string());
        let exporters = pipeline
            .exporters
            .iter()
            .map(|number| config.exporters[*number].id.to_string());
        let parts = [
            receivers.collect::<Vec<_>>(),
            processors.collect(),
            exporters.collect(),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|part| !part.is_empty())
            .map(|part| part.join(", "))
            .collect();
        format!("{}: {}", pipeline.id, parts.join(" -> "))
    });
    pipelines.collect::<Vec<_>>().join("; ")
}
