//! Data points and log records: items that stand alone, unlike spans, and each of which says which it is.
//!
//! ```text
//! item number = request number * items per request + place
//! record: its trace id is its number, mixed              (records.rs)
//! point:  its series and its time are its number, and its value follows from it   (points.rs)
//! cycle.rs: requests written once and sent again with fresh ids, times and values; any item as it must arrive
//! ```
//!
//! Everything here is a pure function of the seed, the settings and a request's number.

mod cycle;
mod points;
mod records;

pub(crate) use cycle::{ExpectedItem, ItemCycle, ItemSettings};
pub(crate) use points::SERIES_KEY;
