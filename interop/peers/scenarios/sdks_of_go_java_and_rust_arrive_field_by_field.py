"""The SDKs of Go, Java and Rust send spans; sinks get them unchanged.

Many small requests and one of 3 MB, with each compression the client knows, see parts/clients.py. Each case is skipped
where its toolchain is not installed, and those with JSON where the gateway does not take it yet.
"""

from parts.clients import GO, JAVA, RUST, check_delivery


def it_delivers_every_field_of_grpc_go():
    """otlptracegrpc."""
    check_delivery(GO, "grpc")


def it_delivers_every_field_of_net_http():
    """otlptracehttp."""
    check_delivery(GO, "http/protobuf")


def it_delivers_every_field_of_json_from_go():
    """otlptracehttp with its JSON encoding."""
    check_delivery(GO, "http/json")


def it_delivers_every_field_of_grpc_java():
    """A channel of grpc-java on Netty, with messages by the SDK's marshaler."""
    check_delivery(JAVA, "grpc-java")


def it_delivers_every_field_of_okhttp_grpc():
    """OtlpGrpcSpanExporter with its OkHttp sender: gRPC over an HTTP client."""
    check_delivery(JAVA, "grpc")


def it_delivers_every_field_of_okhttp():
    """OtlpHttpSpanExporter with its OkHttp sender."""
    check_delivery(JAVA, "http/protobuf")


def it_delivers_every_field_of_json_from_java():
    """JSON by the SDK's marshaler, sent by the JDK's HTTP client."""
    check_delivery(JAVA, "http/json")


def it_delivers_every_field_of_tonic():
    """opentelemetry-otlp over tonic."""
    check_delivery(RUST, "grpc", ("none", "gzip", "zstd"))


def it_delivers_every_field_of_reqwest():
    """opentelemetry-otlp over reqwest."""
    check_delivery(RUST, "http/protobuf", ("none", "gzip", "zstd"))


def it_delivers_every_field_of_json_from_rust():
    """opentelemetry-otlp over reqwest with its JSON encoding."""
    check_delivery(RUST, "http/json", ("none", "gzip", "zstd"))
