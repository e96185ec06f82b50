//! What passes through one connection's socket: counted, and in turns.
//!
//! The one idea: a server knows requests, only the socket knows bytes. What a peer does with bytes alone (dribble, never
//! read, flood) is seen here and judged by the server, which looks at the counts now and then. A connection that always
//! has something to read gives way to the others after `TURN_BYTES_MAX`. A connection that has nothing to say waits here,
//! without the buffers of a protocol. Never looks into a byte.

use super::Draining;
use crate::shard::runtime::{timeout, wake_in_turn};
use bytes::{Buf, Bytes};
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that one connection may read before the shard's other tasks run: some 100 us of work.
const TURN_BYTES_MAX: usize = 256 << 10;

/// The counts of one connection, shared by its socket and its server.
#[derive(Debug, Default)]
pub struct Traffic {
    bytes_read: Cell<u64>,
    bytes_written: Cell<u64>,
    write_waits: Cell<bool>,
    turn_bytes: Cell<usize>,
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
}

/// Read at first from a peer that begins to speak; the rest goes straight to the protocol's buffer.
const FIRST_BYTES_MAX: usize = 64;

impl<S> Watched<S> {
    /// Counts what passes through `socket` in `traffic`.
    pub fn new(socket: S, traffic: Rc<Traffic>) -> Watched<S> {
        Watched { socket, traffic, untaken: Bytes::new() }
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

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.untaken.is_empty() {
            let count = self.untaken.len().min(buffer.remaining());
            buffer.put_slice(&self.untaken[..count]);
            self.untaken.advance(count);
            if self.untaken.is_empty() {
                self.untaken = Bytes::new();
            }
            return Poll::Ready(Ok(()));
        }
        if self.traffic.turn_bytes.get() >= TURN_BYTES_MAX {
            wake_in_turn(context);
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        let count = buffer.filled().len() - before;
        self.traffic.bytes_read.set(self.traffic.bytes_read.get() + count as u64);
        self.traffic.turn_bytes.set(self.traffic.turn_bytes.get() + count);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
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
