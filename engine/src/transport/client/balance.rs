//! Which of a peer's addresses a call goes to, and how the addresses are kept up to date.
//!
//! ```text
//!  name --look up--> addresses --one way each--> [ Up | Resting | Up | Connecting ]  <--in turn, of those up-- call
//!    ^                                                       |
//!    +---------- at an interval, and when a connection ends -+
//! ```
//!
//! The one idea: with `round_robin` a name's addresses are ways of equal right; calls take turns over those that are up,
//! one that fails rests and costs no call anything, and only when all rest a call fails at once with the last error.
//! Addresses that are new get a connection, those that are gone take no more calls and finish what they have. With
//! `pick_first`, and where there is no name to look up, there is one way, which goes to the first address that answers.
//!
//! A name is never looked up on the shard's thread, at most once at a time, and not more often than every
//! [`LOOKUPS_GAP`]. A lookup that fails changes nothing while addresses are known.

use super::dial::Dialer;
use super::way::{Line, State, Way, backoff, start};
use super::{ClientError, PeerSettings, Problem};
use crate::config::checked::Balancer;
use crate::shard::runtime::{sleep, spawn, timeout};
use futures_util::FutureExt;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::{Rc, Weak};
use std::time::Duration;
use tokio::sync::Notify;

/// Connections of one client: of a name with more addresses each shard takes so many, starting at its own number.
pub(super) const CONNECTIONS_MAX: usize = 32;
/// The least time between two lookups, whatever fails meanwhile.
const LOOKUPS_GAP: Duration = Duration::from_millis(if cfg!(test) { 20 } else { 5000 });

/// See the module.
#[derive(Debug)]
pub(super) struct Balance {
    pub(super) dialer: Dialer,
    /// Tells waiting calls, and a closer, that a way has changed.
    pub(super) changed: Notify,
    /// A way to each address, instead of one to any.
    each: bool,
    /// The name is looked up again after so long.
    interval: Option<Duration>,
    first_address: usize,
    ways: RefCell<Vec<Rc<Way>>>,
    /// What is known of the name while there is no way at all.
    name: RefCell<Name>,
    /// A task keeps the addresses up to date.
    kept: Cell<bool>,
    /// Tells that task that addresses may have changed, or that the client is gone.
    stale: Rc<Notify>,
    /// Whose turn it is.
    next: Cell<usize>,
    /// Connections made so far: tells a call whether a way still has the one it used.
    connections: Cell<u64>,
    /// Connection tasks that have not ended.
    tasks: Cell<usize>,
    closed: Cell<bool>,
}

#[derive(Debug)]
enum Name {
    Unknown,
    Asking,
    Resting(ClientError),
}

/// A connection's task, counted until it ends.
pub(super) struct Task(Rc<Balance>);

impl Task {
    pub(super) fn balance(&self) -> &Rc<Balance> {
        &self.0
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.tasks.set(self.0.tasks.get() - 1);
        self.0.changed.notify_waiters();
    }
}

impl Balance {
    pub(super) fn new(peer: &PeerSettings, dialer: Dialer) -> Rc<Balance> {
        let named = dialer.has_a_name();
        let each = named && peer.names.balancer == Balancer::RoundRobin;
        Rc::new(Balance {
            each,
            ways: RefCell::new(if each { Vec::new() } else { vec![Way::new(None)] }),
            // Without a name there is nothing to keep.
            kept: Cell::new(!named),
            dialer,
            changed: Notify::new(),
            interval: peer.names.interval(),
            first_address: peer.first_address,
            name: RefCell::new(Name::Unknown),
            stale: Rc::new(Notify::new()),
            next: Cell::new(peer.first_address),
            connections: Cell::new(0),
            tasks: Cell::new(0),
            closed: Cell::new(false),
        })
    }

    /// Begins to connect without waiting.
    pub(super) fn connect(self: &Rc<Self>) {
        drop(self.pick());
    }

    /// The connection whose turn it is; waits for one if none is up and one may come.
    pub(super) async fn line(self: &Rc<Self>) -> Result<Line, ClientError> {
        loop {
            if let Some(picked) = self.pick() {
                return picked;
            }
            self.changed.notified().await;
        }
    }

    /// Takes no new calls on connection `number`.
    pub(super) fn forget(&self, number: u64) {
        self.ways.borrow().iter().for_each(|way| way.forget(number));
        self.stale.notify_one();
    }

    /// Takes no more calls, and resolves when every connection has ended.
    pub(super) async fn close(&self) {
        self.closed.set(true);
        self.ways.borrow().iter().for_each(|way| way.close());
        self.stale.notify_one();
        self.changed.notify_waiters();
        while self.tasks.get() > 0 {
            self.changed.notified().await;
        }
    }

    /// A task of this client.
    pub(super) fn task(self: &Rc<Self>) -> Task {
        self.tasks.set(self.tasks.get() + 1);
        Task(Rc::clone(self))
    }

    /// The number of a fresh connection.
    pub(super) fn next_connection(&self) -> u64 {
        self.connections.set(self.connections.get() + 1);
        self.connections.get()
    }

