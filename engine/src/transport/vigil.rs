//! Watching one gRPC connection: when its peer is asked for a sign of life, when it has to go, when it is given up.
//!
//! ```text
//! alive --too old, too long without a call--> leaving (GOAWAY, calls finish) --grace over--> closed
//!   \---no sign of life, stopped within a frame, takes no answers--------------------------> closed
//! ```
//!
//! The one idea: the server looks at its connection in steps and says what it sees; time is the sum of the steps. So no
//! call costs a timer, and tests need no clock. A limit is met up to one step late. Never touches the connection itself.

use super::http2_guard::Fault;
use crate::config::checked::KeepaliveSettings;
use std::time::Duration;

/// How often a connection is looked at, unless a configured limit is shorter.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// However short the limits: a connection is not looked at more often than this.
const LOOK_EVERY_MIN: Duration = Duration::from_millis(10);
/// The shortest limit is looked at this often.
const LOOKS_PER_LIMIT: u32 = 4;
/// A peer that owes something and makes no progress for this long has stalled.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Bytes of a body or a frame that count as progress: with `STALL_MAX` the least speed of a peer, unless it ends.
pub const PROGRESS_BYTES_MIN: u64 = 4 << 10;
/// A connection that was told to leave and has no call left closes as soon as its peer has heard it; how long a peer
/// may take that does not listen.
const LEAVE_IDLE_MAX: Duration = Duration::from_secs(5);
/// The share of its greatest age by which a connection's own may differ.
const AGE_JITTER: f64 = 0.1;

/// How closely the connections of a server are watched.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// From one look to the next.
    pub look_every: Duration,
    /// A peer that owes something and makes no progress for this long has stalled.
    pub stall_max: Duration,
}

impl Pace {
    /// Close enough for each of these limits.
    pub fn for_limits(limits_ns: impl IntoIterator<Item = Option<u64>>) -> Pace {
        let shortest = limits_ns.into_iter().flatten().min();
        let step = shortest.map_or(LOOK_EVERY, |limit_ns| Duration::from_nanos(limit_ns) / LOOKS_PER_LIMIT);
        Pace { look_every: step.clamp(LOOK_EVERY_MIN, LOOK_EVERY), stall_max: STALL_MAX }
    }

    /// Close enough for these settings.
    pub fn for_keepalive(settings: &KeepaliveSettings) -> Pace {
        Pace::for_limits([
            settings.connection_idle_ns_max,
            settings.connection_age_ns_max,
            settings.connection_age_grace_ns,
            Some(settings.ping_after_ns),
            Some(settings.ping_timeout_ns),
        ])
    }
}

/// What a look sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Bytes read since the connection began.
    pub bytes_read: u64,
    /// Bytes written since then.
    pub bytes_written: u64,
    /// The kernel takes nothing more.
    pub write_waits: bool,
    /// Calls being served.
    pub calls: usize,
    /// Calls since the connection began, also those that began and ended between two looks.
    pub calls_begun: u64,
    /// Streams are open, with a call or with an answer that has not been taken.
    pub has_streams: bool,
    /// The peer has begun a frame and not ended it.
    pub inside_frame: bool,
}

/// What follows from a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Nothing.
    Stay,
    /// Ask for a sign of life.
    Ping,
    /// Tell the peer to open no more calls.
    Leave,
    /// End the connection.
    Close(Fault),
}

/// What is remembered of a connection between looks.
#[derive(Debug)]
pub struct Vigil {
    pace: Pace,
    limits: Limits,
    before: Sight,
    age: Duration,
    /// Without a call.
    idle: Duration,
    /// Without a byte from the peer.
    silent: Duration,
    /// Since the peer was asked for a sign of life.
    pinged: Option<Duration>,
    /// Within a frame without progress, and the bytes read when that began.
    stopped: Duration,
    stopped_at: u64,
    /// With answers that the peer does not take.
    untaken: Duration,
    /// Since the peer was told to leave, and without a call since then.
    leaving: Option<Duration>,
    leaving_idle: Duration,
}

#[derive(Debug)]
struct Limits {
    idle_max: Option<Duration>,
    age_max: Option<Duration>,
    grace: Option<Duration>,
    ping_after: Duration,
    ping_timeout: Duration,
}

impl Vigil {
    /// Watches by these settings. `chance` from 0 to 1 spreads the ages of connections.
    pub fn new(settings: &KeepaliveSettings, pace: Pace, chance: f64) -> Vigil {
        let jitter = 1.0 + AGE_JITTER * (2.0 * chance - 1.0);
        let limits = Limits {
            idle_max: settings.connection_idle_ns_max.map(Duration::from_nanos),
            age_max: settings.connection_age_ns_max.map(|age| Duration::from_nanos(age).mul_f64(jitter)),
            grace: settings.connection_age_grace_ns.map(Duration::from_nanos),
            ping_after: Duration::from_nanos(settings.ping_after_ns),
            ping_timeout: Duration::from_nanos(settings.ping_timeout_ns),
        };
        Vigil {
            pace,
            limits,
            before: Sight::default(),
            age: Duration::ZERO,
            idle: Duration::ZERO,
            silent: Duration::ZERO,
            pinged: None,
            stopped: Duration::ZERO,
            stopped_at: 0,
            untaken: Duration::ZERO,
            leaving: None,
            leaving_idle: Duration::ZERO,
        }
    }

