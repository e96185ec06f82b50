//! Which components there are, and how an id is read.
//!
//! The idea: one table holds every component of the Collector's distributions that users bring, with what we have for
//! it. A component's settings are read in the file of its kind; all those files have the same order inside: header,
//! defaults, `check`, its helpers in call order.

mod actions;
pub(crate) mod attributes;
pub(crate) mod auth;
pub(crate) mod basic_auth;
pub(crate) mod batch;
pub(crate) mod bearer_token;
pub(crate) mod client;
pub(crate) mod debug;
pub(crate) mod endpoint;
pub(crate) mod file;
pub(crate) mod file_receiver;
pub(crate) mod file_storage;
pub(crate) mod filter;
pub(crate) mod group_by_trace;
pub(crate) mod headers_setter;
pub(crate) mod health_check;
pub(crate) mod memory;
pub(crate) mod memory_limiter;
pub(crate) mod nop;
pub(crate) mod otlp_exporter;
pub(crate) mod otlp_receiver;
pub(crate) mod pprof;
pub(crate) mod probabilistic_sampler;
pub(crate) mod properties;
pub(crate) mod redaction;
pub(crate) mod remote_write;
pub(crate) mod resource;
pub(crate) mod sending_queue;
pub(crate) mod span_metrics;
mod stress_relief;
mod tail_policies;
pub(crate) mod tail_sampling;
pub(crate) mod tls;
pub(crate) mod transform;
pub(crate) mod zpages;

use super::checked::ComponentId;
use super::diagnostic::{Severity, nearest, shown};
use super::section::{Field, lacking};

/// The Collector's bound.
const NAME_CHARS_MAX: usize = 1024;
/// The Collector's bound.
const TYPE_CHARS_MAX: usize = 63;

/// Sections of the file that hold components.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Receiver,
    Processor,
    Exporter,
    Connector,
    Extension,
}

impl Kind {
    /// Key of the section.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Kind::Receiver => "receivers",
            Kind::Processor => "processors",
            Kind::Exporter => "exporters",
            Kind::Connector => "connectors",
            Kind::Extension => "extensions",
        }
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Kind::Receiver => "receiver",
            Kind::Processor => "processor",
            Kind::Exporter => "exporter",
            Kind::Connector => "connector",
            Kind::Extension => "extension",
        }
    }
}

