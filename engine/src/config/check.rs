//! The merged and expanded tree -> the checked configuration, or everything that is wrong with it.
//!
//! Pipelines are read first: what they name is in use, and lacking something there is an error; everything else that
//! we lack is skipped with a warning. Then each component's settings are read by the file of its kind.

use std::collections::{BTreeMap, HashMap};

use super::checked::{
    AckMode, ComponentId, Config, ExporterSettings, ExtensionKind, ExtensionSettings, FlushSettings, Forward,
    OtlpReceiverSettings, PipelineSettings, ProcessorKind, ProcessorSettings, ReceiverSettings, SpanMetricsConnector,
    SpanMetricsSettings, TlsServerSettings, Wanted,
};
use super::component::otlp_exporter::Definition;
use super::component::{self, Kind};
use super::diagnostic::{Place, Report, nearest, shown};
use super::section::{Field, Section};
use super::yaml::Node;
use super::{
    Machine, authenticator, client_context, forwards, promises, service, signals, storage, telemetry, waiting,
};
use codecs::otlp::Signal;

/// Most pipelines of one file.
const PIPELINES_MAX: usize = 64;
/// Most components of one kind.
const COMPONENTS_MAX: usize = 256;

/// What a tree turned out to be.
#[derive(Default)]
pub(crate) struct Outcome {
    /// Good if the report has no errors in the end: sections report unknown keys when they go out of scope.
    pub(crate) config: Option<Config>,
    /// There is no `service`: a part of a configuration.
    pub(crate) fragment: bool,
}

/// Reads a tree. Everything wrong goes into the report.
pub(crate) fn check(tree: &Node, machine: &Machine, report: &Report) -> Outcome {
    let Some(root) = Field::root(tree, report).section() else {
        return Outcome::default();
    };
    if tree.is_null() || root.entries().is_empty() {
        root.error("the configuration is empty", "start from `configs/gateway.yaml`, or give a file with --config");
        return Outcome::default();
    }
    if is_kubernetes_manifest(&root) {
        root.keys_are_names();
        return Outcome::default();
    }
    let service = root.field("service");
    let service_section = service.as_ref().and_then(|field| field.section());
    let drafts = service_section.as_ref().map(pipelines).unwrap_or_default();
    let listed = service_section.as_ref().map(|service| references(service, "extensions")).unwrap_or_default();
    let used = Used::of(&drafts, &listed);

    let receivers = components(&root, Kind::Receiver, &used, receiver);
    let processors = components(&root, Kind::Processor, &used, |field| processor(field, machine));
    let exporters = components(&root, Kind::Exporter, &used, exporter);
    let connectors = components(&root, Kind::Connector, &used, connector);
    let extensions = components(&root, Kind::Extension, &used, extension);
    let authenticators = authenticator::definitions(&root, tree);
    let storages = storage::definitions(&root, tree);

    let Some(service) = service_section else {
        // A `service` of the wrong type is reported, and no fragment.
        return Outcome { config: None, fragment: service.is_none() };
    };
    let extensions = listed_extensions(&listed, &extensions);
    let zpages = extensions.iter().find_map(|extension| match extension.kind {
        // With TLS it cannot be the listener of our own pages.
        ExtensionKind::Zpages(address) if extension.tls.is_none() => Some(address),
        _ => None,
    });
    // Zpages and the admin pages are the same pages at the same port, so one listener serves both.
    let admin_default = zpages.unwrap_or_else(|| service::loopback(service::ADMIN_PORT));
    let (engine, admin_address) = service::engine(&service, admin_default);
    let telemetry = telemetry::telemetry(&service, admin_address);

    let lists = Lists { receivers, processors, exporters, connectors };
    connector_ids(&lists, report);
    let wired: Vec<Wired> = drafts.iter().map(|draft| wire(draft, &lists)).collect();
    forwards::check(&drafts, &lists.connectors, report);
    signals::check(&drafts, &lists.processors, &lists.exporters);
    let connectors = lists.connectors.clone();
    let mut config = assemble(wired, lists, extensions, engine, telemetry);
    forwards::check_names(&config, &connectors, report);
    super::conflicts::check(&config, tree, report);
    authenticator::resolve(&mut config, &authenticators, tree, report);
    storage::resolve(&mut config, &storages, tree, report);
    client_context::check(&mut config, tree, report);
    waiting::check(&config, tree, report);
    promises::check(&config, tree, report);
    Outcome { config: Some(config), fragment: false }
}

