//! Prometheus remote write: OTLP metrics to requests of protocol 1.0 and 2.0.
//!
//! ```text
//! checked Metric bytes --point--> numbers --cache--> labels of its series --request--> body of one owner
//! ```
//!
//! [`Translator`] is all there is to use. Its caller walks a checked request, sends what `finish` returns, and compresses
//! it with [`crate::compression`]'s snappy blocks. Deviations from the Collector's exporter are in `docs/differences.md`.

mod cache;
mod counts;
mod delta;
mod delta_exponential;
mod intern;
mod labels;
mod names;
mod native;
mod point;
mod request;
mod settings;
mod text;
mod translate;
#[doc(hidden)]
pub mod twin_parts;

pub use counts::{Counts, DropReason, Notice};
pub use delta::DeltaSettings;
pub use labels::{LABEL_BYTES_MAX, LABELS_MAX, write_series_identity};
pub use names::TranslationStrategy;
pub use request::{STALE, WriteRequest};
pub use settings::{CACHE_BYTES_DEFAULT, Protocol, ResourceLabels, Settings, external_label_name};
pub use translate::Translator;
