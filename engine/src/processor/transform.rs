//! `transform`: runs statements on resources, scopes, spans and span events.
//!
//! ```text
//! pass: groups that one walk over the batch can run
//!   walk: by resource, by scope, by span --statements--> staged edits --changed--> Rewriter
//! after the pass the batch is what the next pass reads
//! ```
//!
//! The idea: in the Collector each group walks the whole payload. One walk does the same as several if what a group
//! changes is only seen by later groups on the same item, so groups are joined into one pass wherever that holds; usually
//! there is one pass. Nothing is written where nothing changed.
//!
//! A failure never lets out what was to be masked: a statement that masks deletes what it cannot mask. With
//! `error_mode: propagate` a failure stops the batch: its senders are told never to repeat it, and if they have had their
//! answer before, its spans are counted as failed.

use super::Turn;
use crate::config::checked::{ErrorMode, StatementGroup, TransformSettings};
use crate::pipeline::ack::Outcome as Answer;
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Order, Rewriter};
use crate::shard::buffers::Buffers;
use crate::telemetry::cells::Counter;
use crate::telemetry::metrics::TransformSeries;
use codecs::grpc::{Code, Status};
use codecs::otlp::{SpanItem, span_bytes};
use ottl::{Condition, Context, Environment, Fault, Outcome, Statement, TraceItem};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A statement's failures are logged at most this often.
const LOGGED_EVERY_NS: u64 = 10_000_000_000;

/// One `transform` processor on one shard.
#[derive(Debug)]
pub struct Transform {
    id: String,
    passes: Vec<Vec<Group>>,
    environment: Environment,
    tallies: Vec<Tally>,
    /// Reused between batches.
    item: TraceItem<'static>,
    order: Order,
    rewriter: Rewriter,
    series: TransformSeries,
    /// The processor's own series of lost spans, and the shard's of caught panics.
    lost_spans: Counter,
    caught_panics: Counter,
    spans_failed: u64,
}

/// Statements that run together on each item of their context.
#[derive(Debug)]
struct Group {
    context: Context,
    conditions: Vec<Condition>,
    /// With their numbers in [`Transform::tallies`].
    statements: Vec<(usize, Statement)>,
    error_mode: ErrorMode,
}

/// What happened to a statement since it was last shown.
#[derive(Debug)]
struct Tally {
    name: String,
    failures: u64,
    unmasked_deleted: u64,
    /// The first of them, if it is to be logged.
    fault: Option<Fault>,
    /// When it was logged last.
    logged_ns: Option<u64>,
}

/// Why a batch goes no further.
#[derive(Debug)]
enum Stop {
    /// A statement or condition failed, and its group propagates failures.
    Failed { statement: usize, fault: Fault },
    /// What the statements wrote is no span: a defect of ours.
    Defect(String),
}

/// What a transform counts into, beside its own series.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// The processor's lost spans.
    pub spans: Counter,
    /// The shard's caught panics.
    pub caught_panics: Counter,
}

impl Transform {
    /// Reads the statements again: what they become belongs to one shard.
    pub fn new(id: String, settings: &TransformSettings, series: TransformSeries, losses: Losses) -> Transform {
        let names = settings.groups.iter().flat_map(|group| &group.statements).map(|statement| statement.name.clone());
        let tally = |name| Tally { name, failures: 0, unmasked_deleted: 0, fault: None, logged_ns: None };
        let tallies = names.map(tally).collect();
        let mut next = 0;
        let groups = settings.groups.iter().map(|group| Group::new(group, &mut next));
        Transform {
            id,
            passes: passes(groups),
            environment: Environment { keeps_unmasked: settings.keeps_unmasked, ..Environment::default() },
            tallies,
            item: TraceItem::default(),
            order: Order::default(),
            rewriter: Rewriter::default(),
            series,
            lost_spans: losses.spans,
            caught_panics: losses.caught_panics,
            spans_failed: 0,
        }
    }

