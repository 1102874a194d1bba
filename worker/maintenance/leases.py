"""A claim in the ledger is kept while the work goes on; when its worker dies, the lease runs out and frees it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import structlog

from worker.errors import LedgerError

log = structlog.get_logger(__name__)

RENEWALS = 3  # how often a lease is renewed before it would run out


@contextmanager
def kept(renew: Callable[[], bool], lease_seconds: float) -> Iterator[threading.Event]:
    """Renews a claim from a thread of its own.

    The event says that it was taken back or cancelled (`renew` is False), or ran out while the ledger did not answer:
    another worker may have it then.
    """
    lost, over = threading.Event(), threading.Event()

    def keep() -> None:
        renewed = time.monotonic()
        while not over.wait(lease_seconds / RENEWALS):
            asked = time.monotonic()
            try:
                held = renew()
            except Exception as error:  # the door of this thread: without it the work would go on without its lease
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
