"""Makes one line with a count of the warnings that one peer causes over and over, so that nobody can flood the log.

A warning with the field `address` is a peer's doing. The first of its event and address is written at once; those that
follow within a minute are counted, and the last of them is written when the minute is over, with the count as
`repeated`. Any thread may log; a timer writes what is due while nothing else is logged.
"""

import copy
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

INTERVAL_SECONDS = 60.0
MOST_PEERS = 1000  # events of addresses that are counted apart; further addresses are counted together


@dataclass
class _Seen:
    until: float  # seconds of the monotonic clock
    count: int = 0  # since the last line
    last: logging.LogRecord | None = None


class RepeatsHandler(logging.StreamHandler[TextIO]):
    """Writes records to a stream; repeated warnings of one peer as one with a count."""

    def __init__(self, stream: TextIO, interval_seconds: float = INTERVAL_SECONDS) -> None:
        """Writes to `stream`; counts for `interval_seconds`."""
        super().__init__(stream)
        self._interval = interval_seconds
        self._seen: dict[tuple[str, str], _Seen] = {}
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, or counts it (called with the handler's lock)."""
        now = time.monotonic()
        self._write_due(now)
        key = _peer_of(record)
        if key is None:
            super().emit(record)
            return
        if key not in self._seen and len(self._seen) >= MOST_PEERS:
            key = (key[0], "")
        seen = self._seen.get(key)
        if seen is None:
            self._seen[key] = _Seen(now + self._interval)
            super().emit(record)
            return
        seen.count, seen.last = seen.count + 1, record
        if self._timer is None or not self._timer.is_alive():  # a child process has no thread of its parent
            self._timer = threading.Timer(self._interval, self._tick)
            self._timer.daemon = True
            self._timer.start()

    def close(self) -> None:
        """Writes what was counted, whether its time is over or not."""
        with self._locked():
            self._write_due(float("inf"))
        super().close()

    def _tick(self) -> None:
        with self._locked():
            self._timer = None
            self._write_due(time.monotonic())
            if any(seen.count for seen in self._seen.values()):
                self._timer = threading.Timer(self._interval / 2, self._tick)
                self._timer.daemon = True
                self._timer.start()

    def _locked(self) -> threading.RLock:
        if self.lock is None:  # as logging types it; every handler has one
            self.createLock()
        return self.lock  # type: ignore[return-value]

    def _write_due(self, now: float) -> None:
        for key, seen in [(key, seen) for key, seen in self._seen.items() if seen.until <= now]:
            if seen.last is None:
                del self._seen[key]
                continue
            super().emit(_counted(seen.last, seen.count))
            self._seen[key] = _Seen(now + self._interval)


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    """Returns the fields of a line: structlog gives them as the message, dicom_node by `extra`."""
    return record.msg if isinstance(record.msg, dict) else {"event": record.msg, **vars(record)}


def _peer_of(record: logging.LogRecord) -> tuple[str, str] | None:
    """Returns event and address of a warning that a peer caused; None for all other records."""
    facts = _facts(record)
    address = facts.get("address")
    if record.levelno != logging.WARNING or not isinstance(address, str):
        return None
    return str(facts.get("event")), address


def _counted(record: logging.LogRecord, count: int) -> logging.LogRecord:
    told = copy.copy(record)
    if isinstance(record.msg, dict):
        told.msg = {**record.msg, "repeated": count}
    else:
        told.repeated = count
    return told
