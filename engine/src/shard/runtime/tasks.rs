//! How many tasks of each kind are under way on this shard: a kind is a place in the code that starts tasks.
//!
//! One count up when a task starts, one down when it ends, in the shard's own memory. Whoever looks for a leak reads
//! these counts twice.

use pin_project_lite::pin_project;
use std::cell::RefCell;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Places that start tasks; there are a dozen. What a further one starts is not counted.
const KINDS_MAX: usize = 256;
/// Characters of a name: those of generic functions grow without end.
const NAME_MAX: usize = 300;

/// Tasks of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskKind {
    /// The function that they run.
    pub name: String,
    /// Where they are started.
    pub file: &'static str,
    /// The line there.
    pub line: u32,
    /// Where their code lies in memory.
    pub address: usize,
    /// Under way now.
    pub live: u64,
    /// Since the start of the shard, those under way among them.
    pub started: u64,
}

/// What is known while it is counted.
struct Counted {
    place: &'static Location<'static>,
    name: &'static str,
    address: usize,
    live: u64,
    started: u64,
}

thread_local! {
    static KINDS: RefCell<Vec<Counted>> = const { RefCell::new(Vec::new()) };
}

pin_project! {
    /// A task that is counted until it ends.
    pub(super) struct Task<F> {
        #[pin]
        future: F,
        _end: End,
    }
}

/// Counts a task down when it is dropped; its kind's place in the list, or a number beyond it.
struct End(usize);

impl Drop for End {
    fn drop(&mut self) {
        // A task may end with its thread, when the list is gone.
        let _ = KINDS.try_with(|kinds| {
            if let Some(kind) = kinds.borrow_mut().get_mut(self.0) {
                kind.live -= 1;
            }
        });
    }
}

impl<F: Future<Output = ()>> Task<F> {
    /// Counts a task that is started at `place`.
    pub(super) fn new(place: &'static Location<'static>, future: F) -> Task<F> {
        Task { future, _end: End(KINDS.with_borrow_mut(|kinds| begin::<F>(kinds, place))) }
    }
}

/// Counts one more of this kind; its place in the list.
fn begin<F: Future<Output = ()>>(kinds: &mut Vec<Counted>, place: &'static Location<'static>) -> usize {
    // A place in the code is one constant, so its address tells it from others.
    let found = kinds.iter().position(|kind| std::ptr::eq(kind.place, place));
    let number = found.unwrap_or_else(|| {
        if kinds.len() < KINDS_MAX {
            let address = <F as Future>::poll as *const () as usize;
            kinds.push(Counted { place, name: std::any::type_name::<F>(), address, live: 0, started: 0 });
            return kinds.len() - 1;
        }
        usize::MAX
    });
    if let Some(kind) = kinds.get_mut(number) {
        kind.live += 1;
        kind.started += 1;
    }
    number
}

impl<F: Future<Output = ()>> Future for Task<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.project().future.poll(context)
    }
}

/// What this thread's shard runs.
pub(in crate::shard) fn kinds() -> Vec<TaskKind> {
    KINDS.with_borrow(|kinds| kinds.iter().map(told).collect())
}

fn told(kind: &Counted) -> TaskKind {
    // The compiler's name of what an async function or block becomes.
    let name = kind.name.replace("::{{closure}}", "");
    TaskKind {
        name: name.chars().take(NAME_MAX).collect(),
        file: kind.place.file(),
        line: kind.place.line(),
        address: kind.address,
        live: kind.live,
        started: kind.started,
    }
}
