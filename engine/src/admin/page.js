// The admin page: asks for /overview each second and draws every view of it.
//
//   /overview --fetch--> history of samples --rates--> one draw function a view
//   /traces, /traces/<id> when somebody asks, and while the stores are small: the shards decode them
//
// The one idea: the gateway tells totals and this page makes rates, from the newest sample and one of five seconds ago.
// What peers and configurations named is only ever written as text, through text nodes and attributes of drawings.
"use strict";

const ASK_EVERY_MS = 1000;
const RATE_WINDOW_MS = 5000;
const HISTORY_MS = 60000;
// Below this many kept bytes the list of traces is read again when it changed; above it when somebody asks.
const KEPT_SMALL_BYTES = 4 << 20;
const TRACES_EVERY_MS = 5000;
const TRACES_SHOWN_MAX = 100;
const SPANS_SHOWN_MAX = 500;
const NAME_SHOWN_MAX = 24;
const SVG = "http://www.w3.org/2000/svg";

const byId = (id) => document.getElementById(id);
const place = (view) => byId(view).querySelector("div");

// ---------------------------------------------------------------- making nodes

function furnished(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== "") node.setAttribute(name, value);
  }
  // Strings become text nodes.
  node.append(...children);
  return node;
}
const tag = (name, attributes = {}, ...children) => furnished(document.createElement(name), attributes, children);
const shape = (name, attributes = {}, ...children) =>
  furnished(document.createElementNS(SVG, name), attributes, children);

// Columns are [title, is a number]; cells are text or nodes.
function table(columns, rows, caption) {
  const cell = (kind, value, at) => tag(kind, { class: columns[at][1] ? "number" : "" }, value);
  const head = tag("tr", {}, ...columns.map(([title], at) => furnished(cell("th", title, at), { scope: "col" }, [])));
  const body = rows.map((cells) => tag("tr", {}, ...cells.map((value, at) => cell("td", value, at))));
  const parts = [tag("thead", {}, head), tag("tbody", {}, ...body)];
  return tag("table", {}, ...(caption ? [tag("caption", {}, caption)] : []), ...parts);
}

function bar(share, label, high = 0.8) {
  const width = Math.max(0, Math.min(1, share || 0)) * 120;
  return shape("svg", { width: 120, height: 12, role: "img", "aria-label": label },
    shape("rect", { class: "track", width: 120, height: 12, rx: 3 }),
    shape("rect", { class: share > high ? "level high" : "level", width, height: 12, rx: 3 }));
}

function shortened(text, most = NAME_SHOWN_MAX) {
  const characters = Array.from(text);
  return characters.length > most ? characters.slice(0, most - 1).join("") + "…" : text;
}

// ---------------------------------------------------------------- numbers as people read them

const whole = new Intl.NumberFormat("en");
const count = (value) => whole.format(value);
function rateText(value) {
  if (value === null) return "…";
  return (value > 0 && value < 10 ? value.toFixed(1) : count(Math.round(value))) + "/s";
}
function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return (at === 0 ? count(value) : value.toFixed(1)) + " " + units[at];
}
function nanoseconds(value) {
  if (value < 1e3) return value + " ns";
  if (value < 1e6) return (value / 1e3).toFixed(1) + " µs";
  if (value < 1e9) return (value / 1e6).toFixed(1) + " ms";
  return (value / 1e9).toFixed(2) + " s";
}
function seconds(value) {
  if (value < 90) return Math.round(value) + " s";
  if (value < 5400) return Math.round(value / 60) + " min";
  if (value < 129600) return Math.round(value / 3600) + " h";
  return Math.round(value / 86400) + " d";
}
const percent = (share) => (share * 100).toFixed(1) + " %";
// When a level that grows at this rate reaches its limit.
function untilFull(level, limit, growth) {
  if (limit === 0 || growth === null) return "";
  if (level >= limit) return "full";
  return growth <= limit / 1e5 ? "not filling" : "full in " + seconds((limit - level) / growth);
}

// ---------------------------------------------------------------- history and rates

let history = [];

