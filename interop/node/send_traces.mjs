// Sends spans with the OpenTelemetry SDK for Node to two places at once: a sink, which shows what was sent, and the
// gateway. Usage: node send_traces.mjs grpc|proto none|gzip SINK_URL GATEWAY_URL. Prints the number of spans.
//
// Packages are taken from the folder TRACEGATE_INTEROP_NODE, which lies outside the checkout.

import { createRequire } from "node:module";
import path from "node:path";

const require = createRequire(path.join(process.env.TRACEGATE_INTEROP_NODE, "package.json"));
const { ROOT_CONTEXT, SpanKind, SpanStatusCode, TraceFlags, createTraceState, trace } = require("@opentelemetry/api");
const { NodeTracerProvider, BatchSpanProcessor } = require("@opentelemetry/sdk-trace-node");
const { resourceFromAttributes } = require("@opentelemetry/resources");
const grpcExporter = require("@opentelemetry/exporter-trace-otlp-grpc").OTLPTraceExporter;
const protoExporter = require("@opentelemetry/exporter-trace-otlp-proto").OTLPTraceExporter;

const [protocol, compression, sinkUrl, gatewayUrl] = process.argv.slice(2);
const Exporter = protocol === "grpc" ? grpcExporter : protoExporter;
const processors = [sinkUrl, gatewayUrl].map(
  (url) => new BatchSpanProcessor(new Exporter({ url, compression, timeoutMillis: 20000 }), { maxExportBatchSize: 6 }),
);
const provider = new NodeTracerProvider({
  resource: resourceFromAttributes({
    "service.name": "shop-node",
    "host.count": 3,
    "host.load": 0.75,
    "host.virtual": false,
    "process.command_args": ["node", "shop.mjs"],
  }),
  spanProcessors: processors,
});
const tracer = provider.getTracer("shop.library", "2.0.0", { schemaUrl: "https://opentelemetry.io/schemas/1.27.0" });

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
  yes: true,
  no: false,
  zero: 0,
  integer: -9007199254740991,
  double: 3.141592653589793,
  huge: 1e300,
  texts: ["a", "", "ü"],
  bools: [true, false],
  numbers: [1, -1, 0.5],
  nothing: [],
};

let spans = 0;
function span(name, options, parent, work) {
  const made = tracer.startSpan(name, options, parent);
  work?.(made);
  made.end();
  spans += 1;
  return trace.setSpan(parent, made);
}

const remote = trace.setSpanContext(ROOT_CONTEXT, elsewhere);
const links = [{ context: elsewhere, attributes: { why: "retry", attempt: 2 } }, { context: elsewhere }];
const root = span("GET /cart", { kind: SpanKind.SERVER, attributes: everyType, links }, remote);
for (const kind of [SpanKind.INTERNAL, SpanKind.SERVER, SpanKind.CLIENT, SpanKind.PRODUCER, SpanKind.CONSUMER]) {
  span(`step ${kind}`, { kind }, root, (made) => {
    made.addEvent("found", { items: kind, names: ["x", "y"] });
    made.setStatus({ code: SpanStatusCode.OK });
  });
}
span("charge", { kind: SpanKind.CLIENT }, root, (made) => {
  made.recordException(new Error("card declined"));
  made.setStatus({ code: SpanStatusCode.ERROR, message: "card declined: über limit" });
});
for (let number = 0; number < 20; number += 1) {
  span(`ordinary ${number}`, { attributes: { number } }, ROOT_CONTEXT);
}
await provider.forceFlush();
await provider.shutdown();
console.log(spans);
