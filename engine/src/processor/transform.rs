//! `transform`: runs statements on resources, scopes, items (spans, metrics, log records) and the parts of items (events of
//! spans, data points of metrics).
//!
//! ```text
//! pass: groups that one walk over the batch can run
//!   walk: by resource, by scope, by item --statements--> staged edits --changed--> Rewriter
//! after the pass the batch is what the next pass reads
//! ```
//!
//! The idea: in the Collector each group walks the whole payload. One walk does the same as several if what a group
//! changes is only seen by later groups on the same item, so groups are joined into one pass wherever that holds; usually
//! there is one pass. Nothing is written where nothing changed.
//!
//! A failure never lets out what was to be masked: a statement that masks deletes what it cannot mask. With
//! `error_mode: propagate` a failure stops the batch: its senders are told never to repeat it, and if they have had their
//! answer before, its items are counted as failed.

use super::Turn;
use super::context::{asked, environment, tell_sender};
use crate::config::checked::{ErrorMode, StatementGroup, TransformSettings};
use crate::pipeline::ack::Outcome as Answer;
use crate::pipeline::batch::Batch;
use crate::pipeline::rewrite::{Order, Rewriter, Rewriters, Rewritten};
use crate::shard::buffers::Buffers;
use crate::telemetry::cells::Counter;
use crate::telemetry::metrics::TransformSeries;
use codecs::grpc::{Code, Status};
use codecs::otlp::{LogItem, MetricItem, Signal, SpanItem, item_bytes};
use ottl::{Ask, Condition, Context, CreatedMetric, Environment, Fault, Outcome, Statement, WireItem};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// A statement's failures are logged at most this often.
const LOGGED_EVERY_NS: u64 = 10_000_000_000;

/// One `transform` processor on one shard.
#[derive(Debug)]
pub struct Transform {
    id: String,
    passes: Vec<Vec<Group>>,
    environment: Environment,
    /// What the statements ask of a batch's sender.
    asks: Vec<Ask>,
    tallies: Vec<Tally>,
    /// Reused between batches.
    item: WireItem<'static>,
    order: Order,
    rewriters: Rewriters,
    series: TransformSeries,
    /// The processor's own series of lost items, and the shard's of caught panics.
    lost_items: Counter,
    caught_panics: Counter,
    spans_failed: u64,
    /// Data points of metrics that statements have made, and those that went where several became one.
    items_created: u64,
    items_dropped: u64,
}

/// A metric that a statement has made, until the walk is through with the scope it lies in.
#[derive(Debug)]
struct Made {
    metric: CreatedMetric,
    /// Groups before this one have had their chance.
    group: usize,
    /// The statements that made it, and what it is made of: none of them runs on it again.
    by: Vec<usize>,
    /// One of them copies whatever it meets.
    is_copy: bool,
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

/// What a statement did since it was last shown.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Its place below the processor.
    pub name: String,
    /// Items it ran on.
    pub applied: u64,
    /// Items of which its condition is not true.
    pub not_matched: u64,
    /// Items it left alone because an argument is nil.
    pub skipped: u64,
    /// Items on which it failed.
    pub failures: u64,
    /// Values it deleted because it could not mask them.
    pub unmasked_deleted: u64,
    /// The first failure, if it is to be told.
    pub fault: Option<Fault>,
    /// When one was logged last.
    logged_ns: Option<u64>,
}

/// Why a batch goes no further.
#[derive(Debug)]
enum Stop {
    /// A statement or condition failed, and its group propagates failures.
    Failed { statement: usize, fault: Fault },
    /// What the statements wrote is no such item: a defect of ours.
    Defect(String),
}

/// What a transform counts into, beside its own series.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// The processor's lost items.
    pub items: Counter,
    /// The shard's caught panics.
    pub caught_panics: Counter,
}

