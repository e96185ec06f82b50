//! `auth` and `include_metadata`: what a receiver does with a request's head, what an exporter shows to its backend.

use super::component_id;
use crate::config::checked::{ComponentId, HeadSettings};
use crate::config::section::Section;

/// Most parameters of a query that are looked at.
const REQUEST_PARAMS_MAX: usize = 16;

/// `auth` and `include_metadata` of one protocol of a receiver. Only HTTP requests have a query.
pub(crate) fn head(protocol: &Section<'_>, has_query: bool) -> HeadSettings {
    let include_metadata = protocol.boolean("include_metadata", false);
    let Some(section) = protocol.section("auth") else {
        return HeadSettings { include_metadata, ..HeadSettings::default() };
    };
    let authenticator = id(&section);
    let mut request_params = Vec::new();
    if has_query && let Some(field) = section.field("request_params") {
        request_params = field.texts().into_iter().map(|(text, _)| text).collect();
        if request_params.len() > REQUEST_PARAMS_MAX {
            field.error(
                format!("more than {REQUEST_PARAMS_MAX} parameters"),
                "name the one that carries the credential",
            );
        }
    }
    HeadSettings { authenticator, request_params, include_metadata }
}

/// `auth` of an exporter.
pub(crate) fn authenticator(exporter: &Section<'_>) -> Option<ComponentId> {
    id(&exporter.section("auth")?)
}

/// An `auth` without authenticator lets everybody in, and so is an error, unless it is empty.
fn id(section: &Section<'_>) -> Option<ComponentId> {
    const HELP: &str =
        "add `authenticator:` with the id of an extension: `bearertokenauth`, `basicauth`, `headers_setter`";
    let written = section.field("authenticator").filter(|field| !field.node.is_null());
    let Some(field) = written else {
        if !section.entries().is_empty() {
            section.error("`authenticator` is missing", HELP);
        }
        return None;
    };
    match component_id(&field.text()?) {
        Ok(id) => Some(id),
        Err(message) => {
            field.error(message, HELP);
            None
        }
    }
}
