//! The two books: what came in and what became of it, as pure values read from one folded snapshot.
//!
//! ```text
//! intake, per (receiver, transport, signal):  offered = accepted + refused + rejected + unanswered
//! account, per (pipeline, exporter):          accepted + created = delivered + dropped + shed + failed + in flight
//! ```
//!
//! Every term was counted where it happened; nothing here computes a term from the others, so a book that does not
//! balance shows a span, data point or log record that was lost or doubled. `docs/ledger.md` maps each word to its metric and its alert.

use serde::Serialize;

use super::cells::{Metric, Schema, Series};
use super::metrics::{
    PIPELINE_ACCEPTED, PIPELINE_CREATED, PIPELINE_DELIVERED, PIPELINE_DROPPED, PIPELINE_FAILED, PIPELINE_IN_FLIGHT,
    PIPELINE_KEPT, PIPELINE_SHED, RECEIVER_ACCEPTED, RECEIVER_OFFERED, RECEIVER_REFUSED, RECEIVER_REFUSED_REQUESTS,
    RECEIVER_REJECTED, RECEIVER_REJECTED_REQUESTS, RECEIVER_UNANSWERED,
};
use codecs::otlp::Signal;

/// Both books of the whole process, or of one shard if read from its snapshot alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Books {
    /// One per receiver, transport and signal, in declaration order.
    pub intake: Vec<Intake>,
    /// One per pipeline and exporter, in declaration order.
    pub accounts: Vec<Account>,
}

/// What senders offered of one signal to one receiver over one transport. Spans, data points or log records, unless named
/// otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Intake {
    /// Receiver id.
    pub receiver: String,
    /// `grpc` or `http`.
    pub transport: String,
    /// `traces`, `metrics` or `logs`.
    pub signal: &'static str,
    /// In requests whose items could be counted.
    pub offered: u64,
    /// Taken into a pipeline.
    pub accepted: u64,
    /// Not now, retry.
    pub refused: u64,
    /// Never.
    pub rejected: u64,
    /// Offered, without an answer yet; 0 after a drain.
    pub unanswered: u64,
    /// Requests refused before their items could be counted, of all signals: told in the first book of the receiver.
    pub refused_requests: u64,
    /// Requests rejected before their items could be counted, of all signals: told in the first book of the receiver.
    pub rejected_requests: u64,
}

/// What became of a pipeline's items on their way to one exporter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Account {
    /// Pipeline id.
    pub pipeline: String,
    /// Exporter id.
    pub exporter: String,
    /// Entered the pipeline.
    pub accepted: u64,
    /// Made by a processor.
    pub created: u64,
    /// Taken by the backend.
    pub delivered: u64,
    /// Dropped by policy.
    pub dropped: u64,
    /// Given up by overload.
    pub shed: u64,
    /// Could not be delivered.
    pub failed: u64,
    /// Held by a node, a ring or a queue.
    pub in_flight: u64,
    /// Of those in flight, what a durable queue keeps for the next start.
    pub kept_on_disk: u64,
}

impl Intake {
    /// Offered minus what became of it; 0 if the book balances.
    pub fn imbalance(&self) -> i128 {
        let known = [self.accepted, self.refused, self.rejected, self.unanswered];
        i128::from(self.offered) - known.into_iter().map(i128::from).sum::<i128>()
    }
}

impl Account {
    /// What came in minus what became of it: positive if spans vanished, negative if some were counted twice.
    pub fn imbalance(&self) -> i128 {
        let gone = [self.delivered, self.dropped, self.shed, self.failed, self.in_flight];
        i128::from(self.accepted) + i128::from(self.created) - gone.into_iter().map(i128::from).sum::<i128>()
    }

    /// The account without its names: equal for two exporters that were given the same.
    fn figures(&self) -> [u64; 8] {
        let Account { accepted, created, delivered, dropped, shed, failed, in_flight, kept_on_disk, .. } = *self;
        [accepted, created, delivered, dropped, shed, failed, in_flight, kept_on_disk]
    }
}

