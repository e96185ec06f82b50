//! Which traces to keep. Pure: bytes and time in, decisions out.
//!
//! ```text
//! spans --insert--> trace table (bytes copied once) --deadline--> rules --kept--> Release --> next node
//!            |                                                      |
//!            +-- late: as it was decided                             +-- dropped: counted, bytes reused
//! ```
//!
//! Conditions are evaluated when a span arrives and noted in its trace's record, so that a decision never looks at a
//! span again. No clock, no threads, no I/O: the caller passes the monotonic time in and takes what is released.

pub mod consistent;
pub mod counters;
#[doc(hidden)]
pub mod fuzzing;
pub mod head;
pub mod rates;
pub mod release;
pub mod sampler;
pub mod settings;

mod generation;
mod journal;
mod keys;
mod ladder;
mod marks;
mod pattern;
mod policy;
mod shares;
mod sizes;
mod table;
mod traces;

pub use counters::Counters;
pub use generation::Rulebook;
pub use journal::{Answer, Answers, Entry, Outcome};
pub use ladder::Steps;
pub use rates::SharedRates;
pub use release::{KeptTrace, Release};
pub use sampler::{Limits, Sampler, Select};
pub use settings::Settings;
