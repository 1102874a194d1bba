"""Keeps a claim in the ledger while its work goes on.

A claim holds for the time of its lease. A thread renews the lease three times in that time; when the process dies, the
thread dies with it, the lease runs out, and the listener's sweep frees the job or delivery for another worker.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from worker.errors import LedgerError
from worker.logs import get_logger

log = get_logger(__name__)

RENEWALS = 3  # how often a lease is renewed before it would run out


@contextmanager
def kept(renew: Callable[[], bool], lease_seconds: float) -> Iterator[threading.Event]:
    """Renews a claim from a thread of its own until the block ends; yields an event that is set when the claim is lost.

    It is lost when `renew` returns False (the job was cancelled or another worker has it), or when the lease has run
    out while the ledger did not answer. The work should then stop: its result will not be accepted.
    """
    lost, over = threading.Event(), threading.Event()

    def keep() -> None:
        renewed = time.monotonic()
        while not over.wait(lease_seconds / RENEWALS):
            asked = time.monotonic()
            try:
                held = renew()
            except Exception as error:  # a thread that died here would let the work go on without its lease
                log.warning("lease_not_renewed", problem=str(error), exc_info=not isinstance(error, LedgerError))
                held = time.monotonic() < renewed + lease_seconds
            else:
                renewed = asked
            if not held:
                lost.set()
                return

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lost
    finally:
        over.set()
        keeper.join()
