"""Loopback ports for tests."""

import itertools
import os
import socket

from tests.support.marks import GUARD

LOOPBACK = "127.0.0.1"

# Below what the kernel gives to outgoing connections, so that none of those takes a port between this look at it and
# the listener's; another process of tests, which may run beside this one, begins elsewhere.
_FIRST, _COUNT = 10_000, 20_000
_numbers = itertools.count(os.getpid() * 101)


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on, another each time."""
    for number in _numbers:
        port = _FIRST + number % _COUNT
        with GUARD.lifted(), socket.socket() as probe:
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
            return port
    raise AssertionError("the numbers have no end")


def nobody_listens(port: int) -> bool:
    """Whether a connection to a TCP port on 127.0.0.1 is refused; one that is not answered is a port that is full."""
    try:
        socket.create_connection((LOOPBACK, port), 10.0).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        pass
    return False
