"""What the SDKs of Go, Java and Rust do with the gateway's refusals: they come back when it is full, and nothing is lost;
they give up at once what will never be taken, and say so.
"""

from parts.clients import GO, JAVA, RUST, check_permanent, check_retry, check_too_large


def it_gets_refused_spans_of_grpc_go_at_their_next_try():
    """UNAVAILABLE with RetryInfo, which the SDK obeys."""
    check_retry(GO, "grpc")


def it_gets_refused_spans_of_net_http_at_their_next_try():
    """503 with Retry-After, which the SDK obeys."""
    check_retry(GO, "http/protobuf")


def it_gets_refused_spans_of_grpc_java_at_their_next_try():
    """UNAVAILABLE in the service config of a channel."""
    check_retry(JAVA, "grpc-java")


def it_gets_refused_spans_of_okhttp_grpc_at_their_next_try():
    """UNAVAILABLE with a backoff of its own."""
    check_retry(JAVA, "grpc")


def it_gets_refused_spans_of_okhttp_at_their_next_try():
    """503 with a backoff of its own."""
    check_retry(JAVA, "http/protobuf")


def it_gets_refused_spans_of_tonic_at_their_next_try():
    """UNAVAILABLE with RetryInfo, which the SDK obeys."""
    check_retry(RUST, "grpc")


def it_gets_refused_spans_of_reqwest_at_their_next_try():
    """503 with Retry-After, which the SDK obeys."""
    check_retry(RUST, "http/protobuf")


def it_tells_clients_once_what_the_backend_will_never_take():
    """Without a queue the backend's INVALID_ARGUMENT reaches each client as an error that it does not retry."""
    for client, protocol in ((GO, "grpc"), (GO, "http/protobuf"), (JAVA, "grpc-java"), (JAVA, "grpc"),
                             (JAVA, "http/protobuf"), (RUST, "grpc"), (RUST, "http/protobuf")):
        check_permanent(client, protocol)


def it_tells_clients_that_a_request_is_too_large():
    """3 MB to a gateway that takes 1 MiB: RESOURCE_EXHAUSTED without a hint, or 400; the next requests are taken."""
    for client, protocol in ((GO, "grpc"), (GO, "http/protobuf"), (JAVA, "grpc-java"), (RUST, "grpc"),
                             (RUST, "http/protobuf")):
        check_too_large(client, protocol)
