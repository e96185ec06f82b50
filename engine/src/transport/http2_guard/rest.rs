//! How an HTTP/2 connection rests: without h2 while nobody calls, and with another one when somebody does.
//!
//! ```text
//! awake --idle--> asking --answer--> agreed --h2 dropped--> resting --a call, a drain--> telling --> restoring --> awake
//!          SETTINGS: no table                  pings answered            the new h2 hears    SETTINGS: a table
//!                                                                        what the old knew
//! ```
//!
//! h2 keeps some 36 KiB for a connection however idle it is: buffers, tables, the handshake's leftovers. Most connections
//! are idle most of the time, so an idle one keeps what another h2 has to know, and no h2:
//!
//! - the peer's table for compressing headers is emptied first, by asking it to use none (RFC 7541, 4.2); ours needs
//!   nothing, for entries are numbered from the newest, so that an encoder that has forgotten the old ones names none;
//! - the peer's SETTINGS and their answer are told to the new h2 as if they came again;
//! - what the new h2 says at first, its SETTINGS, its answer and its window, the peer has heard before: SETTINGS that allow
//!   a table again go out in place of the first, nothing in place of the second, the difference in place of the third.
//!
//! Imperfect: the window that the peer has opened to us begins at 65,535 bytes for the new h2, where as little as half
//! may be left. An answer takes five of them, and peers open it again when half is gone.
//!
//! Never judges a frame, never changes one of a call.

use super::frames::{HEAD_BYTES, Head, PREFACE, Settings, WINDOW_BYTES_FIRST, put_frame};
use super::{Guarded, Line};
use bytes::{Buf, Bytes};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Read at once from a resting peer: a few frames that need no h2, or the beginning of a call.
const RESTING_READ_BYTES: usize = 64;
/// A connection whose peer lets us send less than this does not rest.
const SEND_WINDOW_BYTES_MIN: u64 = WINDOW_BYTES_FIRST / 2;
/// Length of a PING's payload (RFC 9113, 6.7).
const PING_BYTES: usize = 8;
/// Length of the payload of RST_STREAM and WINDOW_UPDATE.
const NUMBER_BYTES: usize = 4;
/// Length of the payload of PRIORITY.
const PRIORITY_BYTES: usize = 5;

/// What becomes of a resting connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waking {
    /// h2 is needed.
    Wake,
    /// The peer has gone.
    Gone,
}

/// Where a connection is between awake and resting, and what waits on the way.
#[derive(Debug, Default)]
pub struct Rest {
    course: Course,
    /// Frames of ours, for the next place between two of h2's.
    own: Vec<u8>,
    /// Bytes that were read and not given to h2.
    held: Vec<u8>,
}

#[derive(Debug, Default)]
enum Course {
    /// Bytes pass as they are.
    #[default]
    Awake,
    /// The peer was told to use no table, and has not answered.
    Asking,
    /// It uses none.
    Agreed,
    /// A new h2 hears what the one before knew, and nothing else until it has said its first words.
    Telling { told: Bytes, first: FirstWords },
    /// The peer was told that it may use a table again, and has not answered.
    Restoring,
}

/// The frames with which h2 begins, as far as they have been kept from the peer.
#[derive(Debug, Default)]
struct FirstWords {
    settings: bool,
    answer: bool,
    window: bool,
    /// Bytes of such a frame that are still to come.
    left: usize,
}

impl Rest {
    /// Whether every byte goes straight from the socket to h2.
    pub fn is_out_of_the_way(&self) -> bool {
        self.held.is_empty() && !self.awaits_answer()
    }

    /// Tells h2 what it has to know; `false`: nothing is left of that.
    pub fn tell(&mut self, buffer: &mut ReadBuf<'_>) -> bool {
        let Course::Telling { told, .. } = &mut self.course else { return false };
        let count = told.len().min(buffer.remaining());
        buffer.put_slice(&told[..count]);
        told.advance(count);
        count > 0
    }

    /// Whether h2 has not said its first words yet.
    pub fn is_telling(&self) -> bool {
        matches!(self.course, Course::Telling { .. })
    }

    fn awaits_answer(&self) -> bool {
        matches!(self.course, Course::Asking | Course::Restoring)
    }

    fn answered(&mut self) {
        self.course = match self.course {
            Course::Asking => Course::Agreed,
            _ => Course::Awake,
        };
    }

    fn put_own(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        put_frame(&mut self.own, Head { kind, flags, stream: 0 }, payload);
    }

    fn put_table(&mut self, bytes: u32) {
        self.put_own(Head::SETTINGS, 0, &Settings::entry(Settings::TABLE_BYTES, bytes));
    }
}