impl Transform {
    /// Reads the statements again, which are for pipelines of `signal`: what they become belongs to one shard.
    pub fn new(
        id: String,
        signal: Signal,
        settings: &TransformSettings,
        series: TransformSeries,
        losses: Losses,
    ) -> Transform {
        let names = settings.groups.iter().flat_map(|group| &group.statements).map(|statement| statement.name.clone());
        let tally = |name| Tally { name, ..Tally::default() };
        let tallies = names.map(tally).collect();
        let mut next = 0;
        let groups = settings.groups.iter().map(|group| Group::new(group, &mut next));
        let passes = passes(groups);
        let of_group = |group: &'_ Group| {
            let conditions = group.conditions.iter().map(Condition::asks);
            asked(conditions.chain(group.statements.iter().map(|(_, statement)| statement.asks())))
        };
        let asks: Vec<Vec<Ask>> = passes.iter().flatten().map(of_group).collect();
        Transform {
            id,
            passes,
            environment: Environment { keeps_unmasked: settings.keeps_unmasked, ..environment() },
            asks: asked(asks.iter().map(Vec::as_slice)),
            tallies,
            item: WireItem::new(signal),
            order: Order::default(),
            rewriters: Rewriters::default(),
            series,
            lost_items: losses.items,
            caught_panics: losses.caught_panics,
            spans_failed: 0,
            items_created: 0,
            items_dropped: 0,
        }
    }

    /// Edits the batch and passes it on.
    pub fn take(&mut self, turn: Turn<'_>, mut batch: Batch, out: &mut Vec<Batch>) {
        self.environment.now_unix_ns = turn.clock.unix_ns();
        tell_sender(&mut self.environment.sender, &self.asks, batch.client.as_deref());
        let result = self.run(turn.buffers, &mut batch);
        self.show(turn);
        match result {
            Ok(()) => out.push(batch),
            Err(stop) => self.stop(turn, batch, &stop),
        }
    }

    /// Edits a batch outside of a pipeline, and tells what each statement did.
    pub fn rehearse(&mut self, turn: Turn<'_>, batch: &mut Batch) -> (Vec<Tally>, bool) {
        self.environment.now_unix_ns = turn.clock.unix_ns();
        let is_whole = self.run(turn.buffers, batch).is_ok();
        (self.tallies.clone(), is_whole)
    }

    fn run(&mut self, buffers: &Buffers, batch: &mut Batch) -> Result<(), Stop> {
        match batch.index.signal() {
            Signal::Traces => self.run_on::<SpanItem>(buffers, batch),
            Signal::Metrics => self.run_on::<MetricItem>(buffers, batch),
            Signal::Logs => self.run_on::<LogItem>(buffers, batch),
        }
    }

    fn run_on<I: Rewritten>(&mut self, buffers: &Buffers, batch: &mut Batch) -> Result<(), Stop> {
        let Transform { passes, environment, tallies, item, order, rewriters, .. } = self;
        let (mut created, mut dropped) = (0, 0);
        let rewriter = I::rewriter(rewriters);
        for pass in passes {
            let order = order.of(batch.index_of::<I>());
            let walk = catch_unwind(AssertUnwindSafe(|| {
                let item_now = std::mem::replace(item, WireItem::new(I::SIGNAL)).recycle();
                let (made, made_by) = (VecDeque::new(), Vec::new());
                let mut walk = Walk {
                    pass,
                    batch,
                    buffers,
                    item: item_now,
                    environment,
                    tallies,
                    rewriter,
                    made,
                    made_before: 0,
                    made_by,
                    is_copy: false,
                    items_created: 0,
                };
                let result = walk.run(order).map(|()| walk.items_created);
                *item = walk.item.recycle();
                result
            }));
            let result = walk.unwrap_or_else(|_| Err(Stop::Defect("a statement panicked".to_owned())));
            match result {
                Ok(items) => created += items,
                Err(stop) => {
                    rewriter.abandon();
                    // What earlier passes have made is in the batch that fails, and what they have merged is not.
                    self.items_created += created;
                    self.items_dropped += dropped;
                    return Err(stop);
                }
            }
            dropped += rewriter.apply(batch);
        }
        self.items_created += created;
        self.items_dropped += dropped;
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
        let items = batch.items();
        self.spans_failed += items;
        turn.cells.add(self.series.failed_spans, items);
        turn.cells.add(self.lost_items, items);
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
        tracing::error!(processor = %self.id, failed_items = items, message, "A batch was stopped by its statements.");
        batch.settle(&Answer::Failed(Status::new(code, message)));
        turn.indexes.give_back(batch.index);
    }

    /// Items of batches that went no further, ever.
    pub fn spans_failed(&self) -> u64 {
        self.spans_failed
    }

    /// Data points of metrics that its statements have made, ever.
    pub fn items_created(&self) -> u64 {
        self.items_created
    }

    /// Data points that went where its statements made one of several, ever.
    pub fn items_dropped(&self) -> u64 {
        self.items_dropped
    }

    /// Memory that is kept from batch to batch.
    pub fn bytes_held(&self) -> u64 {
        self.rewriters.bytes_held() as u64
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
        let shallowest =
            self.statements.iter().filter_map(|(_, statement)| statement.changes()).map(Context::depth).min();
        shallowest.is_some_and(|depth| depth < self.context.item().depth())
    }
}