// Every figure a rate is made of, by a key of the view's own.
function figures(overview) {
  const values = new Map();
  for (const pipeline of overview.pipelines) {
    const own = pipeline.id + " ";
    for (const it of pipeline.receivers) values.set("receiver " + own + it.id, it.accepted);
    for (const it of pipeline.processors) {
      values.set("into " + own + it.id, it.incoming);
      values.set("out of " + own + it.id, it.outgoing);
    }
    for (const it of pipeline.exporters) {
      values.set("delivered " + own + it.id, it.delivered);
      values.set("lost " + own + it.id, it.failed + it.shed);
    }
  }
  const sum = (list, term) => list.reduce((total, it) => total + it[term], 0);
  values.set("in", sum(overview.ledger.intake, "accepted"));
  values.set("out", sum(overview.pipelines.flatMap((it) => it.exporters.filter((to) => !to.connector)), "delivered"));
  values.set("cpu", overview.gateway.cpu_seconds);
  values.set("held", overview.budget.held_bytes);
  overview.shards.forEach((shard, at) => values.set("shard " + at, shard.accepted));
  for (const queue of overview.queues) {
    const own = queue.exporter + " " + queue.signal;
    values.set("sent " + own, queue.sent);
    values.set("waiting " + own, queue.size);
  }
  for (const policy of overview.policies.policies) values.set("policy " + policy.policy, policy.sampled);
  overview.refusals.forEach((it, at) => values.set("refusal " + at, it.count));
  overview.latency.forEach((it, at) => it.buckets.forEach((n, bucket) => values.set(`bucket ${at} ${bucket}`, n)));
  return values;
}

function remember(overview) {
  const at = overview.gateway.uptime_ms;
  // A younger process has counts of its own.
  if (history.length > 0 && at < history[history.length - 1].at) history = [];
  history.push({ at, values: figures(overview) });
  history = history.filter((sample) => at - sample.at <= HISTORY_MS);
}

function since(window) {
  const newest = history[history.length - 1];
  const oldest = history.find((sample) => newest.at - sample.at <= window);
  return { newest, oldest };
}
// Change a second; null as long as there is nothing to compare with.
function rate(key) {
  const { newest, oldest } = since(RATE_WINDOW_MS);
  const before = oldest.values.get(key);
  if (newest.at === oldest.at || before === undefined) return null;
  return (newest.values.get(key) - before) / (newest.at - oldest.at) * 1000;
}

function trend(key) {
  const rates = [];
  for (let at = 1; at < history.length; at += 1) {
    const [before, after] = [history[at - 1], history[at]];
    rates.push((after.values.get(key) - before.values.get(key)) / Math.max(1, after.at - before.at));
  }
  const top = Math.max(...rates, 1e-9);
  const points = rates.map((value, at) => `${at * 2},${22 - Math.max(0, value) / top * 20}`);
  return shape("svg", { width: 120, height: 24, "aria-hidden": "true" },
    shape("polyline", { class: "trend", points: points.join(" ") }));
}

// ---------------------------------------------------------------- views

function drawHead({ gateway, ledger, budget, policies, configuration }) {
  const state = byId("state");
  const wrong = gateway.state !== "ready" || !ledger.balanced || configuration.message !== "";
  state.className = wrong ? "bad" : "good";
  const balance = ledger.balanced ? "the ledger balances" : "THE LEDGER DOES NOT BALANCE";
  const changed = configuration.message === "" ? ""
    : `; the changed configuration is ${configuration.state === "waiting" ? "waiting" : "not applied"}: ${configuration.message}`;
  state.textContent = `${gateway.state}, up ${seconds(gateway.uptime_ms / 1000)}, ${balance}, version ${gateway.version}${changed}`;
  const cores = rate("cpu");
  const decided = policies.kept + policies.not_kept;
  const figure = (title, value, ...more) => tag("div", {}, tag("dt", {}, title), tag("dd", {}, value, ...more));
  byId("headline").replaceChildren(
    figure("Taken", rateText(rate("in")), trend("in")),
    figure("Delivered", rateText(rate("out")), trend("out")),
    figure("Traces kept", decided === 0 ? "–" : percent(policies.kept / decided)),
    figure("Cores", cores === null ? "…" : cores.toFixed(2), trend("cpu")),
    figure("Memory", bytes(gateway.resident_bytes)),
    figure("Budget", budget.limit_bytes === 0 ? "–" : percent(budget.held_bytes / budget.limit_bytes)));
}

