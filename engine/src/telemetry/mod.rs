//! What the gateway counts and says about itself.
//!
//! ```text
//! metrics (declared once) -> schema -> cells of each shard -> fold -> ledger (the two books), exposition (text)
//! logs: events of any thread -> repetition bound -> bounded channel -> one writer thread -> outputs
//! ```

pub mod cells;
pub mod exposition;
pub mod ledger;
pub mod logs;
pub mod metrics;
pub mod naming;
pub mod process;
pub mod samples;
