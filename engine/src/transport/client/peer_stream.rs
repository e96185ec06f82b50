//! A connected stream to a backend, plain or TLS, that remembers what it has seen of the peer.
//!
//! The one idea: who speaks what is told by the first bytes from the peer, so "plain text towards TLS" and its kin can
//! be named in an error instead of guessed from a protocol parser's complaint. The count of bytes tells a silent peer
//! from a slow one. Bytes are never changed or kept, the first few excepted.

use crate::shard::runtime::Stream;
use crate::transport::tls::tls_error;
use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// Enough to tell a TLS record, an HTTP/1 status line and an HTTP/2 frame header apart.
const FIRST_BYTES: usize = 5;

/// What came from the peer so far.
#[derive(Debug, Default)]
pub(super) struct Seen {
    first: Cell<[u8; FIRST_BYTES]>,
    bytes: Cell<u64>,
    /// What ended the TLS session. h2 and hyper pass on no more than its text.
    tls_error: RefCell<Option<rustls::Error>>,
}

/// What the first bytes say the peer speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Speaks {
    /// It has said nothing, or too little.
    Nothing,
    /// A TLS record.
    Tls,
    /// A status line.
    Http1,
    /// A SETTINGS frame.
    Http2,
    /// Something else.
    Other,
}

impl Seen {
    /// Bytes read, below TLS.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// What ended the TLS session, if it was TLS.
    pub(super) fn tls_error(&self) -> Option<rustls::Error> {
        self.tls_error.borrow().clone()
    }

    /// See [`Speaks`].
    pub(super) fn speaks(&self) -> Speaks {
        if self.bytes.get() < FIRST_BYTES as u64 {
            return Speaks::Nothing;
        }
        match self.first.get() {
            // RFC 8446, 5.1: content types 20 to 23, then the version 3.x.
            [20..=23, 3, ..] => Speaks::Tls,
            [b'H', b'T', b'T', b'P', b'/'] => Speaks::Http1,
            // RFC 9113, 3.4: a server's first frame is SETTINGS (type 4, no flags); a length below 64 KiB.
            [0, _, _, 4, 0] => Speaks::Http2,
            _ => Speaks::Other,
        }
    }

    fn note(&self, fresh: &[u8]) {
        let before = self.bytes.get();
        if before < FIRST_BYTES as u64 {
            let mut first = self.first.get();
            let start = usize::try_from(before).expect("below FIRST_BYTES");
            for (kept, byte) in first[start..].iter_mut().zip(fresh) {
                *kept = *byte;
            }
            self.first.set(first);
        }
        self.bytes.set(before + fresh.len() as u64);
    }
}

/// A TCP stream that notes what it reads.
#[derive(Debug)]
pub(super) struct Watched {
    stream: Stream,
    seen: Rc<Seen>,
}

impl Watched {
    pub(super) fn new(stream: Stream, seen: Rc<Seen>) -> Watched {
        Watched { stream, seen }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        self.seen.note(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A connection to a backend.
#[derive(Debug)]
pub(super) enum PeerStream {
    Plain(Watched),
    Tls(Box<TlsStream<Watched>>),
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            PeerStream::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            PeerStream::Tls(stream) => {
                let result = ready!(Pin::new(&mut *stream).poll_read(context, buffer));
                if let Err(error) = &result {
                    let seen = &stream.get_ref().0.seen;
                    seen.tls_error.replace(tls_error(error).cloned());
                }
                Poll::Ready(result)
            }
        }
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            PeerStream::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            PeerStream::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            PeerStream::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            PeerStream::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            PeerStream::Plain(stream) => stream.is_write_vectored(),
            PeerStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            PeerStream::Plain(stream) => Pin::new(stream).poll_flush(context),
            PeerStream::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            PeerStream::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            PeerStream::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pieces: &[&[u8]], expected: Speaks) {
        let seen = Seen::default();
        for piece in pieces {
            seen.note(piece);
        }
        assert_eq!(seen.speaks(), expected);
        assert_eq!(seen.bytes(), pieces.iter().map(|piece| piece.len() as u64).sum::<u64>());
    }

    #[test]
    fn the_first_bytes_tell_what_the_peer_speaks() {
        check(&[], Speaks::Nothing);
        check(&[&[21, 3, 3]], Speaks::Nothing);
        check(&[&[21, 3, 3, 0, 2, 2, 70]], Speaks::Tls);
        check(&[b"HT", b"TP/1.1 400 Bad Request"], Speaks::Http1);
        check(&[&[0, 0, 18], &[4, 0, 0, 0, 0, 0]], Speaks::Http2);
        check(&[b"SSH-2.0-"], Speaks::Other);
    }
}
