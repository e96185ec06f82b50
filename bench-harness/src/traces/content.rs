//! What spans say: services with their resources and scopes, names and attributes as instrumentation libraries write
//! them. The mix is tuned for 8 to 12 attributes, 300 to 450 bytes a span and a gzip ratio of 4 to 7 (tests in
//! `cycle.rs` hold it there): most values repeat, a few are fresh in every span.

use super::shape::{KIND_CLIENT, KIND_SERVER, SERVICES};
use super::wire::{self, Value};

const NAMES: [&str; SERVICES] = [
    "frontend",
    "checkout",
    "cart",
    "product-catalog",
    "payment",
    "shipping",
    "email",
    "currency",
    "recommendation",
    "inventory",
    "accounting",
    "fraud-detection",
];
const ROUTES: [&str; 8] = [
    "/api/v1/cart/items",
    "/api/v1/products/{id}",
    "/api/v1/orders",
    "/api/v1/orders/{id}/status",
    "/api/v1/users/{id}/profile",
    "/api/v1/shipping/quote",
    "/api/v1/recommendations",
    "/api/v1/payments/charge",
];
const METHODS: [&str; 3] = ["GET", "POST", "PUT"];
const AGENTS: [&str; 3] = ["Mozilla/5.0 (X11; Linux x86_64)", "okhttp/4.12.0", "Go-http-client/2.0"];
const STATEMENTS: [&str; 4] = [
    "SELECT id, name, price FROM products WHERE category = $1 LIMIT 20",
    "UPDATE inventory SET reserved = reserved + $1 WHERE sku = $2",
    "INSERT INTO orders (user_id, total, currency) VALUES ($1, $2, $3)",
    "SELECT quantity FROM cart_items WHERE cart_id = $1",
];
const STEPS: [&str; 4] = ["validate", "serialize", "apply_discounts", "render_template"];

const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.26.0";

/// How many scopes a service has.
pub(crate) const SCOPES: usize = 2;

/// The envelope of a service's ResourceSpans: its `resource` and `schema_url` fields, with tags.
pub(crate) fn resource_envelope(service: u8) -> Vec<u8> {
    let name = NAMES[usize::from(service)];
    let mut resource = Vec::new();
    let mut add = |key: &str, value: String| wire::attribute(&mut resource, 1, key, &Value::Text(value));
    add("service.name", name.to_owned());
    add("service.namespace", "shop".to_owned());
    add("service.version", format!("1.{service}.3"));
    add("service.instance.id", format!("{name}-7d9f{service:02x}c4-x{service}k2p"));
    add("k8s.pod.name", format!("{name}-7d9f{service:02x}c4-x{service}k2p"));
    add("k8s.namespace.name", "production".to_owned());
    add("host.name", format!("node-{}", service % 4));
    add("deployment.environment", "production".to_owned());
    add("telemetry.sdk.language", ["java", "go", "python"][usize::from(service) % 3].to_owned());
    add("telemetry.sdk.name", "opentelemetry".to_owned());
    let mut envelope = Vec::new();
    wire::bytes(&mut envelope, 1, &resource);
    wire::bytes(&mut envelope, 3, SCHEMA_URL.as_bytes());
    envelope
}

/// The envelope of a ScopeSpans: its `scope` field, with its tag.
pub(crate) fn scope_envelope(scope: u8) -> Vec<u8> {
    let (name, version) =
        [("io.opentelemetry.http-server", "2.6.0"), ("io.opentelemetry.client", "2.6.0")][usize::from(scope) % SCOPES];
    let mut message = Vec::new();
    wire::bytes(&mut message, 1, name.as_bytes());
    wire::bytes(&mut message, 2, version.as_bytes());
    let mut envelope = Vec::new();
    wire::bytes(&mut envelope, 1, &message);
    envelope
}

/// Which scope makes spans of this kind.
pub(crate) fn scope_of(kind: u8) -> u8 {
    u8::from(kind == KIND_CLIENT)
}

