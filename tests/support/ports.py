"""Loopback ports for tests."""

import socket

from tests.support.marks import GUARD

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with GUARD.lifted(), socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])
