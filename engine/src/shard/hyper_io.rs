//! hyper's read and write traits over a stream with tokio's: hyper brought its own traits, h2 and rustls kept tokio's.
//!
//! The one idea: a read lands directly in hyper's buffer. Nothing here buffers, waits or knows HTTP.
//!
//! WHY UNSAFE: hyper's cursor can only be moved past bytes it did not copy itself by an unsafe call. The safe way is a
//! buffer of our own and a copy: one more pass over every byte of every HTTP body (about 0.1 ns per byte, 20 us of a
//! 190 KiB request).

#![allow(unsafe_code)]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream as hyper wants it.
#[derive(Debug)]
pub struct HyperIo<S>(pub S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for HyperIo<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut cursor: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        // SAFETY: the slice is only lent to tokio's `ReadBuf`, which keeps the same promise that `as_mut` asks for:
        // it never takes back the initialisation of a byte.
        let mut buffer = ReadBuf::uninit(unsafe { cursor.as_mut() });
        ready!(Pin::new(&mut self.0).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        // SAFETY: `ReadBuf` counts a byte as filled only once it is initialised, it was made over exactly the unfilled
        // part of the cursor and starts at its beginning, so the next `count` bytes of the cursor are initialised.
        unsafe { cursor.advance(count) };
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for HyperIo<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