fn is_kubernetes_manifest(root: &Section<'_>) -> bool {
    let entries = root.entries();
    let Some((_, field)) = entries.iter().find(|(key, _)| *key == "apiVersion") else {
        return false;
    };
    field.report.error(
        &field.key_place,
        "apiVersion",
        "this is a Kubernetes manifest, not a configuration",
        "give the file that the manifest mounts, often in a ConfigMap",
    );
    true
}

/// One pipeline as written.
pub(crate) struct Draft<'a> {
    pub(crate) id: ComponentId,
    pub(crate) signal: Signal,
    pub(crate) receivers: Vec<(ComponentId, Field<'a>)>,
    pub(crate) processors: Vec<(ComponentId, Field<'a>)>,
    pub(crate) exporters: Vec<(ComponentId, Field<'a>)>,
    pub(crate) ack: AckMode,
}

const ACKS: [(&str, AckMode); 3] =
    [("received", AckMode::Received), ("durable", AckMode::Durable), ("delivered", AckMode::Delivered)];

fn pipelines<'a>(service: &Section<'a>) -> Vec<Draft<'a>> {
    const HELP: &str = "add `pipelines:` with `traces: {receivers: [...], processors: [...], exporters: [...]}`";
    let Some(field) = service.field("pipelines") else {
        service.error("there is no pipeline", HELP);
        return Vec::new();
    };
    let Some(section) = field.section() else {
        return Vec::new();
    };
    let entries = section.entries();
    section.keys_are_names();
    if entries.is_empty() {
        field.error("there is no pipeline", HELP);
    }
    if entries.len() > PIPELINES_MAX {
        field.error(format!("more than {PIPELINES_MAX} pipelines"), "merge some of them, or start several gateways");
        return Vec::new();
    }
    entries.into_iter().filter_map(|(name, field)| pipeline(name, field)).collect()
}

fn pipeline<'a>(name: &str, field: Field<'a>) -> Option<Draft<'a>> {
    const SIGNALS: [&str; 4] = ["traces", "metrics", "logs", "profiles"];
    let at_key = |message: String, help: String| field.report.error(&field.key_place, &field.path, message, help);
    let id = match component::component_id(name) {
        Ok(id) => id,
        Err(message) => {
            at_key(message, "name the pipeline `traces` or `traces/name`".to_owned());
            return None;
        }
    };
    let signal = Signal::from_name(&id.kind);
    if signal.is_none() {
        match SIGNALS.contains(&id.kind.as_str()) {
            true => at_key(
                format!("{} pipelines are not built yet", id.kind),
                format!("remove this pipeline, or leave {} with the Collector", id.kind),
            ),
            false => at_key(
                format!("there is no signal {}", shown(&id.kind)),
                match nearest(&id.kind, SIGNALS) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name the pipeline `traces`, `metrics` or `logs`, or `traces/name`".to_owned(),
                },
            ),
        }
    }
    let section = field.section()?;
    let receivers = references(&section, "receivers");
    let processors = references(&section, "processors");
    let exporters = references(&section, "exporters");
    for (list, word) in [(&receivers, "receiver"), (&exporters, "exporter")] {
        if list.is_empty() {
            at_key(format!("the pipeline has no {word}"), format!("add `{word}s: [...]` below it"));
        }
    }
    // With a wrong signal there is an error already, and the rest is looked at all the same.
    let ack = section.choice("ack", &ACKS, AckMode::Received);
    Some(Draft { id, signal: signal.unwrap_or_default(), receivers, processors, exporters, ack })
}

