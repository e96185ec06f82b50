"""The admin page in Chromium: live figures, keys, clicks, a trace as a waterfall, light and dark.

Names that a sender chose are markup here; they have to appear as the text they are. Screenshots are kept in
`TRACEGATE_ARTEFACTS` (default: `interop` in cargo's target folder).
"""

import os
from pathlib import Path

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.trace.v1 import trace_pb2

from parts import browser, load
from parts.gateway import REPOSITORY, Gateway, tail_sampling
from parts.outcome import require, require_equal
from parts.sinks import GrpcSink

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
ARTEFACTS = Path(os.environ.get("TRACEGATE_ARTEFACTS", TARGET / "interop"))
START = 1_700_000_000_000_000_000
MILLISECOND = 1_000_000
MARKUP = "<img src=x onerror='window.broken = true'>"


def it_shows_a_running_gateway_and_its_kept_traces():
    """From the first look to a span's attributes, by mouse and by keyboard."""
    browser.program()
    with GrpcSink() as sink:
        exporters = {"otlp": {"endpoint": sink.endpoint, "tls": {"insecure": True}}, "memory": {}}
        processors = {"memory_limiter": {"limit_mib": 512}, "tail_sampling": tail_sampling(0, decision_wait="1s")}
        with Gateway(exporters, processors, engine_settings={"cores": 2}) as gateway, browser.Browser() as page:
            page.open(gateway.admin + "/")
            page.wait_for("document.querySelector('#state').textContent.startsWith('ready')", "the first figures")
            made = load.make(traces=200, spans_per_request=60, seed=5)
            load.send_over_connections(gateway.grpc, made.requests, connections=2)
            with load.RawClient(gateway.grpc) as client:
                client.export(slow_checkout())
            total = f"{made.span_count + 4:,}"
            page.wait_for(f"document.querySelector('#ledger').textContent.includes('Received {total} spans')",
                          "a page that shows what was sent meanwhile")
            gateway.wait_for_metric("tracegate_kept_traces", len(made.wanted()) + 1)
            kept = len(made.wanted()) + 1
            page.wait_for(f"document.querySelector('#policies').textContent.includes('{kept} were kept')", "decisions")
            views = page.value("[...document.querySelectorAll('main > section')].filter(it => !it.innerText.trim().includes"
                               "('\\n')).map(it => it.id)")
            require_equal(views, [], "views without figures")
            page.screenshot(ARTEFACTS / "admin-page.png")
            keys_lead_to_views(page)
            a_trace_is_a_waterfall(page)
            page.value("document.querySelector('#close').click()")
            light = page.value("getComputedStyle(document.body).backgroundColor")
            page.press("d")
            require(page.value("getComputedStyle(document.body).backgroundColor") != light, "dark and light look the same")
            page.press("1")
            page.screenshot(ARTEFACTS / "admin-page-dark.png")
            require(not page.value("Boolean(window.broken)"), "a name of a span ran as a script")
            require_equal(page.complaints, [], "errors of the page")
            gateway.stop()
            page.wait_for("document.querySelector('#state').textContent.includes('did not answer')", "a gateway that is gone")


def keys_lead_to_views(page):
    """A digit leads to its view; `r` reads the traces."""
    for number, view in enumerate(("pipelines", "ledger", "shards", "latency", "budget"), start=1):
        page.press(str(number))
        require_equal(page.value("document.activeElement.id"), view, f"the view behind {number}")
    page.press("8")
    page.press("r")
    page.wait_for("document.querySelectorAll('#traces tbody tr').length > 30", "the kept traces")


def a_trace_is_a_waterfall(page):
    """A click opens it, arrows and Enter walk through it."""
    row = page.value("[...document.querySelectorAll('#traces tbody tr')].findIndex(it => "
                     "it.textContent.includes('onerror')) + 1")
    require(row > 0, "the trace whose name is markup is not in the list")
    page.click(f"#traces tbody tr:nth-child({row}) button")
    page.wait_for("document.querySelector('#trace').open", "the trace")
    said = page.wait_for("document.querySelector('#bottleneck')?.textContent", "the waterfall")
    require("payment charge" in said and "900.0 ms" in said, f"bottleneck: {said}")
    require_equal(page.value("document.querySelectorAll('#waterfall .row').length"), 4, "spans")
    require(page.value("document.querySelectorAll('#waterfall .path').length") >= 4, "no critical path is drawn")
    require(MARKUP in page.value("document.querySelector('#waterfall').textContent"), "the name as it was sent")
    require_equal(page.value("document.images.length"), 0, "images")
    page.value("document.querySelector('#waterfall .row').focus()")
    page.press("ArrowDown")
    page.press("Enter")
    require("card.kind" in page.value("document.querySelector('#trace-body').textContent"), "attributes of the span")
    page.screenshot(ARTEFACTS / "admin-page-trace.png")


def slow_checkout():
    """A trace of four spans in which `charge` is what everybody waits for."""
    request = trace_service_pb2.ExportTraceServiceRequest()
    for service, spans in (("shop", [(1, 0, MARKUP, 0, 1200), (4, 1, "render", 1100, 1190)]),
                           ("payment", [(2, 1, "charge", 100, 1050), (3, 2, "ask the bank", 120, 170)])):
        group = request.resource_spans.add()
        group.resource.attributes.add(key="service.name").value.string_value = service
        scope = group.scope_spans.add()
        for number, parent, name, start, end in spans:
            span = trace_pb2.Span(trace_id=bytes(range(1, 17)), span_id=number.to_bytes(8, "big"), name=name,
                                  start_time_unix_nano=START + start * MILLISECOND,
                                  end_time_unix_nano=START + end * MILLISECOND)
            if parent:
                span.parent_span_id = parent.to_bytes(8, "big")
            span.attributes.add(key="card.kind").value.string_value = MARKUP
            scope.spans.append(span)
    return request.SerializeToString()
