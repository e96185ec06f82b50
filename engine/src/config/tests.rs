//! The configuration from text to checked, as its users see it.
//!
//! `cases/accepted/*.yaml` load (their warnings are kept beside them), `cases/refused/*.yaml` do not; what is said is
//! kept as text beside each. Lines `# set: a=b` and `# variable: NAME=value` in a case are given to the loader. After a
//! change that is meant, run the tests with `UPDATE_CASES=1` and read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::checked::*;
use super::*;

const MACHINE: Machine = Machine { memory_bytes: 4 << 30 };

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Loads one text with `--set`s; the environment is empty.
fn load_text(text: &str, sets: &[&str]) -> Loaded {
    let file = Source::File { name: "gateway.yaml".into(), text: text.into() };
    let sets = sets.iter().map(|set| Source::Set((*set).to_owned()));
    let sources: Vec<Source> = std::iter::once(file).chain(sets).collect();
    load(&sources, &|_| None, &MACHINE)
}

fn messages(loaded: &Loaded, severity: Severity) -> Vec<String> {
    let found = loaded.diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity);
    found.map(|diagnostic| format!("{}: {}", diagnostic.path, diagnostic.message)).collect()
}

/// A text that has to load without errors.
fn config(text: &str) -> Config {
    let loaded = load_text(text, &[]);
    assert_eq!(messages(&loaded, Severity::Error), [""; 0]);
    loaded.config.expect("there is a service")
}

/// A complete configuration with one exporter, `id: {settings}`.
fn with_exporter(id: &str, settings: &str) -> Config {
    config(&format!(
        "receivers: {{otlp: {{protocols: {{grpc: }}}}}}\nexporters: {{{id}: {{{settings}}}}}\n\
         service: {{pipelines: {{traces: {{receivers: [otlp], exporters: [{id}]}}}}}}\n"
    ))
}

fn seed(name: &str) -> String {
    read(&root().join("configs/seed").join(name))
}

#[test]
fn the_seeds_agent_loads_as_written_with_the_collectors_defaults() {
    let loaded = load_text(&seed("agent.config.yaml"), &[]);
    assert_eq!(messages(&loaded, Severity::Error), [""; 0]);
    let warnings = messages(&loaded, Severity::Warning);
    assert!(warnings.iter().any(|warning| warning.contains("NODE_NAME is not set")), "{warnings:?}");
    let config = loaded.config.unwrap();
    let kinds: Vec<String> = config.processors.iter().map(|processor| processor.id.to_string()).collect();
    assert_eq!(kinds, ["memory_limiter", "batch", "resource"]);
    let ProcessorKind::MemoryLimiter { limit_bytes, spike_bytes } = config.processors[0].kind else { panic!() };
    assert_eq!((limit_bytes, spike_bytes), (400 << 20, 100 << 20));
    let ProcessorKind::Batch { timeout_ns, send_batch_size, send_batch_max_size, .. } = config.processors[1].kind
    else {
        panic!()
    };
    assert_eq!((timeout_ns, send_batch_size, send_batch_max_size), (10_000_000_000, 1024, 0));
    let ProcessorKind::Resource(settings) = &config.processors[2].kind else { panic!() };
    let ottl::Action::Set { when, source, .. } = &settings.actions[0] else { panic!() };
    assert_eq!((*when, source), (ottl::When::Absent, &ottl::Source::Value(ottl::Value::text(""))));
    let ExporterKind::OtlpGrpc(otlp) = &config.exporters[0].kind else { panic!() };
    assert_eq!(otlp.endpoint.host, "otel-gateway");
    assert!(otlp.tls.is_some(), "without tls.insecure an exporter speaks TLS");
    assert_eq!(otlp.compression, codecs::compression::Compression::Gzip);
    assert_eq!(otlp.timeout_ns, 5_000_000_000);
    assert_eq!((otlp.queue.queue_size, otlp.queue.num_consumers), (1000, 10));
    assert_eq!(otlp.retry.as_ref().unwrap().max_elapsed_ns, 300_000_000_000);
}

