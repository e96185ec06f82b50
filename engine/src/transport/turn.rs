//! One turn of a connection's task, and who wakes it meanwhile.
//!
//! ```text
//! woken -> begin -> poll h2 -> a call -> serve -> poll h2 -> ... -> nothing waits -> end
//!                       ^ what rings from here ...     ^ ... to here is looked at here, and needs no further turn
//! ```
//!
//! The one idea: h2 wakes the connection whenever something is to be sent. An answer that is given within the connection's
//! own turn is sent in that turn, so being woken for it once more would cost a second, empty one for each request. What
//! rings while a turn lasts is therefore kept until its end, and forgotten when h2 is polled after it. Never loses what
//! rings during the last poll of a turn, nor what comes from another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Wake, Waker};

/// No turn: whoever rings wakes the task.
const RESTS: u8 = 0;
/// A turn, and nobody has rung since h2 was polled.
const LISTENS: u8 = 1;
/// A turn, and somebody has.
const RUNG: u8 = 2;

/// What h2 rings instead of waking the task.
#[derive(Debug)]
struct Bell {
    task: Waker,
    state: AtomicU8,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let rung = self.state.compare_exchange(LISTENS, RUNG, Ordering::AcqRel, Ordering::Acquire);
        if rung == Err(RESTS) {
            self.task.wake_by_ref();
        }
    }
}

/// The turns of one connection's task.
#[derive(Debug, Default)]
pub struct Turns(Option<(Arc<Bell>, Waker)>);

impl Turns {
    /// The task that `context` wakes has been woken; its turn lasts until the value is dropped.
    pub fn begin(&mut self, context: &Context<'_>) -> Turn<'_> {
        if self.0.as_ref().is_none_or(|(bell, _)| !bell.task.will_wake(context.waker())) {
            let bell = Arc::new(Bell { task: context.waker().clone(), state: AtomicU8::new(RESTS) });
            self.0 = Some((Arc::clone(&bell), Waker::from(bell)));
        }
        let (bell, waker) = self.0.as_ref().expect("it was made above");
        bell.state.store(LISTENS, Ordering::Release);
        Turn { bell, waker }
    }
}

/// A turn under way.
#[derive(Debug)]
pub struct Turn<'a> {
    bell: &'a Bell,
    waker: &'a Waker,
}

impl Turn<'_> {
    /// The context for the next poll of h2. Whatever rang before it is seen to by this poll.
    pub fn context(&self) -> Context<'_> {
        self.bell.state.store(LISTENS, Ordering::Release);
        Context::from_waker(self.waker)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.bell.state.swap(RESTS, Ordering::AcqRel) == RUNG {
            self.bell.task.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_task_is_woken_by_what_its_turn_has_not_seen_to() {
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let task = Waker::from(Arc::clone(&count));
        let context = Context::from_waker(&task);
        let mut turns = Turns::default();

        let turn = turns.begin(&context);
        let kept = turn.context().waker().clone();
        kept.wake_by_ref();
        let _ = turn.context();
        drop(turn);
        assert_eq!(woken(), 0, "h2 was polled after the bell");

        kept.wake_by_ref();
        assert_eq!(woken(), 1, "between turns");

        let turn = turns.begin(&context);
        let _ = turn.context();
        kept.wake_by_ref();
        kept.wake_by_ref();
        assert_eq!(woken(), 1, "not within the turn");
        drop(turn);
        assert_eq!(woken(), 2, "once, at its end");

        let other = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&other));
        let turn = turns.begin(&Context::from_waker(&waker));
        turn.context().waker().wake_by_ref();
        drop(turn);
        assert_eq!((woken(), other.0.load(Ordering::Relaxed)), (2, 1), "the task that has the turn");
    }
}
