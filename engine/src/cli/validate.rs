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
        None => "valid fragment, no service: it can be merged with others, but not run alone\n".to_owned(),
    };
    debug_assert!(loaded.diagnostics.iter().all(|diagnostic| diagnostic.severity == Severity::Warning));
    Report { exit_code: 0, output, errors: rendered }
}

fn failed(errors: String) -> Report {
    Report { exit_code: 1, output: String::new(), errors }
}

/// The pipelines in one line: `traces: otlp -> memory_limiter, batch -> otlp/tempo`.
fn summary(config: &config::checked::Config) -> String {
    let pipelines = config.pipelines.iter().map(|pipeline| {
        let receivers = pipeline.receivers.iter().map(|number| config.receivers[*number].id.to_string());
        let processors = pipeline.processors.iter().map(|number| config.processors[*number].id.to_string());
        let exporters = pipeline.exporters.iter().map(|number| config.exporters[*number].id.to_string());
        let forwards = pipeline.forwards.iter().map(|forward| forward.id.to_string());
        let counting = pipeline.span_metrics.iter().map(|number| config.span_metrics[*number].id.to_string());
        let exporters = exporters.chain(forwards).chain(counting);
        let parts = [receivers.collect::<Vec<_>>(), processors.collect(), exporters.collect()];
        let parts: Vec<String> = parts.iter().filter(|part| !part.is_empty()).map(|part| part.join(", ")).collect();
        format!("{}: {}", pipeline.id, parts.join(" -> "))
    });
    pipelines.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{components, print_config};

    const MACHINE: Machine = Machine { memory_bytes: 4 << 30 };

    fn arguments(files: &[&std::path::Path], sets: &[&str]) -> ConfigArguments {
        ConfigArguments {
            config: files.iter().map(|file| file.display().to_string()).collect(),
            set: sets.iter().map(|set| (*set).to_owned()).collect(),
        }
    }

    fn validate(files: &[&std::path::Path], sets: &[&str]) -> Report {
        run(&arguments(files, sets), &|_| None, &MACHINE, false)
    }

    fn seed(name: &str) -> std::path::PathBuf {
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/seed").join(name)
    }

    #[test]
    fn a_good_file_is_valid_and_its_pipelines_are_named() {
        let report = validate(&[&seed("agent.config.yaml")], &[]);
        assert_eq!(report.exit_code, 0);
        assert_eq!(report.output, "valid: traces: otlp -> memory_limiter, batch, resource -> otlp\n");
        assert!(report.errors.contains("NODE_NAME is not set"));
    }

    #[test]
    fn the_seeds_gateway_is_valid_as_written_and_with_its_masking_over_it() {
        let pipeline =
            "valid: traces: otlp -> memory_limiter, tail_sampling, transform, batch -> otlp/jaeger, otlp/tempo\n";
        for files in [&[seed("gateway.config.yaml")][..], &[seed("gateway.config.yaml"), seed("masking.config.yaml")]] {
            let files: Vec<&std::path::Path> = files.iter().map(|file| file.as_path()).collect();
            let report = validate(&files, &[]);
            assert_eq!((report.exit_code, report.output.as_str()), (0, pipeline), "{}", report.errors);
        }
    }

    #[test]
    fn a_wrong_file_is_exit_code_one_and_says_where() {
        let wrong = "processors.transform.traces=[delet_key(attributes)]";
        let report = validate(&[&seed("gateway.config.yaml")], &[wrong]);
        assert_eq!((report.exit_code, report.output.as_str()), (1, ""));
        assert!(report.errors.contains("--set:1:30") && report.errors.contains("delete_key"), "{}", report.errors);
        let report = validate(&[std::path::Path::new("nowhere.yaml")], &[]);
        assert_eq!(report.exit_code, 1);
        assert!(report.errors.contains("nowhere.yaml") && report.errors.contains("--config"), "{}", report.errors);
    }

    #[test]
    fn a_part_without_service_is_a_valid_fragment() {
        for name in ["masking.config.yaml", "mtls.config.yaml"] {
            let report = validate(&[&seed(name)], &[]);
            assert_eq!(report.exit_code, 0, "{}", report.errors);
            assert!(report.output.starts_with("valid fragment, no service"));
        }
    }

    #[test]
    fn without_a_file_the_built_in_configuration_is_meant() {
        let report = validate(&[], &[]);
        assert_eq!((report.exit_code, report.errors.as_str()), (0, ""));
        let report = validate(&[], &["exporters.memory.traces_max=none"]);
        assert_eq!(report.exit_code, 1);
        assert!(report.errors.contains("--set:1:29"), "{}", report.errors);
    }

    #[test]
    fn a_text_on_the_command_line_lies_over_a_file() {
        let file = format!("file:{}", seed("agent.config.yaml").display());
        let given = |text: &str| ConfigArguments { config: vec![file.clone(), text.to_owned()], set: Vec::new() };
        let report = run(&given("yaml:service::telemetry::logs::level: debug"), &|_| None, &MACHINE, false);
        assert_eq!(report.exit_code, 0, "{}", report.errors);
        let report = run(&given("yaml:service::telemetry::logs::level: loud"), &|_| None, &MACHINE, false);
        assert_eq!(report.exit_code, 1);
        assert!(report.errors.contains("--config yaml:1:34") && report.errors.contains("loud"), "{}", report.errors);
    }

    #[test]
    fn printing_merges_expands_and_hides_secrets() {
        let config = arguments(&[], &["exporters.otlp={endpoint: 'a:1', headers: {authorization: '${TOKEN}'}}"]);
        let environment = |name: &str| (name == "TOKEN").then(|| "opensesame".to_owned());
        let mut arguments = print_config::Arguments { mode: print_config::Mode::Redacted, reader: None };
        let hidden = print_config::run(&config, &arguments, &environment, &MACHINE, false);
        assert_eq!(hidden.exit_code, 0);
        assert!(hidden.output.contains("authorization: \"[REDACTED]\"\n"), "{}", hidden.output);
        assert!(!hidden.output.contains("opensesame"));
        arguments.mode = print_config::Mode::Unredacted;
        let shown = print_config::run(&config, &arguments, &environment, &MACHINE, false);
        assert!(shown.output.contains("authorization: opensesame\n"), "{}", shown.output);
    }

    #[test]
    fn components_are_one_a_line_in_both_spellings() {
        let report = components::run(&components::Arguments {});
        let lines: Vec<&str> = report.output.lines().collect();
        for name in ["receivers/otlp", "processors/tail_sampling", "exporters/otlp", "exporters/otlp_grpc"] {
            assert!(lines.contains(&name), "{name}");
        }
    }
}
