//! `filter`: drops spans and events of spans, metrics and data points, and log records on conditions.
//!
//! The one idea: in the Collector each group of conditions walks the whole payload. What a group does to an item depends on
//! that item, its resource and its scope alone, so one walk that asks the groups in order does the same; what a group says
//! of a resource or scope is asked once and remembered until the walk leaves it. Parts (events, data
//! points) that were dropped are seen as gone by later groups. A metric that loses its last point goes with it.

use super::Turn;
use super::context::{asked, environment, tell_sender};
use super::failure::{Failure, Failures, guarded, no_item};
use crate::config::checked::{ConditionGroup, ErrorMode, FilterSettings};
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Order, Rewriter, Rewriters, Rewritten, pass_on};
use crate::shard::buffers::Buffers;
use crate::telemetry::metrics::FilterSeries;
use codecs::otlp::{LogItem, MetricItem, Signal, SpanItem, item_bytes};
use ottl::{Ask, Child, Condition, Context, Environment, Fault, Selection, WireItem, rewrite_parts};

/// A condition's failures are logged at most this often.
const LOGGED_EVERY_NS: u64 = 10_000_000_000;

/// One `filter` processor on one shard.
#[derive(Debug)]
pub struct Filter {
    groups: Vec<Group>,
    /// Items that it does not select are dropped.
    keeps: Option<Selection>,
    environment: Environment,
    /// What the conditions ask of a batch's sender.
    asks: Vec<Ask>,
    /// Reused between batches.
    item: WireItem<'static>,
    order: Order,
    rewriters: Rewriters,
    series: FilterSeries,
    failures: Failures,
    items_dropped: u64,
    /// Of the batch under way.
    faults: Faults,
    /// When a failure was logged last.
    logged_ns: Option<u64>,
}

/// Conditions of one context, one of which must be true.
#[derive(Debug)]
struct Group {
    context: Context,
    conditions: Vec<Condition>,
    error_mode: ErrorMode,
    /// What it said of the resource or scope that the walk is in.
    remembered: Option<bool>,
}

/// Conditions that could not be answered.
#[derive(Debug, Default)]
struct Faults {
    count: u64,
    /// The first that is to be logged.
    first: Option<String>,
}

impl Filter {
    /// Reads the conditions again, which are for pipelines of `signal`: what they become belongs to one shard.
    pub fn new(signal: Signal, settings: &FilterSettings, series: FilterSeries, failures: Failures) -> Filter {
        let groups: Vec<Group> = settings.groups.iter().map(Group::new).collect();
        let asks = asked(groups.iter().flat_map(|group| &group.conditions).map(Condition::asks));
        Filter {
            groups,
            asks,
            keeps: settings.keeps_of(signal).cloned(),
            environment: environment(),
            item: WireItem::new(signal),
            order: Order::default(),
            rewriters: Rewriters::default(),
            series,
            failures,
            items_dropped: 0,
            faults: Faults::default(),
            logged_ns: None,
        }
    }

    /// Drops what the conditions say and passes on what is left.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        self.environment.now_unix_ns = turn.clock.unix_ns();
        tell_sender(&mut self.environment.sender, &self.asks, batch.client.as_deref());
        let walk = guarded(|| match batch.index.signal() {
            Signal::Traces => self.walk::<SpanItem>(turn.buffers, &batch),
            Signal::Metrics => self.walk::<MetricItem>(turn.buffers, &batch),
            Signal::Logs => self.walk::<LogItem>(turn.buffers, &batch),
        });
        self.show(turn);
        if let Err(failure) = walk {
            self.rewriters.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        let dropped = self.rewriters.apply(&mut batch);
        self.items_dropped += dropped;
        turn.cells.add(self.series.items_filtered, dropped);
        pass_on(turn, batch, out);
    }

    fn walk<I: Rewritten>(&mut self, buffers: &Buffers, batch: &Batch) -> Result<(), Failure> {
        let Filter { groups, keeps, environment, item, order, rewriters, faults, .. } = self;
        let item = std::mem::take(item).recycle();
        let mut walk = Walk { batch, buffers, groups, environment, item, faults, rewriter: I::rewriter(rewriters) };
        let (mut resource, mut scope) = (None, None);
        let index = batch.index_of::<I>();
        let level = Context::of_items(I::SIGNAL);
        for &number in order.of(index) {
            let item = &index.items[number as usize];
            let in_scope = item.place().scope;
            let of_scope = index.scopes[in_scope as usize].resource;
            if resource != Some(of_scope) {
                resource = Some(of_scope);
                walk.item.begin_resource(index.resource_envelope(in_scope));
                walk.forget(Context::Resource);
            }
            if scope != Some(in_scope) {
                scope = Some(in_scope);
                walk.item.begin_scope(index.scope_envelope(in_scope));
                walk.forget(Context::Scope);
            }
            walk.item.begin_item(item_bytes(item, &batch.segments));
            let is_selected = keeps.as_ref().is_none_or(|keeps| keeps.selects(&walk.item, level));
            if !is_selected || walk.drops(number)? {
                walk.rewriter.drop_item(number);
            }
        }
        self.item = walk.item.recycle();
        Ok(())
    }

