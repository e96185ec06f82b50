//! The labels of a series: which there are, and who wins where names meet.
//!
//! ```text
//! attributes of the point (+ of the resource, if configured)   equal names after translation: values joined by ';'
//! job, instance                                                over attributes
//! external labels                                              only where there is no such label yet
//! scope name, version, attributes                              over all of these
//! ```
//!
//! This is the slow way, taken once per new series: it may allocate. A label without a value does not exist.

use std::collections::BTreeMap;

use super::counts::DropReason;
use super::names::{label_name, target_label_name};
use super::point;
use super::settings::{ResourceLabels, Settings};
use super::text::write_value;
use crate::otlp::attributes::{Attribute, Fields};
use crate::otlp::resource_attributes;

/// Labels of one series, at most. What has more is no series but a mistake, or an attack.
pub const LABELS_MAX: usize = 1024;
/// Bytes of the names and values of one series' labels, at most.
pub const LABEL_BYTES_MAX: usize = 64 << 10;

const SERVICE_NAME: &str = "service.name";
const SERVICE_NAMESPACE: &str = "service.namespace";
const SERVICE_INSTANCE: &str = "service.instance.id";

/// Labels by name; in the order of their bytes.
pub(super) type Labels = BTreeMap<String, String>;

/// Appends what all series of the resource with this envelope have in common whatever the settings: the labels `job` and
/// `instance`. Resources that share a series write the same here, unless points bring a label `job` or `instance` of their
/// own because their resource has none.
pub fn write_series_identity(envelope: &[u8], out: &mut String) {
    let text = |key: &str| {
        let mut text = String::new();
        let found = resource_attributes(envelope).find(|attribute| attribute.key == key.as_bytes());
        found.into_iter().for_each(|attribute| write_value(attribute.value, &mut text));
        text
    };
    out.push_str(&job(text(SERVICE_NAME), &text(SERVICE_NAMESPACE)));
    out.push('\0');
    out.push_str(&text(SERVICE_INSTANCE));
}

/// The label `job`, from `service.name` and `service.namespace`.
fn job(name: String, namespace: &str) -> String {
    if name.is_empty() || namespace.is_empty() { name } else { format!("{namespace}/{name}") }
}

/// What a resource gives its series.
#[derive(Clone, Debug, Default)]
pub(super) struct ResourcePart {
    job: String,
    instance: String,
    /// Attributes that become labels, by their original names.
    attributes: Vec<(String, String)>,
    /// Labels of `target_info`, if this resource has one.
    pub(super) target: Option<Labels>,
}

impl ResourcePart {
    pub(super) fn read(envelope: &[u8], settings: &Settings) -> Self {
        let all: Vec<(String, String)> = resource_attributes(envelope).map(text_of).collect();
        let value = |key: &str| {
            let found = all.iter().find(|(name, _)| name == key);
            found.map_or(String::new(), |(_, value)| value.clone())
        };
        let mut part = Self {
            job: job(value(SERVICE_NAME), &value(SERVICE_NAMESPACE)),
            instance: value(SERVICE_INSTANCE),
            ..Self::default()
        };
        let identifies = |key: &str| [SERVICE_NAME, SERVICE_NAMESPACE, SERVICE_INSTANCE].contains(&key);
        part.attributes = match &settings.resource_labels {
            ResourceLabels::None => Vec::new(),
            ResourceLabels::All { excludes_service } => {
                all.iter().filter(|(key, _)| !(*excludes_service && identifies(key))).cloned().collect()
            }
            ResourceLabels::Promoted(keys) => all.iter().filter(|(key, _)| keys.contains(key)).cloned().collect(),
        };
        let describing = all.into_iter().filter(|(key, _)| !identifies(key)).collect::<Vec<_>>();
        let is_known = !(part.job.is_empty() && part.instance.is_empty());
        if settings.has_target_info && is_known && !describing.is_empty() {
            part.target = Some(part.target_labels(describing, settings));
        }
        part
    }

