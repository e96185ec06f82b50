//! What h2 does not tell about a connection: which frames pass, how many of them carry nothing, and last words.
//!
//! ```text
//! socket --bytes--> scanner: heads of frames counted --same bytes--> h2
//! socket <--bytes-- scanner: where a frame ends    <--bytes-- h2       (GOAWAY with a reason put in at an end)
//! ```
//!
//! The one idea: nine bytes in front of each frame say its kind and length, so a flood of frames that cost the peer
//! nothing (PING, SETTINGS, RST_STREAM, ...) is seen without a second HTTP/2 state machine. Control frames are paid from
//! an allowance that time and answered calls fill up. h2 bounds what is wrong by the rules of HTTP/2 itself (header lists,
//! CONTINUATION, resets before a stream was looked at, empty and tiny DATA). Never changes a byte that passes.

pub mod frames;
pub mod rest;

pub use rest::Waking;

use super::traffic::Watched;
use crate::config::checked::PingPolicy;
use crate::shard::clock::Clock;
use frames::{Head, PREFACE, Scanner, put_frame};
use rest::Rest;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Control frames that a peer may send at once.
const CONTROL_FRAMES_MAX: u32 = 2_000;
/// Control frames that each second adds to what a peer may send.
const CONTROL_FRAMES_PER_SECOND: u32 = 200;
/// Control frames that each answered call adds: a PING, a window for the connection and one for the stream, one to spare.
const CONTROL_FRAMES_PER_ANSWER: u32 = 4;
/// Bytes of a connection's turn that one control frame costs: they are short, but each is looked at and some answered.
const CONTROL_FRAME_WORK: usize = 1 << 10;
/// The same for a call: as much work as the spans of so many bytes, before its first span is looked at.
const CALL_WORK: usize = 8 << 10;
/// Pings too many that are forgiven, as in the Collector's gRPC library.
const PING_STRIKES_MAX: u32 = 2;
/// `min_time` while no call is open, unless that is permitted, as there.
const PING_IDLE_INTERVAL_NS: u64 = 7_200_000_000_000;

/// Why a peer has to go, with the error code and the words of its GOAWAY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It broke `keepalive.enforcement_policy`; clients of gRPC know these words and ping less.
    TooManyPings,
    /// It sends frames that carry nothing, faster than any client needs to.
    TooManyControlFrames,
    /// It stopped within a frame, or takes no answers.
    Stalled,
    /// It gave no sign of life, or did not leave in time.
    Gone,
}

impl Fault {
    /// The words, as debug data.
    pub fn words(self) -> &'static str {
        match self {
            Fault::TooManyPings => "too_many_pings",
            Fault::TooManyControlFrames => "too_many_control_frames",
            Fault::Stalled => "stalled",
            Fault::Gone => "",
        }
    }

    /// The error code.
    pub fn reason(self) -> h2::Reason {
        match self {
            Fault::TooManyPings | Fault::TooManyControlFrames | Fault::Stalled => h2::Reason::ENHANCE_YOUR_CALM,
            Fault::Gone => h2::Reason::NO_ERROR,
        }
    }
}

/// What is known of one connection's frames, shared by its socket and its server.
#[derive(Debug)]
pub struct Guard {
    clock: Clock,
    policy: Option<PingPolicy>,
    control_frames_left: Cell<u32>,
    ping_strikes: Cell<u32>,
    last_ping_ns: Cell<Option<u64>>,
    /// Something was answered since the last ping.
    answering: Cell<bool>,
    /// Calls that are being served.
    calls: Cell<usize>,
    /// Calls since the connection began.
    calls_begun: Cell<u64>,
    /// Calls whose headers have been read, or begun to be, and that h2 has not handed out.
    calls_waiting: Cell<usize>,
    /// Highest stream the peer has opened.
    last_stream: Cell<u32>,
    inside_frame: Cell<bool>,
    fault: Cell<Option<Fault>>,
    last_words: RefCell<Vec<u8>>,
}

