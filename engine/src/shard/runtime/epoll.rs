//! The epoll backend: tokio's current-thread runtime, one per shard, nothing shared.

use std::future::Future;
use std::time::Duration;

pub(super) fn run<T: 'static>(future: impl Future<Output = T> + 'static) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| {
            format!(
                "epoll: the runtime cannot start: {error}; raise the open files limit (ulimit -n)"
            )
        })?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, future))
}

pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    drop(tokio::task::spawn_local(future));
}

pub(super) async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
