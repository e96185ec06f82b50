"""The seed's agent file feeds the seed's gateway file feeds two backends, as they are but for addresses.

Both files are run as written; `--set` moves endpoints to loopback and switches TLS off towards peers without it. The SDK
of PyPI sends to the agent.
"""

from contextlib import ExitStack

from parts import sdk, spans
from parts.gateway import REPOSITORY, Gateway, set_arguments
from parts.outcome import require, require_equal
from parts.sinks import GrpcSink

SEED = REPOSITORY / "configs" / "seed"
TRACES_OF_EACH_FATE = 10


def it_gives_both_backends_the_same_errors_and_slow_traces():
    """Complete, each once, with the agent's attribute on every resource; the percentage is set to 0."""
    with ExitStack() as stack:
        jaeger, tempo, witness = (stack.enter_context(GrpcSink()) for _ in range(3))
        gateway = stack.enter_context(start_gateway(jaeger, tempo))
        agent = stack.enter_context(start_agent(gateway))
        fates = {}
        with sdk.tracers(sdk.grpc_exporter(witness.endpoint), sdk.grpc_exporter(agent.grpc)) as tracers:
            for number in range(TRACES_OF_EACH_FATE * 3):
                fate = ("error", "slow", "ordinary")[number % 3]
                fates[sdk.shop_trace(tracers, fate)] = fate
        # The agent's batch waits 10 s and the gateway's 30 s; a stop flushes both, in the order of the data.
        agent.stop()
        gateway.wait_for_metric("otelcol_receiver_accepted_spans", witness.span_count)
        gateway.stop()
        wanted = {key: span for key, span in witness.spans().items() if fates[key[0]] != "ordinary"}
        require_equal(len(wanted), TRACES_OF_EACH_FATE * 2 * 6, "spans that must be kept")
        for name, sink in (("jaeger", jaeger), ("tempo", tempo)):
            arrived = sink.spans()
            for span in arrived.values():
                node = [item.value.string_value for item in span.resource.attributes if item.key == "node.name"]
                require_equal(node, ["node-7"], f"node.name at {name}")
            spans.require_same(without_node(arrived), wanted, name)


def start_gateway(*backends):
    """The seed's gateway file on free ports, two shards."""
    gateway = Gateway({}, files=[SEED / "gateway.config.yaml"])
    settings = {}
    for name, sink in zip(("jaeger", "tempo"), backends):
        settings[f"exporters.otlp/{name}.endpoint"] = sink.endpoint
        settings[f"exporters.otlp/{name}.tls.insecure"] = "true"
    policies = [{"name": "errors", "type": "status_code", "status_code": {"status_codes": ["ERROR"]}},
                {"name": "slow", "type": "latency", "latency": {"threshold_ms": 1000}}]
    settings["processors.tail_sampling.policies"] = policies
    gateway.add_arguments(gateway.common_settings(cores=2) + set_arguments(settings))
    return gateway


def start_agent(gateway):
    """The seed's agent file, sending to the gateway."""
    agent = Gateway({}, files=[SEED / "agent.config.yaml"], environment={"NODE_NAME": "node-7"})
    settings = {"exporters.otlp.endpoint": gateway.grpc, "exporters.otlp.tls.insecure": "true"}
    agent.add_arguments(agent.common_settings() + set_arguments(settings))
    return agent


def without_node(arrived):
    """The same spans without the attribute that the agent inserts last."""
    for span in arrived.values():
        require(span.resource.attributes[-1].key == "node.name", "the inserted attribute comes last")
    seen = set()
    for span in arrived.values():
        if id(span.resource) not in seen:
            seen.add(id(span.resource))
            del span.resource.attributes[-1]
    return arrived