impl Books {
    /// Reads both books from values in the schema's order: one shard's snapshot or the fold of all.
    pub fn read(schema: &Schema, values: &[u64]) -> Books {
        let mut books = Books::default();
        for series in schema.series() {
            if let Some((term, signal)) = intake_term(series.metric) {
                *term(books.intake_of(series, signal)) += values[series.cell];
            }
            if let Some(term) = account_term(series.metric) {
                *term(books.account_of(series)) += values[series.cell];
            }
        }
        books
    }

    /// Sum of all imbalances without their signs; 0 if every book balances.
    pub fn imbalance(&self) -> u128 {
        let intake = self.intake.iter().map(Intake::imbalance);
        let accounts = self.accounts.iter().map(Account::imbalance);
        intake.chain(accounts).map(i128::unsigned_abs).sum()
    }

    /// Whether no request has come in, good or bad.
    pub fn is_silent(&self) -> bool {
        let quiet = |book: &Intake| book.offered == 0 && book.refused_requests == 0 && book.rejected_requests == 0;
        self.intake.iter().all(quiet)
    }

    /// One line for each book that does not balance.
    pub fn disagreements(&self) -> Vec<String> {
        let intake = self.intake.iter().filter(|book| book.imbalance() != 0).map(|book| {
            let (receiver, transport, off) = (&book.receiver, &book.transport, book.imbalance());
            let item = signal_of(book).item();
            format!("receiver {receiver} over {transport}: offered and answered {item}s differ by {off}")
        });
        let accounts = self.accounts.iter().filter(|book| book.imbalance() != 0);
        let accounts = accounts.map(|book| {
            let (pipeline, exporter, off) = (&book.pipeline, &book.exporter, book.imbalance());
            let item = pipeline_signal(pipeline).item();
            format!("pipeline {pipeline} to {exporter}: {item}s in and {item}s accounted for differ by {off}")
        });
        intake.chain(accounts).collect()
    }

    /// Both books in one sentence, for a person who just pressed Ctrl-C.
    pub fn sentence(&self) -> String {
        // Nobody carries on what is in flight at the end.
        self.said(|account| account.in_flight.saturating_sub(account.kept_on_disk))
    }

    /// The same of a gateway that goes on: what is in flight is not lost.
    pub fn sentence_so_far(&self) -> String {
        self.said(|_| 0)
    }

    fn said(&self, abandoned: impl Fn(&Account) -> u64) -> String {
        let total = |term: fn(&Intake) -> u64| self.intake.iter().map(term).sum::<u64>();
        let mut said = self.received();
        let mut aside = Vec::new();
        mention(&mut aside, total(|book| book.refused), "refused for a retry");
        mention(&mut aside, total(|book| book.rejected), "rejected");
        mention(&mut aside, total(|book| book.unanswered), "not answered yet");
        let requests = total(|book| book.refused_requests);
        if requests > 0 {
            aside.push(format!("{} refused for a retry uncounted", counted(requests, "request")));
        }
        let requests = total(|book| book.rejected_requests);
        if requests > 0 {
            aside.push(format!("{} rejected", counted(requests, "request")));
        }
        if !aside.is_empty() {
            said = format!("{said} ({})", aside.join(", "));
        }
        let told = self.told_accounts();
        if !told.is_empty() {
            said = format!("{said}: {}", told.join("; "));
        }
        format!("{said}; {}.", self.ending(abandoned))
    }

    /// What was offered, of each signal of which there was anything.
    fn received(&self) -> String {
        let offered = |signal: Signal| -> u64 {
            let books = self.intake.iter().filter(|book| book.signal == signal.name());
            books.map(|book| book.offered).sum()
        };
        let some = Signal::ALL.into_iter().filter(|signal| offered(*signal) > 0);
        let some: Vec<String> = some.map(|signal| counted(offered(signal), signal.item())).collect();
        let other_signals = self.intake.iter().any(|book| signal_of(book) != Signal::Traces);
        match some.split_last() {
            None if other_signals => "Received nothing".to_owned(),
            None => "Received no spans".to_owned(),
            Some((last, [])) => format!("Received {last}"),
            Some((last, others)) => format!("Received {} and {last}", others.join(", ")),
        }
    }

