//! Readings while a run goes on, and the figures between two of them.

use std::rc::Rc;
use std::time::Duration;

use super::run::Run;
use crate::measure::{ProcessUsage, own_cpu_seconds, stolen_seconds, usage};
use crate::output::{Moment, Progress};
use crate::sent::noun;

/// How often usage is read.
const SAMPLE_EVERY: Duration = Duration::from_millis(200);

/// One reading while a run goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at_ns: u64,
    pub(super) accepted: u64,
    pub(super) in_flight: u64,
    pub(super) usage: Option<ProcessUsage>,
    pub(super) own_cpu_seconds: f64,
    pub(super) stolen_seconds: f64,
}

/// Reads usage and shows progress until the load is done.
pub(super) async fn watch(run: Rc<Run>, pid: Option<u32>) {
    let progress = Progress::new(noun(run.sent.signal()));
    let start_ns = run.clock.now_ns();
    let (mut shown_seconds, mut shown) = (0, (0, 0));
    loop {
        let now_ns = run.clock.now_ns();
        run.samples.borrow_mut().push(Sample {
            at_ns: now_ns,
            accepted: run.log.accepted(),
            in_flight: run.log.in_flight(),
            usage: pid.and_then(|pid| usage(pid).ok()),
            own_cpu_seconds: own_cpu_seconds(),
            stolen_seconds: stolen_seconds(),
        });
        let seconds = (now_ns - start_ns) / 1_000_000_000;
        if seconds > shown_seconds {
            let now = (run.log.accepted(), run.arrivals.items());
            let passed = (seconds - shown_seconds) as f64;
            progress.show(Moment {
                seconds,
                items_per_second: ((now.0 - shown.0) * run.sent.items_per_request() as u64) as f64 / passed,
                ack_p99_ms: run.log.take_ack_p99_ms(),
                in_flight: run.log.in_flight(),
                arrived_per_second: (now.1 - shown.1) as f64 / passed,
                refused: run.log.refused(),
                faults: run.arrivals.faults().0,
            });
            (shown_seconds, shown) = (seconds, now);
        }
        if run.done.get() {
            progress.done();
            return;
        }
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

/// Figures between two readings.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window {
    pub(super) seconds: f64,
    pub(super) accepted: u64,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) own_cpu_seconds: f64,
    pub(super) stolen_seconds: f64,
    pub(super) backlog: (u64, u64),
}

impl Window {
    /// The window between the first reading after `from_ns` and the last before `until_ns`.
    pub(super) fn of(samples: &[Sample], from_ns: u64, until_ns: u64) -> Window {
        let within: Vec<&Sample> =
            samples.iter().filter(|sample| (from_ns..=until_ns).contains(&sample.at_ns)).collect();
        let within = if within.len() < 2 { samples.iter().collect() } else { within };
        let (Some(first), Some(last)) = (within.first(), within.last()) else {
            return Window::default();
        };
        let half = within.len() / 2;
        let most = |part: &[&Sample]| part.iter().map(|sample| sample.in_flight).max().unwrap_or(0);
        Window {
            seconds: ((last.at_ns - first.at_ns) as f64 / 1e9).max(1e-9),
            accepted: last.accepted - first.accepted,
            cpu_seconds: first.usage.zip(last.usage).map(|(first, last)| last.cpu_seconds - first.cpu_seconds),
            stolen_seconds: last.stolen_seconds - first.stolen_seconds,
            own_cpu_seconds: last.own_cpu_seconds - first.own_cpu_seconds,
            backlog: (most(&within[..half]), most(&within[half..])),
        }
    }
}
