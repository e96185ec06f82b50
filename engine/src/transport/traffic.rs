//! What passes through one connection's socket: counted, and in turns.
//!
//! The one idea: a server knows requests, only the socket knows bytes. What a peer does with bytes alone (dribble, never
//! read, flood) is seen here and judged by the server, which looks at the counts now and then. A connection that always
//! has something to read gives way to the others after `TURN_BYTES_MAX`. A connection that has nothing to say waits here,
//! without the buffers of a protocol. Never looks into a byte.

use super::Draining;
use crate::shard::runtime::{timeout, wake_in_turn};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes that one connection may read before the shard's other tasks run: some 100 us of work.
const TURN_BYTES_MAX: usize = 256 << 10;

/// Bytes that are read at once for a protocol that asks for few: eight or so requests of ten spans.
const AHEAD_BYTES: usize = 32 << 10;

/// Who asks for more than this has begun a large message, and is given it without a copy; h2 asks for this much at first.
const SMALL_BYTES_MAX: usize = 8 << 10;

/// Who asks for this or less wants no more than that to be read: it is a connection that rests.
const TINY_BYTES_MAX: usize = 1 << 10;

/// How often nothing is read ahead after a large message: its sender's next ones are likely to be large, too.
const LARGE_READS: u8 = 16;

thread_local! {
    /// Where this shard reads ahead. Between reads that are taken at once it is the same memory again and again.
    static AHEAD: RefCell<BytesMut> = RefCell::default();
}

/// The counts of one connection, shared by its socket and its server.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_read: Cell<u64>,
    bytes_written: Cell<u64>,
    write_waits: Cell<bool>,
    turn_bytes: Cell<usize>,
    /// The socket takes nothing now, because more is about to be written.
    writes_held: Cell<bool>,
    /// Something wanted to be written meanwhile.
    withheld: Cell<bool>,
}

impl Traffic {
    /// The connection's task has been woken: it may read again.
    pub fn begin_turn(&self) {
        self.turn_bytes.set(0);
    }

    /// What was read costs as much work as this many bytes more.
    pub fn add_work(&self, bytes: usize) {
        self.turn_bytes.set(self.turn_bytes.get() + bytes);
    }

    /// Whatever is written is not taken until the writes are released: then it goes out together. Whoever holds them
    /// releases them and polls again before it rests, because nobody else wakes the writer.
    pub fn hold_writes(&self) {
        self.writes_held.set(true);
    }

    /// The socket takes bytes again; whether it has been kept from any.
    pub fn release_writes(&self) -> bool {
        self.writes_held.set(false);
        self.withheld.take()
    }

    fn count_read(&self, bytes: usize) {
        self.bytes_read.set(self.bytes_read.get() + bytes as u64);
        self.add_work(bytes);
    }

    fn withholds(&self) -> bool {
        let held = self.writes_held.get();
        if held {
            self.withheld.set(true);
        }
        held
    }

    /// Since the connection began.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read.get()
    }

    /// Since the connection began, as far as the kernel has taken them.
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.get()
    }

    /// Whether the kernel takes nothing more, because the peer does not read.
    pub fn write_waits(&self) -> bool {
        self.write_waits.get()
    }
}

/// A socket that counts.
#[derive(Debug)]
pub struct Watched<S> {
    socket: S,
    traffic: Rc<Traffic>,
    /// What was read and not taken: read again first.
    untaken: Bytes,
    /// For how many reads nothing is read ahead; `None`: never.
    ahead_after: Option<u8>,
}

/// Read at first from a peer that begins to speak; the rest goes straight to the protocol's buffer.
const FIRST_BYTES_MAX: usize = 64;

impl<S> Watched<S> {
    /// Counts what passes through `socket` in `traffic`.
    pub fn new(socket: S, traffic: Rc<Traffic>) -> Watched<S> {
        Watched { socket, traffic, untaken: Bytes::new(), ahead_after: None }
    }

    /// The same socket for a protocol that reads until nothing is left, in small pieces: they are taken from a larger one.
    pub fn reading_ahead(self) -> Watched<S> {
        Watched { ahead_after: Some(0), ..self }
    }

    /// Whether a read of so many bytes is worth reading more.
    fn reads_ahead(&mut self, bytes: usize) -> bool {
        let Some(after) = self.ahead_after.as_mut().filter(|_| bytes > TINY_BYTES_MAX) else { return false };
        if bytes > SMALL_BYTES_MAX {
            *after = LARGE_READS;
        }
        let now = *after == 0;
        *after = after.saturating_sub(1);
        now
    }