/// What a server asks of a connection that is idle.
impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    /// Nobody has called for a while: begins to ask the peer, unless it was asked, or owes an answer, or cannot rest.
    pub fn ask_for_rest(&self) {
        let mut line = self.0.borrow_mut();
        let (theirs, ours) = (line.incoming.said(), line.outgoing.said());
        let settled = theirs.settings_answers == ours.settings_frames && !theirs.settings.table_has_changed();
        let awake = matches!(line.rest.course, Course::Awake);
        if awake && settled && !line.incoming.is_inside() && theirs.settings_frames > 0 {
            line.rest.course = Course::Asking;
            line.rest.put_table(0);
        }
    }

    /// Whether h2 may be dropped, as far as this side of it knows.
    pub fn may_rest(&self) -> bool {
        let line = self.0.borrow();
        let between = !line.incoming.is_inside() && line.outgoing.to_boundary() == 0;
        let nothing_waits = line.rest.held.is_empty() && line.rest.own.is_empty();
        matches!(line.rest.course, Course::Agreed)
            && between
            && nothing_waits
            && line.send_window_bytes() >= SEND_WINDOW_BYTES_MIN
    }

    /// Rests, without h2: answers pings until the peer says something else or goes.
    pub fn poll_rest(&self, context: &mut Context<'_>) -> Poll<Waking> {
        self.0.borrow_mut().poll_rest(context)
    }

    /// Asks a resting peer for a sign of life.
    pub fn ping(&self) {
        self.0.borrow_mut().rest.put_own(Head::PING, 0, &[0; PING_BYTES]);
    }

    /// Says the last words to a resting peer, if it takes them.
    pub async fn say_last_words(&self) {
        // The connection ends either way.
        drop(poll_fn(|context| self.0.borrow_mut().poll_last_words(context, &[])).await);
    }

    /// The bytes from now on are those of a new h2.
    pub fn wake(&self) {
        let mut line = self.0.borrow_mut();
        let mut told = PREFACE.to_vec();
        let settings = Head { kind: Head::SETTINGS, flags: 0, stream: 0 };
        put_frame(&mut told, settings, &line.incoming.said().settings.payload());
        put_frame(&mut told, Head { flags: Head::ACK, ..settings }, &[]);
        line.rest.course = Course::Telling { told: told.into(), first: FirstWords::default() };
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Guarded<S> {
    /// Bytes of bodies that we may still send.
    fn send_window_bytes(&self) -> u64 {
        (WINDOW_BYTES_FIRST + self.incoming.said().window_bytes).saturating_sub(self.outgoing.said().data_bytes)
    }

    /// Bytes of bodies that the peer may still send.
    fn receive_window_bytes(&self) -> u64 {
        (WINDOW_BYTES_FIRST + self.outgoing.said().window_bytes).saturating_sub(self.incoming.said().data_bytes)
    }

    /// Writes what is ours, where a frame of h2's may follow.
    pub(super) fn poll_own(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.rest.own.is_empty() && self.outgoing.to_boundary() == 0 {
            let count = ready!(Pin::new(&mut self.socket).poll_write(context, &self.rest.own))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.rest.own.drain(..count);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads, where an answer to our own SETTINGS may be among the bytes, of which h2 knows nothing. A head that came only
    /// in part is held back until it is whole.
    pub(super) fn poll_sifted(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            if self.rest.held.is_empty() {
                ready!(Pin::new(&mut self.socket).poll_read(context, buffer))?;
                let read = &mut buffer.filled_mut()[before..];
                let (count, kept) = (read.len(), self.sift(read));
                buffer.set_filled(before + kept);
                if kept > 0 || count == 0 {
                    return Poll::Ready(Ok(()));
                }
            } else if self.may_give_held() {
                let mut held = std::mem::take(&mut self.rest.held);
                let count = held.len().min(buffer.remaining());
                self.scan_read(&held[..count]);
                buffer.put_slice(&held[..count]);
                held.drain(..count);
                self.rest.held = held;
                return Poll::Ready(Ok(()));
            } else if ready!(self.poll_head(context))? == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Whether what is held is not the beginning of an answer to us.
    fn may_give_held(&self) -> bool {
        let begins = self.rest.awaits_answer() && self.incoming.to_boundary() == 0;
        !begins || self.rest.held.len() >= HEAD_BYTES
    }

    /// Reads more of the head that is held in part; how many bytes came.
    fn poll_head(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let (held, mut room) = (self.rest.held.len(), [0; HEAD_BYTES]);
        let mut buffer = ReadBuf::new(&mut room[held..]);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
        self.rest.held.extend_from_slice(buffer.filled());
        if is_answer(&self.rest.held) {
            self.rest.held.clear();
            self.rest.answered();
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Takes the answer to us out of what was read; how many bytes are left, at the front.
    fn sift(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let left = &bytes[at..];
            let inside = self.incoming.to_boundary();
            let count = if !self.rest.awaits_answer() {
                left.len()
            } else if inside > 0 {
                inside.min(left.len())
            } else if is_answer(left) {
                self.rest.answered();
                at += HEAD_BYTES;
                continue;
            } else if left.len() < HEAD_BYTES {
                self.rest.held.extend_from_slice(left);
                break;
            } else {
                HEAD_BYTES
            };
            self.scan_read(&left[..count]);
            bytes.copy_within(at..at + count, kept);
            (at, kept) = (at + count, kept + count);
        }
        kept
    }

    /// Writes for an h2 that is being told: its first words do not reach the peer.
    pub(super) fn poll_write_telling(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let inside = self.outgoing.to_boundary();
        if inside > 0 {
            return self.poll_write_through(context, &bytes[..inside.min(bytes.len())]);
        }
        if let Some(count) = self.keep_from_peer(bytes)? {
            if !self.rest.is_telling() {
                // What the peer has said is read again.
                context.waker().wake_by_ref();
            }
            return Poll::Ready(Ok(count));
        }
        let (_, length) = Head::read(bytes).ok_or(io::ErrorKind::InvalidData)?;
        self.poll_write_through(context, &bytes[..bytes.len().min(HEAD_BYTES + length)])
    }

    /// Keeps the first of h2's bytes from the peer if they are its first words; how many they are.
    fn keep_from_peer(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let known_bytes = self.receive_window_bytes();
        let Course::Telling { first, .. } = &mut self.rest.course else { return Ok(None) };
        if first.left == 0 {
            // h2 encodes a frame at once, so that as much as matters here is always in one piece.
            let (head, length) = Head::read(bytes).ok_or(io::ErrorKind::InvalidData)?;
            let kept = match head.kind {
                Head::SETTINGS if head.answers_settings() => &mut first.answer,
                Head::SETTINGS => &mut first.settings,
                Head::WINDOW_UPDATE if head.stream == 0 => &mut first.window,
                _ => return Ok(None),
            };
            if std::mem::replace(kept, true) {
                return Ok(None);
            }
            first.left = HEAD_BYTES + length;
            match head.kind {
                Head::WINDOW_UPDATE => {
                    let number = bytes.get(HEAD_BYTES..).and_then(<[u8]>::first_chunk);
                    let opened = u32::from_be_bytes(*number.ok_or(io::ErrorKind::InvalidData)?);
                    self.open_window((WINDOW_BYTES_FIRST + u64::from(opened)).saturating_sub(known_bytes));
                }
                _ if !head.answers_settings() => self.rest.put_table(Settings::TABLE_BYTES_FIRST),
                _ => {}
            }
        }
        let Course::Telling { first, told } = &mut self.rest.course else { return Ok(None) };
        let count = first.left.min(bytes.len());
        first.left -= count;
        if first.left == 0 && first.settings && first.answer && first.window && told.is_empty() {
            self.rest.course = Course::Restoring;
        }
        Ok(Some(count))
    }

    /// Lets the peer send this much more.
    fn open_window(&mut self, bytes: u64) {
        let Ok(increment) = u32::try_from(bytes) else { return };
        if increment > 0 {
            self.rest.put_own(Head::WINDOW_UPDATE, 0, &increment.to_be_bytes());
            self.outgoing.open_window(bytes);
        }
    }

    fn poll_rest(&mut self, context: &mut Context<'_>) -> Poll<Waking> {
        loop {
            if ready!(self.poll_own(context)).is_err() {
                return Poll::Ready(Waking::Gone);
            }
            if self.take_small_frames() == Small::NeedsMore || self.guard.fault().is_some() {
                return Poll::Ready(Waking::Wake);
            }
            if !self.rest.own.is_empty() {
                continue;
            }
            let mut room = [0; RESTING_READ_BYTES];
            let mut buffer = ReadBuf::new(&mut room);
            let read = ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Waking::Gone);
            }
            self.rest.held.extend_from_slice(buffer.filled());
        }
    }

    /// Takes from what is held the frames that need no h2: signs of life, and what concerns streams that have ended.
    fn take_small_frames(&mut self) -> Small {
        while let Some((head, length)) = Head::read(&self.rest.held) {
            let has_ended = head.stream <= self.guard.last_stream.get();
            let is_small = match head.kind {
                Head::PING => head.stream == 0 && length == PING_BYTES,
                Head::WINDOW_UPDATE => length == NUMBER_BYTES && has_ended,
                Head::RST_STREAM => length == NUMBER_BYTES && has_ended && head.stream > 0,
                Head::PRIORITY => length == PRIORITY_BYTES && head.stream > 0,
                _ => false,
            };
            if !is_small {
                return Small::NeedsMore;
            }
            if self.rest.held.len() < HEAD_BYTES + length {
                break;
            }
            let frame: Vec<u8> = self.rest.held.drain(..HEAD_BYTES + length).collect();
            self.scan_read(&frame);
            if head.kind == Head::PING && head.flags & Head::ACK == 0 {
                self.rest.put_own(Head::PING, Head::ACK, &frame[HEAD_BYTES..]);
            }
        }
        self.guard.inside_frame.set(!self.rest.held.is_empty());
        Small::Taken
    }
}

/// What a resting connection could do without h2.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Small {
    Taken,
    NeedsMore,
}

/// Whether `bytes` begin with a whole answer to SETTINGS.
fn is_answer(bytes: &[u8]) -> bool {
    Head::read(bytes).is_some_and(|(head, length)| head.answers_settings() && length == 0)
}
