//! What an index holds of each span, metric and log record: where its bytes lie, and the few facts noted on the way.
//!
//! The three requests of OTLP have the same frame (resource, scope, item, with the same field numbers), so one index
//! serves them all; what differs is here: how an item's bytes are checked, what is noted of them, how many it counts as.

use std::fmt::Debug;

use super::index::Index;
use super::signal::Signal;
use super::signal_index::SignalIndex;
use crate::wire::Malformed;

/// Where an item's bytes lie, and whose it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Where the message starts in its segment (after its tag and length).
    pub offset: u32,
    /// Length of the message in bytes.
    pub length: u32,
    /// Index into [`super::Index::scopes`].
    pub scope: u32,
    /// Which segment of the batch holds the bytes.
    pub segment: u16,
}

/// The names of a request's frame in the `.proto` files, for errors.
#[derive(Clone, Copy, Debug)]
pub struct FrameNames {
    /// Field of the request.
    pub resources: &'static str,
    /// The message in it, in words.
    pub resource: &'static str,
    /// Field of that message.
    pub scopes: &'static str,
    /// The message in it, in words.
    pub scope: &'static str,
    /// Field of that message.
    pub items: &'static str,
}

/// A span, metric or log record in an index. Implemented by [`super::SpanItem`], [`super::MetricItem`] and
/// [`super::LogItem`] only.
pub trait Item: Copy + Debug + Default + PartialEq + 'static {
    /// What it is a part of.
    const SIGNAL: Signal;
    /// What its frame is called.
    const NAMES: FrameNames;

    /// Where its bytes lie.
    fn place(&self) -> Place;

    /// Says that its bytes lie somewhere else.
    fn set_place(&mut self, place: Place);

    /// How many it counts as in books and limits, at least 1: a metric counts as its data points.
    fn count(&self) -> u64;

    /// Checks the message in `bytes[start..]` completely and notes its facts in `self`; the place stays as it is.
    ///
    /// # Errors
    /// The first malformed byte, with its offset in `bytes`.
    fn read(&mut self, bytes: &[u8], start: usize) -> Result<(), Malformed>;

    /// Takes over from `old`, whose bytes were written anew, what is known of it beside its bytes.
    fn take_over(&mut self, _old: &Self) {}

    /// Forgets where its attributes lie, because they were changed; all other facts still hold.
    fn forget_attributes(&mut self) {}

    /// The index of these items, if `index` is of their signal.
    fn index_in(index: &SignalIndex) -> Option<&Index<Self>>;

    /// As [`Self::index_in`], to change it.
    fn index_in_mut(index: &mut SignalIndex) -> Option<&mut Index<Self>>;
}