#[test]
fn the_seeds_gateway_loads_as_written() {
    let loaded = load_text(&seed("gateway.config.yaml"), &[]);
    assert_eq!(messages(&loaded, Severity::Error), [""; 0]);
    assert_eq!(messages(&loaded, Severity::Warning), [""; 0]);
    let config = loaded.config.unwrap();
    assert_eq!(config.exporters.len(), 2);
    let ProcessorKind::TailSampling(tail) = &config.processors[1].kind else { panic!() };
    assert_eq!(tail.decision_wait_ns, 10_000_000_000);
    assert_eq!(tail.traces_max, None);
    // What loses nothing is on, what gives traces up is not.
    let relief = tail.stress_relief;
    assert_eq!(relief.certain.map(|step| (step.from, step.until)), Some((0.8, 0.75)));
    assert_eq!(relief.compress.map(|step| (step.from, step.until)), Some((0.85, 0.8)));
    assert_eq!(relief.shed, None);
    let names: Vec<&str> = tail.policies.iter().map(|policy| policy.name.as_str()).collect();
    assert_eq!(names, ["errors", "slow", "random"]);
    let statements = statements_of(&config, 2);
    assert_eq!(statements.len(), 3);
    assert!(
        statements[0].0 == "traces[0]" && statements[0].1.ends_with(r#" where resource.attributes["env"] == "prod""#)
    );
}

/// Names and texts of the statements of a transform.
fn statements_of(config: &Config, processor: usize) -> Vec<(String, String)> {
    let ProcessorKind::Transform(transform) = &config.processors[processor].kind else { panic!("a transform") };
    let statements = transform.groups.iter().flat_map(|group| &group.statements);
    statements.map(|statement| (statement.name.clone(), statement.text.clone())).collect()
}

#[test]
fn the_seeds_masking_replaces_the_gateways_statements_when_it_is_merged_over_it() {
    let files = ["gateway.config.yaml", "masking.config.yaml"];
    let files = files.map(|name| Source::File { name: name.into(), text: seed(name) });
    let loaded = load(&files, &|_| None, &MACHINE);
    assert_eq!(messages(&loaded, Severity::Error), [""; 0]);
    let statements = statements_of(&loaded.config.unwrap(), 2);
    assert_eq!(statements.len(), 8);
    assert!(statements[1].1.contains("Mask("), "{statements:?}");
}

#[test]
fn groups_run_in_their_order_each_in_its_context() {
    let config = config(
        "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\nprocessors:\n  transform/a.b:\n    error_mode: \
         silent\n    on_mask_error: keep\n    trace_statements:\n    - statements:\n      - set(span.name, \"a\") where \
         spanevent.name == \"b\"\n    - context: resource\n      error_mode: propagate\n      conditions: \
         ['schema_url == \"\"']\n      statements:\n      - set(schema_url, \"s\")\n  transform/flat:\n    \
         trace_statements:\n    - set(span.name, \"a\")\n    - set(span.name, \"b\")\n    - \
         set(resource.schema_url, \"s\")\nservice: {pipelines: {traces: {receivers: [otlp], processors: \
         [transform/a.b, transform/flat], exporters: [nop]}}}\n",
    );
    let groups = |processor: usize| {
        let ProcessorKind::Transform(transform) = &config.processors[processor].kind else { panic!("a transform") };
        let group = |group: &StatementGroup| (group.context, group.error_mode, group.statements.len());
        (transform.keeps_unmasked, transform.groups.iter().map(group).collect::<Vec<_>>())
    };
    use ottl::Context::{Resource, Span, SpanEvent};
    assert_eq!(groups(0), (true, vec![(SpanEvent, ErrorMode::Silent, 1), (Resource, ErrorMode::Propagate, 1)]));
    assert_eq!(groups(1), (false, vec![(Span, ErrorMode::Ignore, 2), (Resource, ErrorMode::Ignore, 1)]));
    assert_eq!(statements_of(&config, 0)[1].0, "trace_statements[1].statements[0]");
}

#[test]
fn the_gateway_can_be_pointed_at_plain_text_backends_with_set() {
    let sets = [
        "exporters.otlp/jaeger.endpoint=127.0.0.1:14317",
        "exporters.otlp/jaeger.tls.insecure=true",
        "exporters::otlp/tempo::tls={insecure: true}",
        "receivers.otlp.protocols.grpc.endpoint=127.0.0.1:0",
    ];
    let config = load_text(&seed("gateway.config.yaml"), &sets).config.unwrap();
    let ExporterKind::OtlpGrpc(jaeger) = &config.exporters[0].kind else { panic!() };
    assert_eq!((jaeger.endpoint.host.as_str(), jaeger.endpoint.port), ("127.0.0.1", 14317));
    assert_eq!(jaeger.tls, None);
    let grpc = config.receivers[0].otlp.grpc.as_ref().unwrap();
    assert_eq!((grpc.endpoint.host.as_str(), grpc.endpoint.port), ("127.0.0.1", 0));
}

#[test]
fn every_file_under_configs_loads_or_is_a_fragment() {
    let mut folders = vec![root().join("configs")];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                // The corpus has a test of its own, which knows what is expected of each file.
                folders.extend((!path.ends_with("corpus")).then_some(path));
                continue;
            }
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let around = folder.components().any(|part| matches!(part.as_os_str().to_str(), Some("k8s" | "check")));
            let manifest = [".k8s.yaml", ".prometheus.yaml"].iter().any(|end| name.ends_with(end))
                || (around && !name.ends_with(".config.yaml"));
            if manifest || !name.ends_with(".yaml") {
                continue;
            }
            files += 1;
            let loaded = load_text(&read(&path), &[]);
            assert_eq!(messages(&loaded, Severity::Error), [""; 0], "{}", path.display());
            assert!(loaded.config.is_some() || loaded.fragment, "{}", path.display());
        }
    }
    assert!(files >= 5, "only {files} files were found");
}

