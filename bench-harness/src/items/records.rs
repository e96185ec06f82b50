//! What log records say: lines of a dozen services as their libraries write them, 350 bytes each, with the trace and
//! span they belong to. The trace id is the record's own: it says which record it is.

use crate::traces::wire::{self, Value};

const SCOPE: &str = "com.shop.orders.OrderService";
const SEVERITIES: [(u64, &str); 4] = [(9, "INFO"), (9, "INFO"), (13, "WARN"), (17, "ERROR")];
const THREADS: [&str; 4] = ["http-nio-8080-exec-3", "http-nio-8080-exec-11", "kafka-consumer-0", "scheduling-1"];

/// From the record's end to its trace id: id, span id and observed time, each with its tag, are last.
const TRACE_ID_FROM_END: usize = 16 + 2 + 8 + 1 + 8;

/// Where the time of a record is.
pub(super) const TIME_AT: usize = 1;

/// Where the trace id of a record of this length is.
pub(super) fn trace_id_at(length: usize) -> usize {
    length - TRACE_ID_FROM_END
}

/// Where its span id is.
pub(super) fn span_id_at(length: usize) -> usize {
    length - 17
}

/// Where its observed time is.
pub(super) fn observed_at(length: usize) -> usize {
    length - 8
}

/// The envelope of every ScopeLogs: its `scope` field, with its tag.
pub(super) fn scope_envelope() -> Vec<u8> {
    let mut message = Vec::new();
    wire::bytes(&mut message, 1, SCOPE.as_bytes());
    let mut envelope = Vec::new();
    wire::bytes(&mut envelope, 1, &message);
    envelope
}

/// A LogRecord whose times and ids are still 0.
pub(super) fn record(random: &mut fastrand::Rng) -> Vec<u8> {
    let (severity, severity_text) = SEVERITIES[random.usize(..SEVERITIES.len())];
    let mut record = Vec::with_capacity(512);
    wire::fixed64(&mut record, 1, 0);
    wire::integer(&mut record, 2, severity);
    wire::bytes(&mut record, 3, severity_text.as_bytes());
    let mut body = Vec::new();
    wire::bytes(&mut body, 1, line(random).as_bytes());
    wire::bytes(&mut record, 5, &body);
    for (key, value) in [
        ("thread.name", Value::Text(THREADS[random.usize(..THREADS.len())].to_owned())),
        ("code.function", Value::Text("com.shop.orders.OrderService.place".to_owned())),
        ("http.response.status_code", Value::Int(200)),
        ("log.logger", Value::Text("com.shop.orders.OrderService".to_owned())),
        ("log.iostream", Value::Text("stdout".to_owned())),
        ("user.id", Value::Text(format!("u-{}", random.u32(100_000..999_999)))),
    ] {
        wire::attribute(&mut record, 6, key, &value);
    }
    wire::fixed32(&mut record, 8, 1);
    wire::bytes(&mut record, 9, &[0; 16]);
    wire::bytes(&mut record, 10, &[0; 8]);
    wire::fixed64(&mut record, 11, 0);
    record
}

fn line(random: &mut fastrand::Rng) -> String {
    let order = random.u32(100_000..999_999);
    let (items, cents) = (random.u8(1..9), random.u32(100..99_999));
    let took = random.u16(1..900);
    match random.u8(..3) {
        0 => format!("order {order} placed: {items} items, {cents} cents, inventory reserved in {took} ms"),
        1 => format!("payment of {cents} cents for order {order} authorized after {took} ms, attempt {items}"),
        _ => format!("shipping quote for order {order} took {took} ms; {items} parcels, {cents} grams in all"),
    }
}