const NODE = { width: 188, height: 46, gap: 60, row: 60 };

function drawPipelines({ pipelines }) {
  place("pipelines").replaceChildren(...pipelines.flatMap((pipeline) => {
    const own = pipeline.id + " ";
    const receivers = pipeline.receivers.map((it) => ({ ...it, flow: it.connector ? null : rate("receiver " + own + it.id),
      more: it.refused + it.rejected > 0 ? count(it.refused + it.rejected) + " not taken" : "" }));
    const processors = pipeline.processors.map((it) => {
      const [into, out] = [rate("into " + own + it.id), rate("out of " + own + it.id)];
      return { id: it.id, flow: out, said: into === null || Math.abs(into - out) < 0.05 ? rateText(out)
        : rateText(into) + " → " + rateText(out) };
    });
    const exporters = pipeline.exporters.map((it) => ({ ...it, flow: rate("delivered " + own + it.id),
      failing: rate("lost " + own + it.id) > 0, more: it.in_flight > 0 ? count(it.in_flight) + " in flight" : "" }));
    const columns = [receivers, ...processors.map((it) => [it]), exporters].filter((column) => column.length > 0);
    return [tag("h3", {}, pipeline.id), drawing(pipeline.id, columns)];
  }));
}

function drawing(id, columns) {
  const rows = Math.max(...columns.map((column) => column.length));
  const height = rows * NODE.row + 4;
  const width = columns.length * (NODE.width + NODE.gap) - NODE.gap + 4;
  const middle = (column, at) => (height / 2) + (at - (column.length - 1) / 2) * NODE.row;
  const left = (at) => 2 + at * (NODE.width + NODE.gap);
  const edges = [];
  const nodes = [];
  columns.forEach((column, place) => column.forEach((node, at) => {
    const y = middle(column, at);
    for (const [to, next] of (columns[place + 1] || []).entries()) {
      const flow = (place === 0 ? node.flow : next.flow) || 0;
      const [x, end, target] = [left(place) + NODE.width, left(place + 1), middle(columns[place + 1], to)];
      const bend = (x + end) / 2;
      edges.push(shape("path", { class: flow > 0 ? "edge alive" : "edge", "stroke-width": 1.5 + Math.log10(1 + flow),
        d: `M ${x} ${y} C ${bend} ${y} ${bend} ${target} ${end} ${target}` }));
    }
    const kind = node.failing ? "node failing" : node.flow > 0 ? "node alive" : "node";
    const said = [node.connector && place === 0 ? "connector" : node.said || rateText(node.flow), node.more];
    nodes.push(shape("g", {},
      shape("title", {}, node.id),
      shape("rect", { class: kind, x: left(place), y: y - NODE.height / 2, width: NODE.width, height: NODE.height, rx: 8 }),
      shape("text", { x: left(place) + 10, y: y - 4 }, shortened(node.id)),
      shape("text", { x: left(place) + 10, y: y + 14, class: node.failing ? "small bad" : "small" },
        said.filter(Boolean).join(", "))));
  }));
  const told = columns.map((column) => column.map((node) => `${node.id} ${rateText(node.flow ?? null)}`).join(" and "));
  return shape("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${id}: ${told.join(", then ")}` }, ...edges, ...nodes);
}

function drawLedger({ ledger }) {
  const intake = ledger.intake.map((it) => [it.receiver, it.transport, it.signal || "traces", count(it.offered),
    count(it.accepted), count(it.refused), count(it.rejected), count(it.unanswered), count(it.refused_requests),
    count(it.rejected_requests)]);
  const accounts = ledger.accounts.map((it) => [it.pipeline, it.exporter, count(it.accepted), count(it.created),
    count(it.delivered), count(it.dropped), count(it.shed), count(it.failed), count(it.in_flight)]);
  const number = (...titles) => titles.map((title) => [title, true]);
  place("ledger").replaceChildren(
    tag("p", { class: ledger.balanced ? "good" : "bad" }, ledger.sentence),
    ...ledger.disagreements.map((it) => tag("p", { class: "bad" }, it)),
    table([["receiver"], ["transport"], ["signal"], ...number("offered", "= accepted", "+ refused", "+ rejected",
      "+ unanswered", "requests refused unread", "requests rejected unread")], intake, "What came in"),
    table([["pipeline"], ["exporter"], ...number("accepted", "+ created", "= delivered", "+ dropped by policy", "+ shed",
      "+ failed", "+ in flight")], accounts, "What became of it"));
}

function drawShards({ shards }) {
  const rows = shards.map((shard, at) => [String(at), bar(shard.busy_percent / 100, shard.busy_percent + " % busy", 0.9),
    shard.busy_percent + " %", count(shard.connections), rateText(rate("shard " + at)), count(shard.traces),
    bytes(shard.held_bytes)]);
  place("shards").replaceChildren(table([["shard"], ["busy"], ["", true], ["connections", true], ["items taken", true],
    ["pending traces", true], ["bytes held", true]], rows));
}

function quantile(bounds, buckets, share) {
  const total = buckets.reduce((sum, n) => sum + n, 0);
  if (total === 0) return null;
  let seen = 0;
  const at = buckets.findIndex((n) => (seen += n) >= share * total && seen > 0);
  return at < bounds.length ? { most: bounds[at] } : { least: bounds[bounds.length - 1] };
}
function measured(found, unit) {
  if (found === null) return "–";
  const value = found.most ?? found.least;
  const sign = found.most === undefined ? "> " : "≤ ";
  if (unit === "bytes") return sign + bytes(value);
  if (unit === "items") return sign + count(value);
  return sign + nanoseconds(value * (unit === "s" ? 1e9 : 1e6));
}
function bucketsDrawn(buckets) {
  const top = Math.max(...buckets, 1);
  const rects = buckets.map((n, at) => {
    const height = n === 0 ? 0 : Math.max(1, n / top * 22);
    return shape("rect", { class: "bucket", x: at * 6, y: 24 - height, width: 5, height });
  });
  return shape("svg", { width: buckets.length * 6, height: 24, "aria-hidden": "true" }, ...rects);
}

function drawLatency({ latency }) {
  const { newest, oldest } = since(HISTORY_MS);
  const rows = latency.map((it, at) => {
    const lately = it.buckets.map((n, bucket) => {
      const key = `bucket ${at} ${bucket}`;
      return newest.values.get(key) - (oldest.values.get(key) ?? 0);
    });
    const told = (buckets, share) => measured(quantile(it.bounds, buckets, share), it.unit);
    const name = it.name.replace(/^otelcol_|^tracegate_/, "");
    return [tag("span", { title: it.help }, name), Object.values(it.labels).join(" "), told(lately, 0.5), told(lately, 0.99),
      told(it.buckets, 0.5), told(it.buckets, 0.99), count(it.count), bucketsDrawn(it.buckets)];
  });
  place("latency").replaceChildren(table([["measure"], ["of"], ["p50, last minute", true], ["p99, last minute", true],
    ["p50", true], ["p99", true], ["observations", true], ["since the start"]], rows));
}

function drawBudget({ budget }) {
  const { limit_bytes: limit, held_bytes: held, leased_bytes: leased } = budget;
  const { newest, oldest } = since(HISTORY_MS);
  const growth = newest.at === oldest.at ? null
    : (newest.values.get("held") - oldest.values.get("held")) / (newest.at - oldest.at) * 1000;
  const share = limit === 0 ? 0 : held / limit;
  const rows = budget.holders.map((it) => [it.holder.replaceAll("_", " "), bytes(it.bytes),
    bar(limit === 0 ? 0 : it.bytes / limit, bytes(it.bytes)), limit === 0 ? "–" : percent(it.bytes / limit)]);
  place("budget").replaceChildren(
    tag("p", { class: share > 0.8 ? "bad" : "" },
      `${bytes(held)} held and ${bytes(leased)} leased of ${bytes(limit)}; ${untilFull(held, limit, growth) || "…"}.`),
    bar(share, percent(share)),
    table([["holder"], ["bytes", true], ["part of the budget"], ["", true]], rows));
}

function drawQueues({ queues }) {
  const rows = queues.map((it) => {
    const own = it.exporter + " " + it.signal;
    const share = it.capacity === 0 ? 0 : it.size / it.capacity;
    const held = it.unit === "bytes" ? `${bytes(it.size)} of ${bytes(it.capacity)}`
      : `${count(it.size)} of ${count(it.capacity)} ${it.unit}`;
    return [it.exporter, it.signal, held, bar(share, percent(share)),
      it.fullest_percent + " %", count(it.under_way), it.size + it.oldest_age_seconds > 0 ? seconds(it.oldest_age_seconds) : "–", untilFull(it.size, it.capacity, rate("waiting " + own)),
      rateText(rate("sent " + own)), count(it.sent), it.failed > 0 ? tag("span", { class: "bad" }, count(it.failed)) : "0"];
  });
  place("queues").replaceChildren(table([["exporter"], ["signal"], ["holds", true], ["filled"], ["fullest shard", true],
    ["under way", true], ["oldest", true], ["at this rate"], ["items sent", true], ["ever", true], ["items failed", true]], rows));
}

function drawPolicies({ policies }) {
  if (policies.policies.length === 0) {
    place("policies").replaceChildren(tag("p", { class: "soft" }, "No tail sampling is configured: every trace passes."));
    return;
  }
  const decided = policies.kept + policies.not_kept;
  const rows = policies.policies.map((it) => {
    const asked = it.sampled + it.not_sampled + it.dropped;
    const share = asked === 0 ? 0 : it.sampled / asked;
    return [it.policy, it.dry_run ? "would have kept" : "wanted kept", count(it.sampled), rateText(rate("policy " + it.policy)), bar(share, percent(share), 1), percent(share),
      count(it.not_sampled), count(it.dropped)];
  });
  place("policies").replaceChildren(
    tag("p", {}, `${count(policies.pending)} traces wait for their decision; of ${count(decided)} decided, ` +
      `${count(policies.kept)} were kept.`),
    table([["policy"], [""], ["traces", true], ["", true], ["of those it saw"], ["", true], ["did not ask for", true],
      ["wanted dropped", true]], rows));
}

function drawRefusals({ refusals }) {
  const some = refusals.map((it, at) => ({ ...it, at })).filter((it) => it.count > 0);
  some.sort((a, b) => b.count - a.count);
  if (some.length === 0) {
    place("refusals").replaceChildren(tag("p", { class: "good" }, "Nothing was refused, lost or failed since the start."));
    return;
  }
  const rows = some.map((it) => [it.help, Object.entries(it.labels).map(([name, value]) => `${name} ${value}`).join(", "),
    count(it.count), rateText(rate("refusal " + it.at)), tag("span", { class: "ids soft" }, it.name)]);
  place("refusals").replaceChildren(table([["what"], ["where and why"], ["count", true], ["now", true], ["metric"]], rows));
}

// ---------------------------------------------------------------- kept traces

async function asked(path) {
  const answer = await fetch(path, { cache: "no-store" });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || "status " + answer.status);
  return body;
}