fn references<'a>(section: &Section<'a>, key: &'static str) -> Vec<(ComponentId, Field<'a>)> {
    let Some(field) = section.field(key) else {
        return Vec::new();
    };
    let mut references: Vec<(ComponentId, Field<'a>)> = Vec::new();
    for (text, item) in field.texts() {
        match component::component_id(&text) {
            Ok(id) if references.iter().any(|(known, _)| *known == id) => {
                item.error(
                    format!("`{id}` is here twice"),
                    "remove one; a second one needs a name of its own (`type/name`)",
                );
            }
            Ok(id) => references.push((id, item)),
            Err(message) => item.error(message, "write the id of a component: `type` or `type/name`"),
        }
    }
    references
}

/// Ids that a pipeline or `service.extensions` names, by kind. A connector is named as receiver and exporter.
struct Used {
    ids: HashMap<Kind, Vec<ComponentId>>,
}

impl Used {
    fn of(drafts: &[Draft<'_>], extensions: &[(ComponentId, Field<'_>)]) -> Used {
        let mut ids: HashMap<Kind, Vec<ComponentId>> = HashMap::new();
        ids.insert(Kind::Extension, extensions.iter().map(|(id, _)| id.clone()).collect());
        for draft in drafts {
            for (kind, list) in [
                (Kind::Receiver, &draft.receivers),
                (Kind::Processor, &draft.processors),
                (Kind::Exporter, &draft.exporters),
                (Kind::Connector, &draft.receivers),
                (Kind::Connector, &draft.exporters),
            ] {
                ids.entry(kind).or_default().extend(list.iter().map(|(id, _)| id.clone()));
            }
        }
        Used { ids }
    }

    fn has(&self, kind: Kind, id: &ComponentId) -> bool {
        self.ids.get(&kind).is_some_and(|ids| ids.contains(id))
    }
}

/// A component as defined; without settings if it is not built or something in it is wrong.
#[derive(Clone)]
pub(crate) struct Defined<T> {
    pub(crate) place: Place,
    pub(crate) settings: Option<T>,
}

pub(crate) type Definitions<T> = BTreeMap<ComponentId, Defined<T>>;