    /// A connection has ended or was not to be had: calls look again, and so does whoever keeps the addresses.
    pub(super) fn connection_ended(&self) {
        self.stale.notify_one();
        self.changed.notify_waiters();
    }

    /// Whether calls go somewhere else meanwhile.
    pub(super) fn another_is_up(&self) -> bool {
        self.ways.borrow().iter().any(|way| matches!(way.state(), State::Up))
    }

    /// One of the connections that are up, in turn; sets out for those that are wanted. `None`: one may come.
    fn pick(self: &Rc<Self>) -> Option<Result<Line, ClientError>> {
        if self.closed.get() {
            return Some(Err(self.dialer.error(Problem::Closed, "the exporter is shut down")));
        }
        if !self.kept.replace(true) {
            let (balance, stale) = (Rc::downgrade(self), Rc::clone(&self.stale));
            spawn(async move { keep(&balance, &stale).await });
        }
        let ways = self.ways.borrow();
        if ways.is_empty() {
            return self.ask();
        }
        ways.iter().for_each(|way| start(self, way));
        let up = ways.iter().filter(|way| matches!(way.state(), State::Up));
        let turn = self.next.get();
        // Counted over those that are up, so that the neighbour of a dead one does not get its calls besides its own.
        if let Some(turn) = turn.checked_rem(up.clone().count()) {
            self.next.set(turn + 1);
            return up.clone().nth(turn).and_then(|way| way.line()).map(Ok);
        }
        if ways.iter().any(|way| matches!(way.state(), State::Connecting)) {
            return None;
        }
        ways.iter().find_map(|way| way.problem()).map(Err)
    }

    /// What a call learns while no address is known.
    fn ask(&self) -> Option<Result<Line, ClientError>> {
        let mut name = self.name.borrow_mut();
        match &*name {
            Name::Resting(error) => return Some(Err(error.clone())),
            Name::Asking => {}
            Name::Unknown => {
                *name = Name::Asking;
                self.stale.notify_one();
            }
        }
        None
    }

    /// Looks the name up and takes over what is found. Returns how long not to ask again.
    async fn look_up(self: &Rc<Self>, failures: &mut u32) -> Duration {
        let error = match self.dialer.addresses().await {
            Ok(addresses) => {
                *failures = 0;
                self.adopt(&addresses);
                return LOOKUPS_GAP;
            }
            Err(error) => error,
        };
        *failures = failures.saturating_add(1);
        if !self.each {
            return LOOKUPS_GAP;
        }
        if !self.ways.borrow().is_empty() {
            tracing::warn!("{error}; the addresses known so far stay");
            return LOOKUPS_GAP;
        }
        self.name.replace(Name::Resting(error));
        self.changed.notify_waiters();
        sleep(backoff(*failures)).await;
        self.name.replace(Name::Unknown);
        Duration::ZERO
    }

    /// Makes `addresses` the ones that calls go to.
    fn adopt(self: &Rc<Self>, addresses: &[SocketAddr]) {
        if self.closed.get() {
            return;
        }
        if !self.each {
            // One connection: it is left when its address is the peer's no more.
            let lines = self.ways.borrow().iter().filter_map(|way| way.line()).collect::<Vec<_>>();
            lines.iter().filter(|line| !addresses.contains(&line.address)).for_each(|line| self.forget(line.number));
            return;
        }
        let mut ways = self.ways.borrow_mut();
        ways.retain(|way| {
            let stays = way.address.is_some_and(|address| addresses.contains(&address));
            if !stays {
                way.close();
            }
            stays
        });
        let in_turn = addresses.iter().cycle().skip(self.first_address % addresses.len()).take(addresses.len());
        for address in in_turn {
            if ways.len() == CONNECTIONS_MAX {
                break;
            }
            if ways.iter().all(|way| way.address != Some(*address)) {
                let way = Way::new(Some(*address));
                start(self, &way);
                ways.push(way);
            }
        }
        self.changed.notify_waiters();
    }
}

impl Drop for Balance {
    fn drop(&mut self) {
        self.stale.notify_one();
    }
}

/// Keeps the addresses up to date until the client is closed or gone.
async fn keep(balance: &Weak<Balance>, stale: &Notify) {
    let mut failures = 0;
    // With one way its first connection looks the name up itself.
    let mut look_up = balance.upgrade().is_some_and(|balance| balance.each);
    loop {
        let Some(kept) = balance.upgrade().filter(|balance| !balance.closed.get()) else { return };
        // What was stale until now, this lookup answers.
        stale.notified().now_or_never();
        let pause = if look_up { kept.look_up(&mut failures).await } else { LOOKUPS_GAP };
        look_up = true;
        let interval = kept.interval;
        drop(kept);
        sleep(pause).await;
        match interval {
            None => stale.notified().await,
            // Shards do not ask all at once.
            Some(interval) => drop(timeout(interval.mul_f64(0.8 + 0.2 * fastrand::f64()), stale.notified()).await),
        }
    }
}
