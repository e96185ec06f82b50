//! Whether the ports of a configuration are free, or whose they are.
//!
//! The idea: what the start would do is tried for a moment, one port after the other, so that all of them are said and
//! not only the first. No connection is taken. Unix domain sockets are left alone: to try one is to replace it.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::finding::{Finding, Level};
use crate::cli::port_owner::PortOwner;
use crate::config::checked::{Config, Endpoint, ExtensionKind, SocketFamily};

/// A port that the configuration wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// `receiver otlp (grpc)`.
    pub place: String,
    /// The setting that moves it.
    pub setting: String,
    /// Where; several for a name such as `localhost`.
    pub endpoint: Endpoint,
}

/// What trying said.
#[derive(Debug)]
pub enum Tried {
    /// It can be bound.
    Free,
    /// Somebody has it; who, if that can be seen.
    Taken(SocketAddr, Option<PortOwner>),
    /// It cannot be bound for another reason.
    Impossible(String),
}

/// The ports of a configuration, in the order in which they are bound. A port 0 is always free.
pub fn wanted(config: &Config) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for receiver in &config.receivers {
        let id = &receiver.id;
        let grpc = receiver.otlp.grpc.as_ref().map(|grpc| ("grpc", grpc.family, &grpc.endpoint));
        let http = receiver.otlp.http.as_ref().map(|http| ("http", http.family, &http.endpoint));
        for (protocol, family, endpoint) in grpc.into_iter().chain(http) {
            if family != SocketFamily::Unix {
                wanted.push(Wanted {
                    place: format!("receiver {id} ({protocol})"),
                    setting: format!("receivers.{id}.protocols.{protocol}.endpoint"),
                    endpoint: endpoint.clone(),
                });
            }
        }
    }
    let mut add = |place: String, setting: String, address: SocketAddr| {
        let endpoint = Endpoint { host: address.ip().to_string(), port: address.port() };
        wanted.push(Wanted { place, setting, endpoint });
    };
    if let Some(address) = config.telemetry.metrics_address {
        add("metrics page".into(), "service.telemetry.metrics.address".into(), address);
    }
    if let Some(address) = config.telemetry.admin_address {
        add("admin page".into(), "service.engine.admin".into(), address);
    }
    for extension in &config.extensions {
        let address = match &extension.kind {
            ExtensionKind::HealthCheck(settings) => settings.address,
            ExtensionKind::HealthCheckV2(settings) => settings.address,
            ExtensionKind::HealthCheckGrpc(address)
            | ExtensionKind::Zpages(address)
            | ExtensionKind::Pprof(address) => *address,
        };
        add(format!("extension {}", extension.id), format!("extensions.{}.endpoint", extension.id), address);
    }
    wanted.retain(|wanted| wanted.endpoint.port != 0);
    wanted
}

/// Binds and lets go. `owner` says whose a taken port is.
pub fn try_port(endpoint: &Endpoint, owner: &dyn Fn(SocketAddr) -> Option<PortOwner>) -> Tried {
    let host = if endpoint.host.is_empty() { "::" } else { &endpoint.host };
    let addresses = match (host, endpoint.port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return Tried::Impossible(format!("{host}: {error}")),
    };
    let mut bound = 0;
    let mut missing = None;
    for address in addresses {
        match TcpListener::bind(address) {
            Ok(_) => bound += 1,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Tried::Taken(address, owner(address)),
            Err(error) => missing = Some(format!("{address}: {error}")),
        }
    }
    // `localhost` may have an address that this machine lacks; the start takes the others too.
    match missing {
        Some(error) if bound == 0 => Tried::Impossible(error),
        _ => Tried::Free,
    }
}

