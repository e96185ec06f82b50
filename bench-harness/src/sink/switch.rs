//! What a sink does with a request: it takes it, or is one of the backends that gateways meet.
//!
//! The one idea: a fault either notes a request or does not, and says which, so that what must become of it is exact.
//! A request on a connection that was cut is never noted: nobody would hear its answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It is noted and answered.
    Take,
    /// It is noted, and answered this much later.
    TakeSlowly(Duration),
    /// It is noted, and its connection is cut instead of an answer.
    TakeAndCut,
    /// It is answered with this gRPC code or HTTP status, and not noted.
    Status(u16),
    /// Its connection is cut, and it is not noted.
    Cut,
    /// It has no answer until the behaviour changes, and is not noted.
    Hang,
}

/// What became of a request; the protocols say it in their own ways.
pub(super) enum Reply {
    Taken,
    Status(u16),
    Nothing,
}

/// The behaviour of one sink, its connections, and how many requests met a fault.
pub(crate) struct Switch {
    behaviour: Cell<Behaviour>,
    met: Cell<u64>,
    changed: Notify,
    connections: RefCell<Vec<(Rc<Cell<bool>>, AbortHandle)>>,
}

impl Switch {
    /// One that takes everything.
    pub(crate) fn new() -> Switch {
        Switch {
            behaviour: Cell::new(Behaviour::Take),
            met: Cell::new(0),
            changed: Notify::new(),
            connections: RefCell::new(Vec::new()),
        }
    }

    /// From now on.
    pub(crate) fn set(&self, behaviour: Behaviour) {
        self.behaviour.set(behaviour);
        self.changed.notify_waiters();
    }

    /// Requests that met a fault so far.
    pub(crate) fn met(&self) -> u64 {
        self.met.get()
    }

    /// Ends all connections.
    pub(crate) fn cut(&self) {
        for (is_cut, connection) in self.connections.borrow_mut().drain(..) {
            is_cut.set(true);
            connection.abort();
        }
    }

    /// Remembers a connection; those that have ended are forgotten.
    pub(super) fn connected(&self, is_cut: Rc<Cell<bool>>, connection: AbortHandle) {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|(_, connection)| !connection.is_finished());
        connections.push((is_cut, connection));
    }

    /// Does with a request what is to be done now; `note` notes it.
    pub(super) async fn handle(&self, is_cut: &Cell<bool>, note: impl AsyncFnOnce()) -> Reply {
        if is_cut.get() {
            return Reply::Nothing;
        }
        let behaviour = self.behaviour.get();
        if behaviour != Behaviour::Take {
            self.met.set(self.met.get() + 1);
        }
        match behaviour {
            Behaviour::Take => note().await,
            Behaviour::TakeSlowly(by) => {
                note().await;
                tokio::time::sleep(by).await;
            }
            Behaviour::TakeAndCut => {
                note().await;
                self.cut();
                return Reply::Nothing;
            }
            Behaviour::Status(status) => return Reply::Status(status),
            Behaviour::Cut => {
                self.cut();
                return Reply::Nothing;
            }
            Behaviour::Hang => {
                self.changed.notified().await;
                return Reply::Nothing;
            }
        }
        Reply::Taken
    }
}