#[test]
fn the_built_in_configuration_has_no_warnings() {
    let loaded = load_text(BUILTIN, &[]);
    assert_eq!(loaded.diagnostics, []);
    let config = loaded.config.unwrap();
    assert_eq!(config.telemetry.admin_address, Some("127.0.0.1:55679".parse().unwrap()));
    assert_eq!(config.telemetry.metrics_address, Some("127.0.0.1:8888".parse().unwrap()));
    assert!(matches!(config.exporters[0].kind, ExporterKind::Memory { traces_max: 1000 }));
}

#[test]
fn line_ends_of_windows_and_a_byte_order_mark_change_nothing() {
    let text = seed("agent.config.yaml");
    let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
    let (plain, windows) = (load_text(&text, &[]), load_text(&windows, &[]));
    assert_eq!(format!("{:?}", windows.config), format!("{:?}", plain.config));
    let places = |loaded: &Loaded| loaded.diagnostics.iter().map(|it| it.place.line()).collect::<Vec<_>>();
    assert_eq!(places(&windows), places(&plain));
}

// Cases: what loads, what does not, and what is said about it.

/// Every case of a folder, its lines of instructions applied.
fn cases(folder: &str) -> Vec<(PathBuf, Loaded)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases").join(folder);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "yaml"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths
        .into_iter()
        .map(|path| {
            let loaded = load_case(&path);
            (path, loaded)
        })
        .collect()
}

fn load_case(path: &Path) -> Loaded {
    let text = read(path);
    let instructions = |word: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word));
        lines.map(|line| line.trim().to_owned()).collect()
    };
    let variables: BTreeMap<String, String> = instructions("# variable:")
        .iter()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let file = Source::File { name: path.file_name().unwrap().to_str().unwrap().to_owned(), text: text.clone() };
    let sets = instructions("# set:").into_iter().map(Source::Set);
    let sources: Vec<Source> = std::iter::once(file).chain(sets).collect();
    load(&sources, &|name| variables.get(name).cloned(), &MACHINE)
}

/// Compares what is said with the text kept beside the case.
fn check_said(path: &Path, loaded: &Loaded) {
    let said = render(&loaded.diagnostics, false);
    let kept = path.with_extension("txt");
    if std::env::var_os("UPDATE_CASES").is_some() {
        std::fs::write(&kept, &said).unwrap();
    }
    assert_eq!(said, read(&kept), "{}", path.display());
}

fn check_form(path: &Path, loaded: &Loaded) {
    for diagnostic in &loaded.diagnostics {
        assert!(!diagnostic.message.is_empty() && !diagnostic.help.is_empty(), "{diagnostic:?}");
        assert!(diagnostic.place.line() >= 1 && diagnostic.place.column() >= 1);
        let name = &diagnostic.place.source.name;
        assert!(path.ends_with(name) || name == "--set", "{diagnostic:?} is nowhere");
    }
}

#[test]
fn accepted_cases_load_and_say_what_is_kept_beside_them() {
    for (path, loaded) in cases("accepted") {
        assert_eq!(messages(&loaded, Severity::Error), [""; 0], "{}", path.display());
        assert!(loaded.config.is_some() || loaded.fragment, "{}", path.display());
        check_form(&path, &loaded);
        check_said(&path, &loaded);
    }
}

