//! One line while a run goes on: rewritten in place on a terminal, every five seconds elsewhere.

use std::cell::Cell;
use std::io::{IsTerminal, Write};

/// What the line says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Since the load started.
    pub(crate) seconds: u64,
    /// Accepted in the last second.
    pub(crate) items_per_second: f64,
    /// Of the acks in the last second.
    pub(crate) ack_p99_ms: f64,
    /// Requests sent and not answered.
    pub(crate) in_flight: u64,
    /// Arrived in the last second, all exporters.
    pub(crate) arrived_per_second: f64,
    /// Requests refused so far.
    pub(crate) refused: u64,
    /// Wrong so far.
    pub(crate) faults: u64,
}

/// Writes moments to standard error.
pub(crate) struct Progress {
    /// What is counted.
    noun: &'static str,
    terminal: bool,
    dirty: Cell<bool>,
}

/// Seconds between two lines where they cannot be rewritten.
const PLAIN_EVERY: u64 = 5;

impl Progress {
    /// Looks whether standard error is a terminal.
    pub(crate) fn new(noun: &'static str) -> Progress {
        Progress { noun, terminal: std::io::stderr().is_terminal(), dirty: Cell::new(false) }
    }

    /// Shows a moment.
    pub(crate) fn show(&self, moment: Moment) {
        if !self.terminal && !moment.seconds.is_multiple_of(PLAIN_EVERY) {
            return;
        }
        let noun = self.noun;
        let line = format!(
            "{:>4} s  {:>9.0} {noun}/s  ack p99 {:>7.2} ms  under way {:>4}  sink {:>8.0} {noun}/s  refused {}  faults {}",
            moment.seconds,
            moment.items_per_second,
            moment.ack_p99_ms,
            moment.in_flight,
            moment.arrived_per_second,
            moment.refused,
            moment.faults
        );
        let (before, after) = if self.terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        eprint!("{before}{line}{after}");
        // A progress line that cannot be written is not worth a word.
        drop(std::io::stderr().flush());
        self.dirty.set(self.terminal);
    }

    /// Ends the line.
    pub(crate) fn done(&self) {
        if self.dirty.replace(false) {
            eprintln!();
        }
    }
}
