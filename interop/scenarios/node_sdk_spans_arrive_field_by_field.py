"""The SDK of npm (grpc-js, HTTP/protobuf, HTTP/JSON) sends spans; sinks get them unchanged.

Many small requests and one of 3 MB, each plain and gzip, see parts/clients.py. Skipped where node and npm are not
installed.
"""

from parts.clients import NODE, check_delivery


def it_delivers_every_field_of_grpc_js():
    """@opentelemetry/exporter-trace-otlp-grpc."""
    check_delivery(NODE, "grpc")


def it_delivers_every_field_of_http_protobuf():
    """@opentelemetry/exporter-trace-otlp-proto."""
    check_delivery(NODE, "http/protobuf")


def it_delivers_every_field_of_http_json():
    """@opentelemetry/exporter-trace-otlp-http."""
    check_delivery(NODE, "http/json")
