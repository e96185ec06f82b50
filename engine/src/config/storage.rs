//! Which queues are kept by which `file_storage`: looks up every `sending_queue.storage`.
//!
//! The one idea: as with authenticators, the extension is checked by itself, and who names it is only known here.

use super::checked::{ComponentId, Config, StorageSettings};
use super::component::{self, file_storage};
use super::diagnostic::{Report, nearest};
use super::section::Section;
use super::yaml::{Node, Value};
use super::{authenticator, conflicts};
use std::collections::BTreeMap;

/// Extensions of the type `file_storage`; without settings if they are wrong.
pub(crate) type Definitions = BTreeMap<ComponentId, Option<StorageSettings>>;

/// Reads them from `extensions`.
pub(crate) fn definitions(root: &Section<'_>, tree: &Node) -> Definitions {
    let mut definitions = Definitions::new();
    // A section of the wrong type is reported by who reads the other extensions.
    let Some(section) = root.field("extensions").filter(|field| matches!(field.node.value, Value::Map(_))) else {
        return definitions;
    };
    let Some(section) = section.section() else { return definitions };
    let listed = authenticator::listed(tree);
    for (name, mut field) in section.entries() {
        let Ok(id) = component::component_id(name) else { continue };
        if id.kind == "file_storage" {
            field.used = listed.contains(&id);
            definitions.insert(id, file_storage::check(&field));
        }
    }
    section.keys_are_names();
    definitions
}

/// Looks up every `sending_queue.storage`, and puts what is used into the configuration.
pub(crate) fn resolve(config: &mut Config, definitions: &Definitions, tree: &Node, report: &Report) {
    let listed = authenticator::listed(tree);
    let mut storages: Vec<StorageSettings> = Vec::new();
    let mut told: Vec<&ComponentId> = Vec::new();
    for exporter in &config.exporters {
        let Some(id) = exporter.queue().and_then(|queue| queue.storage.as_ref()) else { continue };
        if told.contains(&&exporter.id) {
            // The same keys, for another signal.
            continue;
        }
        told.push(&exporter.id);
        let name = exporter.id.to_string();
        let keys = ["exporters", &name, "sending_queue", "storage"].map(str::to_owned);
        let error = |message: String, help: String| {
            report.error(conflicts::place(tree, &keys), &keys.join("."), message, help);
        };
        let Some(defined) = definitions.get(id) else {
            let known: Vec<String> = definitions.keys().map(ComponentId::to_string).collect();
            let help = match nearest(&id.to_string(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `extensions:` with `{id}:` below it, and `{id}` to `service.extensions`"),
            };
            error(format!("the storage `{id}` is not defined"), help);
            continue;
        };
        if !listed.contains(id) {
            let help = format!("add it to `service.extensions`: `extensions: [{id}]`");
            error(format!("the storage `{id}` is not started"), help);
        }
        let Some(settings) = defined else { continue };
        if !storages.iter().any(|known| known.id == *id) {
            storages.push(settings.clone());
        }
    }
    config.storages = storages;
}
