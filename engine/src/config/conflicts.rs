//! What is wrong only when parts are seen together: two listeners on one address; files whose signal nobody can tell.

use super::checked::{Config, Endpoint, ExtensionKind};
use super::component::endpoint;
use super::diagnostic::{Place, Report};
use super::yaml::Node;
use codecs::otlp::Format;

/// Where something listens, and the keys that say so.
struct Listener {
    keys: Vec<String>,
    endpoint: Endpoint,
}

/// Reports listeners that would take each other's port, and files that cannot be read.
pub(crate) fn check(config: &Config, tree: &Node, report: &Report) {
    check_files(config, tree, report);
    let listeners = listeners(config);
    for (index, listener) in listeners.iter().enumerate() {
        let taken = listeners[..index].iter().find(|other| overlap(&listener.endpoint, &other.endpoint));
        if let Some(first) = taken {
            report.error(
                place(tree, &listener.keys),
                &listener.keys.join("."),
                format!("port {} is taken by {}", listener.endpoint.port, first.keys.join(".")),
                "give one of them another port",
            );
        }
    }
}

/// A request in protobuf does not say of which signal it is.
fn check_files(config: &Config, tree: &Node, report: &Report) {
    for (number, receiver) in config.receivers.iter().enumerate() {
        let signals = config.signals_of(number);
        let is_proto = receiver.otlp.files.as_ref().is_some_and(|files| files.format == Format::Protobuf);
        if is_proto && signals.len() > 1 {
            let keys = ["receivers".to_owned(), receiver.id.to_string(), "format".to_owned()];
            let names: Vec<&str> = signals.iter().map(|signal| signal.name()).collect();
            report.error(
                place(tree, &keys),
                &keys.join("."),
                format!(
                    "pipelines of {} read these files, and `proto` does not say what a record is",
                    names.join(", ")
                ),
                "write each signal into files of its own, and give each a receiver of its own",
            );
        }
    }
}

fn listeners(config: &Config) -> Vec<Listener> {
    let mut listeners = Vec::new();
    let mut add = |keys: &[&str], endpoint: Endpoint| {
        let keys = keys.iter().map(|key| (*key).to_owned()).collect();
        listeners.push(Listener { keys, endpoint });
    };
    for receiver in &config.receivers {
        let id = receiver.id.to_string();
        if let Some(grpc) = &receiver.otlp.grpc {
            add(&["receivers", &id, "protocols", "grpc", "endpoint"], grpc.endpoint.clone());
        }
        if let Some(http) = &receiver.otlp.http {
            add(&["receivers", &id, "protocols", "http", "endpoint"], http.endpoint.clone());
        }
    }
    let own = [
        (["service", "engine", "admin"].as_slice(), config.telemetry.admin_address),
        (["service", "telemetry", "metrics", "address"].as_slice(), config.telemetry.metrics_address),
    ];
    for (keys, address) in own {
        if let Some(address) = address {
            let host = address.ip().to_string();
            let port = address.port();
            add(keys, Endpoint { host, port });
        }
    }
    for extension in &config.extensions {
        let id = extension.id.to_string();
        let (keys, address) = match &extension.kind {
            ExtensionKind::HealthCheck(health) => (vec!["extensions", &id, "endpoint"], health.address),
            ExtensionKind::HealthCheckV2(health) => (vec!["extensions", &id, "http", "endpoint"], health.address),
            ExtensionKind::HealthCheckGrpc(address) => (vec!["extensions", &id, "grpc", "endpoint"], *address),
            // The same pages: one listener serves both.
            ExtensionKind::Zpages(address)
                if Some(*address) == config.telemetry.admin_address && extension.tls.is_none() =>
            {
                continue;
            }
            ExtensionKind::Zpages(address) | ExtensionKind::Pprof(address) => {
                (vec!["extensions", &id, "endpoint"], *address)
            }
        };
        add(&keys, Endpoint { host: address.ip().to_string(), port: address.port() });
    }
    listeners
}

/// The place of the deepest of the keys that is written.
pub(crate) fn place<'a>(tree: &'a Node, keys: &[String]) -> &'a Place {
    let mut place = &tree.place;
    let mut node = tree;
    for key in keys {
        let Some(entry) = node.entry(key) else { break };
        place = if entry.node.place.is_empty() { &entry.place } else { &entry.node.place };
        node = &entry.node;
    }
    place
}

/// Whether both cannot listen at the same time, as far as that is known without looking names up.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    if one.port != other.port || one.port == 0 {
        return false;
    }
    match (endpoint::numeric(one), endpoint::numeric(other)) {
        (Some(one), Some(other)) => one == other || one.ip().is_unspecified() || other.ip().is_unspecified(),
        _ => one.host == other.host,
    }
}
