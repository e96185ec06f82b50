//! `filter`: drops spans, and events of spans, on conditions.
//!
//! The one idea: in the Collector each group of conditions walks the whole payload. What a group does to a span depends on
//! that span, its resource and its scope alone, so one walk that asks the groups in order does the same; what a group says
//! of a resource or scope is asked once and remembered until the walk leaves it. Events that were dropped are seen as gone
//! by later groups.

use super::Turn;
use super::failure::{Failure, Failures, guarded, no_span};
use crate::config::checked::{ConditionGroup, ErrorMode, FilterSettings};
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Order, Rewriter, pass_on};
use crate::shard::buffers::Buffers;
use crate::telemetry::metrics::FilterSeries;
use codecs::otlp::span_bytes;
use ottl::{Child, Condition, Context, Environment, Fault, Selection, TraceItem, field, rewrite_children};

/// A condition's failures are logged at most this often.
const LOGGED_EVERY_NS: u64 = 10_000_000_000;

/// One `filter` processor on one shard.
#[derive(Debug)]
pub struct Filter {
    groups: Vec<Group>,
    /// Spans that it does not select are dropped.
    keeps: Option<Selection>,
    environment: Environment,
    /// Reused between batches.
    item: TraceItem<'static>,
    order: Order,
    rewriter: Rewriter,
    series: FilterSeries,
    failures: Failures,
    spans_dropped: u64,
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
    /// Reads the conditions again: what they become belongs to one shard.
    pub fn new(settings: &FilterSettings, series: FilterSeries, failures: Failures) -> Filter {
        Filter {
            groups: settings.groups.iter().map(Group::new).collect(),
            keeps: settings.keeps.clone(),
            environment: Environment::default(),
            item: TraceItem::default(),
            order: Order::default(),
            rewriter: Rewriter::default(),
            series,
            failures,
            spans_dropped: 0,
            faults: Faults::default(),
            logged_ns: None,
        }
    }

    /// Drops what the conditions say and passes on what is left.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        self.environment.now_unix_ns = turn.clock.unix_ns();
        let walk = guarded(|| self.walk(turn.buffers, &batch));
        self.show(turn);
        if let Err(failure) = walk {
            self.rewriter.abandon();
            return self.failures.stop(turn, batch, &failure);
        }
        let dropped = self.rewriter.apply(&mut batch);
        self.spans_dropped += dropped;
        turn.cells.add(self.series.spans_filtered, dropped);
        pass_on(turn, batch, out);
    }

    fn walk(&mut self, buffers: &Buffers, batch: &Batch) -> Result<(), Failure> {
        let Filter { groups, keeps, environment, item, order, rewriter, faults, .. } = self;
        let item = std::mem::take(item).recycle();
        let mut walk = Walk { batch, buffers, groups, environment, item, faults, rewriter };
        let (mut resource, mut scope) = (None, None);
        for &number in order.of(batch.span_index()) {
            let span = &batch.span_index().items[number as usize];
            let of_scope = batch.span_index().scopes[span.scope as usize].resource;
            if resource != Some(of_scope) {
                resource = Some(of_scope);
                walk.item.begin_resource(batch.span_index().resource_envelope(span.scope));
                walk.forget(Context::Resource);
            }
            if scope != Some(span.scope) {
                scope = Some(span.scope);
                walk.item.begin_scope(batch.span_index().scope_envelope(span.scope));
                walk.forget(Context::Scope);
            }
            walk.item.begin_span(span_bytes(span, &batch.segments));
            let is_selected = keeps.as_ref().is_none_or(|keeps| keeps.selects(&walk.item, Context::Span));
            if !is_selected || walk.drops(number)? {
                walk.rewriter.drop_span(number);
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

    /// Spans that were dropped, ever.
    pub fn spans_dropped(&self) -> u64 {
        self.spans_dropped
    }

    /// Spans of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.failures.spans_failed()
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        self.rewriter.bytes_held() as u64
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
    fn holds(&self, item: &TraceItem<'_>, environment: &Environment, faults: &mut Faults) -> Result<bool, Failure> {
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
struct Walk<'w, 'b> {
    batch: &'b Batch,
    buffers: &'w Buffers,
    groups: &'w mut [Group],
    environment: &'w Environment,
    item: TraceItem<'b>,
    faults: &'w mut Faults,
    rewriter: &'w mut Rewriter,
}

impl Walk<'_, '_> {
    /// The walk has come to another resource, or another scope.
    fn forget(&mut self, level: Context) {
        for group in self.groups.iter_mut().filter(|group| group.context == level) {
            group.remembered = None;
        }
    }

    /// Whether the span that the item stands on goes; its events may go without it.
    fn drops(&mut self, number: u32) -> Result<bool, Failure> {
        // A span without some of its events. Allocated only where one goes.
        let mut without_events: Option<Vec<u8>> = None;
        for place in 0..self.groups.len() {
            let group = &self.groups[place];
            let goes = match (group.context, group.remembered) {
                (Context::Resource | Context::Scope, Some(remembered)) => remembered,
                (Context::Resource | Context::Scope, None) => {
                    let goes = group.holds(&self.item, self.environment, self.faults)?;
                    self.groups[place].remembered = Some(goes);
                    goes
                }
                (Context::Span, _) => match &without_events {
                    None => group.holds(&self.item, self.environment, self.faults)?,
                    Some(span) => {
                        let mut item = self.item.clone();
                        item.begin_span(span);
                        group.holds(&item, self.environment, self.faults)?
                    }
                },
                (Context::SpanEvent, _) => {
                    let span = match &without_events {
                        Some(span) => span.as_slice(),
                        None => span_bytes(&self.batch.span_index().items[number as usize], &self.batch.segments),
                    };
                    if let Some(less) = drop_events(group, span, &self.item, self.environment, self.faults)? {
                        without_events = Some(less);
                    }
                    false
                }
            };
            if goes {
                return Ok(true);
            }
        }
        if let Some(span) = without_events {
            let write = |out: &mut Vec<u8>| out.extend_from_slice(&span);
            self.rewriter.span(self.buffers, self.batch, number, write).map_err(no_span)?;
        }
        Ok(false)
    }
}

/// `span` without the events for which the group is true; `None` if there are none.
fn drop_events(
    group: &Group,
    span: &[u8],
    item: &TraceItem<'_>,
    environment: &Environment,
    faults: &mut Faults,
) -> Result<Option<Vec<u8>>, Failure> {
    if !codecs::otlp::attributes::Fields::of(span).any(|field| field.tag.number == field::SPAN_EVENTS) {
        return Ok(None);
    }
    let mut item = item.clone();
    item.begin_span(span);
    let (mut number, mut result, mut out) = (0, Ok(()), Vec::new());
    let mut goes = |_: &[u8], _: &mut Vec<u8>| {
        item.begin_event(number);
        number += 1;
        let goes = result.is_ok()
            && group.holds(&item, environment, faults).unwrap_or_else(|failure| {
                result = Err(failure);
                false
            });
        if goes { Child::Gone } else { Child::Kept }
    };
    let is_less = rewrite_children(span, field::SPAN_EVENTS, &mut goes, &mut out);
    result.map(|()| is_less.then_some(out))
}