    /// What happened on the way to each exporter; exporters that were given the same are named together.
    fn told_accounts(&self) -> Vec<String> {
        let mut groups: Vec<(&Account, Vec<&str>)> = Vec::new();
        for account in self.accounts.iter().filter(|account| account.figures() != [0; 8]) {
            let same = |(first, _): &&mut (&Account, Vec<&str>)| {
                first.pipeline == account.pipeline && first.figures() == account.figures()
            };
            match groups.iter_mut().find(same) {
                Some((_, names)) => names.push(&account.exporter),
                None => groups.push((account, vec![&account.exporter])),
            }
        }
        let one_pipeline = groups.windows(2).all(|pair| pair[0].0.pipeline == pair[1].0.pipeline);
        let told = groups.iter().map(|(account, exporters)| {
            let (each, names) = (if exporters.len() > 1 { "each of " } else { "" }, exporters.join(", "));
            let pipeline = if one_pipeline { String::new() } else { format!("{} ", account.pipeline) };
            let mut parts = Vec::new();
            mention(&mut parts, account.created, "made by processors or found on disk");
            parts.push(format!("{pipeline}{} kept and delivered to {each}{names}", thousands(account.delivered)));
            mention(&mut parts, account.dropped, "dropped by policy");
            mention(&mut parts, account.shed, "shed by overload");
            mention(&mut parts, account.failed, "not deliverable");
            mention(&mut parts, account.in_flight.saturating_sub(account.kept_on_disk), "still in flight");
            mention(&mut parts, account.kept_on_disk, "kept on disk for the next start");
            parts.join(", ")
        });
        told.collect()
    }

    fn ending(&self, abandoned: impl Fn(&Account) -> u64) -> String {
        let wrong = self.disagreements();
        if !wrong.is_empty() {
            return format!("THE LEDGER DOES NOT BALANCE: {}", wrong.join("; "));
        }
        let lost = |account: &Account| account.shed + account.failed + abandoned(account);
        match self.accounts.iter().map(lost).max().unwrap_or(0) {
            0 => "nothing lost".to_owned(),
            lost => format!("{} lost", thousands(lost)),
        }
    }

    /// The book of these labels; of requests, whose signal is not counted, the first.
    fn intake_of(&mut self, series: &Series, signal: Option<Signal>) -> &mut Intake {
        let [receiver, transport] = ["receiver", "transport"].map(|name| series.label(name).unwrap_or_default());
        let of_signal = |book: &Intake| signal.is_none_or(|signal| signal.name() == book.signal);
        let same = |book: &Intake| book.receiver == receiver && book.transport == transport && of_signal(book);
        let position = self.intake.iter().position(same).unwrap_or_else(|| {
            self.intake.push(Intake {
                receiver: receiver.to_owned(),
                transport: transport.to_owned(),
                signal: signal.unwrap_or_default().name(),
                ..Intake::default()
            });
            self.intake.len() - 1
        });
        &mut self.intake[position]
    }

    fn account_of(&mut self, series: &Series) -> &mut Account {
        let [pipeline, exporter] = ["pipeline", "exporter"].map(|name| series.label(name).unwrap_or_default());
        let same = |book: &Account| book.pipeline == pipeline && book.exporter == exporter;
        let position = self.accounts.iter().position(same).unwrap_or_else(|| {
            self.accounts.push(Account {
                pipeline: pipeline.to_owned(),
                exporter: exporter.to_owned(),
                ..Account::default()
            });
            self.accounts.len() - 1
        });
        &mut self.accounts[position]
    }
}

/// A term of a book: where its value is kept.
type Term<Book> = fn(&mut Book) -> &mut u64;