let tracesRead = { at: 0, kept: "" };

// Not while somebody walks through the list: it would take the focus away.
function followTraces({ kept }) {
  const now = kept.traces + " " + kept.evicted;
  const due = Date.now() - tracesRead.at >= TRACES_EVERY_MS && kept.bytes <= KEPT_SMALL_BYTES;
  if (!due || now === tracesRead.kept || byId("traces").contains(document.activeElement)) return;
  tracesRead.kept = now;
  readTraces();
}

async function readTraces() {
  tracesRead.at = Date.now();
  try {
    drawTraces(await asked("/traces"));
  } catch (error) {
    place("traces").replaceChildren(tag("p", { class: "bad" }, "The kept traces could not be read: " + error.message));
  }
}

function drawTraces(traces) {
  if (traces.length === 0) {
    place("traces").replaceChildren(tag("p", { class: "soft" },
      "No trace is kept. A trace shows up when a policy wants it and a memory exporter is in its pipeline."));
    return;
  }
  const rows = traces.slice(0, TRACES_SHOWN_MAX).map((it) => {
    const open = tag("button", { type: "button", class: "link", title: it.trace_id }, it.trace_id.slice(0, 16));
    open.addEventListener("click", () => showTrace(it.trace_id));
    return [open, it.reason || "no sampler", nanoseconds(it.duration_ns), count(it.span_count),
      it.error ? tag("span", { class: "bad" }, "error") : "", shortened(it.root_name, 48), shortened(it.services.join(", "), 48)];
  });
  const more = traces.length > rows.length ? `The youngest ${rows.length} of ${count(traces.length)}.` : "";
  place("traces").replaceChildren(table([["trace"], ["kept by"], ["duration", true], ["spans", true], [""], ["root span"],
    ["services"]], rows, more));
}