/// Joins groups into passes. A walk visits a resource, then its scopes, then their items, and runs on each all groups of
/// that level: the same as one walk per group, as long as levels do not go up again and nobody changes what other items
/// see. An item and its parts are one item here.
fn passes(groups: impl Iterator<Item = Group>) -> Vec<Vec<Group>> {
    let mut passes: Vec<Vec<Group>> = Vec::new();
    for group in groups {
        let depth = group.context.item().depth();
        let joins = |last: &Vec<Group>| {
            !group.changes_what_others_see()
                && last.iter().all(|other| !other.changes_what_others_see() && other.context.item().depth() <= depth)
        };
        match passes.last_mut() {
            Some(last) if joins(last) => last.push(group),
            _ => passes.push(vec![group]),
        }
    }
    passes
}

/// One walk over a batch.
struct Walk<'w, 'b, I> {
    pass: &'w [Group],
    batch: &'b Batch,
    buffers: &'w Buffers,
    item: WireItem<'b>,
    environment: &'w mut Environment,
    tallies: &'w mut [Tally],
    rewriter: &'w mut Rewriter<I>,
    /// Metrics that statements have made in this scope.
    made: VecDeque<Made>,
    /// How many there were before the group that runs.
    made_before: usize,
    /// Of the item that the walk stands on, if statements made it.
    made_by: Vec<usize>,
    /// One of them copies whatever it meets.
    is_copy: bool,
    /// Data points of what was made.
    items_created: u64,
}

impl<I: Rewritten> Walk<'_, '_, I> {
    fn run(&mut self, order: &[u32]) -> Result<(), Stop> {
        let batch = self.batch;
        let (mut resource, mut scope) = (None, None);
        for &number in order {
            let index = batch.index_of::<I>();
            let item = &index.items[number as usize];
            let of_item = item.place().scope;
            if scope != Some(of_item) {
                self.made_items(scope)?;
                self.finish_scope(scope);
                let entry = &index.scopes[of_item as usize];
                if resource != Some(entry.resource) {
                    self.finish_resource(resource);
                    resource = Some(entry.resource);
                    self.item.begin_resource(index.resource_envelope(of_item));
                    self.on_each(Context::Resource)?;
                }
                scope = Some(of_item);
                self.item.begin_scope(index.scope_envelope(of_item));
                self.on_each(Context::Scope)?;
            }
            self.item(number, item)?;
        }
        self.made_items(scope)?;
        self.finish_scope(scope);
        self.finish_resource(resource);
        Ok(())
    }

