//! All links between shards, and one shard's end of them.
//!
//! ```text
//!                 requests (parcels, whole requests)                 for each ordered pair of shards:
//!   shard A  outbox ======================================> shard B  one ring of requests,
//!            in flight <=================================== owed     one ring of answers
//!                 answers (the same boxes, with an outcome)
//! ```
//!
//! The one idea: *nothing here ever waits, and nothing that was sent is ever refused.* A message stays in the sender's
//! outbox until the ring has room; a shard drains its inbound rings before it does anything else; and a ring of answers
//! has a slot for every message that may be unanswered, so answering always succeeds. Two shards whose request rings are
//! full therefore still drain, answer, and so make room for each other.
//!
//! A turn of a shard: [`MeshEnd::drain`], act on what came and [`MeshEnd::answer`] it, the rest of the turn, with
//! [`MeshEnd::route`] for new spans, then [`MeshEnd::flush`]. Before it sleeps: [`MeshEnd::poll_inbound`], which covers
//! all rings of all peers with one waker. Spans for the same owner and node share a parcel until it is flushed.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use super::load::Loads;
use super::owner::owner;
use super::parcel::{Carried, Given, Message, Outcome, Parcel, Points, Request, Source};
use super::ring::{Receiver, Sender, ShardWaker, ring};

/// Fewest messages of a request ring, however many pairs share the memory.
const RING_SLOTS_MIN: usize = 4;
/// Most messages of a request ring: a parcel carries hundreds of spans, so more would only hide a slow owner, and what
/// is under way would no longer fit into the caches.
const RING_SLOTS_MAX: usize = 64;
/// Memory of the parcels that a shard keeps for reuse; more is freed when it comes home.
const SHELL_BYTES_MAX: usize = 16 << 20;
/// Parcels that were not used during one window are freed at its end: within two windows, 60 s, after a burst.
const WINDOW_NS: u64 = 30_000_000_000;
/// What one request under way to a peer counts when the least busy one is chosen, as a share of its time.
const REQUEST_SHARE: f64 = 0.02;

/// A message that was sent to this shard, or one that came home.
#[derive(Debug)]
pub enum Inbound {
    /// To be answered by [`MeshEnd::answer`], sooner or later, exactly once.
    Asked {
        /// The sender.
        from: usize,
        /// What it sent.
        message: Message,
    },
    /// To be handed to [`MeshEnd::reuse`] once those who waited are told.
    Answered {
        /// Who answers.
        from: usize,
        /// What became of it.
        outcome: Outcome,
        /// What this shard had sent.
        message: Message,
    },
}

#[derive(Debug)]
struct Answer {
    outcome: Outcome,
    message: Message,
}

/// One shard's end of all its links.
pub struct MeshEnd {
    shard: usize,
    waker: ShardWaker,
    /// By shard; this shard's own place is empty.
    links: Vec<Option<Link>>,
    loads: Loads,
    shells: Shells,
    /// Memory of the parcels in flight.
    flight_bytes: usize,
}

/// Empty parcels that wait for reuse.
#[derive(Default)]
struct Shells {
    #[expect(clippy::vec_box, reason = "the boxes travel: reusing them is the point")]
    kept: Vec<Box<Parcel>>,
    bytes: usize,
    /// Fewest that were kept during the current window: so many were not needed.
    spare: usize,
    window_started_ns: u64,
}

/// Both directions between this shard and one peer.
struct Link {
    requests_out: Sender<Message>,
    requests_in: Receiver<Message>,
    answers_out: Sender<Answer>,
    answers_in: Receiver<Answer>,
    /// Parcels that wait for room, oldest first; the last is open. Bounded by the lease that the spans are charged to.
    outbox: VecDeque<Box<Parcel>>,
    carried: Carried,
    /// Points, flushes and what is given up, that wait for room, in the order in which they came. Bounded by who sends them.
    others_waiting: VecDeque<Message>,
    parcels: Window,
    requests: Window,
    others: Window,
    /// Messages of the peer that this shard has not answered.
    owed: usize,
}

/// Kinds of messages with a window: parcels, requests, and all others.
const WINDOWS: usize = 3;

/// How many messages of one kind may be unanswered. Each kind has its own, so that requests, which may wait long for
/// their answer, never hold up parcels, which are answered by the owner's next turn.
#[derive(Clone, Copy, Debug)]
struct Window {
    unanswered: usize,
    unanswered_max: usize,
}

impl Window {
    fn is_open(self) -> bool {
        self.unanswered < self.unanswered_max
    }
}

