//! A socket whose first bytes are looked at: they say what its peer wants to speak.
//!
//! The one idea: bytes that were looked at before a protocol was chosen are read again by it, the others pass through.
//! Never changes a byte.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Enough to tell a TLS record, a method of HTTP/1.1 and the preface of HTTP/2 apart.
const FIRST_BYTES: usize = 3;

/// What a peer wants to speak, by its first bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// It has said nothing, or too little to tell.
    Nothing,
    /// A TLS handshake.
    Tls,
    /// HTTP/1, in plain text.
    Http1,
    /// HTTP/2, in plain text.
    Http2,
    /// Something else.
    Other,
}

/// The first bytes of a connection, for whoever looks later.
#[derive(Debug, Default)]
pub struct FirstBytes {
    bytes: Cell<[u8; FIRST_BYTES]>,
    count: Cell<usize>,
}

impl FirstBytes {
    /// See [`Speaks`].
    pub fn speaks(&self) -> Speaks {
        let bytes = self.bytes.get();
        match (self.count.get(), bytes) {
            // RFC 8446, 5.1: a record of content type 22; its version begins with 3 (which a single byte does not show).
            (1, [22, ..]) => Speaks::Tls,
            (2.., [22, 3, _]) => Speaks::Tls,
            (FIRST_BYTES, [b'P', b'R', b'I']) => Speaks::Http2,
            (FIRST_BYTES, first) if first.iter().all(u8::is_ascii_uppercase) => Speaks::Http1,
            (FIRST_BYTES, _) => Speaks::Other,
            _ => Speaks::Nothing,
        }
    }

    fn note(&self, fresh: &[u8]) {
        let (mut bytes, before) = (self.bytes.get(), self.count.get());
        let room = &mut bytes[before..];
        let count = fresh.len().min(room.len());
        room[..count].copy_from_slice(&fresh[..count]);
        self.bytes.set(bytes);
        self.count.set(before + count);
    }
}

/// See the module.
#[derive(Debug)]
pub struct Opening<S> {
    socket: S,
    first: Rc<FirstBytes>,
    /// How many of the first bytes were looked at and have to be read again, and how many of these have been.
    looked_at: usize,
    taken: usize,
}

impl<S> Opening<S> {
    pub(super) fn new(socket: S) -> Opening<S> {
        Opening { socket, first: Rc::default(), looked_at: 0, taken: 0 }
    }

    pub(super) fn first(&self) -> Rc<FirstBytes> {
        Rc::clone(&self.first)
    }
}

impl<S: AsyncRead + Unpin> Opening<S> {
    /// Waits until the peer has said enough to tell what it speaks, or has closed its half.
    pub(super) async fn look(&mut self) -> io::Result<Speaks> {
        let mut buffer = [0; FIRST_BYTES];
        while self.first.speaks() == Speaks::Nothing {
            let count = self.socket.read(&mut buffer[self.looked_at..]).await?;
            if count == 0 {
                break;
            }
            self.first.note(&buffer[self.looked_at..self.looked_at + count]);
            self.looked_at += count;
        }
        Ok(self.first.speaks())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Opening<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.taken < self.looked_at {
            let bytes = self.first.bytes.get();
            let again = &bytes[self.taken..self.looked_at];
            let count = again.len().min(buffer.remaining());
            buffer.put_slice(&again[..count]);
            self.taken += count;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
        if self.first.count.get() < FIRST_BYTES {
            self.first.note(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Opening<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
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
    use tokio::io::AsyncWriteExt;

    #[test]
    fn the_first_bytes_tell_what_a_peer_wants_to_speak_however_they_come() {
        let cases: [(&[u8], Speaks); 7] = [
            (b"", Speaks::Nothing),
            (b"GE", Speaks::Nothing),
            (&[22, 3, 1, 2, 0], Speaks::Tls),
            (b"PRI * HTTP/2.0", Speaks::Http2),
            (b"POST /v1/traces", Speaks::Http1),
            (b"ssh-2.0", Speaks::Other),
            (&[0, 0, 0], Speaks::Other),
        ];
        for (bytes, expected) in cases {
            for piece in [1, 2, 100] {
                let first = FirstBytes::default();
                for piece in bytes.chunks(piece) {
                    first.note(piece);
                }
                assert_eq!(first.speaks(), expected, "{bytes:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn what_was_looked_at_is_read_again() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(read_again());
    }

    async fn read_again() {
        let (mut near, far) = tokio::io::duplex(64);
        near.write_all(b"PRI * HTTP/2.0").await.unwrap();
        near.shutdown().await.unwrap();
        let mut opening = Opening::new(far);
        assert_eq!(opening.look().await.unwrap(), Speaks::Http2);
        let mut read = Vec::new();
        opening.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"PRI * HTTP/2.0");
    }
}