// Indexes of spans with their depth, children below their parents; what names each other as parents comes last.
function inTreeOrder(spans) {
  const known = new Map(spans.map((span, at) => [span.span_id, at]).reverse());
  const children = spans.map(() => []);
  const roots = [];
  spans.forEach((span, at) => {
    const parent = known.get(span.parent_span_id);
    if (parent === undefined || parent === at) roots.push(at); else children[parent].push(at);
  });
  const order = [];
  const drawn = new Set();
  for (const start of [...roots, ...spans.keys()]) {
    const waiting = [[start, 0]];
    while (waiting.length > 0) {
      const [at, depth] = waiting.pop();
      if (drawn.has(at)) continue;
      drawn.add(at);
      order.push([at, depth]);
      for (const child of children[at].toReversed()) waiting.push([child, depth + 1]);
    }
  }
  return order;
}

async function showTrace(id) {
  const body = byId("trace-body");
  byId("trace-json").setAttribute("href", "/traces/" + id);
  byId("trace-title").textContent = "Trace " + id;
  body.replaceChildren(tag("p", { class: "soft" }, "Reading it."));
  byId("trace").showModal();
  try {
    const trace = await asked("/traces/" + id);
    drawTrace(body, trace);
    // Only a sampler has something to explain.
    if (trace.reason) await explain(body, id);
  } catch (error) {
    body.replaceChildren(tag("p", { class: "bad" }, error.message));
  }
}