/// All ends of a mesh of `shards`, in order. Request and answer rings of all pairs take about `ring_bytes_total` bytes
/// together, at least `RING_SLOTS_MIN` messages a pair; boxes and spans are charged to who sends them.
pub fn mesh(shards: usize, ring_bytes_total: usize) -> Vec<MeshEnd> {
    assert!(shards > 0, "a process has a shard");
    let slots = ring_slots(shards, ring_bytes_total);
    let wakers: Vec<ShardWaker> = (0..shards).map(|_| ShardWaker::new()).collect();
    let mut ends: Vec<MeshEnd> = Loads::new(shards).into_iter().map(|loads| MeshEnd::new(loads, &wakers)).collect();
    for one in 0..shards {
        for two in one + 1..shards {
            let (left, right) = link(slots, &wakers[one], &wakers[two]);
            ends[one].links[two] = Some(left);
            ends[two].links[one] = Some(right);
        }
    }
    ends
}

/// Messages of a request ring. Its ring of answers has so many slots for each window.
fn ring_slots(shards: usize, ring_bytes_total: usize) -> usize {
    let pairs = (shards * (shards - 1)).max(1);
    let slot_bytes = size_of::<Message>() + WINDOWS * size_of::<Answer>();
    (ring_bytes_total / pairs / slot_bytes).clamp(RING_SLOTS_MIN, RING_SLOTS_MAX)
}

/// Both ends of a link: two rings of requests and two of answers.
fn link(slots: usize, left: &ShardWaker, right: &ShardWaker) -> (Link, Link) {
    let (ask_right, asked_by_left) = ring(slots, left, right);
    let (ask_left, asked_by_right) = ring(slots, right, left);
    let (answer_right, answered_by_left) = ring(WINDOWS * slots, left, right);
    let (answer_left, answered_by_right) = ring(WINDOWS * slots, right, left);
    let new = |requests_out, requests_in, answers_out, answers_in| Link {
        requests_out,
        requests_in,
        answers_out,
        answers_in,
        outbox: VecDeque::new(),
        carried: Carried::default(),
        others_waiting: VecDeque::new(),
        parcels: Window { unanswered: 0, unanswered_max: slots },
        requests: Window { unanswered: 0, unanswered_max: slots },
        others: Window { unanswered: 0, unanswered_max: slots },
        owed: 0,
    };
    let left = new(ask_right, asked_by_right, answer_right, answered_by_right);
    let right = new(ask_left, asked_by_left, answer_left, answered_by_left);
    (left, right)
}

impl MeshEnd {
    fn new(loads: Loads, wakers: &[ShardWaker]) -> MeshEnd {
        let shard = loads.shard();
        MeshEnd {
            shard,
            waker: wakers[shard].clone(),
            links: wakers.iter().map(|_| None).collect(),
            loads,
            shells: Shells::default(),
            flight_bytes: 0,
        }
    }

    /// This shard's number.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// How many shards there are, this one included.
    pub fn shards(&self) -> usize {
        self.links.len()
    }

    /// Takes everything that lies in the inbound rings and makes their room free. At most one ring's worth from each
    /// peer, so a turn ends however fast the peers are. Never waits.
    pub fn drain(&mut self, into: &mut Vec<Inbound>) {
        for (from, link) in self.links.iter_mut().enumerate() {
            let Some(link) = link else { continue };
            self.flight_bytes -= link.drain(from, into);
        }
    }

    /// Sends a message home, with what became of it. Never waits and never fails: there is a slot for every message
    /// that was taken. Seen by the sender after [`MeshEnd::flush`].
    pub fn answer(&mut self, to: usize, outcome: Outcome, message: Message) {
        let link = self.link(to);
        assert!(link.owed > 0, "shard {to} is answered more often than it asked");
        link.owed -= 1;
        let pushed = link.answers_out.push(Answer { outcome, message });
        assert!(pushed.is_ok() || link.answers_out.is_closed(), "the answers of shard {to} have no room");
    }

    /// Keeps the memory of a message that came home for the next one.
    pub fn reuse(&mut self, message: Message) {
        if let Message::Parcel(mut parcel) = message {
            parcel.clear();
            self.shells.keep(parcel);
        }
    }

    /// Copies every span that another shard owns into the parcel for its owner, and puts the numbers of the others, spans
    /// without a trace id among them, into `mine`. Returns how many spans were put into parcels: the parts of `ticket`
    /// that come home in answers add up to it. `node` is where the owner passes them in. The source is free afterwards.
    pub fn route(&mut self, node: u32, ticket: u32, source: Source<'_>, mine: &mut Vec<u32>) -> usize {
        let (shards, own) = (self.shards(), self.shard);
        for link in self.links.iter_mut().flatten() {
            link.carried = Carried::default();
        }
        let kept_before = mine.len();
        for (number, span) in source.index.items.iter().enumerate() {
            let to = owner(&span.trace_id, shards);
            if to == own || span.trace_id.0 == [0; 16] {
                mine.push(u32::try_from(number).expect("an index has fewer than 2^32 spans: each has a byte"));
                continue;
            }
            let link = self.links[to].as_mut().expect("every other shard has a link");
            if !link.outbox.back().is_some_and(|open| open.node == node && open.has_room()) {
                link.open(self.shells.take(), node);
            }
            let open = link.outbox.back_mut().expect("an open parcel is the last one");
            open.append(&mut link.carried, source, span, ticket);
        }
        source.index.items.len() - (mine.len() - kept_before)
    }