    /// The connection was told to leave for a reason of somebody else's.
    pub fn leave(&mut self) {
        self.leaving.get_or_insert(Duration::ZERO);
    }

    /// Whether it was told to leave.
    pub fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    /// Whether nobody has called for a whole step.
    pub fn is_idle(&self) -> bool {
        !self.idle.is_zero()
    }

    /// One step has passed, and this is how the connection stands.
    pub fn look(&mut self, now: Sight) -> Order {
        let before = std::mem::replace(&mut self.before, now);
        self.count(before, now);
        if self.stopped >= self.pace.stall_max || self.untaken >= self.pace.stall_max {
            return Order::Close(Fault::Stalled);
        }
        if self.pinged.is_some_and(|since| since >= self.limits.ping_timeout) || self.has_overstayed() {
            return Order::Close(Fault::Gone);
        }
        if self.leaving.is_none()
            && (reached(self.age, self.limits.age_max) || reached(self.idle, self.limits.idle_max))
        {
            self.leave();
            return Order::Leave;
        }
        if self.pinged.is_none() && self.silent >= self.limits.ping_after {
            self.pinged = Some(Duration::ZERO);
            return Order::Ping;
        }
        Order::Stay
    }

    /// Adds the step to whatever lasts.
    fn count(&mut self, before: Sight, now: Sight) {
        let step = self.pace.look_every;
        let lasting = |lasts: bool, so_far: Duration| if lasts { so_far + step } else { Duration::ZERO };
        self.age += step;
        self.idle = lasting(now.calls == 0 && now.calls_begun == before.calls_begun, self.idle);
        let silent = now.bytes_read == before.bytes_read;
        self.silent = lasting(silent, self.silent);
        self.pinged = self.pinged.filter(|_| silent).map(|since| since + step);
        let progress = !now.inside_frame || now.bytes_read - self.stopped_at >= PROGRESS_BYTES_MIN;
        self.stopped = lasting(!progress, self.stopped);
        if progress {
            self.stopped_at = now.bytes_read;
        }
        let untaken = now.write_waits || (now.calls == 0 && now.has_streams);
        self.untaken = lasting(untaken && now.bytes_written == before.bytes_written, self.untaken);
        self.leaving = self.leaving.map(|since| since + step);
        self.leaving_idle = lasting(self.leaving.is_some() && now.calls == 0, self.leaving_idle);
    }

    fn has_overstayed(&self) -> bool {
        let Some(since) = self.leaving else { return false };
        reached(since, self.limits.grace) || self.leaving_idle >= LEAVE_IDLE_MAX.min(self.pace.stall_max)
    }
}