function drawTrace(body, trace) {
  const { analysis } = trace;
  const details = tag("div", { "aria-live": "polite" });
  const when = new Date(trace.start_ns / 1e6).toISOString();
  const kept = trace.reason ? `kept by ${trace.reason}` : "kept without a sampler";
  const parts = [tag("p", {}, `${count(trace.span_count)} spans, ${nanoseconds(trace.duration_ns)}, from ${when}, ${kept}.`)];
  const slowest = analysis.bottleneck === null ? null : analysis.spans[analysis.bottleneck];
  if (slowest) {
    const share = analysis.duration_ns === 0 ? 0 : slowest.on_path_ns / analysis.duration_ns;
    parts.push(tag("p", { id: "bottleneck" }, `Bottleneck: ${slowest.service || "(no service)"} ${slowest.name}, ` +
      `${nanoseconds(slowest.on_path_ns)} of the critical path (${percent(share)}).`));
  }
  parts.push(tag("p", { class: "legend" }, "Bars are spans; the strong colour is the critical path. Enter shows a span's attributes."));
  parts.push(waterfall(trace, details), details);
  body.replaceChildren(...parts);
}

async function explain(body, id) {
  let explanations = [];
  try {
    explanations = await asked("/explain/" + id);
  } catch (error) {
    body.append(tag("p", { class: "soft" }, error.message));
  }
  for (const it of explanations) {
    const rows = it.policies.map((said) => [said.policy, said.answer, said.dry_run ? "dry run" : ""]);
    body.append(table([["policy"], ["said"], [""]], rows, `Decided in ${it.pipeline}: ${it.outcome} by ${it.policy || "none"}`));
  }
}

const FALL = { names: 330, bars: 640, times: 130, row: 24 };