    /// Counts the conditions that failed, and logs the first of them once in a while.
    fn show(&mut self, turn: Turn<'_>) {
        let Faults { count, first } = std::mem::take(&mut self.faults);
        turn.cells.add(self.series.condition_failures, count);
        let is_news = self.logged_ns.is_none_or(|logged| turn.now_ns.saturating_sub(logged) >= LOGGED_EVERY_NS);
        if let Some(first) = first.filter(|_| is_news) {
            self.logged_ns = Some(turn.now_ns);
            tracing::warn!(
                processor = %self.failures.id(), error = %first, failures = count,
                "A condition failed on some items of a batch; it counts as not true."
            );
        }
    }

    /// Items that were dropped, ever.
    pub fn items_dropped(&self) -> u64 {
        self.items_dropped
    }

    /// Items of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        self.rewriters.bytes_held() as u64
    }
}

impl Group {
    fn new(settings: &ConditionGroup) -> Group {
        const CHECKED: &str = "the configuration was checked by reading the same text";
        let ConditionGroup { context, paths, error_mode, .. } = *settings;
        let conditions = settings.conditions.iter();
        let conditions = conditions.map(|text| ottl::check_condition(text, context, paths).expect(CHECKED)).collect();
        Group { context, conditions, error_mode, remembered: None }
    }

    /// Whether one of the conditions is true of the item as it stands. One that asks a missing value is not.
    fn holds(&self, item: &WireItem<'_>, environment: &Environment, faults: &mut Faults) -> Result<bool, Failure> {
        for condition in &self.conditions {
            match condition.holds(item, environment) {
                Ok(true) => return Ok(true),
                Ok(false) | Err(Fault::Nil) => {}
                Err(fault) => {
                    faults.count += 1;
                    let told = || format!("the condition `{}` failed: {fault}", condition.text);
                    match self.error_mode {
                        ErrorMode::Propagate => return Err(Failure::Asked(told())),
                        ErrorMode::Ignore => drop(faults.first.get_or_insert_with(told)),
                        ErrorMode::Silent => {}
                    }
                }
            }
        }
        Ok(false)
    }
}

/// One walk over a batch.
struct Walk<'w, 'b, I> {
    batch: &'b Batch,
    buffers: &'w Buffers,
    groups: &'w mut [Group],
    environment: &'w Environment,
    item: WireItem<'b>,
    faults: &'w mut Faults,
    rewriter: &'w mut Rewriter<I>,
}

impl<I: Rewritten> Walk<'_, '_, I> {
    /// The walk has come to another resource, or another scope.
    fn forget(&mut self, level: Context) {
        for group in self.groups.iter_mut().filter(|group| group.context == level) {
            group.remembered = None;
        }
    }

    /// Whether the item that the walk stands on goes; its parts may go without it.
    fn drops(&mut self, number: u32) -> Result<bool, Failure> {
        let level = Context::of_items(I::SIGNAL);
        // An item without some of its parts. Allocated only where one goes.
        let mut with_less: Option<Vec<u8>> = None;
        for place in 0..self.groups.len() {
            let group = &self.groups[place];
            let goes = match (group.context, group.remembered) {
                (Context::Resource | Context::Scope, Some(remembered)) => remembered,
                (Context::Resource | Context::Scope, None) => {
                    let goes = group.holds(&self.item, self.environment, self.faults)?;
                    self.groups[place].remembered = Some(goes);
                    goes
                }
                (context, _) if context == level => match &with_less {
                    None => group.holds(&self.item, self.environment, self.faults)?,
                    Some(item) => {
                        let mut on = self.item.clone();
                        on.begin_item(item);
                        group.holds(&on, self.environment, self.faults)?
                    }
                },
                _ => {
                    let message = match &with_less {
                        Some(item) => item.as_slice(),
                        None => item_bytes(&self.batch.index_of::<I>().items[number as usize], &self.batch.segments),
                    };
                    let less = drop_parts(I::SIGNAL, group, message, &self.item, self.environment, self.faults)?;
                    let is_empty = less.as_ref().is_some_and(|less| less.parts_left == 0);
                    if let Some(less) = less {
                        with_less = Some(less.message);
                    }
                    // A metric is nothing without points; a span is something without events.
                    I::SIGNAL == Signal::Metrics && is_empty
                }
            };
            if goes {
                return Ok(true);
            }
        }
        if let Some(item) = with_less {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&item);
            self.rewriter.item(self.buffers, self.batch, number, write).map_err(no_item)?;
        }
        Ok(false)
    }
}

/// A message that lost some of its parts.
struct Less {
    message: Vec<u8>,
    parts_left: u32,
}

/// `message` without the parts for which the group is true; `None` if there are none.
fn drop_parts(
    signal: Signal,
    group: &Group,
    message: &[u8],
    item: &WireItem<'_>,
    environment: &Environment,
    faults: &mut Faults,
) -> Result<Option<Less>, Failure> {
    let mut item = item.clone();
    item.begin_item(message);
    let parts = item.parts_count();
    if parts == 0 {
        return Ok(None);
    }
    let (mut number, mut gone, mut result, mut out) = (0, 0, Ok(()), Vec::new());
    let mut goes = |_: u32, _: &[u8], _: &mut Vec<u8>| {
        item.begin_part(number);
        number += 1;
        let goes = result.is_ok()
            && group.holds(&item, environment, faults).unwrap_or_else(|failure| {
                result = Err(failure);
                false
            });
        gone += u32::from(goes);
        if goes { Child::Gone } else { Child::Kept }
    };
    rewrite_parts(signal, message, &mut goes, &mut out);
    result.map(|()| (gone > 0).then_some(Less { message: out, parts_left: parts - gone }))
}
