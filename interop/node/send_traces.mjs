// Sends spans with the OpenTelemetry SDK for Node (grpc-js, node:http) to a sink, which shows what was sent, and to the
// gateway. What it sends is told in parts/clients.py; nothing here knows how the SDK encodes it.
//
//   node send_traces.mjs PROTOCOL COMPRESSION LOAD SINK GATEWAY
//
// PROTOCOL is grpc, http/protobuf or http/json, COMPRESSION none or gzip, LOAD small or large, SINK and GATEWAY base URLs;
// `-` leaves the sink out. To the sink http/json is sent as http/protobuf. Prints what became of it as one line of JSON.
// Packages are taken from the folder TRACEGATE_INTEROP_NODE, which lies outside the checkout.

import { randomBytes } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.TRACEGATE_INTEROP_NODE, "package.json"));
const { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, createTraceState, trace } = require("@opentelemetry/api");
const { NodeTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-node");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const EXPORTERS = {
  grpc: require("@opentelemetry/exporter-trace-otlp-grpc").OTLPTraceExporter,
  "http/protobuf": require("@opentelemetry/exporter-trace-otlp-proto").OTLPTraceExporter,
  "http/json": require("@opentelemetry/exporter-trace-otlp-http").OTLPTraceExporter,
};

const SCHEMA_URL = "https://opentelemetry.io/schemas/1.27.0";
const ORDINARY_SPANS = 200;
const LARGE_SPANS = 2800;
const PADDING_BYTES = 500;
const EXPORT_MILLISECONDS = 60_000;

const [protocol, compression, load, sink, gateway] = process.argv.slice(2);
const failed = [];
const exporters = [];
if (sink !== "-") {
  exporters.push(newExporter(protocol.replace("json", "protobuf"), sink));
}
exporters.push(newExporter(protocol, gateway));
const providers = [];
let spans = 0;
if (load === "large") {
  sendLarge(newTracer("shop-frontend", 2 * LARGE_SPANS));
} else {
  sendSmall(newTracer("shop-frontend", 5), newTracer("shop-cart", 5), newTracer("shop-payment", 5));
}
// Failed exports were counted when they failed.
await Promise.allSettled(providers.map((provider) => provider.forceFlush()));
await Promise.allSettled(providers.map((provider) => provider.shutdown()));
console.log(JSON.stringify({ spans, failed }));

// Remembers what the exporter says of each export.
function newExporter(protocol, baseUrl) {
  const url = protocol === "grpc" ? baseUrl : `${baseUrl}/v1/traces`;
  // All small requests are under way at once: as many streams on one connection.
  const options = { url, compression, timeoutMillis: EXPORT_MILLISECONDS, concurrencyLimit: 200 };
  const exporter = new EXPORTERS[protocol](options);
  const sending = exporter.export.bind(exporter);
  exporter.export = (items, done) =>
    sending(items, (result) => {
      if (result.code !== 0) {
        failed.push(`${result.error?.code ?? ""} ${result.error}`.trim());
      }
      done(result);
    });
  return exporter;
}

// Each service has a provider of its own; they share the exporters, as the parts of one program do.
function newTracer(service, batch) {
  const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({
      "service.name": service,
      "service.version": "1.2.3",
      "host.cpu.count": 8,
      "host.load": 0.25,
      "host.virtual": true,
      "process.command_args": ["serve", "--port", "8080"],
    }),
    spanLimits: { attributeCountLimit: 32, eventCountLimit: 4, linkCountLimit: 4 },
    forceFlushTimeoutMillis: 2 * EXPORT_MILLISECONDS,
    // Batches are cut by their size alone: the delay is longer than any run.
    spanProcessors: exporters.map(
      (exporter) =>
        new BatchSpanProcessor(exporter, {
          maxQueueSize: 8192,
          maxExportBatchSize: batch,
          scheduledDelayMillis: 300_000,
          exportTimeoutMillis: EXPORT_MILLISECONDS,
        }),
    ),
  });
  providers.push(provider);
  return provider.getTracer(`${service}.library`, "0.9.1", { schemaUrl: SCHEMA_URL });
}

// One trace over all services with everything a span can carry, and many ordinary spans.
function sendSmall(frontend, cart, payment) {
  const elsewhere = {
    traceId: "abcdef0123456789abcdef0123456789",
    spanId: "1122334455667788",
    traceFlags: TraceFlags.SAMPLED,
    isRemote: true,
    traceState: createTraceState("vendor=value,other=x"),
  };
  const everyType = {
    text: "żółw 🐢",
    "text.empty": "",
    "bool.true": true,
    "bool.false": false,
    "int.zero": 0,
    "int.smallest": Number.MIN_SAFE_INTEGER,
    "int.largest": Number.MAX_SAFE_INTEGER,
    double: Math.PI,
    // Not the largest: it counts as an integer, and JSON would carry it as one that no integer can hold.
    "double.tiny": Number.MIN_VALUE,
    texts: ["a", "", "ü"],
    bools: [true, false],
    doubles: [0.5, -2.5],
    numbers: [1, -1, 0.5],
    nothing: [],
  };
  const links = [{ context: elsewhere, attributes: { why: "retry", attempt: 2 } }, { context: elsewhere }];
  const remote = trace.setSpanContext(ROOT_CONTEXT, elsewhere);
  const root = frontend.startSpan("GET /cart", { kind: SpanKind.SERVER, attributes: everyType, links }, remote);
  const inside = trace.setSpan(remote, root);
  for (const kind of [SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]) {
    const step = cart.startSpan(`step ${kind}`, { kind }, inside);
    step.addEvent("found", { items: kind, names: ["x", "y"] });
    step.setStatus({ code: SpanStatusCode.OK });
    end(step);
  }
  const charge = payment.startSpan("charge", { kind: SpanKind.CLIENT }, inside);
  charge.recordException(new Error("card declined"));
  for (let number = 0; number < 6; number += 1) {
    // Three more than the limit allows beside the error: the dropped counts travel too.
    charge.addEvent(`try ${number}`);
  }
  for (let number = 0; number < 40; number += 1) {
    charge.setAttribute(`attribute.${number}`, number);
  }
  charge.setStatus({ code: SpanStatusCode.ERROR, message: "card declined: über limit" });
  end(charge);
  end(root);
  const tracers = [frontend, cart, payment];
  for (let number = 0; number < ORDINARY_SPANS; number += 1) {
    end(tracers[number % 3].startSpan(`ordinary ${number}`, { attributes: { number } }, ROOT_CONTEXT));
  }
}

// Spans that leave in one export of about 3 MB, which gzip cannot shrink to less than half.
function sendLarge(tracer) {
  for (let number = 0; number < LARGE_SPANS; number += 1) {
    const padding = randomBytes(PADDING_BYTES).toString("hex");
    end(tracer.startSpan(`large ${number}`, { attributes: { padding } }, ROOT_CONTEXT));
  }
}

function end(span) {
  span.end();
  spans += 1;
}