function waterfall(trace, details) {
  const { analysis } = trace;
  const order = inTreeOrder(analysis.spans);
  const shown = order.slice(0, SPANS_SHOWN_MAX);
  const scale = (ns) => FALL.bars * (analysis.duration_ns === 0 ? 0 : ns / analysis.duration_ns);
  const rows = shown.map(([at, depth], row) => {
    const span = analysis.spans[at];
    const y = row * FALL.row;
    const indent = Math.min(depth, 12) * 12;
    const x = FALL.names + scale(span.offset_ns);
    const name = (span.service ? span.service + "  " : "") + span.name;
    const kind = at === analysis.bottleneck ? "row bottleneck" : "row";
    const told = `${name}, ${nanoseconds(span.duration_ns)}, ${nanoseconds(span.on_path_ns)} on the critical path`;
    const group = shape("g", { class: kind, tabindex: 0, role: "button", "aria-label": told },
      shape("title", {}, told + (span.error ? ", ERROR" : "")),
      shape("rect", { class: "hit", x: 0, y, width: FALL.names + FALL.bars + FALL.times, height: FALL.row }),
      shape("text", { x: 4 + indent, y: y + 16, class: span.error ? "bad" : "" }, shortened(name, 44 - Math.ceil(indent / 8))),
      shape("rect", { class: span.error ? "span failed" : "span", x, y: y + 5,
        width: Math.max(1.5, scale(span.duration_ns)), height: 14, rx: 2 }),
      ...span.path.map(([start, end]) => shape("rect", { class: "path", x: FALL.names + scale(start), y: y + 9,
        width: Math.max(0.5, scale(end - start)), height: 6 })),
      shape("text", { class: "small", x: FALL.names + FALL.bars + 10, y: y + 16 },
        `${nanoseconds(span.duration_ns)}, ${span.share_percent.toFixed(0)} %`));
    const choose = () => {
      group.parentNode.querySelectorAll(".chosen").forEach((other) => other.classList.remove("chosen"));
      group.classList.add("chosen");
      drawSpan(details, trace.spans[at], span);
    };
    group.addEventListener("click", choose);
    group.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); choose(); }
      const next = { ArrowDown: group.nextElementSibling, ArrowUp: group.previousElementSibling }[event.key];
      if (next) { event.preventDefault(); next.focus(); }
    });
    return group;
  });
  const width = FALL.names + FALL.bars + FALL.times;
  const drawn = shape("svg", { id: "waterfall", width, height: rows.length * FALL.row,
    viewBox: `0 0 ${width} ${rows.length * FALL.row}` }, ...rows);
  const left = order.length - shown.length;
  return left === 0 ? drawn : tag("div", {}, drawn, tag("p", { class: "soft" }, `${count(left)} more spans are in the JSON.`));
}

function drawSpan(details, span, time) {
  const facts = [["kind", span.kind], ["status", [span.status, span.status_message].filter(Boolean).join(": ")],
    ["self time", nanoseconds(time.self_ns)], ["span id", span.span_id], ...span.attributes, ...span.resource_attributes];
  details.replaceChildren(tag("h3", {}, span.name), table([["attribute"], ["value"]], facts));
}

// ---------------------------------------------------------------- life

let paused = false;

async function look() {
  if (!paused && !document.hidden) {
    try {
      const overview = await asked("/overview");
      remember(overview);
      const views = [drawHead, drawPipelines, drawLedger, drawShards, drawLatency, drawBudget, drawQueues, drawPolicies,
        drawRefusals];
      for (const draw of views) draw(overview);
      followTraces(overview);
    } catch (error) {
      byId("state").className = "bad";
      byId("state").textContent = "The gateway did not answer: " + error.message;
    }
  }
  setTimeout(look, ASK_EVERY_MS);
}

function pause() {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
}

function changeTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || byId("trace").open) return;
  const view = document.querySelectorAll("main > section")[Number(event.key) - 1];
  if (view) { view.scrollIntoView(); view.focus({ preventScroll: true }); }
  const done = { p: pause, d: changeTheme, r: readTraces }[event.key];
  if (done) done();
}

document.addEventListener("keydown", press);
byId("pause").addEventListener("click", pause);
byId("theme").addEventListener("click", changeTheme);
byId("reload").addEventListener("click", readTraces);
byId("close").addEventListener("click", () => byId("trace").close());
look();
readTraces();
