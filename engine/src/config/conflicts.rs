//! What is wrong only when parts are seen together: two listeners on one address.

use super::checked::{Config, Endpoint};
use super::component::endpoint;
use super::diagnostic::Report;
use super::section::Section;

/// Reports listeners that would take each other's port.
pub(crate) fn check(config: &Config, service: &Section<'_>, report: &Report) {
    let mut listeners: Vec<(String, Endpoint)> = Vec::new();
    for receiver in &config.receivers {
        let path = format!("receivers.{}.protocols", receiver.id);
        if let Some(grpc) = &receiver.otlp.grpc {
            listeners.push((format!("{path}.grpc.endpoint"), grpc.endpoint.clone()));
        }
        if let Some(http) = &receiver.otlp.http {
            listeners.push((format!("{path}.http.endpoint"), http.endpoint.clone()));
        }
    }
    let telemetry = [
        ("service.engine.admin", config.telemetry.admin_address),
        (
            "service.telemetry.metrics",
            config.telemetry.metrics_address,
        ),
    ];
    for (path, address) in telemetry {
        listeners.extend(address.map(|address| {
            let host = address.ip().to_string();
            let port = address.port();
            (path.to_owned(), Endpoint { host, port })
        }));
    }
    for (index, (path, listener)) in listeners.iter().enumerate() {
        let taken = listeners[..index]
            .iter()
            .find(|(_, other)| overlap(listener, other));
        if let Some((first, _)) = taken {
            report.error(
                &service.place,
                path,
                format!("port {} is taken by {first}", listener.port),
                "give one of them another port",
            );
        }
    }
}

/// Whether both cannot listen at the same time, as far as that is known without looking names up.
fn overlap(one: &Endpoint, other: &Endpoint) -> bool {
    if one.port != other.port || one.port == 0 {
        return false;
    }
    match (endpoint::numeric(one), endpoint::numeric(other)) {
        (Some(one), Some(other)) => {
            one == other || one.ip().is_unspecified() || other.ip().is_unspecified()
        }
        _ => one.host == other.host,
    }
}