    /// Runs the groups on the metrics that statements made in this scope, and on what is made of those, and adds them.
    /// That ends, because no statement runs on what it had a part in.
    fn made_items(&mut self, scope: Option<u32>) -> Result<(), Stop> {
        let Some(scope) = scope else { return Ok(()) };
        while let Some(Made { metric, group, by, is_copy }) = self.made.pop_front() {
            let mut message = Vec::new();
            metric.write(&mut message);
            self.item.begin_owned_item(message);
            (self.made_by, self.is_copy) = (by, is_copy);
            let result = self.groups(group);
            self.made_by.clear();
            self.is_copy = false;
            result?;
            let level = Context::of_items(I::SIGNAL);
            let added = self.rewriter.add_item(self.buffers, self.batch, scope, |out| self.item.write(level, out));
            self.items_created +=
                added.map_err(|malformed| Stop::Defect(format!("a {level} was made that is none: {malformed}")))?;
        }
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

    fn item(&mut self, number: u32, item: &I) -> Result<(), Stop> {
        let batch = self.batch;
        let level = Context::of_items(I::SIGNAL);
        self.item.begin_item(item_bytes(item, &batch.segments));
        self.groups(0)?;
        if !self.item.is_changed(level) {
            return Ok(());
        }
        if self.item.has_only_attributes_changed(level) {
            self.rewriter.item_with_other_attributes(self.buffers, batch, number, |out| self.item.write(level, out));
            return Ok(());
        }
        let written = self.rewriter.item(self.buffers, batch, number, |out| self.item.write(level, out));
        written.map_err(|malformed| Stop::Defect(format!("a {level} was written that is none: {malformed}")))
    }

    /// Runs the groups of the item's level from number `first` on, on the item or on each of its parts.
    fn groups(&mut self, first: usize) -> Result<(), Stop> {
        let pass = self.pass;
        let level = Context::of_items(I::SIGNAL);
        for (number, group) in pass.iter().enumerate().skip(first) {
            self.made_before = self.made.len();
            match group.context {
                context if context == level => self.group(group)?,
                context if context.item() == level => {
                    for part in 0..self.item.parts_count() {
                        self.item.begin_part(part);
                        self.group(group)?;
                        self.item.finish_part();
                    }
                }
                _ => {}
            }
            self.made.range_mut(self.made_before..).for_each(|made| made.group = number);
        }
        Ok(())
    }

    /// Notes the metrics that a statement has just made. Points that it made of one metric one by one are one metric's.
    fn note_made(&mut self, statement: usize, copies_all: bool) {
        for metric in self.item.take_created() {
            let last = self.made.range_mut(self.made_before..).rev().find(|made| made.by.last() == Some(&statement));
            let rest = match last {
                Some(last) => last.metric.absorb(metric),
                None => Err(metric),
            };
            if let Err(metric) = rest {
                let by = self.made_by.iter().copied().chain([statement]).collect();
                self.made.push_back(Made { metric, group: 0, by, is_copy: self.is_copy || copies_all });
            }
        }
    }

    fn group(&mut self, group: &Group) -> Result<(), Stop> {
        self.environment.cache.clear();
        if !self.applies(group)? {
            return Ok(());
        }
        for (number, statement) in &group.statements {
            // One that copies whatever it meets would copy the copies of its like: six of them make hundreds of one.
            let copies_all = statement.copies_whatever_it_meets() && group.conditions.is_empty();
            if I::SIGNAL == Signal::Metrics && (copies_all && self.is_copy || self.made_by.contains(number)) {
                continue;
            }
            match statement.run(&mut self.item, self.environment) {
                Outcome::Applied => self.tallies[*number].applied += 1,
                Outcome::NotMatched => self.tallies[*number].not_matched += 1,
                Outcome::Skipped => self.tallies[*number].skipped += 1,
                Outcome::Deleted(fault) => {
                    let tally = &mut self.tallies[*number];
                    tally.unmasked_deleted += 1;
                    tally.note(fault, group.error_mode);
                }
                Outcome::Failed(fault) => self.failed(*number, fault, group.error_mode)?,
            }
            if I::SIGNAL == Signal::Metrics && self.item.has_created() {
                self.note_made(*number, copies_all);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::StatementText;
    use crate::pipeline::ack;
    use crate::shard::Indexes;
    use crate::shard::clock::Clock;
    use crate::telemetry::cells::{Cells, Schema};
    use crate::telemetry::metrics::{ProcessorSeries, ShardSeries};
    use codecs::otlp::proto::{
        AnyValue, ExportTraceServiceRequest, KeyValue, Resource, ResourceSpans, ScopeSpans, Span, SpanEvent, Value,
    };
    use codecs::otlp::{Encoder, Selection, SpanIndex};
    use ottl::Paths;
    use proptest::prelude::*;
    use prost::Message;
    use std::pin::Pin;
    use std::task::{Poll, Waker};

    fn text(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::String(value.into())) });
        KeyValue { key: key.into(), value }
    }

    fn span(name: &str, attributes: Vec<KeyValue>) -> Span {
        Span { name: name.into(), attributes, trace_id: vec![1; 16], span_id: vec![2; 8], ..Span::default() }
    }

    fn resource(env: &str, spans: Vec<Span>) -> ResourceSpans {
        let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
        let attributes = vec![text("env", env)];
        let resource = Some(Resource { attributes, ..Resource::default() });
        ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }
    }

