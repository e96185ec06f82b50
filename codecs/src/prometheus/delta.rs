//! From deltas to the totals that Prometheus takes: what was added to each series so far.
//!
//! ```text
//! point that says what is new --series--> stream: total, since when, until when --> the same point, saying everything
//! ```
//!
//! The one idea: a stream belongs to a series, by its name and labels, so whoever writes the series adds to one total. It
//! outlives the label cache, whose numbers it does not know. Streams are bounded in number, and one to which nothing was
//! added for long is forgotten: its series begins anew at zero, with a later start. Time is given. Points that are older
//! than what their stream has are left out, because nobody could tell what they were already counted in.

use std::collections::HashMap;

use super::counts::DropReason;
use super::delta_exponential::Exponential;
use super::point::{Kind, Lists, Point};

/// How deltas become totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeltaSettings {
    /// Series that are kept at the same time; of others points are dropped.
    pub streams_max: usize,
    /// A series to which nothing was added for so many nanoseconds is forgotten; 0: never.
    pub stale_ns: u64,
}

/// All streams of a translator.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    settings: DeltaSettings,
    streams: HashMap<Box<[u8]>, Stream>,
    /// Memory, about.
    bytes: usize,
    now_ns: u64,
    swept_ns: u64,
}

#[derive(Clone, Debug)]
struct Stream {
    start_ns: u64,
    /// Time of the newest point.
    last_ns: u64,
    /// When something was last added, by the clock of the caller.
    used_ns: u64,
    total: Total,
}

#[derive(Clone, Debug)]
enum Total {
    Number(f64),
    /// One count more than bounds, or neither.
    Histogram {
        count: u64,
        sum: Option<f64>,
        bounds: Box<[f64]>,
        counts: Box<[u64]>,
    },
    Exponential(Box<Exponential>),
}

impl Total {
    /// Of the first point.
    fn of(kind: Kind, point: &Point, lists: &Lists) -> Result<Self, DropReason> {
        Ok(match (kind, point.value) {
            (Kind::Exponential, _) => {
                let mut total = Exponential::like(point);
                // What no total may count is no point of one either.
                if !total.add(point, lists)? {
                    return Err(DropReason::Buckets);
                }
                Self::Exponential(Box::new(total))
            }
            (_, Some(value)) => Self::Number(value),
            (_, None) => Self::Histogram {
                count: point.count,
                sum: finite(point.sum),
                bounds: lists.bounds.as_slice().into(),
                counts: lists.counts.as_slice().into(),
            },
        })
    }

    /// Adds a point. Returns whether it could: a histogram with other bounds is another one.
    fn add(&mut self, kind: Kind, point: &Point, lists: &Lists) -> Result<bool, DropReason> {
        match (self, point.value) {
            (Self::Exponential(total), _) if kind == Kind::Exponential => return total.add(point, lists),
            (Self::Number(total), Some(value)) => *total += value,
            (Self::Histogram { count, sum, bounds, counts }, None)
                if kind != Kind::Exponential && **bounds == lists.bounds[..] && counts.len() == lists.counts.len() =>
            {
                *count = count.saturating_add(point.count);
                *sum = sum.zip(finite(point.sum)).map(|(sum, more)| sum + more);
                counts.iter_mut().zip(&lists.counts).for_each(|(count, more)| *count = count.saturating_add(*more));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn write(&self, point: &mut Point, lists: &mut Lists) {
        match self {
            Self::Number(total) => point.value = Some(*total),
            Self::Exponential(total) => total.write(point, lists),
            Self::Histogram { count, sum, counts, .. } => {
                (point.count, point.sum) = (*count, *sum);
                lists.counts.clear();
                lists.counts.extend_from_slice(counts);
            }
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::Exponential(total) => size_of::<Exponential>() + total.bytes(),
            Self::Histogram { bounds, counts, .. } => 8 * (bounds.len() + counts.len()),
        }
    }
}

/// What is no number would stay in a total for ever.
fn finite(sum: Option<f64>) -> Option<f64> {
    sum.filter(|sum| sum.is_finite())
}

impl Streams {
    pub(super) fn new(settings: DeltaSettings) -> Self {
        Self { settings, streams: HashMap::new(), bytes: 0, now_ns: 0, swept_ns: 0 }
    }

    /// What follows is added at this time. Streams that are stale by now are forgotten.
    pub(super) fn at(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        let stale_ns = self.settings.stale_ns;
        // Looked at several times within the age, so that none is kept for much longer.
        if stale_ns == 0 || now_ns.saturating_sub(self.swept_ns) < stale_ns / 4 {
            return;
        }
        self.swept_ns = now_ns;
        let bytes = &mut self.bytes;
        self.streams.retain(|key, stream| {
            let is_kept = now_ns.saturating_sub(stream.used_ns) <= stale_ns;
            *bytes -= if is_kept { 0 } else { held_bytes(key, stream) };
            is_kept
        });
    }

    /// Adds a point that was checked, with finite numbers, to its series and makes it say everything so far.
    ///
    /// # Errors
    /// The point is not newer than the one before, there is no room for another series, or its buckets are too far apart.
    pub(super) fn add(
        &mut self,
        series: &[u8],
        kind: Kind,
        point: &mut Point,
        lists: &mut Lists,
    ) -> Result<(), DropReason> {
        let start_ns = if point.start_ns == 0 { point.time_ns } else { point.start_ns };
        let used_ns = self.now_ns;
        let anew = || {
            let total = Total::of(kind, point, lists)?;
            Ok(Stream { start_ns, last_ns: point.time_ns, used_ns, total })
        };
        let is_full = self.streams.len() >= self.settings.streams_max;
        let stream = match self.streams.get_mut(series) {
            Some(stream) if point.time_ns <= stream.last_ns || start_ns < stream.start_ns => {
                return Err(DropReason::DeltaOrder);
            }
            Some(stream) => {
                let before = stream.total.bytes();
                if stream.total.add(kind, point, lists)? {
                    (stream.last_ns, stream.used_ns) = (point.time_ns, used_ns);
                } else {
                    *stream = anew()?;
                }
                self.bytes = self.bytes - before + stream.total.bytes();
                stream
            }
            None if is_full => return Err(DropReason::DeltaLimit),
            None => {
                let stream = anew()?;
                self.bytes += held_bytes(series, &stream);
                self.streams.entry(series.into()).or_insert(stream)
            }
        };
        point.start_ns = stream.start_ns;
        stream.total.write(point, lists);
        Ok(())
    }

    /// The series has ended.
    pub(super) fn end(&mut self, series: &[u8]) {
        if let Some((key, stream)) = self.streams.remove_entry(series) {
            self.bytes -= held_bytes(&key, &stream);
        }
    }

    /// Memory in bytes.
    pub(super) fn bytes_used(&self) -> usize {
        self.bytes
    }
}

fn held_bytes(series: &[u8], stream: &Stream) -> usize {
    // An entry of the table and its slack, and two allocations.
    series.len() + stream.total.bytes() + 3 * size_of::<(Box<[u8]>, Stream)>() / 2 + 32
}