    /// Sends data points to their owner as soon as there is room; those that were sent before arrive before.
    pub fn send_points(&mut self, to: usize, points: Box<Points>) {
        self.link(to).others_waiting.push_back(Message::Points(points));
    }

    /// Says that nobody waits for a message any more that was sent before: it arrives behind that message, and before
    /// another one that has its ticket.
    pub fn send_given_up(&mut self, to: usize, given: Given) {
        self.link(to).others_waiting.push_back(Message::GivenUp(given));
    }

    /// Asks every other shard. Returns how many answers will come.
    pub fn ask_all(&mut self, message: impl Fn() -> Message) -> usize {
        let links = self.links.iter_mut().flatten();
        links.map(|link| link.others_waiting.push_back(message())).count()
    }

    /// Hands a whole request to a peer, or gives it back: the window or the ring is full, or spans wait for their owner.
    pub fn try_send_request(&mut self, to: usize, request: Box<Request>) -> Result<(), Box<Request>> {
        let link = self.link(to);
        if !link.requests.is_open() || !link.outbox.is_empty() || !link.others_waiting.is_empty() {
            return Err(request);
        }
        match link.requests_out.push(Message::Request(request)) {
            Ok(()) => {
                link.requests.unanswered += 1;
                Ok(())
            }
            Err(Message::Request(request)) => Err(request),
            Err(_) => unreachable!("a ring gives back what it was given"),
        }
    }

    /// Moves what waits in the outboxes into the rings as far as there is room, and wakes each peer that has news, once.
    pub fn flush(&mut self) {
        for link in self.links.iter_mut().flatten() {
            self.flight_bytes += link.flush();
        }
    }

    /// Ready when [`MeshEnd::drain`] would find something, or [`MeshEnd::flush`] could move what waits. Flushes first:
    /// a shard that sleeps on news would leave its peers asleep too.
    pub fn poll_inbound(&mut self, context: &Context<'_>) -> Poll<()> {
        self.flush();
        self.waker.register(context);
        let mut ready = false;
        for link in self.links.iter_mut().flatten() {
            ready |= link.requests_in.has_data() || link.answers_in.has_data();
            ready |= link.can_send() && link.requests_out.ask_for_room();
        }
        if ready { Poll::Ready(()) } else { Poll::Pending }
    }

    /// The peer that should get the next whole request: one with clearly fewer requests in hand while this shard has
    /// many, or a clearly less busy one while this shard is busy. Otherwise handing it over would not pay.
    pub fn relief(&self) -> Option<usize> {
        let link = |peer: usize| self.links[peer].as_ref();
        let sent = |peer| link(peer).map_or(0, |link| link.requests.unanswered);
        let peer = self.loads.emptier(|peer| sent(peer) as u64).or_else(|| {
            let peer = self.loads.least_busy(|peer| sent(peer) as f64 * REQUEST_SHARE)?;
            // A busy shard that hands everything over would end up with less in its hands than those it relieves.
            let is_fair = self.loads.in_hand(peer).max(sent(peer) as u64) <= self.loads.in_hand(self.shard);
            (is_fair && self.loads.relieves(peer)).then_some(peer)
        })?;
        link(peer)?.requests.is_open().then_some(peer)
    }

    /// Frees what was not needed for a while. Called now and then; `now_ns` is the monotonic clock.
    pub fn shrink(&mut self, now_ns: u64) {
        self.shells.shrink(now_ns);
    }

    /// How busy the shards are.
    pub fn loads(&mut self) -> &mut Loads {
        &mut self.loads
    }

    /// Whether nothing is under way: no parcel waits, all that was sent is answered, and so is all that was asked. Once
    /// no shard routes and all are idle, the rings are empty.
    pub fn is_idle(&self) -> bool {
        self.links.iter().flatten().all(Link::is_idle)
    }

    /// Memory of all parcels of this shard: waiting, in flight, and kept for reuse.
    pub fn held_bytes(&self) -> usize {
        let waiting = self.links.iter().flatten().flat_map(|link| &link.outbox);
        let others = self.links.iter().flatten().flat_map(|link| &link.others_waiting);
        let others: usize = others.map(points_bytes).sum();
        self.shells.bytes + self.flight_bytes + others + waiting.map(|parcel| parcel.own_bytes()).sum::<usize>()
    }

