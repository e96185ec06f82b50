//! The io_uring backend: one glommio executor per shard.
//!
//! Each executor wants locked memory for its rings; where the limit is low its creation fails, so a start-up asks
//! [`probe`] before it promises io_uring to anybody.

use super::timers;
use std::future::Future;
use std::time::Duration;

/// Registered memory is only used by direct file access; sockets do not touch it.
const IO_MEMORY_BYTES: usize = 64 << 10;
/// Submissions in one batch; more wait for the next turn.
const RING_DEPTH: usize = 128;
/// How long tasks may run before sockets are looked at again, when some task is always ready. It must be long: this timer is set
/// before tasks run, and if it rings before the first of them does, because the thread was kept from its core for so
/// long, the executor takes its queue for empty and sleeps, with tasks that are ready, until somebody else wakes it. With 300 us
/// a shard stood still within seconds on a machine that others used.
const PREEMPT_AFTER: Duration = Duration::from_millis(100);

fn executor() -> Result<glommio::LocalExecutor, String> {
    glommio::LocalExecutorBuilder::new(glommio::Placement::Unbound)
        .name("shard")
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH)
        .preempt_timer(PREEMPT_AFTER)
        .make()
        .map_err(|error| {
            format!(
                "io_uring: {error}; allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile \
                 and raise the locked memory limit (ulimit -l), or set service.engine.runtime: epoll"
            )
        })
}

pub(super) fn probe() -> Result<(), String> {
    // On a thread of its own: an executor leaves thread-local traces behind.
    let probe = std::thread::spawn(|| executor().map(drop));
    probe.join().unwrap_or_else(|_| Err("io_uring: the kernel's answer could not be understood".to_owned()))
}

pub(super) fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T, String> {
    let result = executor()?.run(async {
        glommio::spawn_local(timers::watch(glommio::timer::Timer::new)).detach();
        future.await
    });
    timers::forget();
    Ok(result)
}

pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    glommio::spawn_local(future).detach();
}

pub(super) async fn sleep(duration: Duration) {
    timers::sleep(duration).await;
}

pub(super) fn busy() -> Duration {
    glommio::executor().executor_stats().total_runtime()
}
