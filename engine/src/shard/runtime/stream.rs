//! One connection on a shard, TCP or a Unix domain socket, with tokio's read and write traits, which h2, hyper and tokio-rustls expect.
//!
//! WHY UNSAFE: tokio's `ReadBuf` hands out memory that may not be initialised, futures' `AsyncRead` (glommio's trait)
//! takes `&mut [u8]`. Zeroing the rest of a 64 KiB buffer before each read costs about 1 us, a tenth of a whole small
//! request.

#![allow(unsafe_code)]

use super::{Runtime, current};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connected socket that belongs to this shard.
///
/// On the heap from the first: a task keeps room for what it is given in each function that hands it on, ten times this
/// socket's size for a connection, for as long as it lives.
#[derive(Debug)]
pub struct Stream(Box<Backend>);

/// A connected socket that belongs to no shard yet.
#[derive(Debug)]
pub enum Socket {
    /// Over IP.
    Tcp(std::net::TcpStream),
    /// A Unix domain socket.
    Unix(std::os::unix::net::UnixStream),
}

impl Socket {
    /// The peer's address, if it has one.
    pub fn peer(&self) -> Option<IpAddr> {
        match self {
            Socket::Tcp(socket) => socket.peer_addr().ok().map(|address| address.ip()),
            Socket::Unix(_) => None,
        }
    }
}

#[derive(Debug)]
enum Backend {
    Uring(glommio::net::TcpStream),
    Epoll(tokio::net::TcpStream),
    UringUnix(glommio::net::UnixStream),
    EpollUnix(tokio::net::UnixStream),
}

impl Stream {
    /// Connects to `address`, without delaying small writes.
    pub async fn connect(address: SocketAddr) -> io::Result<Stream> {
        let backend = match current() {
            Runtime::IoUring => {
                Backend::Uring(glommio::net::TcpStream::connect(address).await.map_err(io::Error::from)?)
            }
            Runtime::Epoll => Backend::Epoll(tokio::net::TcpStream::connect(address).await?),
        };
        match &backend {
            Backend::Uring(stream) => stream.set_nodelay(true).map_err(io::Error::from)?,
            Backend::Epoll(stream) => stream.set_nodelay(true)?,
            Backend::UringUnix(_) | Backend::EpollUnix(_) => {}
        }
        Ok(Stream(Box::new(backend)))
    }

    /// Takes over a socket that another thread accepted.
    pub fn from_socket(socket: Socket) -> io::Result<Stream> {
        match socket {
            Socket::Tcp(socket) => Stream::from_std(socket),
            Socket::Unix(socket) => Stream::from_unix(socket),
        }
    }

    fn from_unix(socket: std::os::unix::net::UnixStream) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        let backend = match current() {
            Runtime::IoUring => {
                let descriptor = socket.into_raw_fd();
                // SAFETY: `into_raw_fd` gave up ownership of an open socket; from here glommio alone owns and closes it.
                Backend::UringUnix(unsafe { glommio::net::UnixStream::from_raw_fd(descriptor) })
            }
            Runtime::Epoll => Backend::EpollUnix(tokio::net::UnixStream::from_std(socket)?),
        };
        Ok(Stream(Box::new(backend)))
    }

    /// Takes over a TCP socket that another thread accepted.
    pub fn from_std(socket: std::net::TcpStream) -> io::Result<Stream> {
        socket.set_nonblocking(true)?;
        socket.set_nodelay(true)?;
        let backend = match current() {
            Runtime::IoUring => {
                let descriptor = socket.into_raw_fd();
                // SAFETY: `into_raw_fd` gave up ownership of an open socket; from here glommio alone owns and closes it.
                Backend::Uring(unsafe { glommio::net::TcpStream::from_raw_fd(descriptor) })
            }
            Runtime::Epoll => Backend::Epoll(tokio::net::TcpStream::from_std(socket)?),
        };
        Ok(Stream(Box::new(backend)))
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self.0 {
            Backend::Epoll(stream) => Pin::new(stream).poll_read(context, buffer),
            Backend::EpollUnix(stream) => Pin::new(stream).poll_read(context, buffer),
            Backend::Uring(stream) => read_uring(stream, context, buffer),
            Backend::UringUnix(stream) => read_uring(stream, context, buffer),
        }
    }
}

/// Reads from one of glommio's unbuffered streams.
fn read_uring<S: futures_util::AsyncRead + Unpin>(
    stream: &mut S,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    // SAFETY: both callers pass an unbuffered stream of glommio, which gives this slice to recv(2) and never reads from
    // it, so uninitialised bytes are only ever written. No uninitialised byte is put in: recv only stores data.
    let unfilled = unsafe { buffer.unfilled_mut() };
    // SAFETY: same length and address; u8 has no invalid bit pattern once written, and nothing reads before.
    let unfilled = unsafe { &mut *(std::ptr::from_mut(unfilled) as *mut [u8]) };
    let count = ready!(futures_util::AsyncRead::poll_read(Pin::new(stream), context, unfilled))?;
    // SAFETY: recv(2) reported `count` bytes stored at the start of the slice.
    unsafe { buffer.assume_init(count) };
    buffer.advance(count);
    Poll::Ready(Ok(()))
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self.0 {
            Backend::Epoll(stream) => Pin::new(stream).poll_write(context, bytes),
            Backend::Uring(stream) => futures_util::AsyncWrite::poll_write(Pin::new(stream), context, bytes),
            Backend::EpollUnix(stream) => Pin::new(stream).poll_write(context, bytes),
            Backend::UringUnix(stream) => futures_util::AsyncWrite::poll_write(Pin::new(stream), context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self.0 {
            Backend::Epoll(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Backend::Uring(stream) => futures_util::AsyncWrite::poll_write_vectored(Pin::new(stream), context, slices),
            Backend::EpollUnix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Backend::UringUnix(stream) => {
                futures_util::AsyncWrite::poll_write_vectored(Pin::new(stream), context, slices)
            }
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0 {
            Backend::Epoll(stream) => Pin::new(stream).poll_flush(context),
            Backend::Uring(stream) => futures_util::AsyncWrite::poll_flush(Pin::new(stream), context),
            Backend::EpollUnix(stream) => Pin::new(stream).poll_flush(context),
            Backend::UringUnix(stream) => futures_util::AsyncWrite::poll_flush(Pin::new(stream), context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self.0 {
            Backend::Epoll(stream) => Pin::new(stream).poll_shutdown(context),
            Backend::Uring(stream) => futures_util::AsyncWrite::poll_close(Pin::new(stream), context),
            Backend::EpollUnix(stream) => Pin::new(stream).poll_shutdown(context),
            Backend::UringUnix(stream) => futures_util::AsyncWrite::poll_close(Pin::new(stream), context),
        }
    }
}
