"""A claim in the ledger is kept while the work goes on; when its worker dies, the lease runs out and frees it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

RENEWALS = 3  # how often a lease is renewed before it would run out


@contextmanager
def kept(renew: Callable[[], bool], lease_seconds: float) -> Iterator[threading.Event]:
    """Renews a claim from a thread of its own; the event says that it was taken back or cancelled (`renew`: False)."""
    lost, over = threading.Event(), threading.Event()

    def keep() -> None:
        while not over.wait(lease_seconds / RENEWALS):
            if not renew():
                lost.set()
                return

    keeper = threading.Thread(target=keep, name="lease", daemon=True)
    keeper.start()
    try:
        yield lost
    finally:
        over.set()
        keeper.join()