    /// Spans that wait at this shard for room in a ring.
    pub fn spans_waiting(&self) -> usize {
        let waiting = self.links.iter().flatten().flat_map(|link| &link.outbox);
        waiting.map(|parcel| parcel.spans()).sum()
    }

    fn link(&mut self, to: usize) -> &mut Link {
        self.links[to].as_mut().expect("a shard sends to others only")
    }
}

impl std::fmt::Debug for MeshEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeshEnd").field("shard", &self.shard).field("shards", &self.shards()).finish_non_exhaustive()
    }
}

impl Shells {
    fn take(&mut self) -> Box<Parcel> {
        let Some(shell) = self.kept.pop() else { return Box::default() };
        self.bytes -= shell.own_bytes();
        self.spare = self.spare.min(self.kept.len());
        shell
    }

    fn keep(&mut self, shell: Box<Parcel>) {
        let own_bytes = shell.own_bytes();
        if self.bytes + own_bytes <= SHELL_BYTES_MAX {
            self.bytes += own_bytes;
            self.kept.push(shell);
        }
    }

    fn shrink(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.window_started_ns) < WINDOW_NS {
            return;
        }
        self.window_started_ns = now_ns;
        // The coldest lie in front.
        self.bytes -= self.kept.drain(..self.spare).map(|shell| shell.own_bytes()).sum::<usize>();
        self.spare = self.kept.len();
    }
}

impl Link {
    /// Returns the memory of the parcels that came home.
    fn drain(&mut self, from: usize, into: &mut Vec<Inbound>) -> usize {
        let mut home_bytes = 0;
        for _ in 0..WINDOWS * self.parcels.unanswered_max {
            let Some(Answer { outcome, message }) = self.answers_in.pop() else { break };
            match &message {
                Message::Parcel(parcel) => {
                    self.parcels.unanswered -= 1;
                    home_bytes += parcel.charged_bytes;
                }
                Message::Request(_) => self.requests.unanswered -= 1,
                Message::Points(_) | Message::Flush(_) | Message::GivenUp(_) => {
                    self.others.unanswered -= 1;
                    home_bytes += points_bytes(&message);
                }
            }
            into.push(Inbound::Answered { from, outcome, message });
        }
        for _ in 0..self.parcels.unanswered_max {
            let Some(message) = self.requests_in.pop() else { break };
            self.owed += 1;
            into.push(Inbound::Asked { from, message });
        }
        self.requests_in.flush();
        home_bytes
    }

    /// A new open parcel; the one before it is closed.
    fn open(&mut self, mut shell: Box<Parcel>, node: u32) {
        shell.node = node;
        self.carried = Carried::default();
        self.outbox.push_back(shell);
    }

    /// Returns the memory of the parcels that left.
    fn flush(&mut self) -> usize {
        let mut left_bytes = 0;
        while self.parcels.is_open()
            && self.requests_out.has_room()
            && let Some(mut parcel) = self.outbox.pop_front()
        {
            parcel.seal();
            left_bytes += parcel.charged_bytes;
            let pushed = self.requests_out.push(Message::Parcel(parcel));
            // There was room. A shard that is gone takes nothing, but then the process is about to stop.
            assert!(pushed.is_ok() || self.requests_out.is_closed(), "a ring with room refused a parcel");
            self.parcels.unanswered += 1;
        }
        while self.others.is_open()
            && self.requests_out.has_room()
            && let Some(message) = self.others_waiting.pop_front()
        {
            left_bytes += points_bytes(&message);
            let pushed = self.requests_out.push(message);
            assert!(pushed.is_ok() || self.requests_out.is_closed(), "a ring with room refused a message");
            self.others.unanswered += 1;
        }
        self.requests_out.flush();
        self.answers_out.flush();
        left_bytes
    }

    /// Whether something waits that only the ring holds up.
    fn can_send(&self) -> bool {
        !self.outbox.is_empty() && self.parcels.is_open() || !self.others_waiting.is_empty() && self.others.is_open()
    }

    fn is_idle(&self) -> bool {
        let unanswered = self.parcels.unanswered + self.requests.unanswered + self.others.unanswered;
        self.outbox.is_empty() && self.others_waiting.is_empty() && unanswered == 0 && self.owed == 0
    }
}

/// Memory of data points on their way; what a flush holds is charged by the shards whose series it tells.
fn points_bytes(message: &Message) -> usize {
    if let Message::Points(points) = message { points.own_bytes() } else { 0 }
}