#[test]
fn refused_cases_say_everything_at_once_with_place_and_remedy() {
    for (path, loaded) in cases("refused") {
        assert!(loaded.has_errors(), "{} loads", path.display());
        assert!(loaded.config.is_none());
        check_form(&path, &loaded);
        check_said(&path, &loaded);
    }
}

#[test]
fn no_message_quotes_a_secret() {
    // Every secret in this case is the word `hidden`, and nearly every line with one is complained about.
    let (path, loaded) = cases("refused").into_iter().find(|(path, _)| path.ends_with("authenticators.yaml")).unwrap();
    assert!(read(&path).matches("hidden").count() > 15);
    let said = render(&loaded.diagnostics, false);
    assert!(!said.contains("hidden"), "{said}");
    let printed = loaded.print(true).unwrap();
    assert!(!printed.contains("hidden"), "{printed}");
}

#[test]
fn the_environment_names_a_proxy_for_what_is_not_local() {
    let text = "receivers: {otlp: {protocols: {grpc: }}}\nexporters:\n  otlp: {endpoint: 'http://tempo:4317'}\n  \
        otlphttp: {endpoint: 'http://tempo:4318'}\n  otlphttp/tls: {endpoint: 'https://tempo'}\n  otlphttp/own: \
        {endpoint: 'http://tempo:4318', proxy_url: 'http://own:1'}\n  otlphttp/local: {endpoint: \
        'http://localhost:4318'}\n  otlphttp/near: {endpoint: 'http://near.example:4318'}\nservice: {pipelines: \
        {traces: {receivers: [otlp], exporters: [otlp, otlphttp, otlphttp/tls, otlphttp/own, otlphttp/local, \
        otlphttp/near]}}}\n";
    let check = |variables: &[(&str, &str)], expected: [Option<&str>; 6]| {
        let file = Source::File { name: "f".into(), text: text.into() };
        let environment =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        let loaded = load(&[file], &environment, &MACHINE);
        let proxies = loaded.config.unwrap().exporters.into_iter().map(|exporter| match exporter.kind {
            ExporterKind::OtlpGrpc(otlp) | ExporterKind::OtlpHttp(otlp) => otlp.proxy.map(|proxy| proxy.endpoint.host),
            _ => None,
        });
        assert_eq!(proxies.collect::<Vec<_>>(), expected.map(|host| host.map(str::to_owned)), "{variables:?}");
    };
    let near = ("no_proxy", "near.example");
    check(&[near], [None, None, None, Some("own"), None, None]);
    let https = ("HTTPS_PROXY", "http://secure:3128");
    check(&[https, near], [Some("secure"), None, Some("secure"), Some("own"), None, None]);
    let http = ("http_proxy", "plain:3128");
    check(&[https, http, near], [Some("secure"), Some("plain"), Some("secure"), Some("own"), None, None]);
    check(&[http], [None, Some("plain"), None, Some("own"), None, Some("plain")]);
}

#[test]
fn what_is_printed_loads_as_the_same() {
    for (path, loaded) in cases("accepted") {
        let printed = loaded.print(false).unwrap();
        let again = load_text(&printed, &[]);
        assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config), "{}\n{printed}", path.display());
        assert_eq!(again.print(false).unwrap(), printed, "{}", path.display());
    }
}

// Single rules that no text could show.

#[test]
fn a_grpc_endpoint_says_whether_tls_is_used() {
    let table = [
        ("tempo:4317", "", true),
        ("tempo:4317", "tls: {insecure: true}", false),
        ("tempo:4317", "tls: {insecure: true, ca_file: /ca}", true),
        ("http://tempo:4317", "", false),
        ("https://tempo:4317", "tls: {insecure: true}", true),
        ("dns:///tempo:4317", "", true),
        ("dns://8.8.8.8/tempo:4317", "", true),
        ("passthrough:///tempo:4317", "", true),
        ("http://tempo:4317/", "", false),
    ];
    for (endpoint, more, tls) in table {
        let config = with_exporter("otlp", &format!("endpoint: '{endpoint}', {more}"));
        let ExporterKind::OtlpGrpc(otlp) = &config.exporters[0].kind else { panic!() };
        assert_eq!((otlp.endpoint.host.as_str(), otlp.endpoint.port), ("tempo", 4317), "{endpoint}");
        assert_eq!(otlp.tls.is_some(), tls, "{endpoint} {more}");
    }
}

