//! Measuring: time, latency histograms, the gateway's CPU and memory, cores.

mod clock;
mod latency;
mod process;

pub(crate) use clock::{Clock, Ticker};
pub(crate) use latency::{Latency, Percentiles};
pub(crate) use process::{ProcessUsage, own_cpu_seconds, pin_this_thread, stolen_seconds, unpin_this_thread, usage};
