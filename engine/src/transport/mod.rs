//! Connections: bytes <-> requests. A server hands whole, still compressed requests to a [`RequestHandler`] and turns
//! its answer into the protocol's; a client sends whole requests and classifies the answer. Never looks at a span.

pub mod acceptor;
pub mod client;
pub mod cors;
pub mod gate;
pub mod grpc_server;
pub mod http1_server;
pub mod http2_guard;
pub mod patience;
mod resolve;
pub mod tls;
pub mod traffic;
pub mod turn;
pub mod vigil;

use crate::pipeline::client::{Client, Head};
use crate::shard::buffers::Buffer;
use crate::telemetry::metrics::RejectReason;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::grpc::Status;
use codecs::otlp::{Format, Signal};
use patience::Patience;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// How a request came, as the label `transport` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// OTLP/gRPC.
    Grpc,
    /// OTLP/HTTP.
    Http,
    /// Requests in a file.
    File,
}

impl Transport {
    /// Value of the label `transport`.
    pub fn label(self) -> &'static str {
        match self {
            Transport::Grpc => "grpc",
            Transport::Http => "http",
            Transport::File => "file",
        }
    }
}

/// The bytes of a request, in one piece.
#[derive(Debug)]
pub enum Body {
    /// Put together in a buffer of the shard.
    Gathered(Buffer),
    /// It came in one piece, and still lies where it was received.
    Whole(Bytes),
}

impl std::ops::Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Body::Gathered(buffer) => buffer,
            Body::Whole(bytes) => bytes,
        }
    }
}

/// How a body is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodyEncoding {
    /// How it is compressed.
    pub compression: Compression,
    /// Which encoding it is in, once plain.
    pub format: Format,
}

/// One export call, as it came.
#[derive(Debug)]
pub struct ReceivedRequest {
    /// Of what.
    pub signal: Signal,
    /// The message, without framing.
    pub body: Body,
    /// How it is compressed.
    pub compression: Compression,
    /// Which encoding it is in, once plain.
    pub format: Format,
    /// How it came.
    pub transport: Transport,
    /// Who sent it, as far as somebody asks.
    pub client: Option<Rc<Client>>,
    /// How long its sender waits for the answer.
    pub patience: Patience,
}

/// What a receiver offers to the servers of its listeners.
#[expect(async_fn_in_trait, reason = "shards are single threads: no caller wants these futures to be Send")]
pub trait RequestHandler {
    /// May the sender of a request with this head send? Asked once, before the body; what is returned travels with the
    /// request. Who is not let in has been counted.
    async fn enter(&self, head: Head<'_>) -> Result<Option<Rc<Client>>, Status> {
        let _ = head;
        Ok(None)
    }
    /// May `bytes` of wire body come in now? Asked as soon as the length is known; the status is what the peer is told.
    fn admit(&self, signal: Signal, bytes: usize) -> Result<(), Status>;
    /// An empty buffer with room for `bytes`.
    fn take_buffer(&self, bytes: usize) -> Buffer;
    /// A request, of this signal if one can tell, was answered for good before it could be handed over, for this reason.
    /// Counts it.
    fn rejected(&self, signal: Option<Signal>, reason: RejectReason) {
        let _ = (signal, reason);
    }
    /// Takes the request; resolves when the sender may be answered.
    async fn handle(&self, request: ReceivedRequest) -> Result<(), Status>;
}

/// Makes room for `more` bytes in a body that is to have `bytes` in all, which are admitted: what does not fit at first gets
/// memory for all of it, used before if possible, and is moved once.
fn make_room<H: RequestHandler>(body: &mut Buffer, more: usize, bytes: usize, handler: &H) {
    if body.len() + more > body.capacity() {
        let mut larger = handler.take_buffer(bytes.max(body.len() + more));
        larger.extend_from_slice(body);
        *body = larger;
    }
}

/// The news that a drain has begun, for every connection of a shard. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub struct Draining(Rc<DrainState>);

#[derive(Debug, Default)]
struct DrainState {
    begun: Cell<bool>,
    wakers: RefCell<Slab<Waker>>,
}

impl Draining {
    /// Tells every connection.
    pub fn begin(&self) {
        self.0.begun.set(true);
        for (_, waker) in self.0.wakers.borrow().iter() {
            waker.wake_by_ref();
        }
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.0.begun.get()
    }

    /// Resolves when it begins.
    pub fn started(&self) -> Started {
        Started { state: Rc::clone(&self.0), place: None }
    }
}

/// See [`Draining::started`]. Holds one place in the list of those to wake, for as long as it lives.
#[derive(Debug)]
pub struct Started {
    state: Rc<DrainState>,
    place: Option<usize>,
}

impl Future for Started {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.state.begun.get() {
            return Poll::Ready(());
        }
        let place = match self.place {
            None => Some(self.state.wakers.borrow_mut().insert(context.waker().clone())),
            Some(place) => {
                self.state.wakers.borrow_mut()[place].clone_from(context.waker());
                Some(place)
            }
        };
        self.place = place;
        Poll::Pending
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.state.wakers.borrow_mut().remove(place);
        }
    }
}