#[test]
fn requests_go_to_all_addresses_of_a_name_unless_asked_otherwise() {
    let table = [
        ("endpoint: 'tempo:4317'", Balancer::RoundRobin),
        ("endpoint: 'dns:///tempo:4317'", Balancer::RoundRobin),
        ("endpoint: 'tempo:4317', balancer_name: round_robin", Balancer::RoundRobin),
        ("endpoint: 'tempo:4317', balancer_name: pick_first", Balancer::PickFirst),
        ("endpoint: 'passthrough:///tempo:4317'", Balancer::PickFirst),
    ];
    for (settings, balancer) in table {
        let config = with_exporter("otlp", settings);
        let ExporterKind::OtlpGrpc(otlp) = &config.exporters[0].kind else { panic!() };
        assert_eq!(otlp.names.balancer, balancer, "{settings}");
    }
}

#[test]
fn an_http_endpoint_gives_scheme_port_and_path() {
    let table = [
        ("endpoint: 'http://tempo:4318'", false, 4318, "/v1/traces"),
        ("endpoint: 'https://tempo/otlp/'", true, 443, "/otlp/v1/traces"),
        ("traces_endpoint: 'http://tempo/x?y=1'", false, 80, "/x?y=1"),
        ("traces_endpoint: 'http://tempo'", false, 80, "/"),
        ("endpoint: 'http://other', traces_endpoint: 'https://tempo/x'", true, 443, "/x"),
    ];
    for (settings, tls, port, path) in table {
        let config = with_exporter("otlp_http", settings);
        let ExporterKind::OtlpHttp(http) = &config.exporters[0].kind else { panic!() };
        assert_eq!((http.tls.is_some(), http.endpoint.port, http.path.as_str()), (tls, port, path), "{settings}");
        assert_eq!(http.timeout_ns, 30_000_000_000);
    }
}

#[test]
fn variables_keep_their_type_and_text_fields_take_their_text() {
    let text = "receivers: {otlp: {protocols: {grpc: }}}\n\
        exporters: {otlp: {endpoint: 'tempo:4317', headers: {x-id: '${ID}'}, sending_queue: {queue_size: '${ID}'}}}\n\
        service: {pipelines: {traces: {receivers: [otlp], exporters: [otlp]}}}\n";
    let file = Source::File { name: "f".into(), text: text.into() };
    let loaded = load(&[file], &|name| (name == "ID").then(|| "0123".to_owned()), &MACHINE);
    let ExporterKind::OtlpGrpc(otlp) = &loaded.config.unwrap().exporters[0].kind.clone() else { panic!() };
    assert_eq!(otlp.headers, [("x-id".to_owned(), "0123".to_owned())]);
    assert_eq!(otlp.queue.queue_size, 83);
}

#[test]
fn later_files_win_and_errors_name_the_file_they_are_in() {
    let base = "receivers: {otlp: {protocols: {grpc: }}}\nexporters: {nop: }\n\
        service: {pipelines: {traces: {receivers: [otlp], exporters: [nop]}}}\n";
    let file = |name: &str, text: &str| Source::File { name: name.into(), text: text.into() };
    let sources = [file("base.yaml", base), file("more.yaml", "exporters: {nop: {a: 1}}\n")];
    let loaded = load(&sources, &|_| None, &MACHINE);
    assert_eq!(loaded.diagnostics[0].place.to_string(), "more.yaml:1:19");
    let sources = [file("base.yaml", base), Source::Set("exporters.nop.a=1".into())];
    let loaded = load(&sources, &|_| None, &MACHINE);
    assert_eq!(loaded.diagnostics[0].place.to_string(), "--set:1:15");
}

#[test]
fn nothing_at_all_is_an_error_and_no_panic() {
    for sources in [vec![], vec![Source::File { name: "f".into(), text: String::new() }]] {
        let loaded = load(&sources, &|_| None, &MACHINE);
        assert_eq!(messages(&loaded, Severity::Error), [": the configuration is empty"]);
        assert!(!render(&loaded.diagnostics, true).is_empty());
    }
}

// Random input.