    fn batch(resource_spans: Vec<ResourceSpans>) -> Batch {
        let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let mut index = SpanIndex::default();
        index.read_request(&bytes, 0).unwrap();
        Batch { index: index.into(), segments: vec![bytes.into()], ..Batch::default() }
    }

    fn group(context: Context, error_mode: ErrorMode, statements: &[&str]) -> StatementGroup {
        let statement = |text: &&str| StatementText { text: (*text).to_owned(), name: (*text).to_owned() };
        let statements = statements.iter().map(statement).collect();
        StatementGroup {
            signal: Signal::Traces,
            context,
            paths: Paths::Bare,
            error_mode,
            conditions: Vec::new(),
            statements,
        }
    }

    /// A transform of its own, and what it counts.
    struct Bench {
        transform: Transform,
        cells: Cells,
        buffers: Buffers,
        indexes: Indexes,
    }

    impl Bench {
        fn new(groups: Vec<StatementGroup>, keeps_unmasked: bool) -> Bench {
            let mut schema = Schema::default();
            let names = groups.iter().flat_map(|group| &group.statements).map(|statement| statement.name.as_str());
            let series = TransformSeries::declare(&mut schema, "transform", Signal::Traces, names);
            let losses = Losses {
                items: ProcessorSeries::declare(&mut schema, "transform", Signal::Traces).dropped,
                caught_panics: ShardSeries::declare(&mut schema).caught_panics,
            };
            let settings = TransformSettings { groups, keeps_unmasked };
            Bench {
                transform: Transform::new("transform".to_owned(), Signal::Traces, &settings, series, losses),
                cells: Cells::new(&schema),
                buffers: Buffers::new(1 << 20),
                indexes: Indexes::default(),
            }
        }

        fn take(&mut self, batch: Batch) -> Vec<Batch> {
            let turn = Turn {
                now_ns: 0,
                memory_is_short: false,
                pressure: 0.0,
                clock: Clock::start(),
                cells: &self.cells,
                buffers: &self.buffers,
                indexes: &self.indexes,
            };
            let mut out = Vec::new();
            self.transform.take(turn, batch, &mut out);
            out
        }

        fn after(&mut self, resource_spans: Vec<ResourceSpans>) -> Vec<ResourceSpans> {
            let out = self.take(batch(resource_spans)).pop().expect("it passes the batch on");
            let mut bytes = Vec::new();
            Encoder::default().encode(out.span_index(), &out.segments, &Selection::All, &mut bytes);
            ExportTraceServiceRequest::decode(&*bytes).unwrap().resource_spans
        }

        /// (failures, values deleted because they could not be masked) of statement `number`.
        fn counted(&self, number: usize) -> (u64, u64) {
            let series = &self.transform.series.statements[number];
            (self.cells.read(series.failures), self.cells.read(series.unmasked_deleted))
        }
    }

    const MASK: &str = r#"set(attributes["user.email"], SHA256(attributes["user.email"]))"#;
    /// Fails on texts of less than 40 bytes.
    const MASK_LONG: &str = r#"set(attributes["a"], SHA256(Substring(attributes["a"], 0, 40)))"#;
    const FAILS: &str = r#"set(attributes["n"], 1 / 0)"#;