/// Which term of an intake book a metric is, and of which signal.
fn intake_term(metric: &'static Metric) -> Option<(Term<Intake>, Option<Signal>)> {
    let of_items: [(&[Metric], Term<Intake>); 5] = [
        (&RECEIVER_OFFERED, |book| &mut book.offered),
        (&RECEIVER_ACCEPTED, |book| &mut book.accepted),
        (&RECEIVER_REFUSED, |book| &mut book.refused),
        (&RECEIVER_REJECTED, |book| &mut book.rejected),
        (&RECEIVER_UNANSWERED, |book| &mut book.unanswered),
    ];
    let of_requests: [(&Metric, Term<Intake>); 2] = [
        (&RECEIVER_REFUSED_REQUESTS, |book| &mut book.refused_requests),
        (&RECEIVER_REJECTED_REQUESTS, |book| &mut book.rejected_requests),
    ];
    let counted = of_items.into_iter().find_map(|(family, term)| Some((term, Some(member(family, metric)?))));
    let request = || of_requests.into_iter().find(|(term, _)| std::ptr::eq(*term, metric));
    counted.or_else(|| request().map(|(_, term)| (term, None)))
}

/// The signal whose metric of this family it is.
fn member(family: &[Metric], metric: &Metric) -> Option<Signal> {
    let position = family.iter().position(|member| std::ptr::eq(member, metric))?;
    Some(Signal::ALL[position])
}

fn signal_of(book: &Intake) -> Signal {
    Signal::from_name(book.signal).unwrap_or_default()
}

/// A pipeline's id begins with its signal.
fn pipeline_signal(id: &str) -> Signal {
    Signal::from_name(id.split('/').next().unwrap_or_default()).unwrap_or_default()
}

/// Which term of an account a metric is.
fn account_term(metric: &'static Metric) -> Option<Term<Account>> {
    let terms: [(&[Metric], Term<Account>); 8] = [
        (&PIPELINE_ACCEPTED, |book| &mut book.accepted),
        (&PIPELINE_CREATED, |book| &mut book.created),
        (&PIPELINE_DELIVERED, |book| &mut book.delivered),
        (&PIPELINE_DROPPED, |book| &mut book.dropped),
        (&PIPELINE_SHED, |book| &mut book.shed),
        (&PIPELINE_FAILED, |book| &mut book.failed),
        (&PIPELINE_IN_FLIGHT, |book| &mut book.in_flight),
        (&PIPELINE_KEPT, |book| &mut book.kept_on_disk),
    ];
    terms.into_iter().find_map(|(family, term)| member(family, metric).map(|_| term))
}

fn mention(said: &mut Vec<String>, amount: u64, what: &str) {
    if amount > 0 {
        said.push(format!("{} {what}", thousands(amount)));
    }
}

fn counted(amount: u64, thing: &str) -> String {
    let plural = if amount == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(amount))
}