/// All good texts of this repository.
fn good_texts() -> Vec<String> {
    let mut texts = vec![BUILTIN.to_owned(), seed("agent.config.yaml"), seed("gateway.config.yaml")];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/cases/accepted");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            texts.push(read(&path));
        }
    }
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        fuzz(&bytes);
    }

    #[test]
    fn no_text_of_yamls_own_characters_panics(text in "[ \\n\\t:#&*!|>'\"%@`\\[\\]{},\\-?a0.<$~é]{0,80}") {
        fuzz(text.as_bytes());
    }

    #[test]
    fn no_mutation_of_a_good_file_panics(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..12, "[ \\n:&*\\[\\]{},\\-a0$\"'é|>~]{0,4}"), 1..6),
    ) {
        let texts = good_texts();
        let mut characters: Vec<char> = which.get(&texts).chars().collect();
        for (at, removed, inserted) in edits {
            let start = at.index(characters.len() + 1);
            let end = (start + removed).min(characters.len());
            characters.splice(start..end, inserted.chars());
        }
        let text: String = characters.into_iter().collect();
        fuzz(text.as_bytes());
    }
}

// The reference: docs/configuration.md and a page for each component.

/// Files below a folder whose names end in `.md`, with their texts.
fn pages_below(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut pages = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => pages.extend(pages_below(&path)),
            false if path.extension().is_some_and(|extension| extension == "md") => {
                let text = read(&path);
                pages.push((path, text));
            }
            false => {}
        }
    }
    pages
}

/// Pages of components, and the one that leads to them.
pub(super) fn reference() -> Vec<(PathBuf, String)> {
    let page = root().join("docs/configuration.md");
    let mut pages = pages_below(&root().join("docs/components"));
    pages.push((page.clone(), read(&page)));
    pages
}

#[test]
fn every_key_that_is_read_is_in_the_reference() {
    let pages: String = reference().into_iter().map(|(_, text)| text).collect();
    let words: BTreeSet<&str> =
        pages.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_')).collect();
    let mut missing = BTreeSet::new();
    for (_, loaded) in cases("accepted") {
        for path in &loaded.asked {
            let key = path.rsplit('.').next().unwrap_or(path);
            if !words.contains(key) {
                missing.insert(path.clone());
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/configuration.md and docs/components: {missing:#?}");
}

#[test]
fn every_component_that_runs_has_a_page() {
    for built in component::built() {
        let (section, kind) = built.split_once('/').expect("section/type");
        let pages = pages_below(&root().join("docs/components").join(section));
        let title = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        let found = pages.iter().any(|(_, text)| title(text).contains(&format!("`{kind}`")));
        assert!(found, "no page of docs/components/{section} has `{kind}` in its title");
    }
}

#[test]
fn every_page_of_a_component_has_an_example_and_each_example_loads_without_a_word() {
    let mut examples = 0;
    for (path, text) in pages_below(&root().join("docs/components")) {
        for block in text.split("```yaml\n").skip(1) {
            let (yaml, _) = block.split_once("```").expect("the end of an example");
            let loaded = load_text(yaml, &[]);
            let said: Vec<&String> = loaded.diagnostics.iter().map(|diagnostic| &diagnostic.message).collect();
            assert!(said.is_empty() && loaded.config.is_some(), "{}: {said:?}", path.display());
            examples += 1;
        }
        // What is only accepted has no example that loads without a word.
        let is_used = !text.contains("Accepted, with a warning");
        let of_a_component = is_used && text.lines().next().is_some_and(|title| title.starts_with("# The "));
        assert!(!of_a_component || text.contains("## Example\n\n```yaml\n"), "{} has no example", path.display());
    }
    assert!(examples >= component::built().count() / 2, "{examples} examples");
}

#[test]
fn links_between_pages_lead_somewhere() {
    let mut pages = pages_below(&root().join("docs"));
    pages.extend(pages_below(&root().join("perf")));
    pages.extend(
        ["README.md", "ARCHITECTURE.md", "configs/README.md"].map(|name| (root().join(name), read(&root().join(name)))),
    );
    let mut lost = Vec::new();
    for (path, text) in &pages {
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
        for target in targets.filter(|target| !target.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { path.parent().expect("a folder").join(file) };
            let there = match anchor {
                "" => file.exists(),
                anchor => std::fs::read_to_string(&file).is_ok_and(|text| headings(&text).any(|found| found == anchor)),
            };
            if !there {
                lost.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// Anchors of a page's headings: small letters, digits, `_` and `-`, which stands for a space.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim());
    titles.map(|title| {
        let kept = title.chars().filter(|letter| letter.is_alphanumeric() || "_- ".contains(*letter));
        kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
    })
}