fn reached(time: Duration, limit: Option<Duration>) -> bool {
    limit.is_some_and(|limit| time >= limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);
    const PACE: Pace = Pace { look_every: SECOND, stall_max: STALL_MAX };

    /// A connection that is seen like this each second: the second in which there was an order, and which.
    fn first_order(settings: &KeepaliveSettings, sight: impl Fn(u64) -> Sight) -> Option<(u64, Order)> {
        let mut vigil = Vigil::new(settings, PACE, 0.5);
        (1..=100_000).map(|second| (second, vigil.look(sight(second)))).find(|(_, order)| *order != Order::Stay)
    }

    fn busy(second: u64) -> Sight {
        Sight { bytes_read: second * 9, bytes_written: second * 9, calls: 1, has_streams: true, ..Sight::default() }
    }

    #[test]
    fn a_connection_that_lives_stays_for_ever() {
        assert_eq!(first_order(&KeepaliveSettings::default(), busy), None);
    }

    #[test]
    fn an_old_connection_leaves_whatever_it_does() {
        let settings = KeepaliveSettings { connection_age_ns_max: Some(60 * SECOND_NS), ..Default::default() };
        assert_eq!(first_order(&settings, busy), Some((60, Order::Leave)));
    }

    #[test]
    fn ages_differ_by_a_tenth() {
        let settings = KeepaliveSettings { connection_age_ns_max: Some(100 * SECOND_NS), ..Default::default() };
        for (chance, expected) in [(0.0, 90), (0.5, 100), (1.0, 110)] {
            let mut vigil = Vigil::new(&settings, PACE, chance);
            let left = (1..200).find(|second| vigil.look(busy(*second)) == Order::Leave);
            assert!(left.is_some_and(|second: u64| second.abs_diff(expected) <= 1), "{left:?} instead of {expected}");
        }
    }

    #[test]
    fn a_connection_without_calls_leaves_and_a_call_starts_anew() {
        let settings = KeepaliveSettings { connection_idle_ns_max: Some(10 * SECOND_NS), ..Default::default() };
        let quiet = |second| Sight { calls: 0, has_streams: false, ..busy(second) };
        assert_eq!(first_order(&settings, quiet), Some((10, Order::Leave)));
        assert_eq!(first_order(&settings, |second| if second == 8 { busy(8) } else { quiet(second) }).unwrap().0, 18);
        assert_eq!(first_order(&settings, busy), None);
    }

    #[test]
    fn short_calls_between_two_looks_are_calls() {
        let settings = KeepaliveSettings { connection_idle_ns_max: Some(10 * SECOND_NS), ..Default::default() };
        let short = |second| Sight { calls: 0, calls_begun: second, has_streams: false, ..busy(second) };
        assert_eq!(first_order(&settings, short), None);
    }

    #[test]
    fn a_silent_peer_is_asked_and_given_up() {
        let settings =
            KeepaliveSettings { ping_after_ns: 5 * SECOND_NS, ping_timeout_ns: 3 * SECOND_NS, ..Default::default() };
        let mut vigil = Vigil::new(&settings, PACE, 0.5);
        let silent = Sight { bytes_read: 7, ..Sight::default() };
        let mut orders: Vec<Order> = (0..10).map(|_| vigil.look(silent)).collect();
        orders.dedup();
        let gone = Order::Close(Fault::Gone);
        assert_eq!(orders[..4], [Order::Stay, Order::Ping, Order::Stay, gone]);
    }

    #[test]
    fn a_peer_that_answers_a_ping_lives() {
        let settings =
            KeepaliveSettings { ping_after_ns: 5 * SECOND_NS, ping_timeout_ns: 3 * SECOND_NS, ..Default::default() };
        let mut vigil = Vigil::new(&settings, PACE, 0.5);
        let mut bytes_read = 0;
        for _ in 0..1000 {
            let order = vigil.look(Sight { bytes_read, ..Sight::default() });
            assert!(matches!(order, Order::Stay | Order::Ping), "{order:?}");
            bytes_read += 17 * u64::from(order == Order::Ping);
        }
        assert!(bytes_read > 100 * 17);
    }

    #[test]
    fn a_connection_that_leaves_is_closed_when_its_grace_is_over() {
        let settings = KeepaliveSettings {
            connection_age_ns_max: Some(10 * SECOND_NS),
            connection_age_grace_ns: Some(20 * SECOND_NS),
            ..Default::default()
        };
        let mut vigil = Vigil::new(&settings, PACE, 0.5);
        let closed = (1..100).find(|second| vigil.look(busy(*second)) == Order::Close(Fault::Gone));
        assert_eq!(closed, Some(30));
    }

    #[test]
    fn a_peer_that_does_not_hear_that_it_has_to_leave_is_closed() {
        let mut vigil = Vigil::new(&KeepaliveSettings::default(), PACE, 0.5);
        vigil.leave();
        let idle = |second| Sight { calls: 0, ..busy(second) };
        assert_eq!((1..100).find(|second| vigil.look(idle(*second)) == Order::Close(Fault::Gone)), Some(5));
    }

    #[test]
    fn a_peer_that_stops_or_dribbles_within_a_frame_has_stalled() {
        let stalled = Some((30, Order::Close(Fault::Stalled)));
        let settings = KeepaliveSettings::default();
        let inside = |bytes_read| Sight { bytes_read, inside_frame: true, ..Sight::default() };
        assert_eq!(first_order(&settings, |_| inside(0)), stalled);
        assert_eq!(first_order(&settings, inside), stalled, "a byte a second");
        assert_eq!(first_order(&settings, |second| inside(second * PROGRESS_BYTES_MIN / 29)), None);
    }

    #[test]
    fn a_peer_that_takes_no_answers_has_stalled() {
        let stalled = Some((30, Order::Close(Fault::Stalled)));
        let settings = KeepaliveSettings::default();
        let sending = |second| Sight { bytes_read: second, bytes_written: 7, ..Sight::default() };
        let full = |second| Sight { write_waits: true, calls: 3, ..sending(second) };
        assert_eq!(
            first_order(&settings, full).map(|(_, order)| order),
            stalled.map(|(_, order)| order),
            "never reads"
        );
        let window = |second| Sight { has_streams: true, ..sending(second) };
        assert_eq!(
            first_order(&settings, window).map(|(_, order)| order),
            stalled.map(|(_, order)| order),
            "no window"
        );
    }

    #[test]
    fn short_limits_are_looked_at_often_and_long_ones_seldom() {
        let pace = |limit_ns| Pace::for_limits([None, Some(limit_ns)]).look_every;
        assert_eq!(pace(SECOND_NS), Duration::from_millis(250));
        assert_eq!(pace(1), LOOK_EVERY_MIN);
        assert_eq!(pace(7200 * SECOND_NS), LOOK_EVERY);
    }
}
