//! Which queues and samplers are kept by which `file_storage`: looks up every `storage` that names one.
//!
//! The one idea: as with authenticators, the extension is checked by itself, and who names it is only known here.

use super::checked::{ComponentId, Config, ProcessorKind, StorageSettings};
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

/// A component that keeps something on disk.
struct Keeper {
    /// Where it says so.
    keys: Vec<String>,
    storage: ComponentId,
}

/// Looks up every `sending_queue.storage` and every `tail_sampling.storage`, and puts what is used into the configuration.
pub(crate) fn resolve(config: &mut Config, definitions: &Definitions, tree: &Node, report: &Report) {
    for processor in &mut config.processors {
        if matches!(processor.kind, ProcessorKind::TailSampling(_)) {
            processor.storage = sampler_storage(&processor.id, tree);
        }
    }
    let listed = authenticator::listed(tree);
    let mut storages: Vec<StorageSettings> = Vec::new();
    for Keeper { keys, storage: id } in keepers(config) {
        let error = |message: String, help: String| {
            report.error(conflicts::place(tree, &keys), &keys.join("."), message, help);
        };
        let Some(defined) = definitions.get(&id) else {
            let known: Vec<String> = definitions.keys().map(ComponentId::to_string).collect();
            let help = match nearest(&id.to_string(), known.iter().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("add `extensions:` with `{id}:` below it, and `{id}` to `service.extensions`"),
            };
            error(format!("the storage `{id}` is not defined"), help);
            continue;
        };
        if !listed.contains(&id) {
            let help = format!("add it to `service.extensions`: `extensions: [{id}]`");
            error(format!("the storage `{id}` is not started"), help);
        }
        let Some(settings) = defined else { continue };
        if !storages.iter().any(|known| known.id == id) {
            storages.push(settings.clone());
        }
    }
    config.storages = storages;
}

/// What `storage` of this sampler names; what is wrong with it has been reported where the sampler is checked.
fn sampler_storage(id: &ComponentId, tree: &Node) -> Option<ComponentId> {
    let written = tree.at("processors")?.at(&id.to_string())?.at("storage")?;
    let Value::Scalar(scalar) = &written.value else { return None };
    let id = component::component_id(written.expanded.as_deref().unwrap_or(&scalar.text)).ok()?;
    (id.kind == "file_storage").then_some(id)
}

/// Each once: an exporter of several signals has the same keys.
fn keepers(config: &Config) -> Vec<Keeper> {
    let exporters = config.exporters.iter().filter_map(|exporter| {
        let storage = exporter.queue()?.storage.clone()?;
        let keys = ["exporters", &exporter.id.to_string(), "sending_queue", "storage"].map(str::to_owned);
        Some(Keeper { keys: keys.to_vec(), storage })
    });
    let processors = config.processors.iter().filter_map(|processor| {
        let keys = ["processors", &processor.id.to_string(), "storage"].map(str::to_owned);
        Some(Keeper { keys: keys.to_vec(), storage: processor.storage.clone()? })
    });
    let mut keepers: Vec<Keeper> = Vec::new();
    for keeper in exporters.chain(processors) {
        if !keepers.iter().any(|known| known.keys == keeper.keys) {
            keepers.push(keeper);
        }
    }
    keepers
}