    /// Edits the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        self.environment.now_unix_ns = turn.clock.unix_ns();
        let result = self.run(turn.buffers, &mut batch);
        self.show(turn);
        match result {
            Ok(()) => out.push(batch),
            Err(stop) => self.stop(turn, batch, &stop),
        }
    }

    fn run(&mut self, buffers: &Buffers, batch: &mut Batch) -> Result<(), Stop> {
        let Transform { passes, environment, tallies, item, order, rewriter, .. } = self;
        for pass in passes {
            let order = order.of(&batch.index);
            let walk = catch_unwind(AssertUnwindSafe(|| {
                let mut walk =
                    Walk { pass, batch, buffers, item: std::mem::take(item).recycle(), environment, tallies, rewriter };
                let result = walk.run(order);
                *item = walk.item.recycle();
                result
            }));
            let result = walk.unwrap_or_else(|_| Err(Stop::Defect("a statement panicked".to_owned())));
            if result.is_err() {
                rewriter.abandon();
                return result;
            }
            rewriter.apply(batch);
        }
        Ok(())
    }

    /// Shows what the statements have counted, and logs what failed for the first time in a while.
    fn show(&mut self, turn: Turn<'_>) {
        for (tally, series) in self.tallies.iter_mut().zip(&self.series.statements) {
            let (failures, unmasked_deleted) = (tally.failures, tally.unmasked_deleted);
            if failures == 0 && unmasked_deleted == 0 {
                continue;
            }
            (tally.failures, tally.unmasked_deleted) = (0, 0);
            turn.cells.add(series.failures, failures);
            turn.cells.add(series.unmasked_deleted, unmasked_deleted);
            let is_news = tally.logged_ns.is_none_or(|logged| turn.now_ns.saturating_sub(logged) >= LOGGED_EVERY_NS);
            if let Some(fault) = tally.fault.take().filter(|_| is_news) {
                tally.logged_ns = Some(turn.now_ns);
                tracing::warn!(
                    processor = %self.id, statement = %tally.name, error = %fault, failures, unmasked_deleted,
                    "A statement failed on some items of a batch."
                );
            }
        }
    }

    /// Ends a batch: answered if somebody waits for it, and counted as failed.
    fn stop(&mut self, turn: Turn<'_>, mut batch: Batch, stop: &Stop) {
        let spans = batch.spans();
        self.spans_failed += spans;
        turn.cells.add(self.series.failed_spans, spans);
        turn.cells.add(self.lost_spans, spans);
        let (code, message) = match stop {
            Stop::Failed { statement, fault } => {
                let statement = self.tallies.get(*statement).map_or("", |tally| &tally.name);
                (Code::InvalidArgument, format!("{}: {statement} failed: {fault}", self.id))
            }
            Stop::Defect(what) => {
                turn.cells.add(self.caught_panics, 1);
                (Code::Internal, format!("{}: {what}; please report this", self.id))
            }
        };
        tracing::error!(processor = %self.id, failed_spans = spans, message, "A batch was stopped by its statements.");
        batch.settle(&Answer::Failed(Status::new(code, message)));
        turn.indexes.give_back(batch.index);
    }

    /// Spans of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.spans_failed
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        self.rewriter.bytes_held() as u64
    }
}

impl Tally {
    fn note(&mut self, fault: Fault, mode: ErrorMode) {
        if mode != ErrorMode::Silent {
            self.fault.get_or_insert(fault);
        }
    }
}

impl Group {
    fn new(settings: &StatementGroup, next: &mut usize) -> Group {
        const CHECKED: &str = "the configuration was checked by reading the same text";
        let StatementGroup { context, paths, error_mode, .. } = *settings;
        let conditions = settings.conditions.iter();
        let conditions = conditions.map(|text| ottl::check_condition(text, context, paths).expect(CHECKED));
        let statements = settings.statements.iter().map(|statement| {
            *next += 1;
            (*next - 1, ottl::check_statement(&statement.text, context, paths).expect(CHECKED))
        });
        Group { context, conditions: conditions.collect(), statements: statements.collect(), error_mode }
    }

    /// Whether it changes what items beside its own see: their scope or resource.
    fn changes_what_others_see(&self) -> bool {
        let shallowest = self.statements.iter().filter_map(|(_, statement)| statement.changes()).min();
        shallowest.is_some_and(|level| level < self.context.min(Context::Span))
    }
}

/// Joins groups into passes. A walk visits a resource, then its scopes, then their spans, and runs on each all groups of
/// that level: the same as one walk per group, as long as levels do not go up again and nobody changes what other items
/// see. A span and its events are one item here.
fn passes(groups: impl Iterator<Item = Group>) -> Vec<Vec<Group>> {
    let mut passes: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        let level = group.context.min(Context::Span);
        let joins = |last: &Vec<Group>| {
            !group.changes_what_others_see()
                && last
                    .iter()
                    .all(|other| !other.changes_what_others_see() && other.context.min(Context::Span) <= level)
        };
        match passes.last_mut() {
            Some(last) if joins(last) => last.push(group),
            _ => passes.push(vec![group]),
        }
    }
    passes
}