fn components<T>(
    root: &Section<'_>,
    kind: Kind,
    used: &Used,
    check: impl Fn(&Field<'_>) -> Option<T>,
) -> Definitions<T> {
    let mut definitions = Definitions::new();
    let Some(section) = root.section(kind.section()) else {
        return definitions;
    };
    let entries = section.entries();
    if entries.len() > COMPONENTS_MAX {
        section.error(format!("more than {COMPONENTS_MAX} {}", kind.section()), "remove those that no pipeline uses");
    }
    for (name, mut field) in entries.into_iter().take(COMPONENTS_MAX) {
        let id = match component::component_id(name) {
            Ok(id) => id,
            Err(message) => {
                let help = format!("write `type:` or `type/name:` below `{}`", kind.section());
                field.report.error(&field.key_place, &field.path, message, help);
                continue;
            }
        };
        field.used = used.has(kind, &id);
        let settings = component::is_built(kind, &id, &field).then(|| check(&field)).flatten();
        let place = field.key_place.clone();
        definitions.insert(id, Defined { place, settings });
    }
    section.keys_are_names();
    definitions
}

fn receiver(field: &Field<'_>) -> Option<OtlpReceiverSettings> {
    match component_type(field) {
        "otlp" => component::otlp_receiver::check(field),
        "nop" => component::nop::check_receiver(field),
        "otlpjsonfile" | "otlp_json_file" => component::file_receiver::check(field),
        other => unreachable!("the table says that the receiver {other} is built"),
    }
}

/// A connector that is built.
#[derive(Clone)]
pub(crate) enum ConnectorKind {
    /// Has no settings.
    Forward,
    SpanMetrics(SpanMetricsSettings, FlushSettings),
}

fn connector(field: &Field<'_>) -> Option<ConnectorKind> {
    match component_type(field) {
        "forward" => field.section().map(|_| ConnectorKind::Forward),
        "spanmetrics" | "span_metrics" => {
            component::span_metrics::check(field).map(|(settings, flush)| ConnectorKind::SpanMetrics(settings, flush))
        }
        other => unreachable!("the table says that the connector {other} is built"),
    }
}

/// What an extension listens for, and its `tls`.
type Listening = (ExtensionKind, Option<TlsServerSettings>);

/// Usually one; a health check may listen twice.
fn extension(field: &Field<'_>) -> Option<Vec<Listening>> {
    match component_type(field) {
        "health_check" | "healthcheckv2" => component::health_check::check(field),
        "zpages" => component::zpages::check(field).map(|kind| vec![kind]),
        "pprof" => component::pprof::check(field).map(|kind| vec![(kind, None)]),
        // Those that serve other components are read by whoever names them.
        _ => None,
    }
}

fn processor(field: &Field<'_>, machine: &Machine) -> Option<ProcessorKind> {
    match component_type(field) {
        "memory_limiter" => component::memory_limiter::check(field, machine.memory_bytes),
        "batch" => component::batch::check(field),
        "resource" => component::resource::check(field),
        "attributes" => component::attributes::check(field),
        "filter" => component::filter::check(field),
        "redaction" => component::redaction::check(field),
        "groupbytrace" | "group_by_trace" => component::group_by_trace::check(field),
        "probabilistic_sampler" => component::probabilistic_sampler::check(field),
        "tail_sampling" => component::tail_sampling::check(field),
        "transform" => component::transform::check(field),
        other => unreachable!("the table says that the processor {other} is built"),
    }
}

fn exporter(field: &Field<'_>) -> Option<Definition> {
    match component_type(field) {
        "otlp" | "otlp_grpc" => component::otlp_exporter::check_grpc(field),
        "otlphttp" | "otlp_http" => component::otlp_exporter::check_http(field),
        "debug" => component::debug::check(field).map(Definition::of),
        "file" => component::file::check(field).map(Definition::of),
        "memory" => component::memory::check(field).map(Definition::of),
        "nop" => component::nop::check(field).map(Definition::of),
        "prometheusremotewrite" | "prometheus_remote_write" => component::remote_write::check(field),
        other => unreachable!("the table says that the exporter {other} is built"),
    }
}

/// The type in a component's path: `processors.batch/name` -> `batch`.
fn component_type<'f>(field: &'f Field<'_>) -> &'f str {
    let id = field.path.split_once('.').map_or("", |(_, id)| id);
    id.split('/').next().unwrap_or("").trim()
}

/// What `service.extensions` lists and we have, in its order.
fn listed_extensions(
    listed: &[(ComponentId, Field<'_>)],
    definitions: &Definitions<Vec<Listening>>,
) -> Vec<ExtensionSettings> {
    let mut extensions = Vec::new();
    for (id, item) in listed {
        match definitions.get(id) {
            None => undefined(item, Kind::Extension, id, definitions.keys()),
            Some(defined) => {
                let settings = |(kind, tls): &Listening| {
                    let (id, kind, tls) = (id.clone(), kind.clone(), tls.clone());
                    ExtensionSettings { id, kind, tls }
                };
                extensions.extend(defined.settings.iter().flatten().map(settings));
            }
        }
    }
    extensions
}

fn undefined<'i>(item: &Field<'_>, kind: Kind, id: &ComponentId, known: impl Iterator<Item = &'i ComponentId>) {
    let section = kind.section();
    let known: Vec<String> = known.map(ComponentId::to_string).collect();
    let help = match nearest(&id.to_string(), known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => format!("define it: add `{section}:` with `{id}:` below it"),
        None => format!("define it below `{section}`, or use one of these: {}", known.join(", ")),
    };
    item.error(format!("the {} `{id}` is not defined", kind.word()), help);
}

/// Components as defined.
struct Lists {
    receivers: Definitions<OtlpReceiverSettings>,
    processors: Definitions<ProcessorKind>,
    exporters: Definitions<Definition>,
    connectors: Definitions<ConnectorKind>,
}

/// One pipeline whose references were looked up.
struct Wired {
    id: ComponentId,
    signal: Signal,
    receivers: Vec<ComponentId>,
    processors: Vec<ComponentId>,
    exporters: Vec<ComponentId>,
    /// Connectors among the receivers, and among the exporters.
    fed_by: Vec<ComponentId>,
    forwards: Vec<ComponentId>,
    span_metrics: Vec<ComponentId>,
    ack: AckMode,
}

/// A connector is named like a receiver and like an exporter, so its id must be neither's.
fn connector_ids(lists: &Lists, report: &Report) {
    for (id, definition) in &lists.connectors {
        if lists.exporters.contains_key(id) || lists.receivers.contains_key(id) {
            report.error(
                &definition.place,
                &format!("connectors.{id}"),
                "a receiver or exporter has the same id",
                "give the connector a name: `type/name`",
            );
        }
    }
}

fn wire(draft: &Draft<'_>, lists: &Lists) -> Wired {
    let connectors: Vec<&ComponentId> = lists.connectors.keys().collect();
    let connectors_of = |references: &[(ComponentId, Field<'_>)]| -> Vec<ComponentId> {
        let ids = references.iter().map(|(id, _)| id);
        ids.filter(|id| lists.connectors.contains_key(*id)).cloned().collect()
    };
    let (span_metrics, forwards) = connectors_of(&draft.exporters).into_iter().partition(forwards::makes_metrics);
    let wired = Wired {
        id: draft.id.clone(),
        signal: draft.signal,
        receivers: known(&draft.receivers, Kind::Receiver, &lists.receivers, &connectors),
        processors: known(&draft.processors, Kind::Processor, &lists.processors, &[]),
        exporters: known(&draft.exporters, Kind::Exporter, &lists.exporters, &connectors),
        fed_by: connectors_of(&draft.receivers),
        forwards,
        span_metrics,
        ack: draft.ack,
    };
    let sampler = draft.processors.iter().find(|(id, _)| samples(id));
    if let (Some((sampler, _)), Some((id, item))) =
        (sampler, draft.exporters.iter().find(|(id, _)| forwards::makes_metrics(id) && connectors.contains(&id)))
    {
        item.warning(
            format!("`{id}` stands behind `{sampler}`, so it counts only the spans that are kept"),
            "name it in a pipeline without sampling over the same receivers",
        );
    }
    let limiter = draft.processors.iter().skip(1).find(|(id, _)| id.kind == "memory_limiter");
    if let Some((_, item)) = limiter {
        item.warning(
            "`memory_limiter` is not the first processor; what comes before it works on data that is refused",
            "move it to the front of the list",
        );
    }
    wired
}

/// Whether a processor leaves spans out by chance or by policy.
fn samples(id: &ComponentId) -> bool {
    matches!(id.kind.as_str(), "tail_sampling" | "probabilistic_sampler")
}

/// The ids that are defined; the others are reported.
fn known<T>(
    references: &[(ComponentId, Field<'_>)],
    kind: Kind,
    definitions: &Definitions<T>,
    connectors: &[&ComponentId],
) -> Vec<ComponentId> {
    let mut known = Vec::with_capacity(references.len());
    for (id, item) in references {
        if definitions.contains_key(id) {
            known.push(id.clone());
        } else if !connectors.contains(&id) {
            undefined(item, kind, id, definitions.keys().chain(connectors.iter().copied()));
        }
    }
    known
}

/// Puts the components that pipelines use into lists, in the order of their first use.
fn assemble(
    wired: Vec<Wired>,
    lists: Lists,
    extensions: Vec<ExtensionSettings>,
    engine: super::checked::EngineSettings,
    telemetry: super::checked::TelemetrySettings,
) -> Config {
    let mut config = Config {
        engine,
        telemetry,
        receivers: Vec::new(),
        processors: Vec::new(),
        exporters: Vec::new(),
        span_metrics: Vec::new(),
        authenticators: Vec::new(),
        storages: Vec::new(),
        extensions,
        pipelines: Vec::new(),
    };
    let forwards = forwards_of(&wired);
    let metrics = wired.iter().enumerate().filter(|(_, pipeline)| pipeline.signal == Signal::Metrics);
    let fed: Vec<(usize, Vec<ComponentId>)> =
        metrics.map(|(number, pipeline)| (number, pipeline.fed_by.clone())).collect();
    for (pipeline, forwards) in wired.into_iter().zip(forwards) {
        let signal = pipeline.signal;
        // One listener serves all signals; processors and exporters are listed for each of theirs.
        let receivers = numbers(
            &pipeline.receivers,
            &lists.receivers,
            &mut config.receivers,
            |listed, id| listed.id == *id,
            |id, otlp| Some(ReceiverSettings { id, otlp, wanted: Wanted::default() }),
        );
        let processors = numbers(
            &pipeline.processors,
            &lists.processors,
            &mut config.processors,
            |listed, id| listed.id == *id && listed.signal == signal,
            |id, kind| Some(ProcessorSettings { id, signal, kind: kind.for_signal(signal), storage: None }),
        );
        let exporters = numbers(
            &pipeline.exporters,
            &lists.exporters,
            &mut config.exporters,
            |listed, id| listed.id == *id && listed.signal == signal,
            |id, definition| {
                let kind = definition.kind(signal)?.clone();
                Some(ExporterSettings { id, signal, kind })
            },
        );
        let span_metrics = numbers(
            &pipeline.span_metrics,
            &lists.connectors,
            &mut config.span_metrics,
            |listed, id| listed.id == *id,
            |id, kind| match kind {
                ConnectorKind::SpanMetrics(settings, flush) => {
                    let targets = fed.iter().filter(|(_, by)| by.contains(&id)).map(|(number, _)| *number).collect();
                    Some(SpanMetricsConnector { id, settings, flush, targets })
                }
                ConnectorKind::Forward => None,
            },
        );
        let id = pipeline.id;
        config.pipelines.push(PipelineSettings {
            id,
            signal,
            receivers,
            processors,
            exporters,
            forwards,
            span_metrics,
            ack: pipeline.ack,
        });
    }
    config
}

/// The forwards of each pipeline.
fn forwards_of(wired: &[Wired]) -> Vec<Vec<Forward>> {
    let fed_by = |id: &ComponentId, signal: Signal| -> Vec<usize> {
        let pipelines = wired.iter().enumerate().filter(|(_, pipeline)| pipeline.signal == signal);
        pipelines.filter(|(_, pipeline)| pipeline.fed_by.contains(id)).map(|(number, _)| number).collect()
    };
    let forward = |id: &ComponentId, signal: Signal| Forward { id: id.clone(), targets: fed_by(id, signal) };
    let forwards = |pipeline: &Wired| pipeline.forwards.iter().map(|id| forward(id, pipeline.signal)).collect();
    wired.iter().map(forwards).collect()
}

/// The numbers of these components in `list`, to which those are added that it has not yet.
fn numbers<T: Clone, S>(
    ids: &[ComponentId],
    definitions: &Definitions<T>,
    list: &mut Vec<S>,
    is_listed: impl Fn(&S, &ComponentId) -> bool,
    make: impl Fn(ComponentId, T) -> Option<S>,
) -> Vec<usize> {
    let mut numbers = Vec::with_capacity(ids.len());
    for id in ids {
        if let Some(number) = list.iter().position(|listed| is_listed(listed, id)) {
            numbers.push(number);
            continue;
        }
        // Without settings there is an error in the report, and the lists are never looked at.
        let settings = definitions.get(id).and_then(|defined| defined.settings.clone());
        if let Some(listed) = settings.and_then(|settings| make(id.clone(), settings)) {
            list.push(listed);
            numbers.push(list.len() - 1);
        }
    }
    numbers
}
