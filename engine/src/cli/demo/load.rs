//! The sender of the demo: one request each tick, sent again until the gateway takes it.
//!
//! ```text
//! tick --> first halves of new traces + second halves of the last tick's --POST--> taken, else pause and again
//! ```
//!
//! The one idea: it behaves as an SDK with patience. It waits for the answer, so a gateway that refuses or is gone stops
//! it; it forgets only what was taken; and it does not catch up afterwards.

use super::accounts::Accounts;
use super::shop::{self, Half, Part, SPANS_MEAN};
use crate::config::checked::{Endpoint, NameSettings};
use crate::shard::runtime::{self, Runtime, sleep};
use crate::transport::client::PeerSettings;
use crate::transport::client::http1::HttpClient;
use bytes::Bytes;
use codecs::compression::Compression;
use codecs::otlp::Format;
use http::StatusCode;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Between two requests.
const TICK: Duration = Duration::from_millis(50);
const TICKS_PER_SECOND: u32 = 20;
/// Behind its time by more, the load goes on from now.
const BEHIND_MAX: Duration = Duration::from_secs(1);
/// Before a request is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
/// For one attempt.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Answers whose latencies are remembered: the last minute's.
const LATENCIES_MAX: usize = 60 * TICKS_PER_SECOND as usize;

/// What the load and who commands it share.
#[derive(Debug)]
pub(super) struct Load {
    accounts: Arc<Mutex<Accounts>>,
    spans_per_second: AtomicU32,
    /// Where the gateway listens; another one after a restart, if its port was taken meanwhile.
    gateway: Mutex<SocketAddr>,
    /// Nothing new is sent; what is begun is finished.
    ending: AtomicBool,
    /// Nothing at all is sent.
    abandoned: AtomicBool,
    refused: AtomicU64,
    broken: AtomicU64,
    latencies: Mutex<VecDeque<Duration>>,
}

impl Load {
    /// Begins to send.
    pub(super) fn start(
        accounts: Arc<Mutex<Accounts>>,
        gateway: SocketAddr,
        spans_per_second: u32,
    ) -> std::io::Result<(Arc<Load>, JoinHandle<()>)> {
        let load = Arc::new(Load {
            accounts,
            spans_per_second: AtomicU32::new(spans_per_second),
            gateway: Mutex::new(gateway),
            ending: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            broken: AtomicU64::new(0),
            latencies: Mutex::default(),
        });
        let sending = Arc::clone(&load);
        let thread = std::thread::Builder::new().name("demo-load".to_owned()).spawn(move || {
            if let Err(why) = runtime::run(Runtime::Epoll, None, async move { sending.send_all().await }) {
                eprintln!("error: the load of the demo does not run: {why}");
            }
        })?;
        Ok((load, thread))
    }

    /// From now on so many spans a second are meant to be sent.
    pub(super) fn set_rate(&self, spans_per_second: u32) {
        self.spans_per_second.store(spans_per_second, Ordering::Relaxed);
    }

    /// Where to send from now on.
    pub(super) fn set_gateway(&self, gateway: SocketAddr) {
        *self.gateway.lock().expect("nobody panics with it") = gateway;
    }

    /// No new traces; those that are begun are finished.
    pub(super) fn end(&self) {
        self.ending.store(true, Ordering::Relaxed);
    }

    /// Whatever is not taken yet is given up.
    pub(super) fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Requests that were answered with something else than success, and those that were not answered.
    pub(super) fn sent_again(&self) -> (u64, u64) {
        (self.refused.load(Ordering::Relaxed), self.broken.load(Ordering::Relaxed))
    }

    /// 99 of 100 requests of the last minute were answered with success within this time; `None` before the first.
    pub(super) fn p99(&self) -> Option<Duration> {
        let mut latencies: Vec<Duration> =
            self.latencies.lock().expect("nobody panics with it").iter().copied().collect();
        latencies.sort_unstable();
        latencies.get((latencies.len() * 99).div_ceil(100).saturating_sub(1)).copied()
    }

    async fn send_all(&self) {
        let mut line = None;
        // Second halves of the traces whose first half was taken last.
        let mut begun: Vec<Part> = Vec::new();
        let mut due = Instant::now();
        loop {
            let wanted = self.spans_per_second.load(Ordering::Relaxed).div_ceil(TICKS_PER_SECOND * SPANS_MEAN);
            let ending = self.ending.load(Ordering::Relaxed);
            let fresh = match ending {
                true => Vec::new(),
                false => self.offer(wanted as usize),
            };
            let parts: Vec<Part> = begun.iter().chain(&fresh).copied().collect();
            if !parts.is_empty() {
                let body = Bytes::from(shop::request(&parts));
                if !self.send_until_taken(&mut line, body).await {
                    return;
                }
                self.accounts.lock().expect("nobody panics with it").taken(&parts);
            }
            if ending {
                return;
            }
            begun = fresh.into_iter().map(|part| Part { half: Half::Second, ..part }).collect();
            due += TICK;
            match due.checked_duration_since(Instant::now()) {
                Some(early) => sleep(early).await,
                None if due.elapsed() > BEHIND_MAX => due = Instant::now(),
                None => {}
            }
        }
    }

    /// First halves of so many new traces.
    fn offer(&self, traces: usize) -> Vec<Part> {
        let (began_ns, mut accounts) = (now_ns(), self.accounts.lock().expect("nobody panics with it"));
        let offered = accounts.offer(traces).into_iter();
        offered.map(|trace| Part { trace, half: Half::First, began_ns }).collect()
    }

    /// Whether it was taken at last.
    async fn send_until_taken(&self, line: &mut Option<(SocketAddr, HttpClient)>, body: Bytes) -> bool {
        while !self.abandoned.load(Ordering::Relaxed) {
            let address = *self.gateway.lock().expect("nobody panics with it");
            if line.as_ref().is_none_or(|(connected, _)| *connected != address) {
                *line = client(address).map(|client| (address, client)).ok();
            }
            let Some((_, client)) = line else { return false };
            let began = Instant::now();
            match client.post(body.clone(), Compression::None, None).await {
                Ok(answer) if answer.status == StatusCode::OK => {
                    self.remember(began.elapsed());
                    return true;
                }
                Ok(_) => self.refused.fetch_add(1, Ordering::Relaxed),
                Err(_) => self.broken.fetch_add(1, Ordering::Relaxed),
            };
            sleep(AGAIN_AFTER).await;
        }
        false
    }

    fn remember(&self, latency: Duration) {
        let mut latencies = self.latencies.lock().expect("nobody panics with it");
        if latencies.len() == LATENCIES_MAX {
            latencies.pop_front();
        }
        latencies.push_back(latency);
    }
}

fn client(address: SocketAddr) -> Result<HttpClient, String> {
    let peer = PeerSettings {
        sender: "the demo's load".to_owned(),
        endpoint: Endpoint { host: address.ip().to_string(), port: address.port() },
        tls: None,
        authority: None,
        headers: Vec::new(),
        proxy: None,
        timeout: Some(ANSWER_WITHIN),
        first_address: 0,
        names: NameSettings::default(),
    };
    HttpClient::new(&peer, "/v1/traces", Format::Protobuf)
}

/// Since 1970.
fn now_ns() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
}
