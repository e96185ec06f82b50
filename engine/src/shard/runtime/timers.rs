//! The timers of a shard on io_uring: what waits for a moment, ordered by that moment.
//!
//! The one idea: the executor sees one timer, for the earliest deadline, and everything that waits stands here. The executor
//! looks through all timers it was given on each turn, and one that is polled twice is in its books twice until it is due,
//! with the task that it would wake: ten thousand connections with a deadline each would cost every turn of every request.
//! Here a turn looks at one deadline, and what ends early leaves nothing behind.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Longer than any deadline that is meant; what asks for more waits this long.
const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// What rings is trusted to be this exact: the executor counts in milliseconds once it has many timers.
const EARLY_MAX: Duration = Duration::from_millis(2);

/// A deadline, and which of those that asked for this moment: earlier ones first.
type Key = (Instant, u64);

/// What waits, by deadline.
#[derive(Default)]
struct Timers {
    waiting: BTreeMap<Key, Waker>,
    next: u64,
}

impl Timers {
    /// Adds a waker for a deadline.
    fn add(&mut self, deadline: Instant, waker: Waker) -> Key {
        let key = (deadline, self.next);
        self.next += 1;
        self.waiting.insert(key, waker);
        key
    }

    /// The earliest deadline.
    fn earliest(&self) -> Option<Instant> {
        self.waiting.first_key_value().map(|((deadline, _), _)| *deadline)
    }

    /// Takes one that is due, the earliest first.
    fn take_due(&mut self, now: Instant) -> Option<Waker> {
        let first = self.waiting.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

thread_local! {
    static TIMERS: RefCell<Timers> = RefCell::default();
    /// The task that watches the earliest deadline, and the deadline it watches.
    static WATCH: RefCell<Option<Waker>> = const { RefCell::new(None) };
    static WATCHED: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Wakes whatever is due on this thread; `alarm` waits for a moment by the executor's own means. Never ends.
///
/// An alarm is polled when it is made, and not again before it is due.
pub(super) async fn watch<A: Future>(alarm: impl Fn(Duration) -> A) {
    let mut set: Option<Pin<Box<A>>> = None;
    std::future::poll_fn(|context: &mut Context<'_>| {
        WATCH.set(Some(context.waker().clone()));
        loop {
            let now = Instant::now();
            // One at a time: who is woken may drop timers of its own before the next is looked at.
            while let Some(waker) = TIMERS.with_borrow_mut(|timers| timers.take_due(now)) {
                waker.wake();
            }
            let earliest = TIMERS.with_borrow(Timers::earliest);
            let Some(earliest) = earliest else {
                WATCHED.set(None);
                set = None;
                return Poll::<()>::Pending;
            };
            // An alarm for a moment before wakes once for nothing, which is cheaper than setting another. One that may have
            // rung already, because executors may be early, is set again.
            if set.is_some() && WATCHED.get().is_some_and(|watched| now + EARLY_MAX < watched && watched <= earliest) {
                return Poll::Pending;
            }
            WATCHED.set(Some(earliest));
            let alarm = set.insert(Box::pin(alarm(earliest.saturating_duration_since(now))));
            if alarm.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
}

/// Forgets who watched: the executor of this thread has ended.
pub(super) fn forget() {
    WATCH.take();
    WATCHED.take();
    // Outside the borrow: the last reference to a task may be in here, and with it timers.
    drop(TIMERS.take());
}

/// Waits until a deadline.
pub(super) fn sleep(duration: Duration) -> Sleep {
    Sleep { deadline: Instant::now() + duration.min(LONGEST), key: None }
}

/// A wait; dropped early it leaves nothing behind.
pub(super) struct Sleep {
    deadline: Instant,
    key: Option<Key>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(key) = self.key else {
            let deadline = self.deadline;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            self.key = Some(TIMERS.with_borrow_mut(|timers| timers.add(deadline, context.waker().clone())));
            if WATCHED.get().is_none_or(|watched| deadline < watched) {
                WATCH.with_borrow(|watch| {
                    if let Some(watch) = watch {
                        watch.wake_by_ref();
                    }
                });
            }
            return Poll::Pending;
        };
        let mut waker = context.waker().clone();
        let waits = TIMERS.with_borrow_mut(|timers| {
            // Who polls last is woken. What stood there is dropped outside the borrow: it may be the last to hold a task.
            timers.waiting.get_mut(&key).map(|waiting| std::mem::swap(waiting, &mut waker))
        });
        if waits.is_some() { Poll::Pending } else { Poll::Ready(()) }
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            // Dropped outside the borrow, too. A thread that ends has no timers any more.
            let waker = TIMERS.try_with(|timers| timers.borrow_mut().waiting.remove(&key));
            drop(waker);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Any order of adding, removing and looking takes what a plain list would take, in its order.
    #[test]
    fn what_is_due_is_what_a_list_says() {
        let start = Instant::now();
        let mut state = 1_u64;
        let mut random = |bound: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let (mut timers, mut list) = (Timers::default(), Vec::<Key>::new());
        let mut now = start;
        for _ in 0..20_000 {
            match random(4) {
                0 | 1 => {
                    let deadline = start + Duration::from_millis(random(500));
                    list.push(timers.add(deadline, Waker::noop().clone()));
                }
                2 if !list.is_empty() => {
                    let index = usize::try_from(random(list.len() as u64)).unwrap();
                    assert!(timers.waiting.remove(&list.swap_remove(index)).is_some());
                }
                _ => {
                    now += Duration::from_millis(random(3));
                    let due = list.iter().filter(|(deadline, _)| *deadline <= now).count();
                    list.retain(|(deadline, _)| *deadline > now);
                    assert_eq!(std::iter::from_fn(|| timers.take_due(now)).count(), due);
                }
            }
            assert_eq!(timers.earliest(), list.iter().map(|(deadline, _)| *deadline).min());
            assert_eq!(timers.waiting.len(), list.len());
        }
    }

    #[test]
    fn a_wait_that_is_polled_again_and_again_is_there_once_and_leaves_nothing() {
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut wait = Box::pin(sleep(Duration::from_secs(3600)));
        for _ in 0..1000 {
            assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        assert_eq!(TIMERS.with_borrow(|timers| timers.waiting.len()), 1);
        drop(wait);
        assert_eq!(TIMERS.with_borrow(|timers| timers.waiting.len()), 0);
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 1, "nobody holds the task any more");
    }

    /// The watcher is woken for a deadline before the one it watches, and sets one alarm for each.
    #[test]
    fn an_earlier_deadline_moves_the_alarm() {
        let (alarms, count) = (RefCell::new(Vec::new()), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        let mut watcher = Box::pin(watch(|duration| {
            alarms.borrow_mut().push(duration);
            std::future::pending::<()>()
        }));
        let mut turn = || assert!(watcher.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        turn();
        assert_eq!(alarms.borrow().len(), 0, "nothing waits");
        let begin = |seconds| {
            let mut wait = Box::pin(sleep(Duration::from_secs(seconds)));
            assert!(wait.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            wait
        };
        let hour = begin(3600);
        turn();
        let later = begin(7200);
        assert_eq!(count.0.load(Ordering::Relaxed), 1, "a later deadline wakes nobody");
        let earlier = begin(600);
        assert_eq!(count.0.load(Ordering::Relaxed), 2);
        turn();
        let seconds: Vec<_> = alarms.borrow().iter().map(|alarm| alarm.as_secs().div_ceil(60)).collect();
        assert_eq!(seconds, [60, 10]);
        drop((hour, later, earlier));
        turn();
        assert_eq!(alarms.borrow().len(), 2, "nothing waits any more");
    }
}
