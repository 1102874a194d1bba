"""The log of one association that is opened to the node: a single line says why it ended otherwise than by a release.

Only what this package made of a peer's bytes goes into a line: AE titles without odd characters, numbers, addresses.
pynetdicom's own lines quote what peers send and come with tracebacks; they are off in a process that uses this package.
"""

import logging
import traceback

_log = logging.getLogger(__name__)

logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)


class FaultLog:
    """Writes at most one line on the end of an association; any thread may call it."""

    def __init__(self, address: str) -> None:
        """Names the peer by its IP `address`, and by `calling_ae` once that is known."""
        self.address = address
        self.calling_ae = ""
        self._told = False

    @property
    def peer(self) -> str:
        """AE title and address, or the address before the request came."""
        return f"{self.calling_ae} at {self.address}" if self.calling_ae else self.address

    def closed(self, reason: str) -> None:
        """Logs that the connection was closed."""
        if self._first():
            facts = {"peer": self.peer, "address": self.address, "reason": reason}
            _log.warning("connection_closed", extra=facts)

    def aborted(self, reason: str) -> None:
        """Logs that the association was aborted."""
        if self._first():
            facts = {"peer": self.peer, "address": self.address, "reason": reason}
            _log.warning("association_aborted", extra=facts)

    def refused(self, reason: str) -> None:
        """Logs that the association was rejected."""
        if self._first():
            facts = {"address": self.address, "calling_ae": self.calling_ae, "reason": reason}
            _log.warning("association_refused", extra=facts)

    def contexts_refused(self, reason: str) -> None:
        """Logs presentation contexts that lack what they need; the association goes on."""
        facts = {"peer": self.peer, "address": self.address, "reason": reason}
        _log.warning("contexts_refused", extra=facts)

    def _first(self) -> bool:
        told, self._told = self._told, True
        return not told


def unforeseen(error: BaseException) -> str:
    """Describes an error that no code foresaw, for the log: its kind and place, since its text may quote anything."""
    steps = traceback.extract_tb(error.__traceback__)
    where = f" at {steps[-1].filename.rpartition('/')[2]}:{steps[-1].lineno}" if steps else ""
    return f"unforeseen {type(error).__name__}{where}"