    fn target_labels(&self, mut describing: Vec<(String, String)>, settings: &Settings) -> Labels {
        describing.sort_by(|left, right| left.0.cmp(&right.0));
        let mut labels = Labels::new();
        for (key, value) in describing.into_iter().filter(|(_, value)| !value.is_empty()) {
            if let Some(name) = target_label_name(&key, settings.strategy) {
                join(&mut labels, name, &value);
            }
        }
        self.add_identity(&mut labels, settings);
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    fn add_identity(&self, labels: &mut Labels, settings: &Settings) {
        for (name, value) in [("job", &self.job), ("instance", &self.instance)] {
            if !value.is_empty() {
                labels.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in &settings.external_labels {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// The labels that a scope envelope gives its series.
pub(super) fn scope_labels(envelope: &[u8], settings: &Settings) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    if !settings.has_scope_labels {
        return labels;
    }
    let scopes = Fields::of(envelope).filter(|field| field.tag.number == 1).map(|field| field.body);
    for field in scopes.flat_map(Fields::of) {
        let (name, value) = match field.tag.number {
            1 => ("otel_scope_name".to_owned(), lossy(field.body)),
            2 => ("otel_scope_version".to_owned(), lossy(field.body)),
            3 => {
                let (key, value) = text_of(Attribute::read(field.body));
                // These three have labels of their own, or none.
                if matches!(key.as_str(), "name" | "version" | "schema_url") {
                    continue;
                }
                match label_name(&format!("otel_scope_{key}"), settings.strategy) {
                    Some(name) => (name, value),
                    None => continue,
                }
            }
            _ => continue,
        };
        labels.push((name, value));
    }
    labels
}

/// The labels of a point's series, without `__name__` and without the one that tells buckets or quantiles apart.
///
/// # Errors
/// There are more than [`LABELS_MAX`], or they have more than [`LABEL_BYTES_MAX`] bytes.
pub(super) fn series_labels(
    attributes: &[u8],
    resource: &ResourcePart,
    scope: &[(String, String)],
    settings: &Settings,
) -> Result<Labels, DropReason> {
    let mut pairs: Vec<(String, String)> = point::attributes(attributes).map(text_of).collect();
    let resource_wins = matches!(settings.resource_labels, ResourceLabels::All { .. });
    for (key, value) in &resource.attributes {
        let is_in_point = pairs.iter().any(|(name, _)| name == key);
        if is_in_point && resource_wins {
            pairs.retain(|(name, _)| name != key);
        }
        if !is_in_point || resource_wins {
            pairs.push((key.clone(), value.clone()));
        }
    }
    // Stable, so that equal keys keep their order.
    pairs.sort_by(|left, right| left.0.cmp(&right.0));
    let mut labels = Labels::new();
    for (key, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        if let Some(name) = label_name(key, settings.strategy) {
            join(&mut labels, name, value);
        }
    }
    resource.add_identity(&mut labels, settings);
    for (name, value) in scope.iter().filter(|(_, value)| !value.is_empty()) {
        labels.insert(name.clone(), value.clone());
    }
    labels.remove("__name__");
    labels.retain(|_, value| !value.is_empty());
    let bytes: usize = labels.iter().map(|(name, value)| name.len() + value.len()).sum();
    if labels.len() > LABELS_MAX || bytes > LABEL_BYTES_MAX {
        return Err(DropReason::Labels);
    }
    Ok(labels)
}

/// Equal values are not repeated.
fn join(labels: &mut Labels, name: String, value: &str) {
    let joined = labels.entry(name).or_default();
    if joined.is_empty() {
        joined.push_str(value);
    } else if joined.split(';').all(|part| part != value) {
        joined.push(';');
        joined.push_str(value);
    }
}

/// An attribute as text.
pub(super) fn text_of(attribute: Attribute<'_>) -> (String, String) {
    let mut value = String::new();
    write_value(attribute.value, &mut value);
    (lossy(attribute.key), value)
}

pub(super) fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