    #[test]
    fn a_span_without_the_value_to_mask_does_not_stop_its_batch() {
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Propagate, &[MASK])], false);
        let spans = vec![span("a", vec![]), span("b", vec![text("user.email", "ann@example.com")])];
        let after = bench.after(vec![resource("prod", spans)]);
        let spans = &after[0].scope_spans[0].spans;
        assert_eq!(spans[0], span("a", vec![]));
        let Some(Value::String(value)) = &spans[1].attributes[0].value.as_ref().unwrap().value else { panic!() };
        assert!(value.len() == 64 && value.iter().all(u8::is_ascii_hexdigit), "{}", String::from_utf8_lossy(value));
        assert_eq!(bench.counted(0), (0, 0));
    }

    #[test]
    fn what_cannot_be_masked_is_deleted_and_counted_unless_it_is_to_be_kept() {
        let spans = || vec![resource("prod", vec![span("a", vec![text("a", "short"), text("b", "stays")])])];
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Propagate, &[MASK_LONG])], false);
        assert_eq!(bench.after(spans())[0].scope_spans[0].spans[0].attributes, [text("b", "stays")]);
        assert_eq!(bench.counted(0), (0, 1));
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Ignore, &[MASK_LONG])], true);
        assert_eq!(bench.after(spans()), spans());
        assert_eq!(bench.counted(0), (1, 0));
    }

    #[test]
    fn a_failure_that_propagates_stops_the_batch_and_its_sender_is_told_never_to_repeat_it() {
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Propagate, &[FAILS])], false);
        let mut stopped = batch(vec![resource("prod", vec![span("a", vec![]), span("b", vec![])])]);
        let (ack, mut waiting) = ack::open();
        stopped.acks.push(ack);
        assert!(bench.take(stopped).is_empty());
        let answer = Pin::new(&mut waiting).poll(&mut std::task::Context::from_waker(Waker::noop()));
        let Poll::Ready(Answer::Failed(status)) = answer else { panic!("{answer:?}") };
        assert_eq!(status.code, Code::InvalidArgument);
        assert!(!status.is_retryable() && status.message.contains("division by zero"), "{status:?}");
        assert_eq!(bench.transform.spans_failed(), 2);
        assert_eq!(bench.cells.read(bench.transform.series.failed_spans), 2);
        // The next batch is another matter.
        assert!(bench.take(batch(vec![])).pop().is_some());
    }

    #[test]
    fn a_failure_that_is_ignored_changes_nothing_and_the_next_statement_runs() {
        let statements = [FAILS, r#"set(name, "next")"#];
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Ignore, &statements)], false);
        let after = bench.after(vec![resource("prod", vec![span("a", vec![])])]);
        assert_eq!(after[0].scope_spans[0].spans, [span("next", vec![])]);
        assert_eq!((bench.counted(0), bench.counted(1)), ((1, 0), (0, 0)));
    }

    #[test]
    fn what_a_span_does_to_its_resource_is_seen_by_the_spans_behind_it() {
        let statements =
            [r#"set(attributes["seen"], resource.attributes["by"])"#, r#"set(resource.attributes["by"], name)"#];
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Propagate, &statements)], false);
        let after = bench.after(vec![resource("x", vec![span("a", vec![]), span("b", vec![])])]);
        assert_eq!(after[0].resource.as_ref().unwrap().attributes, [text("env", "x"), text("by", "b")]);
        assert_eq!(after[0].scope_spans[0].spans, [span("a", vec![]), span("b", vec![text("seen", "a")])]);
    }

    #[test]
    fn events_are_edited_where_they_lie_and_conditions_choose_the_items() {
        let event = |name: &str| SpanEvent { name: name.into(), ..SpanEvent::default() };
        let mut with_events = span("a", vec![]);
        with_events.events = vec![event("one"), event("two")];
        let mut groups =
            vec![group(Context::SpanEvent, ErrorMode::Propagate, &[r#"set(name, Concat([span.name, name], "."))"#])];
        groups[0].conditions =
            vec![r#"name == "two""#.to_owned(), r#"Substring(attributes["none"], 0, 1) == "x""#.to_owned()];
        let mut bench = Bench::new(groups, false);
        let after = bench.after(vec![resource("x", vec![with_events.clone()])]);
        with_events.events[1] = event("a.two");
        assert_eq!(after[0].scope_spans[0].spans, [with_events]);
    }

    #[test]
    fn what_nothing_changes_keeps_its_bytes_and_its_segment() {
        let mut bench = Bench::new(vec![group(Context::Span, ErrorMode::Ignore, &[MASK])], false);
        let before = batch(vec![resource("x", vec![span("a", vec![text("k", "v")])])]);
        let (items, segment) = (before.span_index().items.clone(), before.segments[0].clone());
        let after = bench.take(before).pop().unwrap();
        assert_eq!((after.span_index().items.clone(), after.segments.len()), (items, 1));
        assert_eq!(after.segments[0].as_ptr(), segment.as_ptr());
        assert_eq!(bench.buffers.out_bytes(), 0);
    }

    /// Groups that read and write across all levels.
    const GROUPS: &[(Context, &[&str])] = &[
        (Context::Resource, &[r#"set(attributes["r"], Concat([attributes["r"], "r"], ""))"#]),
        (Context::Resource, &[r#"set(schema_url, attributes["by"])"#]),
        (Context::Scope, &[r#"set(attributes["s"], resource.attributes["r"])"#]),
        (Context::Scope, &[r#"set(resource.attributes["r"], "from scope")"#]),
        (Context::Span, &[r#"set(attributes["a"], resource.attributes["r"])"#, r#"set(cache["k"], name)"#]),
        (Context::Span, &[r#"set(name, Concat([name, attributes["a"], attributes["e"]], "-"))"#]),
        (Context::Span, &[r#"set(resource.attributes["by"], name)"#, r#"set(attributes["c"], cache["k"])"#]),
        (Context::Span, &[r#"delete_key(attributes, "a") where name == "b""#]),
        (Context::SpanEvent, &[r#"set(attributes["s"], span.name)"#, r#"set(span.attributes["e"], name)"#]),
        (Context::SpanEvent, &[r#"set(name, Concat([name, span.attributes["a"]], "+"))"#]),
    ];

    proptest! {
        /// One walk with joined groups does what one walk per group does.
        #[test]
        fn joining_groups_changes_nothing(
            chosen in prop::collection::vec(0..GROUPS.len(), 1..7),
            resources in prop::collection::vec(prop::collection::vec(0usize..3, 0..4), 1..3),
            swaps in prop::collection::vec((any::<usize>(), any::<usize>()), 0..4),
        ) {
            let event = |number: usize| SpanEvent { name: format!("e{number}").into(), ..SpanEvent::default() };
            let resource_spans = resources.iter().map(|spans| {
                let spans = spans.iter().enumerate().map(|(number, events)| {
                    let events = (0..*events).map(event).collect();
                    Span { events, ..span(["a", "b", "c", "d"][number], vec![]) }
                });
                resource("x", spans.collect())
            });
            let mut joined = batch(resource_spans.collect());
            let spans = joined.span_index().items.len();
            for (from, to) in swaps.into_iter().filter(|_| spans > 0) {
                joined.span_index_mut().items.swap(from % spans, to % spans);
            }
            let mut apart = joined.fork();
            let groups = || chosen.iter().map(|at| group(GROUPS[*at].0, ErrorMode::Propagate, GROUPS[*at].1));
            let mut bench = Bench::new(groups().collect(), false);
            prop_assert!(bench.transform.passes.len() <= chosen.len());
            joined = bench.take(joined).pop().unwrap();
            for group in groups() {
                apart = Bench::new(vec![group], false).take(apart).pop().unwrap();
            }
            let bytes_of = |batch: &Batch| {
                let mut bytes = Vec::new();
                Encoder::default().encode(batch.span_index(), &batch.segments, &Selection::All, &mut bytes);
                ExportTraceServiceRequest::decode(&*bytes).unwrap()
            };
            prop_assert_eq!(bytes_of(&joined), bytes_of(&apart));
        }
    }

    #[test]
    fn usual_groups_are_one_walk() {
        let passes_of = |chosen: &[usize]| {
            let groups = chosen.iter().map(|at| group(GROUPS[*at].0, ErrorMode::Ignore, GROUPS[*at].1));
            Bench::new(groups.collect(), false).transform.passes.len()
        };
        assert_eq!(passes_of(&[0, 2, 4, 5, 9]), 1);
        assert_eq!(passes_of(&[4, 0]), 2, "the resource comes after its spans");
        assert_eq!(passes_of(&[4, 6, 4]), 3, "a span that changes its resource has a walk of its own");
    }
}