/// What we have for a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Availability {
    /// It runs.
    Built,
    /// It will; what to do until then.
    Later(&'static str),
    /// It is no part of a gateway; what comes nearest.
    Elsewhere(&'static str),
}

/// One component type.
pub(crate) struct Component {
    pub(crate) kind: Kind,
    /// Type in the file; both spellings of renamed ones are listed.
    pub(crate) name: &'static str,
    pub(crate) availability: Availability,
}

use Availability::{Built, Elsewhere, Later};
use Kind::{Connector, Exporter, Extension, Processor, Receiver};

const fn component(kind: Kind, name: &'static str, availability: Availability) -> Component {
    Component { kind, name, availability }
}

const SEND_OTLP: &str =
    "let the senders speak OTLP to the `otlp` receiver, or keep a Collector in front that translates";
const AGENT: &str = "this belongs on the host: keep a Collector there that sends OTLP to the `otlp` receiver";
const EXPORT_OTLP: &str = "most backends take OTLP: use the `otlp` or `otlphttp` exporter";
const USE_TRANSFORM: &str = "`transform` sets, deletes and rewrites attributes by statements";
const USE_OTLP_METRICS: &str = "send metrics as they are with `otlp` or `otlphttp`, or leave this with the Collector";
const NO_CONNECTORS: &str = "keep the Collector for this pipeline";
const ONE_TIER: &str = "in one process no second tier is needed: its shards divide traces by id, so sample here and export with `otlp`; in \
     front of several replicas that sample, keep the Collector's";
const NO_STORAGE: &str = "`file_storage` keeps queues on this machine's disk";
const NO_AUTH: &str = "`bearertokenauth` and `basicauth` work on both sides; for a receiver a proxy may check more";

/// Every component that is known by name, sorted by kind.
pub(crate) const COMPONENTS: &[Component] = &[
    component(Receiver, "otlp", Built),
    component(Receiver, "nop", Built),
    component(Receiver, "otlpjsonfile", Built),
    component(Receiver, "otlp_json_file", Built),
    component(Receiver, "kafka", Later("let the senders speak OTLP")),
    component(Receiver, "jaeger", Elsewhere(SEND_OTLP)),
    component(Receiver, "zipkin", Elsewhere(SEND_OTLP)),
    component(Receiver, "opencensus", Elsewhere(SEND_OTLP)),
    component(Receiver, "datadog", Elsewhere(SEND_OTLP)),
    component(Receiver, "otelarrow", Elsewhere(SEND_OTLP)),
    component(Receiver, "otel_arrow", Elsewhere(SEND_OTLP)),
    component(Receiver, "skywalking", Elsewhere(SEND_OTLP)),
    component(Receiver, "awsxray", Elsewhere(SEND_OTLP)),
    component(Receiver, "googlecloudpubsub", Elsewhere(SEND_OTLP)),
    component(Receiver, "fluentforward", Elsewhere(AGENT)),
    component(Receiver, "fluent_forward", Elsewhere(AGENT)),
    component(Receiver, "syslog", Elsewhere(AGENT)),
    component(Receiver, "tcplog", Elsewhere(AGENT)),
    component(Receiver, "filelog", Elsewhere(AGENT)),
    component(Receiver, "file_log", Elsewhere(AGENT)),
    component(Receiver, "journald", Elsewhere(AGENT)),
    component(Receiver, "hostmetrics", Elsewhere(AGENT)),
    component(Receiver, "host_metrics", Elsewhere(AGENT)),
    component(Receiver, "kubeletstats", Elsewhere(AGENT)),
    component(Receiver, "k8s_cluster", Elsewhere(AGENT)),
    component(Receiver, "k8s_events", Elsewhere(AGENT)),
    component(Receiver, "k8sobjects", Elsewhere(AGENT)),
    component(Receiver, "prometheus", Elsewhere(AGENT)),
    component(Receiver, "statsd", Elsewhere(AGENT)),
    component(Receiver, "influxdb", Elsewhere(AGENT)),
    component(Receiver, "docker_stats", Elsewhere(AGENT)),
    component(Receiver, "redis", Elsewhere(AGENT)),
    component(Receiver, "postgresql", Elsewhere(AGENT)),
    component(Receiver, "mysql", Elsewhere(AGENT)),
    component(Receiver, "httpcheck", Elsewhere(AGENT)),
    component(Receiver, "splunk_hec", Elsewhere(AGENT)),
    component(Processor, "memory_limiter", Built),
    component(Processor, "batch", Built),
    component(Processor, "resource", Built),
    component(Processor, "tail_sampling", Built),
    component(Processor, "transform", Built),
    component(Processor, "filter", Built),
    component(Processor, "attributes", Built),
    component(Processor, "redaction", Built),
    component(Processor, "probabilistic_sampler", Built),
    component(Processor, "groupbytrace", Built),
    component(Processor, "group_by_trace", Built),
    component(Processor, "span", Elsewhere(USE_TRANSFORM)),
    component(Processor, "groupbyattrs", Elsewhere("remove it: `batch` merges equal resources as they arrive")),
    component(Processor, "resourcedetection", Elsewhere("detect on the host, in the agent or the SDK")),
    component(Processor, "resource_detection", Elsewhere("detect on the host, in the agent or the SDK")),
    component(Processor, "k8sattributes", Elsewhere("run it in the agent, which sees the pods' addresses")),
    component(Processor, "k8s_attributes", Elsewhere("run it in the agent, which sees the pods' addresses")),
    component(Processor, "cumulativetodelta", Elsewhere(USE_OTLP_METRICS)),
    component(Processor, "deltatocumulative", Elsewhere(USE_OTLP_METRICS)),
    component(Processor, "metricstransform", Elsewhere(USE_OTLP_METRICS)),
    component(Processor, "interval", Elsewhere(USE_OTLP_METRICS)),
    component(Processor, "logdedup", Elsewhere("keep a Collector behind that does it")),
    component(Processor, "remotetap", Elsewhere("use the `debug` or `memory` exporter beside the others")),
    component(Processor, "schema", Elsewhere("translate schemas in the agent")),
    component(Processor, "geoip", Elsewhere("look addresses up in the agent")),
    component(Exporter, "otlp", Built),
    component(Exporter, "otlp_grpc", Built),
    component(Exporter, "otlphttp", Built),
    component(Exporter, "otlp_http", Built),
    component(Exporter, "debug", Built),
    component(Exporter, "memory", Built),
    component(Exporter, "nop", Built),
    component(Exporter, "prometheusremotewrite", Built),
    component(Exporter, "prometheus_remote_write", Built),
    component(Exporter, "file", Built),
    component(Exporter, "kafka", Later("use `otlp` towards a Collector that writes to Kafka")),
    component(Exporter, "loadbalancing", Later(ONE_TIER)),
    component(Exporter, "load_balancing", Later(ONE_TIER)),
    component(Exporter, "logging", Elsewhere("it was renamed: use `debug`")),
    component(Exporter, "jaeger", Elsewhere("Jaeger takes OTLP on port 4317: use the `otlp` exporter")),
    component(Exporter, "zipkin", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "prometheus", Elsewhere(USE_OTLP_METRICS)),
    component(Exporter, "loki", Elsewhere("Loki takes OTLP: use the `otlphttp` exporter")),
    component(Exporter, "otelarrow", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "otel_arrow", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "datadog", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "elasticsearch", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "opensearch", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "clickhouse", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "splunk_hec", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "awsxray", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "awsemf", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "googlecloud", Elsewhere(EXPORT_OTLP)),
    component(Exporter, "azuremonitor", Elsewhere(EXPORT_OTLP)),
    component(Connector, "forward", Built),
    component(Connector, "spanmetrics", Built),
    component(Connector, "span_metrics", Built),
    component(Connector, "servicegraph", Elsewhere(NO_CONNECTORS)),
    component(Connector, "service_graph", Elsewhere(NO_CONNECTORS)),
    component(Connector, "count", Elsewhere(NO_CONNECTORS)),
    component(Connector, "sum", Elsewhere(NO_CONNECTORS)),
    component(Connector, "exceptions", Elsewhere(NO_CONNECTORS)),
    component(Connector, "routing", Elsewhere(NO_CONNECTORS)),
    component(Connector, "failover", Elsewhere(NO_CONNECTORS)),
    component(Connector, "roundrobin", Elsewhere(NO_CONNECTORS)),
    component(Connector, "round_robin", Elsewhere(NO_CONNECTORS)),
    component(Extension, "health_check", Built),
    component(Extension, "healthcheckv2", Built),
    component(Extension, "zpages", Built),
    component(Extension, "pprof", Built),
    component(Extension, "file_storage", Built),
    component(Extension, "db_storage", Elsewhere(NO_STORAGE)),
    component(Extension, "redis_storage", Elsewhere(NO_STORAGE)),
    component(
        Extension,
        "memory_ballast",
        Elsewhere("remove it, as the Collector did: memory is bounded by its budget"),
    ),
    component(Extension, "memory_limiter", Later("use the `memory_limiter` processor")),
    component(Extension, "opamp", Later("restart with a new file to change the configuration")),
    component(Extension, "headers_setter", Built),
    component(Extension, "bearertokenauth", Built),
    component(Extension, "bearer_token_auth", Built),
    component(Extension, "basicauth", Built),
    component(Extension, "basic_auth", Built),
    component(Extension, "oauth2client", Elsewhere(NO_AUTH)),
    component(Extension, "oauth2_client", Elsewhere(NO_AUTH)),
    component(Extension, "oidc", Elsewhere(NO_AUTH)),
    component(Extension, "sigv4auth", Elsewhere(NO_AUTH)),
    component(Extension, "asapclient", Elsewhere(NO_AUTH)),
    component(Extension, "k8s_observer", Elsewhere(AGENT)),
    component(Extension, "host_observer", Elsewhere(AGENT)),
    component(Extension, "docker_observer", Elsewhere(AGENT)),
    component(Extension, "jaegerremotesampling", Elsewhere("configure samplers in the SDKs")),
    component(Extension, "k8s_leader_elector", Elsewhere("a gateway needs no leader: remove it")),
];

const NOT_SPANS: &str = "pass metrics and logs on as they are, and keep a Collector behind that does it";
const ENCODING: &str = "encodings belong to receivers that we lack: remove it with them";
const CLOUD_AUTH: &str = "let a proxy that has the credential stand before the backend";

/// Components that no gateway needs, or that another speaks for: names with spaces between them, and the answer.
const FOREIGN: &[(Kind, &str, &str)] = &[
    (
        Receiver,
        "activedirectoryds aerospike apache apachespark awscontainerinsightreceiver awsecscontainermetrics bigip \
         chrony collectd couchdb elasticsearch expvar file_stats filestats flinkmetrics haproxy iis jmx \
         k8s_objects kafkametrics kubelet_stats memcached mongodb namedpipe nginx ntp oracledb \
         podman_stats prometheus_simple rabbitmq receiver_creator riak saphana simpleprometheus \
         snmp snowflake sqlquery sql_query sqlserver sshcheck systemd tcpcheck tlscheck udplog vcenter \
         windowseventlog windowsperfcounters windowsservice zookeeper",
        AGENT,
    ),
    (
        Receiver,
        "awscloudwatch awsfirehose awss3 azureblob azureeventhub azuremonitor carbon cloudflare cloudfoundry faro \
         github gitlab googlecloudmonitoring googlecloudspanner libhoney loki mongodbatlas netflow \
         prometheusremotewrite pulsar purefa sapm signalfx solace splunkenterprise stef wavefront webhookevent",
        SEND_OTLP,
    ),
    (
        Processor,
        "cumulative_to_delta deltatorate delta_to_cumulative delta_to_rate logstransform log_dedup \
         metricsgeneration metrics_generation metrics_transform metricstarttime metric_start_time",
        NOT_SPANS,
    ),
    (Processor, "group_by_attrs", "remove it: `batch` merges equal resources as they arrive"),
    (Processor, "coralogix dnslookup isolationforest lookup sumologic unroll", USE_TRANSFORM),
    (
        Exporter,
        "alertmanager alibabacloud_logservice awscloudwatchlogs awskinesis awss3 azureblob azuredataexplorer \
         bmchelix carbon cassandra coralogix dataset doris faro googlecloudpubsub googlecloudstorage \
         googlemanagedprometheus honeycombmarker influxdb logicmonitor logzio mezmo opencensus pulsar rabbitmq \
         sapm sematext sentry signalfx stef sumologic syslog tencentcloud_logservice tinybird",
        EXPORT_OTLP,
    ),
    (Connector, "datadog grafanacloud metricsaslogs otlpjson signaltometrics signal_to_metrics slowsql", NO_CONNECTORS),
    (Extension, "cfgarden_observer ecs_observer ecs_task_observer kafkatopics_observer", AGENT),
    (
        Extension,
        "avro_log_encoding jaeger_encoding json_log_encoding otlp_encoding skywalking_encoding text_encoding \
         zipkin_encoding",
        ENCODING,
    ),
    (Extension, "azure_auth azureauth googleclientauth", CLOUD_AUTH),
    (Extension, "ack awsproxy http_forwarder remotetap solarwindsapmsettings", "remove it"),
    (Extension, "cgroupruntime", "remove it: shards and memory follow the cgroup anyway"),
];

/// What we have for a type; `None` if nobody knows it.
fn availability(kind: Kind, name: &str) -> Option<Availability> {
    let known = COMPONENTS.iter().find(|component| component.kind == kind && component.name == name);
    let foreign = || {
        FOREIGN.iter().find(|(of, names, _)| *of == kind && names.split_ascii_whitespace().any(|known| known == name))
    };
    known.map(|component| component.availability).or_else(|| foreign().map(|(_, _, instead)| Elsewhere(instead)))
}

/// Components that run, as `section/type`, in the order of the table.
pub(crate) fn built() -> impl Iterator<Item = String> {
    COMPONENTS
        .iter()
        .filter(|component| component.availability == Built)
        .map(|component| format!("{}/{}", component.kind.section(), component.name))
}

/// Reads `type[/name]`; spaces around both are dropped, as in the Collector.
pub(crate) fn component_id(text: &str) -> Result<ComponentId, String> {
    let (kind, name) = match text.split_once('/') {
        Some((kind, name)) => (kind.trim(), Some(name.trim())),
        None => (text.trim(), None),
    };
    let letters = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !kind.starts_with(|first: char| first.is_ascii_alphabetic()) || !letters(kind) || kind.len() > TYPE_CHARS_MAX {
        return Err(format!("{} is no component id: the type has letters, digits and `_`", shown(text)));
    }
    match name {
        Some("") => Err(format!("{} has nothing after the `/`", shown(text))),
        Some(name) if name.contains('/') || name.chars().count() > NAME_CHARS_MAX => {
            Err(format!("{} is no component id: the name is too long or has a second `/`", shown(text)))
        }
        name => Ok(ComponentId { kind: kind.to_owned(), name: name.map(str::to_owned) }),
    }
}

/// Whether a component of this type runs here; says why not if it does not.
pub(crate) fn is_built(kind: Kind, id: &ComponentId, field: &Field<'_>) -> bool {
    let (reason, instead) = match availability(kind, &id.kind) {
        Some(Built) => return true,
        Some(Later(instead)) => (format!("the {} `{}` is not built yet", kind.word(), id.kind), instead),
        Some(Elsewhere(instead)) => (format!("Tracegate has no {} `{}`", kind.word(), id.kind), instead),
        None => {
            field.report.error(
                &field.key_place,
                &field.path,
                format!("there is no {} of type {}", kind.word(), shown(&id.kind)),
                unknown_type_help(kind, &id.kind),
            );
            return false;
        }
    };
    if kind == Kind::Extension && !field.used {
        // As in the Collector: what `service.extensions` does not list does nothing, and nothing is said.
        return false;
    }
    let (severity, message) = match kind {
        // Extensions serve the process, not a pipeline.
        Kind::Extension => (Severity::Warning, format!("{reason}; the gateway starts without it")),
        _ => lacking(field.used, reason),
    };
    field.report.add(severity, &field.key_place, &field.path, message, instead.to_owned());
    false
}

fn unknown_type_help(kind: Kind, written: &str) -> String {
    let same_kind = || COMPONENTS.iter().filter(|component| component.kind == kind);
    if let Some(name) = nearest(written, same_kind().map(|component| component.name)) {
        return format!("did you mean `{name}`?");
    }
    if let Some(other) = COMPONENTS.iter().find(|component| component.name == written) {
        return format!("`{written}` is a type of {}; move it to `{}`", other.kind.word(), other.kind.section());
    }
    let names: Vec<&str> =
        same_kind().filter(|component| component.availability == Built).map(|component| component.name).collect();
    match names.is_empty() {
        true => "remove it".to_owned(),
        false => format!("remove it, or use one of these: {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_a_type_and_perhaps_a_name() {
        let id = component_id("otlp/jaeger.eu-1").unwrap();
        assert_eq!((id.kind.as_str(), id.name.as_deref()), ("otlp", Some("jaeger.eu-1")));
        assert_eq!(component_id(" otlp / a b ").unwrap().to_string(), "otlp/a b");
        for wrong in ["", "/", "otlp/", "/a", "a/b/c", "9a", "a-b", "ä"] {
            assert!(component_id(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_table_names_each_component_once() {
        let mut names: Vec<_> = COMPONENTS.iter().map(|component| (component.kind, component.name)).collect();
        names.extend(
            FOREIGN.iter().flat_map(|(kind, names, _)| names.split_ascii_whitespace().map(|name| (*kind, name))),
        );
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