impl Guard {
    /// A new connection.
    pub fn new(clock: Clock, policy: Option<PingPolicy>) -> Guard {
        Guard {
            clock,
            policy,
            control_frames_left: Cell::new(CONTROL_FRAMES_MAX),
            ping_strikes: Cell::new(0),
            last_ping_ns: Cell::new(None),
            answering: Cell::new(false),
            calls: Cell::new(0),
            calls_begun: Cell::new(0),
            calls_waiting: Cell::new(0),
            last_stream: Cell::new(0),
            inside_frame: Cell::new(false),
            fault: Cell::new(None),
            last_words: RefCell::default(),
        }
    }

    /// A call begins.
    pub fn begin_call(&self) {
        self.calls.set(self.calls.get() + 1);
        self.calls_begun.set(self.calls_begun.get() + 1);
    }

    /// A call ends; `answered`: not because its peer gave it up.
    pub fn end_call(&self, answered: bool) {
        self.calls.set(self.calls.get() - 1);
        if answered {
            self.allow(CONTROL_FRAMES_PER_ANSWER);
        }
    }

    /// Calls that are being served.
    pub fn calls(&self) -> usize {
        self.calls.get()
    }

    /// Calls since the connection began.
    pub fn calls_begun(&self) -> u64 {
        self.calls_begun.get()
    }

    /// Whether h2 is likely to have another call to hand out.
    pub fn call_waits(&self) -> bool {
        self.calls_waiting.get() > 0
    }

    /// h2 has handed out a call, or has none: it refuses some of those that were seen.
    pub fn note_handed_out(&self, has_call: bool) {
        let waiting = self.calls_waiting.get();
        self.calls_waiting.set(if has_call { waiting.saturating_sub(1) } else { 0 });
    }

    /// Time passed.
    pub fn pass(&self, time: Duration) {
        let frames = time.as_millis() * u128::from(CONTROL_FRAMES_PER_SECOND) / 1000;
        self.allow(u32::try_from(frames).unwrap_or(u32::MAX));
    }

    fn allow(&self, frames: u32) {
        let left = self.control_frames_left.get().saturating_add(frames);
        self.control_frames_left.set(left.min(CONTROL_FRAMES_MAX));
    }

    /// Whether the peer has begun a frame or a list of headers and not ended it.
    pub fn inside_frame(&self) -> bool {
        self.inside_frame.get()
    }

    /// What the peer has done wrong. Nothing more is read from it.
    pub fn fault(&self) -> Option<Fault> {
        self.fault.get()
    }

    /// Puts a GOAWAY after the frame that is being written; then every write fails, and h2 gives up.
    pub fn say_last(&self, fault: Fault) {
        let (last, reason) = (self.last_stream.get().to_be_bytes(), u32::from(fault.reason()).to_be_bytes());
        let payload = [&last, &reason, fault.words().as_bytes()].concat();
        let mut frame = Vec::new();
        put_frame(&mut frame, Head { kind: Head::GOAWAY, flags: 0, stream: 0 }, &payload);
        self.last_words.replace(frame);
    }

    fn judge_read(&self, head: Head) {
        match head.kind {
            Head::DATA => {}
            Head::HEADERS if head.stream > self.last_stream.get() => {
                self.last_stream.set(head.stream);
                self.calls_waiting.set(self.calls_waiting.get() + 1);
            }
            Head::HEADERS => {}
            _ => {
                let left = self.control_frames_left.get();
                self.control_frames_left.set(left.saturating_sub(1));
                if left == 0 {
                    self.fault.set(Some(Fault::TooManyControlFrames));
                }
            }
        }
        if head.kind == Head::PING && head.flags & Head::ACK == 0 {
            self.judge_ping();
        }
    }

