//! Nanoseconds per span of statements: `cargo bench -p ottl`.
//!
//! A span as the harness sends it: eight attributes, 350 bytes. Each figure is the fastest of many rounds on one thread and
//! holds everything that a transform does to a span but the index: opening it, the statements, writing it if it changed.

use std::hint::black_box;
use std::time::Instant;

use codecs::otlp::proto::{AnyValue, KeyValue, Resource, ResourceSpans, Span, Value};
use ottl::{Context, Environment, Paths, Statement, WireItem, check_statement};
use prost::Message;

const ROUNDS: usize = 300;
const SPANS: usize = 512;

/// The statements of the gateway file that users bring.
const MASKING: &[&str] = &[
    r#"set(attributes["user.email"], SHA256(attributes["user.email"])) where resource.attributes["env"] == "prod""#,
    r#"delete_key(attributes, "password")"#,
    r#"delete_key(attributes, "credit_card")"#,
];

/// One more attribute and one less, five times.
const SETTING: &[&str] = &[
    r#"set(attributes["a"], "one")"#,
    r#"delete_key(attributes, "http.route")"#,
    r#"set(attributes["b"], 2)"#,
    r#"delete_key(attributes, "http.method")"#,
    r#"set(attributes["c"], "three")"#,
    r#"delete_key(attributes, "net.peer.name")"#,
    r#"set(attributes["d"], 4)"#,
    r#"delete_key(attributes, "http.user_agent")"#,
    r#"set(attributes["e"], "five")"#,
    r#"delete_key(attributes, "thread.name")"#,
];

fn main() {
    let resource = ResourceSpans {
        resource: Some(Resource { attributes: vec![text("env", "prod")], ..Resource::default() }),
        ..ResourceSpans::default()
    };
    let resource = resource.encode_to_vec();
    let plain: Vec<Vec<u8>> = (0..SPANS).map(|number| span(number, None).encode_to_vec()).collect();
    let personal: Vec<Vec<u8>> =
        (0..SPANS).map(|number| span(number, Some("ann@example.com")).encode_to_vec()).collect();
    measure("masking, nothing to mask", MASKING, &resource, &plain);
    measure("masking, one hash", MASKING, &resource, &personal);
    measure("5 set, 5 delete_key", SETTING, &resource, &plain);
    measure("one rename", &[r#"set(name, attributes["http.route"])"#], &resource, &plain);
}

fn text(key: &str, value: &str) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(Value::String(value.into())) }) }
}

fn span(number: usize, email: Option<&str>) -> Span {
    let mut attributes = vec![
        text("http.method", "GET"),
        text("http.route", "/cart/{id}/items"),
        text("http.url", "https://shop.example.com/cart/1234567/items?page=2"),
        text("http.user_agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
        text("net.peer.name", "shop-frontend-7c9d"),
        text("thread.name", "worker-12"),
        text("user.tier", "gold"),
        text("cart.items", "12"),
    ];
    attributes.extend(email.map(|email| text("user.email", email)));
    Span {
        trace_id: vec![7; 16],
        span_id: (number as u64).to_be_bytes().to_vec(),
        parent_span_id: vec![1; 8],
        name: b"GET /cart".to_vec(),
        kind: 2,
        start_time_unix_nano: 1_700_000_000_000_000_000,
        end_time_unix_nano: 1_700_000_000_001_000_000,
        attributes,
        ..Span::default()
    }
}

/// Prints nanoseconds per span of the fastest round.
fn measure(name: &str, statements: &[&str], resource: &[u8], spans: &[Vec<u8>]) {
    let check = |text: &&str| check_statement(text, Context::Span, Paths::Bare).expect("a good statement");
    let statements: Vec<Statement> = statements.iter().map(check).collect();
    let mut environment = Environment::default();
    let mut item = WireItem::default();
    item.begin_resource(resource);
    let mut out = Vec::new();
    let rounds = (0..ROUNDS).map(|_| {
        out.clear();
        let start = Instant::now();
        for span in spans {
            environment.cache.clear();
            item.begin_item(black_box(span));
            for statement in &statements {
                black_box(statement.run(&mut item, &mut environment));
            }
            if item.is_changed(Context::Span) {
                item.write(Context::Span, &mut out);
            }
        }
        start.elapsed()
    });
    let fastest = rounds.min().unwrap_or_default();
    println!("    {name:28} {:8.1} ns a span", fastest.as_nanos() as f64 / spans.len() as f64);
}