/// `1234567` as `1,234,567`.
pub fn thousands(amount: u64) -> String {
    let digits = amount.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::cells::Cells;
    use crate::telemetry::metrics::{BookSeries, ReceiverSeries, RejectReason};

    struct Gateway {
        schema: Schema,
        grpc: ReceiverSeries,
        exporters: [BookSeries; 2],
    }

    fn gateway() -> Gateway {
        let mut schema = Schema::default();
        let grpc = ReceiverSeries::declare(&mut schema, "otlp", "grpc", &[Signal::Traces]);
        ReceiverSeries::declare(&mut schema, "otlp", "http", &[Signal::Traces]);
        let exporters =
            ["otlp/jaeger", "otlp/tempo"].map(|id| BookSeries::declare(&mut schema, "traces", id, Signal::Traces));
        Gateway { schema, grpc, exporters }
    }

    /// 1,234 spans offered and accepted, 234 dropped, the rest delivered to both exporters.
    fn a_good_run(gateway: &Gateway) -> Cells {
        let cells = Cells::new(&gateway.schema);
        cells.add(gateway.grpc.of(Signal::Traces).offered, 1234);
        cells.add(gateway.grpc.of(Signal::Traces).accepted, 1234);
        for book in &gateway.exporters {
            cells.add(book.accepted, 1234);
            cells.add(book.dropped, 234);
            cells.add(book.delivered, 1000);
        }
        cells
    }

    fn books(gateway: &Gateway, cells: &Cells) -> Books {
        Books::read(&gateway.schema, &gateway.schema.fold(&[cells.snapshot()]))
    }

    #[test]
    fn a_run_without_loss_balances_and_says_so() {
        let gateway = gateway();
        let books = books(&gateway, &a_good_run(&gateway));
        assert_eq!(books.imbalance(), 0);
        assert!(!books.is_silent());
        assert_eq!(
            books.sentence(),
            "Received 1,234 spans: 1,000 kept and delivered to each of otlp/jaeger, otlp/tempo, \
             234 dropped by policy; nothing lost."
        );
    }

    #[test]
    fn nothing_received_is_said_in_three_words() {
        let gateway = gateway();
        let books = books(&gateway, &Cells::new(&gateway.schema));
        assert_eq!(books.sentence(), "Received no spans; nothing lost.");
        assert!(books.is_silent());
        assert_eq!(books.intake.len(), 2, "both transports have a book from the start");
        assert_eq!(books.accounts.len(), 2, "both exporters have an account from the start");
    }

    #[test]
    fn what_one_exporter_lost_is_told_apart_from_the_other() {
        let gateway = gateway();
        let cells = a_good_run(&gateway);
        cells.add(gateway.grpc.rejected_requests(RejectReason::Malformed), 1);
        cells.add(gateway.grpc.of(Signal::Traces).offered, 5);
        cells.add(gateway.grpc.of(Signal::Traces).accepted, 5);
        let [jaeger, tempo] = &gateway.exporters;
        cells.add(jaeger.accepted, 5);
        cells.add(tempo.accepted, 5);
        cells.add(jaeger.delivered, 5);
        cells.add(tempo.failed, 5);
        assert_eq!(
            books(&gateway, &cells).sentence(),
            "Received 1,239 spans (1 request rejected): \
             1,005 kept and delivered to otlp/jaeger, 234 dropped by policy; \
             1,000 kept and delivered to otlp/tempo, 234 dropped by policy, 5 not deliverable; 5 lost."
        );
    }

    #[test]
    fn spans_on_their_way_balance_while_somebody_holds_them() {
        let gateway = gateway();
        let cells = a_good_run(&gateway);
        cells.add(gateway.grpc.of(Signal::Traces).offered, 7);
        assert_eq!(books(&gateway, &cells).imbalance(), 7);
        cells.raise(gateway.grpc.of(Signal::Traces).unanswered, 7);
        assert_eq!(books(&gateway, &cells).imbalance(), 0);
        for book in &gateway.exporters {
            cells.add(book.accepted, 7);
        }
        assert_eq!(books(&gateway, &cells).imbalance(), 14, "7 for each exporter");
        for book in &gateway.exporters {
            cells.set(book.in_flight, 7);
        }
        let books = books(&gateway, &cells);
        assert_eq!(books.imbalance(), 0);
        let (end, so_far) = (books.sentence(), books.sentence_so_far());
        assert!(end.ends_with("7 still in flight; 7 lost."), "nobody carries them on at the end: {end}");
        assert!(so_far.ends_with("7 still in flight; nothing lost."), "they are on their way: {so_far}");
    }

    #[test]
    fn a_book_that_does_not_balance_is_named() {
        let gateway = gateway();
        let cells = a_good_run(&gateway);
        cells.add(gateway.grpc.of(Signal::Traces).offered, 3);
        cells.add(gateway.exporters[1].delivered, 2);
        let books = books(&gateway, &cells);
        assert_eq!(
            books.disagreements(),
            [
                "receiver otlp over grpc: offered and answered spans differ by 3",
                "pipeline traces to otlp/tempo: spans in and spans accounted for differ by -2",
            ]
        );
        assert!(books.sentence().contains("THE LEDGER DOES NOT BALANCE"));
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        for (amount, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(amount), text);
        }
    }
}