/// What that means.
///
/// `metrics_page` is where the gateway of this configuration shows its metrics.
pub fn judge(wanted: &Wanted, tried: &Tried, metrics_page: Option<SocketAddr>) -> Finding {
    let Wanted { place, setting, endpoint } = wanted;
    let shown = format!("{}:{}", if endpoint.host.is_empty() { "*" } else { &endpoint.host }, endpoint.port);
    match tried {
        Tried::Free => Finding::ok(place, format!("{shown} is free")),
        Tried::Taken(address, Some(PortOwner { pid, command })) if is_gateway(command) => Finding::new(
            Level::Warning,
            place,
            [
                format!("{shown} is free, for a gateway that starts now"),
                format!("{address} belongs to a gateway that runs: process {pid}, {command}"),
                match metrics_page {
                    Some(page) => format!(
                        "nothing, if that is the gateway you ask about; `tracegate doctor --url http://{page}/metrics` \
                         examines it"
                    ),
                    None => "nothing, if that is the gateway you ask about".to_owned(),
                },
            ],
        ),
        Tried::Taken(address, owner) => {
            let (whose, stop) = match owner {
                Some(PortOwner { pid, command }) => {
                    (format!("process {pid}, {command}"), format!("stop process {pid}"))
                }
                None => (
                    "a process that this user cannot see".to_owned(),
                    format!("find it as root with `ss -ltnp 'sport = :{}'`", address.port()),
                ),
            };
            let found = format!("{address} belongs to {whose}");
            Finding::new(
                Level::Problem,
                place,
                [format!("{shown} is free"), found, format!("{stop}, or set {setting}")],
            )
        }
        Tried::Impossible(error) => {
            let remedy = format!("an address of this machine in {setting}; ports below 1024 want CAP_NET_BIND_SERVICE");
            Finding::new(Level::Problem, place, [format!("{shown} can be listened on"), error.clone(), remedy])
        }
    }
}

/// Whether a command line runs this program.
fn is_gateway(command: &str) -> bool {
    let program = command.split_ascii_whitespace().next().unwrap_or_default();
    program.rsplit('/').next() == Some("tracegate")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(port: u16) -> Wanted {
        let endpoint = Endpoint { host: "127.0.0.1".into(), port };
        Wanted {
            place: "receiver otlp (grpc)".into(),
            setting: "receivers.otlp.protocols.grpc.endpoint".into(),
            endpoint,
        }
    }

    fn owned_by(command: &str) -> Finding {
        let owner = PortOwner { pid: 7, command: command.into() };
        let tried = Tried::Taken(SocketAddr::from(([127, 0, 0, 1], 4317)), Some(owner));
        judge(&wanted(4317), &tried, Some(SocketAddr::from(([127, 0, 0, 1], 7888))))
    }

    #[test]
    fn a_taken_port_names_its_owner_and_what_moves_ours() {
        let finding = owned_by("otelcol --config a.yaml");
        assert_eq!(finding.level, Level::Problem);
        assert!(finding.found.contains("process 7, otelcol"), "{finding:?}");
        assert!(finding.remedy.contains("receivers.otlp.protocols.grpc.endpoint"), "{finding:?}");
    }

    #[test]
    fn a_gateway_that_runs_already_is_no_problem() {
        let finding = owned_by("/usr/bin/tracegate --config a.yaml");
        assert_eq!(finding.level, Level::Warning);
        assert!(finding.remedy.contains("doctor --url http://127.0.0.1:7888/metrics"), "{finding:?}");
        assert_eq!(owned_by("vi tracegate").level, Level::Problem);
    }

    #[test]
    fn a_port_is_tried_and_let_go() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = wanted(listener.local_addr().unwrap().port()).endpoint;
        assert!(matches!(try_port(&endpoint, &|_| None), Tried::Taken(_, None)));
        drop(listener);
        for _ in 0..2 {
            assert!(matches!(try_port(&endpoint, &|_| None), Tried::Free));
        }
        // A documentation address, which no machine has.
        let elsewhere = Endpoint { host: "192.0.2.1".into(), port: 4317 };
        assert!(matches!(try_port(&elsewhere, &|_| None), Tried::Impossible(_)));
    }

    #[test]
    fn the_built_in_configuration_wants_its_four_ports() {
        let source = crate::config::Source::File {
            name: crate::config::BUILTIN_NAME.into(),
            text: crate::config::BUILTIN.into(),
        };
        let loaded = crate::config::load(&[source], &|_| None, &crate::config::Machine { memory_bytes: 4 << 30 });
        let ports: Vec<u16> =
            super::wanted(&loaded.config.unwrap()).iter().map(|wanted| wanted.endpoint.port).collect();
        assert_eq!(ports, [4317, 4318, 8888, 55679]);
    }
}