/// Name and attributes of one span.
pub(crate) fn describe(service: u8, kind: u8, random: &mut fastrand::Rng) -> (String, Vec<(&'static str, Value)>) {
    let text = |text: &str| Value::Text(text.to_owned());
    match kind {
        KIND_SERVER => served(random, text),
        KIND_CLIENT if random.bool() => queried(random, text),
        KIND_CLIENT => called(random, text),
        _ => worked(service, random, text),
    }
}

type Described = (String, Vec<(&'static str, Value)>);

/// Of this many shapes one has each mark.
pub(crate) const SHAPES_PER_MARK: usize = 100;

/// Puts a mark on the root of a trace: what one of the ten policies about attributes wants, on one shape of
/// [`SHAPES_PER_MARK`] each. Values are exchanged or added, so that keys are found on all traces and values on few.
pub(crate) fn mark(shape: usize, attributes: &mut Vec<(&'static str, Value)>) {
    let (key, value) = match shape % SHAPES_PER_MARK {
        0 => ("http.route", Value::Text("/api/v1/refunds".to_owned())),
        1 => ("app.tenant", Value::Text("umbrella".to_owned())),
        2 => ("user_agent.original", Value::Text("prober/2.1".to_owned())),
        3 => ("url.path", Value::Text("/api/v1/exports/4711".to_owned())),
        4 => ("http.response.status_code", Value::Int(503)),
        5 => ("app.items.count", Value::Int(500)),
        _ => return,
    };
    match attributes.iter_mut().find(|(found, _)| *found == key) {
        Some((_, found)) => *found = value,
        None => attributes.push((key, value)),
    }
}

fn served(random: &mut fastrand::Rng, text: impl Fn(&str) -> Value) -> Described {
    let method = METHODS[random.usize(..METHODS.len())];
    let route = ROUTES[random.usize(..ROUTES.len())];
    let path = route.replace("{id}", &random.u32(100_000..999_999).to_string());
    let attributes = vec![
        ("http.request.method", text(method)),
        ("http.route", text(route)),
        ("url.path", Value::Text(path)),
        ("url.scheme", text("https")),
        ("http.response.status_code", Value::Int(200)),
        ("network.peer.address", Value::Text(format!("10.4.{}.{}", random.u8(0..16), random.u8(1..255)))),
        ("network.peer.port", Value::Int(random.u64(32_768..61_000))),
        ("user_agent.original", text(AGENTS[random.usize(..AGENTS.len())])),
        ("thread.id", Value::Int(random.u64(20..60))),
    ];
    (format!("{method} {route}"), attributes)
}

fn queried(random: &mut fastrand::Rng, text: impl Fn(&str) -> Value) -> Described {
    let statement = STATEMENTS[random.usize(..STATEMENTS.len())];
    let verb = statement.split(' ').next().unwrap_or(statement);
    let attributes = vec![
        ("db.system", text("postgresql")),
        ("db.namespace", text("shop")),
        ("db.operation.name", text(verb)),
        ("db.query.text", text(statement)),
        ("server.address", text("orders-db.production.svc")),
        ("server.port", Value::Int(5432)),
        ("db.response.returned_rows", Value::Int(random.u64(0..500))),
        ("thread.id", Value::Int(random.u64(20..60))),
    ];
    (format!("{verb} shop"), attributes)
}

fn called(random: &mut fastrand::Rng, text: impl Fn(&str) -> Value) -> Described {
    let peer = NAMES[random.usize(..NAMES.len())];
    let method = METHODS[random.usize(..METHODS.len())];
    let route = ROUTES[random.usize(..ROUTES.len())];
    let path = route.replace("{id}", &random.u32(100_000..999_999).to_string());
    let attributes = vec![
        ("http.request.method", text(method)),
        ("url.full", Value::Text(format!("http://{peer}.production.svc:8080{path}"))),
        ("http.response.status_code", Value::Int(200)),
        ("server.address", Value::Text(format!("{peer}.production.svc"))),
        ("server.port", Value::Int(8080)),
        ("network.protocol.version", text("1.1")),
        ("http.request.resend_count", Value::Int(0)),
        ("thread.id", Value::Int(random.u64(20..60))),
    ];
    (method.to_owned(), attributes)
}

fn worked(service: u8, random: &mut fastrand::Rng, text: impl Fn(&str) -> Value) -> Described {
    let step = STEPS[random.usize(..STEPS.len())];
    let name = NAMES[usize::from(service)];
    let attributes = vec![
        ("code.function.name", Value::Text(format!("com.example.shop.{name}.{step}"))),
        ("code.file.path", Value::Text(format!("com/example/shop/{name}.java"))),
        ("code.line.number", Value::Int(random.u64(20..400))),
        ("app.user.id", Value::Text(format!("user-{:06}", random.u32(..1_000_000)))),
        ("app.tenant", text(["acme", "globex", "initech"][random.usize(..3)])),
        ("app.items.count", Value::Int(random.u64(1..40))),
        ("app.cache.hit", Value::Bool(random.bool())),
        ("thread.id", Value::Int(random.u64(20..60))),
        ("thread.name", text("worker-pool-1")),
    ];
    (step.to_owned(), attributes)
}