    /// Its counts.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Gives back bytes that were read too early. None of them must not keep the buffer in which they would lie.
    pub fn put_back(&mut self, bytes: Bytes) {
        self.untaken = if bytes.is_empty() { Bytes::new() } else { bytes };
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.traffic.write_waits.set(written.is_pending());
        if let Poll::Ready(Ok(count)) = &written {
            self.traffic.bytes_written.set(self.traffic.bytes_written.get() + *count as u64);
        }
        written
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Waits until the peer speaks, for `patience` if any. `false`: it has not, it has closed, or a drain has begun.
    pub async fn speaks(&mut self, patience: Option<Duration>, draining: &Draining) -> bool {
        if !self.untaken.is_empty() {
            return true;
        }
        let mut drain = pin!(draining.started());
        let speaks = poll_fn(|context| {
            if drain.as_mut().poll(context).is_ready() {
                return Poll::Ready(false);
            }
            self.traffic.begin_turn();
            self.poll_first(context)
        });
        match patience {
            Some(patience) => timeout(patience, speaks).await == Some(true),
            None => speaks.await,
        }
    }

    fn poll_first(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut first = [0; FIRST_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut first);
        let read = ready!(Pin::new(&mut *self).poll_read(context, &mut buffer));
        self.untaken = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready(read.is_ok() && !self.untaken.is_empty())
    }
}

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Reads what is there, up to `AHEAD_BYTES`, to be taken later.
    fn poll_ahead(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut room = AHEAD.take();
        room.reserve(AHEAD_BYTES);
        let polled = pin!(self.socket.read_buf(&mut (&mut room).limit(AHEAD_BYTES))).poll(context);
        // An empty piece would keep the whole room, and a resting connection with it.
        self.untaken = if room.is_empty() { Bytes::new() } else { room.split().freeze() };
        AHEAD.set(room);
        let count = ready!(polled)?;
        self.traffic.count_read(count);
        Poll::Ready(Ok(()))
    }

    fn give_untaken(&mut self, buffer: &mut ReadBuf<'_>) {
        let count = self.untaken.len().min(buffer.remaining());
        buffer.put_slice(&self.untaken[..count]);
        self.untaken.advance(count);
        if self.untaken.is_empty() {
            self.untaken = Bytes::new();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.traffic.turn_bytes.get() >= TURN_BYTES_MAX {
            wake_in_turn(context);
            return Poll::Pending;
        }
        if !self.untaken.is_empty() {
            self.give_untaken(buffer);
            return Poll::Ready(Ok(()));
        }
        if self.reads_ahead(buffer.remaining()) {
            ready!(self.poll_ahead(context))?;
            self.give_untaken(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        self.traffic.count_read(buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.traffic.withholds() {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.traffic.withholds() {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;
    use tokio::io::AsyncWriteExt;

    /// A socket that has bytes for ever, and counts how often it is asked and for how many.
    #[derive(Default)]
    struct Source {
        asked: Vec<usize>,
        written: Vec<u8>,
    }

    impl AsyncRead for Source {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let asked = buffer.remaining();
            let first = self.asked.iter().sum::<usize>();
            self.asked.push(asked);
            let bytes: Vec<u8> = (first..first + asked).map(|place| (place % 251) as u8).collect();
            buffer.put_slice(&bytes);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Source {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.written.extend_from_slice(bytes);
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Reads pieces of these lengths one after the other: how many bytes the socket was asked for, each time.
    fn asked(mut watched: Watched<Source>, pieces: &[usize]) -> Vec<usize> {
        let mut all = Vec::new();
        for &piece in pieces {
            let before = all.len();
            while all.len() < before + piece {
                let mut room = vec![0; before + piece - all.len()];
                let mut buffer = ReadBuf::new(&mut room);
                let polled = Pin::new(&mut watched).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
                assert!(matches!(polled, Poll::Ready(Ok(()))));
                all.extend_from_slice(buffer.filled());
            }
        }
        assert!(all.iter().enumerate().all(|(place, byte)| *byte == (place % 251) as u8), "every byte in its place");
        watched.socket.asked
    }

    #[test]
    fn small_pieces_are_taken_from_one_read_and_large_ones_are_not_copied() {
        let plain = || Watched::new(Source::default(), Rc::default());
        assert_eq!(asked(plain(), &[4096; 3]), [4096; 3]);
        let small = [4096; 2 * AHEAD_BYTES / 4096];
        assert_eq!(asked(plain().reading_ahead(), &small), [AHEAD_BYTES; 2]);
        let large = [2_000, 100_000, 2_000, 30_000];
        assert_eq!(asked(plain().reading_ahead(), &large), [AHEAD_BYTES, 102_000 - AHEAD_BYTES, 2_000, 30_000]);
        assert_eq!(asked(plain().reading_ahead(), &[64; 3]), [64; 3], "who wants little is given little");
    }

    #[test]
    fn a_connection_that_waits_keeps_nothing_of_the_room_for_reading_ahead() {
        let (_far, near) = tokio::io::duplex(64);
        let mut watched = Watched::new(near, Rc::default()).reading_ahead();
        let mut bytes = [0; SMALL_BYTES_MAX];
        let mut buffer = ReadBuf::new(&mut bytes);
        let polled = Pin::new(&mut watched).poll_read(&mut Context::from_waker(Waker::noop()), &mut buffer);
        assert!(polled.is_pending());
        let mut room = AHEAD.take();
        room.resize(room.capacity(), 0);
        room.advance(room.len());
        assert!(room.try_reclaim(AHEAD_BYTES), "all of it is free");
    }

    #[test]
    fn writes_that_are_held_leave_when_they_are_released() {
        let traffic = Rc::new(Traffic::default());
        let mut watched = Watched::new(Source::default(), Rc::clone(&traffic));
        traffic.hold_writes();
        let mut writing = pin!(watched.write_all(b"answers"));
        let mut context = Context::from_waker(Waker::noop());
        assert!(writing.as_mut().poll(&mut context).is_pending());
        assert!(!traffic.write_waits(), "it is not the peer who does not read");
        assert!(traffic.release_writes(), "something waits");
        assert!(writing.as_mut().poll(&mut context).is_ready());
        assert!(!traffic.release_writes());
        assert_eq!((watched.socket.written.as_slice(), traffic.bytes_written()), (&b"answers"[..], 7));
    }
}