/// One walk over a batch.
struct Walk<'w, 'b> {
    pass: &'w [Group],
    batch: &'b Batch,
    buffers: &'w Buffers,
    item: TraceItem<'b>,
    environment: &'w mut Environment,
    tallies: &'w mut [Tally],
    rewriter: &'w mut Rewriter,
}

impl<'b> Walk<'_, 'b> {
    fn run(&mut self, order: &[u32]) -> Result<(), Stop> {
        let batch = self.batch;
        let (mut resource, mut scope) = (None, None);
        for &number in order {
            let span = &batch.index.spans[number as usize];
            if scope != Some(span.scope) {
                self.finish_scope(scope);
                let entry = &batch.index.scopes[span.scope as usize];
                if resource != Some(entry.resource) {
                    self.finish_resource(resource);
                    resource = Some(entry.resource);
                    self.item.begin_resource(batch.index.resource_envelope(span.scope));
                    self.on_each(Context::Resource)?;
                }
                scope = Some(span.scope);
                self.item.begin_scope(batch.index.scope_envelope(span.scope));
                self.on_each(Context::Scope)?;
            }
            self.span(number, span)?;
        }
        self.finish_scope(scope);
        self.finish_resource(resource);
        Ok(())
    }

    fn finish_scope(&mut self, scope: Option<u32>) {
        if let Some(number) = scope.filter(|_| self.item.is_changed(Context::Scope)) {
            self.rewriter.scope(number, |out| self.item.write(Context::Scope, out));
        }
    }

    fn finish_resource(&mut self, resource: Option<u32>) {
        if let Some(number) = resource.filter(|_| self.item.is_changed(Context::Resource)) {
            self.rewriter.resource(number, |out| self.item.write(Context::Resource, out));
        }
    }

    /// Runs the groups of this level on the item as it stands.
    fn on_each(&mut self, level: Context) -> Result<(), Stop> {
        let pass = self.pass;
        pass.iter().filter(|group| group.context == level).try_for_each(|group| self.group(group))
    }

    fn span(&mut self, number: u32, span: &SpanItem) -> Result<(), Stop> {
        let (pass, batch) = (self.pass, self.batch);
        self.item.begin_span(span_bytes(span, &batch.segments));
        for group in pass {
            match group.context {
                Context::Span => self.group(group)?,
                Context::SpanEvent => {
                    for event in 0..self.item.events_count() {
                        self.item.begin_event(event);
                        self.group(group)?;
                        self.item.finish_event();
                    }
                }
                Context::Resource | Context::Scope => {}
            }
        }
        if !self.item.is_changed(Context::Span) {
            return Ok(());
        }
        let written = self.rewriter.span(self.buffers, batch, number, |out| self.item.write(Context::Span, out));
        written.map_err(|malformed| Stop::Defect(format!("a span was written that is none: {malformed}")))
    }

    fn group(&mut self, group: &Group) -> Result<(), Stop> {
        self.environment.cache.clear();
        if !self.applies(group)? {
            return Ok(());
        }
        for (number, statement) in &group.statements {
            match statement.run(&mut self.item, self.environment) {
                Outcome::Applied | Outcome::NotMatched | Outcome::Skipped => {}
                Outcome::Deleted(fault) => {
                    let tally = &mut self.tallies[*number];
                    tally.unmasked_deleted += 1;
                    tally.note(fault, group.error_mode);
                }
                Outcome::Failed(fault) => self.failed(*number, fault, group.error_mode)?,
            }
        }
        Ok(())
    }

    fn failed(&mut self, statement: usize, fault: Fault, mode: ErrorMode) -> Result<(), Stop> {
        let tally = &mut self.tallies[statement];
        tally.failures += 1;
        if mode == ErrorMode::Propagate {
            return Err(Stop::Failed { statement, fault });
        }
        tally.note(fault, mode);
        Ok(())
    }

    /// Whether one of the group's conditions is true. One that asks a missing value is not; one that fails is counted with
    /// the group's first statement.
    fn applies(&mut self, group: &Group) -> Result<bool, Stop> {
        if group.conditions.is_empty() {
            return Ok(true);
        }
        for condition in &group.conditions {
            match condition.holds(&self.item, self.environment) {
                Ok(true) => return Ok(true),
                Ok(false) | Err(Fault::Nil) => {}
                Err(fault) => {
                    let statement = group.statements.first().map_or(0, |(number, _)| *number);
                    self.failed(statement, fault, group.error_mode)?;
                }
            }
        }
        Ok(false)
    }
}
