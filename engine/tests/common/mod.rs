//! What every end-to-end test needs: a gateway as a child process, senders in front of it, sinks behind it.
//!
//! ```text
//! GrpcSender, HttpSender --loopback--> Gateway (child process) --loopback--> Sink (a thread of the test)
//! ```
//!
//! Senders and sinks speak HTTP/2 through `h2` alone and HTTP/1.1 by hand, so that a mistake of the gateway's own
//! transport cannot hide behind the same mistake here. Tests are plain blocking code. Nothing sleeps to assume that
//! something has happened: every wait is for a fact, and ends with a panic after [`PATIENCE`].

// Each test binary uses its own part of this folder, and nobody else sees it.
#![allow(dead_code, missing_docs, unreachable_pub, unused_imports)]

pub mod gateway;
pub mod grpc;
pub mod http;
pub mod http_peer;
pub mod sink;
pub mod tls;
pub mod traces;

pub use gateway::{Engine, Gateway};
pub use grpc::GrpcSender;
pub use http::HttpSender;
pub use http_peer::HttpPeer;
pub use sink::Sink;

use codecs::grpc::Status;
use std::time::{Duration, Instant};

/// How long a test waits for something that must happen: generous, because machines that test are busy.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Between two looks at something that cannot tell when it changes.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// How a request ended for its sender.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The sender may forget it.
    Taken,
    /// The documented error, over gRPC with its status, over HTTP with the status of the body.
    Status(Status),
    /// No answer: the connection or the stream broke.
    Broken(String),
}

impl Answer {
    /// The error.
    pub fn status(&self) -> &Status {
        match self {
            Answer::Status(status) => status,
            other => panic!("an error status was expected, not {other:?}"),
        }
    }
}

/// Looks until `look` finds something.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain for: {what}");
        std::thread::sleep(LOOK_EVERY);
    }
}
