"""Free loopback ports, outside of the range that the kernel gives to outgoing connections."""

import random
import socket

_given = set()


def free_port():
    """A loopback TCP port nobody listens on, each at most once per run."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        ephemeral_first = int(file.read().split()[0])
    last = min(ephemeral_first - 1, 32_000)
    first = 18_000 if last > 19_000 else 1_025
    for _ in range(1_000):
        port = random.randint(first, last)
        if port in _given:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
    raise RuntimeError("no free loopback port")
