//! No allocation per span: once warm, a sampler inserts, decides and releases with the memory it has.

// A global allocator can only be counted by implementing an unsafe trait; it does nothing but forward and count.
#![allow(unsafe_code)]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use codecs::otlp::TraceId;
use common::{Attributes, ERRORS, SECOND, Span, contents, request, settings, slower_than_ms, span};
use sampling::settings::Settings;
use sampling::{Release, Sampler, Select};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call is forwarded unchanged to the system allocator, which keeps the contract of the trait; counting
// touches a thread-local cell without a destructor and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's obligations are those of `System.alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the pointer came from `System`, with this layout, and the caller promises the size.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_warm_sampler_does_not_allocate() {
    check(&settings(&[ERRORS, slower_than_ms(100)]));
}

#[test]
fn one_that_decides_early_does_not_either() {
    let rules = [ERRORS, slower_than_ms(100)];
    check(&Settings { decide_when_certain: true, complete_quiet_ns: Some(SECOND), ..settings(&rules) });
}

fn check(settings: &Settings) {
    let settings = Settings { kept_memory_bytes: Some(6_400), dropped_memory_bytes: Some(8_000), ..settings.clone() };
    let mut sampler = Sampler::new(&settings, 5, 1);
    let mut out = Release::default();
    let spans: Vec<Span> = (0..512u64)
        .map(|n| Span {
            status: if n % 100 == 0 { 2 } else { 0 },
            bytes: contents(&Attributes::new(), "", 370),
            has_parent: n >= 256,
            resource: vec![(n / 128) as u8; 300],
            ..span(1 + u128::from(n % 256), n)
        })
        .collect();
    let (mut index, segments) = request(&spans);

    let (mut now_ns, mut allocations, mut spans_measured) = (0, 0, 0);
    for cycle in 0..400u64 {
        for (position, item) in index.items.iter_mut().enumerate() {
            let trace = 1 + u128::from(cycle / 4) * 1_000 + position as u128 % 256;
            item.trace_id = TraceId(trace.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes());
        }
        now_ns += SECOND;
        let before = ALLOCATIONS.get();
        sampler.insert(now_ns, &index, &segments, Select::All, &mut out);
        while sampler.decide_due(now_ns, 300, &mut out) {
            out.clear();
        }
        out.clear();
        sampler.shrink(now_ns);
        if cycle >= 200 {
            allocations += ALLOCATIONS.get() - before;
            spans_measured += 512;
        }
    }
    assert!(sampler.counters().spans_kept > 1_000);
    assert_eq!(allocations, 0, "for {spans_measured} spans");
}
