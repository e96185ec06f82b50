//! The two runtimes behind one seam: io_uring by glommio, epoll by tokio's current-thread runtime.
//!
//! The one idea: a shard is a thread that runs one of them, and everything else sees only [`spawn`], [`sleep`],
//! [`timeout`], [`yield_now`] and [`Stream`]. Tasks are detached when they start and run to their end: a cancelled
//! glommio task leaks its allocation, so nothing here can cancel one. Races happen between futures inside one task.

mod epoll;
mod stream;
pub mod tasks;
mod timers;
mod uring;

pub use stream::{Socket, Stream};

use std::cell::Cell;
use std::future::Future;
use std::panic::Location;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

/// Which runtime a shard's thread runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    /// io_uring through glommio.
    IoUring,
    /// epoll through tokio.
    Epoll,
}

impl Runtime {
    /// The word the configuration uses.
    pub fn name(self) -> &'static str {
        match self {
            Runtime::IoUring => "io_uring",
            Runtime::Epoll => "epoll",
        }
    }
}

thread_local! {
    static CURRENT: Cell<Option<Runtime>> = const { Cell::new(None) };
}

/// The runtime of this thread.
///
/// # Panics
/// Outside [`run`]: code that waits was called on a thread that is no shard.
fn current() -> Runtime {
    CURRENT.get().expect("shard code runs inside shard::runtime::run")
}

/// Whether this kernel and container let a thread use io_uring; the reason if not, in words for the operator.
pub fn probe_io_uring() -> Result<(), String> {
    uring::probe()
}

/// Runs `future` on this thread until it completes, with everything it spawns.
///
/// `core` pins the thread first. Errors say why the runtime or the pin could not be had.
pub fn run<T: 'static>(
    runtime: Runtime,
    core: Option<usize>,
    future: impl Future<Output = T> + 'static,
) -> Result<T, String> {
    if let Some(core) = core
        && !core_affinity::set_for_current(core_affinity::CoreId { id: core })
    {
        return Err(format!(
            "core {core}: the kernel refuses to pin a thread there; name cores of this process's cpuset"
        ));
    }
    CURRENT.set(Some(runtime));
    let result = match runtime {
        Runtime::IoUring => uring::run(future),
        Runtime::Epoll => epoll::run(future),
    };
    CURRENT.set(None);
    result
}

/// Starts a task on this shard, counted by the place that starts it. It cannot be cancelled; what must stop looks at a flag.
#[track_caller]
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    let future = tasks::Task::new(Location::caller(), future);
    match current() {
        Runtime::IoUring => uring::spawn(future),
        Runtime::Epoll => epoll::spawn(future),
    }
}

/// How long this shard's thread has been awake since it started, in nanoseconds: time in which it was kept from its core
/// counts, because its work waited then too.
pub fn busy_ns() -> u64 {
    let busy = match current() {
        Runtime::IoUring => uring::busy(),
        Runtime::Epoll => epoll::busy(),
    };
    u64::try_from(busy.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits for `duration` of monotonic time.
pub async fn sleep(duration: Duration) {
    match current() {
        Runtime::IoUring => uring::sleep(duration).await,
        Runtime::Epoll => epoll::sleep(duration).await,
    }
}

/// Waits for `future`, at most `duration`; `None` when time ran out first.
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut limit = pin!(sleep(duration));
    std::future::poll_fn(|context| {
        if let Poll::Ready(value) = future.as_mut().poll(context) {
            return Poll::Ready(Some(value));
        }
        limit.as_mut().poll(context).map(|()| None)
    })
    .await
}

/// Lets the other ready tasks of this shard run once, and its sockets be looked at.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|context| {
        if yielded {
            return Poll::Ready(());
        }
        yielded = true;
        wake_in_turn(context);
        Poll::Pending
    })
    .await;
}

/// Wakes the task that is polled once the others have had their turn. One that has much to do calls this instead of waking
/// itself: a runtime whose tasks are always ready has no time for its sockets.
pub fn wake_in_turn(context: &mut Context<'_>) {
    match CURRENT.get() {
        Some(Runtime::Epoll) => epoll::wake_in_turn(context),
        // Imperfect: this one looks at its sockets when no task is ready, or after `PREEMPT_AFTER`.
        Some(Runtime::IoUring) | None => context.waker().wake_by_ref(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    /// Every test of this seam runs on both runtimes; io_uring is left out, and said so, where the kernel forbids it.
    fn on_both(test: impl AsyncFn(Runtime) + Clone + 'static) {
        for runtime in [Runtime::Epoll, Runtime::IoUring] {
            if runtime == Runtime::IoUring
                && let Err(why) = probe_io_uring()
            {
                eprintln!("skipped on io_uring: {why}");
                continue;
            }
            let test = test.clone();
            run(runtime, None, async move { test(runtime).await }).expect("the runtime starts");
        }
    }

    #[test]
    fn bytes_cross_a_connection_and_its_end_is_seen() {
        on_both(async |_| {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            spawn(async move {
                let mut client = Stream::connect(address).await.unwrap();
                client.write_all(b"spans").await.unwrap();
                client.shutdown().await.unwrap();
            });
            let accepted = loop {
                listener.set_nonblocking(true).unwrap();
                match listener.accept() {
                    Ok((socket, _)) => break socket,
                    Err(_) => yield_now().await,
                }
            };
            let mut server = Stream::from_std(accepted).unwrap();
            let mut received = Vec::new();
            server.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, b"spans");
        });
    }

    #[test]
    fn a_timeout_ends_a_wait_that_never_ends() {
        on_both(async |_| {
            assert_eq!(timeout(Duration::from_millis(1), std::future::pending::<()>()).await, None);
            assert_eq!(timeout(Duration::from_secs(600), async { 7 }).await, Some(7));
        });
    }

    #[test]
    fn a_spawned_task_runs_beside_its_parent() {
        on_both(async |_| {
            let done = Rc::new(Cell::new(false));
            let seen = Rc::clone(&done);
            spawn(async move { seen.set(true) });
            while !done.get() {
                yield_now().await;
            }
        });
    }

    #[test]
    fn tasks_are_counted_until_they_end() {
        async fn waits_for(gate: Rc<Cell<bool>>) {
            while !gate.get() {
                yield_now().await;
            }
        }
        on_both(async |_| {
            let gate = Rc::new(Cell::new(false));
            let counted = || {
                let kinds = tasks::kinds();
                let kind = kinds.iter().find(|kind| kind.name.ends_with("waits_for") && kind.file == file!());
                kind.map_or((0, 0), |kind| (kind.live, kind.started))
            };
            let (_, before) = counted();
            for _ in 0..3 {
                spawn(waits_for(Rc::clone(&gate)));
            }
            assert_eq!(counted(), (3, before + 3));
            gate.set(true);
            while counted() != (0, before + 3) {
                yield_now().await;
            }
        });
    }

    #[test]
    fn a_task_is_woken_from_another_thread() {
        on_both(async |_| {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            let thread = std::thread::spawn(move || sender.send(7).unwrap());
            assert_eq!(receiver.await.unwrap(), 7);
            thread.join().unwrap();
        });
    }
}
