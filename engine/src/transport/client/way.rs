//! The way to one address of a gRPC peer: a connection that is made when it is wanted, and rests when it failed.
//!
//! ```text
//!          call                       connected                     peer leaves (it had spoken)
//!  Idle ---------> Connecting ---------------------------> Up ---------------------------------> Idle
//!   ^                  |                                    |
//!   |                  | cannot connect                     | lost before the peer said a word
//!   |   backoff over   v                                    |
//!   +-------------- Resting <-------------------------------+         any --> Closed, for good
//! ```
//!
//! The one idea: one spawned task makes a connection, drives it and rests after it; no task is ever cancelled. Resting
//! only keeps many callers from hammering a dead peer, so it is short. Knows nothing of calls, and picks no address: that
//! is [`super::balance`].

use super::ClientError;
use super::balance::Balance;
use super::dial::Dialed;
use super::peer_stream::{PeerStream, Seen};
use crate::shard::runtime::{sleep, spawn, timeout};
use bytes::Bytes;
use futures_util::future::{Either, select};
use h2::client::{Connection, SendRequest};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Answers are small: a window of this size is never the limit, and bounds what a peer can make us hold.
const WINDOW_BYTES: u32 = 1 << 20;
/// Largest DATA frame we invite.
const FRAME_BYTES_MAX: u32 = 256 << 10;
/// Header names and values of one answer, error details included.
const HEADER_LIST_BYTES_MAX: u32 = 64 << 10;
/// Rest after a failed connection: the first, and the longest. Shorter than the usual retry interval (5 s), so that a
/// retry finds the client ready to try again.
const REST_FIRST: Duration = Duration::from_millis(200);
const REST_MAX: Duration = Duration::from_secs(3);
/// How long a silent peer may take to answer a ping once a call has timed out on it.
const PING_TIMEOUT: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5000 });
/// Failures in a row after which the log hears of one address among others that work: not of each restart.
const FAILURES_BEFORE_WORDS: u32 = 3;

/// See the module.
#[derive(Debug)]
pub(super) struct Way {
    /// `None`: any address of the peer, asked for at each connection.
    pub(super) address: Option<SocketAddr>,
    link: RefCell<Link>,
    failures_in_a_row: Cell<u32>,
}

#[derive(Debug)]
enum Link {
    Idle,
    Connecting,
    Up(Line),
    Resting(ClientError),
    Closed,
}

/// What a call finds.
pub(super) enum State {
    Idle,
    Connecting,
    Up,
    Resting,
    Closed,
}

/// A connection that takes calls.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) number: u64,
    /// Where it really goes.
    pub(super) address: SocketAddr,
    pub(super) sender: SendRequest<Bytes>,
    pub(super) seen: Rc<Seen>,
    pub(super) watch: Rc<Watch>,
}

/// What calls tell the task of their connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// A call has timed out in silence: is the peer still there?
    pub(super) doubt: Notify,
    /// The peer has answered a call: this connection was of use.
    pub(super) answered: Cell<bool>,
}

impl Way {
    pub(super) fn new(address: Option<SocketAddr>) -> Rc<Way> {
        Rc::new(Way { address, link: RefCell::new(Link::Idle), failures_in_a_row: Cell::new(0) })
    }

    pub(super) fn state(&self) -> State {
        match &*self.link.borrow() {
            Link::Idle => State::Idle,
            Link::Connecting => State::Connecting,
            Link::Up(_) => State::Up,
            Link::Resting(_) => State::Resting,
            Link::Closed => State::Closed,
        }
    }

    /// The connection, if one is up.
    pub(super) fn line(&self) -> Option<Line> {
        match &*self.link.borrow() {
            Link::Up(line) => Some(line.clone()),
            _ => None,
        }
    }

    /// Why it rests, if it does.
    pub(super) fn problem(&self) -> Option<ClientError> {
        match &*self.link.borrow() {
            Link::Resting(error) => Some(error.clone()),
            _ => None,
        }
    }

    /// Takes no more calls for good; those under way finish.
    pub(super) fn close(&self) {
        self.link.replace(Link::Closed);
    }

    /// Takes no new calls on connection `number`, if that is its connection; those under way on it finish.
    pub(super) fn forget(&self, number: u64) {
        if self.is_up(number) {
            self.set(Link::Idle);
        }
    }

