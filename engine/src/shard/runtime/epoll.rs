//! The epoll backend: tokio's current-thread runtime, one per shard, nothing shared.

use std::cell::Cell;
use std::future::Future;
use std::pin::pin;
use std::task::Context;
use std::time::{Duration, Instant};
use tokio::runtime::LocalOptions;

thread_local! {
    /// Since when this thread has not slept, and how long it was awake before that.
    static AWAKE: Cell<Option<Instant>> = const { Cell::new(None) };
    static BUSY: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

pub(super) fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .on_thread_park(|| {
            if let Some(since) = AWAKE.take() {
                BUSY.set(BUSY.get() + since.elapsed());
            }
        })
        .on_thread_unpark(|| AWAKE.set(Some(Instant::now())))
        .build_local(LocalOptions::default())
        .map_err(|error| format!("epoll: the runtime cannot start: {error}; raise the open files limit (ulimit -n)"))?;
    Ok(runtime.block_on(future))
}

pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(future));
}

pub(super) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

pub(super) fn wake_in_turn(context: &mut Context<'_>) {
    // tokio keeps the waker until it has looked at its sockets, which it does when nothing else is ready.
    if pin!(tokio::task::yield_now()).poll(context).is_ready() {
        context.waker().wake_by_ref();
    }
}

pub(super) fn busy() -> Duration {
    BUSY.get() + AWAKE.get().map_or(Duration::ZERO, |since| since.elapsed())
}
