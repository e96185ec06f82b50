//! What is sent, and what must become of it.
//!
//! ```text
//! shape (a tree of spans) --placed--> cycle (requests written once, with the places of ids and times)
//! request number --cycle.fill--> the same bytes with fresh ids   (load)
//! trace id       --expectation-> which spans, kept or not        (sink, verdict)
//! ```
//!
//! Everything here is a pure function of the seed, the settings and a request's number.

mod content;
mod cycle;
mod expect;
mod ids;
mod shape;
pub(crate) mod wire;

pub(crate) use content::resource_envelope;
pub(crate) use cycle::{Cycle, CycleSettings, FRAME_PREFIX, Place};
pub(crate) use expect::{Condition, Judge, Pattern, Policies, Policy, Rule, Votes};
pub(crate) use ids::Identity;
pub(crate) use shape::SERVICES;