    /// The rule of the Collector's gRPC library.
    fn judge_ping(&self) {
        let Some(policy) = self.policy else { return };
        let now_ns = self.clock.now_ns();
        let before = self.last_ping_ns.replace(Some(now_ns));
        if self.answering.take() {
            self.ping_strikes.set(0);
            return;
        }
        let idle = self.calls.get() == 0 && !policy.without_calls;
        let interval_ns = if idle { PING_IDLE_INTERVAL_NS } else { policy.interval_ns_min };
        if before.is_some_and(|before| now_ns - before < interval_ns) {
            self.ping_strikes.set(self.ping_strikes.get() + 1);
        }
        if self.ping_strikes.get() > PING_STRIKES_MAX {
            self.fault.set(Some(Fault::TooManyPings));
        }
    }

    fn judge_written(&self, head: Head) {
        if matches!(head.kind, Head::DATA | Head::HEADERS) {
            self.answering.set(true);
        }
    }
}

/// A socket whose frames are seen, shared by h2, while there is one, and the server.
#[derive(Debug)]
pub struct Line<S>(Rc<RefCell<Guarded<S>>>);

impl<S> Clone for Line<S> {
    fn clone(&self) -> Line<S> {
        Line(Rc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Watches over `socket`.
    pub fn new(socket: Watched<S>, guard: Rc<Guard>) -> Line<S> {
        Line(Rc::new(RefCell::new(Guarded::new(socket, guard))))
    }
}

/// A socket whose frames are seen.
#[derive(Debug)]
struct Guarded<S> {
    socket: Watched<S>,
    guard: Rc<Guard>,
    incoming: Scanner,
    outgoing: Scanner,
    last_words_said: usize,
    rest: Rest,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    fn new(socket: Watched<S>, guard: Rc<Guard>) -> Guarded<S> {
        let (incoming, outgoing) = (Scanner::new(PREFACE.len()), Scanner::new(0));
        Guarded { socket, guard, incoming, outgoing, last_words_said: 0, rest: Rest::default() }
    }

    /// These bytes go to h2, or would if there were one.
    fn scan_read(&mut self, bytes: &[u8]) {
        let guard = &self.guard;
        let (control_frames_before, calls_before) = (guard.control_frames_left.get(), guard.calls_waiting.get());
        self.incoming.advance(bytes, |head| guard.judge_read(head));
        let control_frames = control_frames_before - guard.control_frames_left.get();
        let calls = guard.calls_waiting.get() - calls_before;
        self.socket.traffic().add_work(control_frames as usize * CONTROL_FRAME_WORK + calls * CALL_WORK);
        guard.inside_frame.set(self.incoming.is_inside());
    }

    fn poll_write_through(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let count = ready!(Pin::new(&mut self.socket).poll_write(context, bytes))?;
        let guard = &self.guard;
        self.outgoing.advance(&bytes[..count], |head| guard.judge_written(head));
        Poll::Ready(Ok(count))
    }

    /// Ends the frame that is being written, then says the last words, then fails.
    fn poll_last_words(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let rest = self.outgoing.to_boundary();
        if rest > 0 && !bytes.is_empty() {
            let part = &bytes[..rest.min(bytes.len())];
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, part))?;
            self.outgoing.advance(&part[..count], |_| {});
            return Poll::Ready(Ok(count));
        }
        ready!(self.poll_own(context))?;
        let words = self.guard.last_words.borrow().clone();
        while self.last_words_said < words.len() {
            let left = &words[self.last_words_said..];
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, left))?;
            if count == 0 {
                break;
            }
            self.last_words_said += count;
        }
        ready!(Pin::new(&mut self.socket).poll_shutdown(context))?;
        Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
    }

    fn has_last_words(&self) -> bool {
        !self.guard.last_words.borrow().is_empty()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.rest.tell(buffer) {
            return Poll::Ready(Ok(()));
        }
        if this.guard.fault().is_some() {
            // The server hears of it in its next turn, which is now.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.rest.is_telling() {
            // The write that ends this wakes the connection.
            return Poll::Pending;
        }
        if !this.rest.is_out_of_the_way() {
            return this.poll_sifted(context, buffer);
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(context, buffer))?;
        this.scan_read(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.has_last_words() {
            return this.poll_last_words(context, bytes);
        }
        ready!(this.poll_own(context))?;
        if this.rest.is_telling() {
            return this.poll_write_telling(context, bytes);
        }
        this.poll_write_through(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.has_last_words() || this.rest.is_telling() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return Pin::new(this).poll_write(context, first.map_or(&[], |slice| slice));
        }
        ready!(this.poll_own(context))?;
        let written = ready!(Pin::new(&mut this.socket).poll_write_vectored(context, slices))?;
        let (guard, mut left) = (&this.guard, written);
        for slice in slices {
            let count = left.min(slice.len());
            this.outgoing.advance(&slice[..count], |head| guard.judge_written(head));
            left -= count;
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_own(context))?;
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Line<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Line<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(policy: Option<PingPolicy>) -> Guard {
        Guard::new(Clock::start(), policy)
    }

    fn send(guard: &Guard, kind: u8, count: u32) {
        (0..count).for_each(|_| guard.judge_read(Head { kind, flags: 0, stream: 0 }));
    }

    #[test]
    fn control_frames_are_bounded_whatever_their_kind() {
        // RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION and a kind that nobody knows.
        for kind in [3, 4, 6, 8, 9, 200] {
            let guard = guard(None);
            send(&guard, kind, CONTROL_FRAMES_MAX);
            assert_eq!(guard.fault(), None, "kind {kind}");
            send(&guard, kind, 1);
            assert_eq!(guard.fault(), Some(Fault::TooManyControlFrames), "kind {kind}");
        }
    }

    #[test]
    fn time_and_answers_fill_the_allowance_up() {
        let guard = guard(None);
        send(&guard, Head::PING, CONTROL_FRAMES_MAX);
        guard.pass(Duration::from_secs(1));
        send(&guard, Head::PING, CONTROL_FRAMES_PER_SECOND);
        guard.begin_call();
        guard.end_call(true);
        send(&guard, Head::PING, CONTROL_FRAMES_PER_ANSWER);
        guard.begin_call();
        guard.end_call(false);
        assert_eq!(guard.fault(), None);
        send(&guard, Head::PING, 1);
        assert_eq!(guard.fault(), Some(Fault::TooManyControlFrames));
    }

    #[test]
    fn data_and_calls_cost_nothing_of_it() {
        let guard = guard(None);
        send(&guard, Head::DATA, 3 * CONTROL_FRAMES_MAX);
        send(&guard, Head::HEADERS, 3 * CONTROL_FRAMES_MAX);
        assert_eq!(guard.fault(), None);
    }

    const HOUR_NS: u64 = 3_600_000_000_000;

    #[test]
    fn the_fourth_ping_too_soon_breaks_the_policy() {
        let guard = guard(Some(PingPolicy { interval_ns_min: HOUR_NS, without_calls: true }));
        send(&guard, Head::PING, 3);
        assert_eq!(guard.fault(), None);
        send(&guard, Head::PING, 1);
        assert_eq!(guard.fault(), Some(Fault::TooManyPings));
    }

    #[test]
    fn an_answer_between_pings_forgives_them() {
        let guard = guard(Some(PingPolicy { interval_ns_min: HOUR_NS, without_calls: true }));
        for _ in 0..10 {
            send(&guard, Head::PING, 3);
            guard.judge_written(Head { kind: Head::HEADERS, flags: 0, stream: 1 });
        }
        assert_eq!(guard.fault(), None);
    }

    #[test]
    fn pings_without_calls_have_to_be_permitted() {
        let check = |without_calls, calls, expected| {
            let guard = guard(Some(PingPolicy { interval_ns_min: 0, without_calls }));
            (0..calls).for_each(|_| guard.begin_call());
            send(&guard, Head::PING, 4);
            assert_eq!(guard.fault(), expected, "permitted: {without_calls}, calls: {calls}");
        };
        check(true, 0, None);
        check(false, 1, None);
        check(false, 0, Some(Fault::TooManyPings));
    }

    #[test]
    fn without_a_policy_pings_are_only_counted_as_control_frames() {
        let guard = guard(None);
        send(&guard, Head::PING, 1000);
        assert_eq!(guard.fault(), None);
    }
}