    fn is_up(&self, number: u64) -> bool {
        matches!(&*self.link.borrow(), Link::Up(line) if line.number == number)
    }

    fn set(&self, link: Link) {
        let mut current = self.link.borrow_mut();
        // What is closed stays closed, whatever a connection's task finds out later.
        if !matches!(*current, Link::Closed) {
            *current = link;
        }
    }
}

/// Sets out for a connection, if there is none: one task from here to the end of its life.
pub(super) fn start(balance: &Rc<Balance>, way: &Rc<Way>) {
    if !matches!(way.state(), State::Idle) {
        return;
    }
    way.set(Link::Connecting);
    let task = balance.task();
    let way = Rc::clone(way);
    spawn(async move { live(task.balance(), &way).await });
}

/// A connection's whole life: dial, serve calls, and rest if it was of no use.
async fn live(balance: &Balance, way: &Way) {
    let dialed = match way.address {
        None => balance.dialer.dial().await,
        Some(address) => balance.dialer.dial_to(address).await,
    };
    let failed = match dialed {
        Err(error) => error,
        Ok(dialed) => {
            let seen = Rc::clone(&dialed.seen);
            match serve(balance, way, dialed).await {
                Err(error) => balance.dialer.lost(&error, &seen),
                Ok(()) => return balance.connection_ended(),
            }
        }
    };
    rest(balance, way, failed).await;
}

/// Offers a fresh connection to calls until it ends. The error says why it was never of use.
async fn serve(balance: &Balance, way: &Way, dialed: Dialed) -> Result<(), h2::Error> {
    let Dialed { stream, seen, address } = dialed;
    let (sender, connection) = handshake(stream).await?;
    let number = balance.next_connection();
    let watch = Rc::new(Watch::default());
    way.set(Link::Up(Line { number, address, sender, seen, watch: Rc::clone(&watch) }));
    balance.changed.notify_waiters();
    let ended = drive(connection, &watch.doubt).await;
    if watch.answered.get() {
        way.failures_in_a_row.set(0);
    } else if way.is_up(number) && ended.is_err() {
        return ended;
    }
    way.forget(number);
    Ok(())
}

async fn handshake(stream: PeerStream) -> Result<(SendRequest<Bytes>, Connection<PeerStream, Bytes>), h2::Error> {
    h2::client::Builder::new()
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .enable_push(false)
        .handshake(stream)
        .await
}

/// Moves the connection's bytes until it ends. When a call doubts the peer, a ping must come back in time: a peer that
/// vanished without a word would otherwise hold every call until TCP gives up, many minutes later.
async fn drive(mut connection: Connection<PeerStream, Bytes>, doubt: &Notify) -> Result<(), h2::Error> {
    let mut ping_pong = connection.ping_pong().expect("nobody has taken it before");
    let mut connection = pin!(connection);
    loop {
        match select(connection.as_mut(), pin!(doubt.notified())).await {
            Either::Left((ended, _)) => return ended,
            Either::Right(_) => {
                let pong = pin!(timeout(PING_TIMEOUT, ping_pong.ping(h2::Ping::opaque())));
                match select(connection.as_mut(), pong).await {
                    Either::Left((ended, _)) => return ended,
                    Either::Right((Some(Ok(_)), _)) => {}
                    // Dropping the connection ends its calls: they are told that it was lost.
                    Either::Right(_) => return Ok(()),
                }
            }
        }
    }
}

/// Keeps the error for calls until the next connection may be tried.
async fn rest(balance: &Balance, way: &Way, error: ClientError) {
    let failures = way.failures_in_a_row.get().saturating_add(1);
    way.failures_in_a_row.set(failures);
    if failures == FAILURES_BEFORE_WORDS && balance.another_is_up() {
        tracing::warn!("{error}; the other addresses of this name take its requests");
    }
    way.set(Link::Resting(error));
    balance.connection_ended();
    sleep(backoff(failures)).await;
    if matches!(way.state(), State::Resting) {
        way.set(Link::Idle);
    }
}

/// How long to leave a peer alone that has failed so often in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    let longest = REST_FIRST.saturating_mul(1 << failures.saturating_sub(1).min(8)).min(REST_MAX);
    // Shards that lost the same peer come back at different moments.
    longest.mul_f64(0.8 + 0.2 * fastrand::f64())
}
