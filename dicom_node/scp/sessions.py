"""Keeps which series are arriving just now, by associations and web requests, until the end of each was reported.

A series counts as open as long as somebody who brought an instance of it may bring more; the intake does not settle it
meanwhile. All sessions of a process share one `Sessions`; it learns of the other processes of a home from the store's
workspace.

Concurrency. Each `Session` is used by one thread at a time, `Sessions` by any number; `on_arrival` and `on_end` run in
the thread of the session, without a lock held.
"""

import threading
import uuid
from collections.abc import Callable

from dicom_node.origin import Origin
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.scp.instance_uids import InstanceUids
from dicom_node.store import Receipt, Store
from dicom_node.uids import SeriesKey


class Sessions:
    """The open sessions of this process, and the series that they or those of other processes are bringing."""

    def __init__(
        self,
        store: Store,
        *,
        on_arrival: Callable[[Arrival], None],
        on_end: Callable[[AssociationEnd], None] | None,
        shared: bool,
    ) -> None:
        """Reports arrivals to `on_arrival` and ends to `on_end`.

        With `shared` other processes receive into the same `store`: open series are announced to them, and theirs are
        asked for.
        """
        self._store = store
        self.on_arrival = on_arrival
        self.on_end = on_end
        self._shared = shared
        self._open: set[Session] = set()
        self._lock = threading.Lock()
        self._announcing = threading.Lock()

    def begin(self, is_alive: Callable[[], bool] = lambda: True) -> "Session":
        """Returns a new session, which is open from its first instance on.

        One whose `is_alive` says no holds up nobody, should its end never be reported.
        """
        return Session(self, is_alive)

    def open_series(self) -> set[SeriesKey]:
        """Returns the series of every instance that an open session of any process has brought."""
        return self._open_here() | (self._store.workspace.announced_by_others() if self._shared else set())

    def _open_here(self) -> set[SeriesKey]:
        with self._lock:
            return {series for session in self._open if session.is_alive() for series in session.series}

    def note_series(self, session: "Session", series: SeriesKey) -> None:
        """Notes that a session brought its first instance of a series.

        Raises:
            OSError: when it cannot be announced to the other processes.
        """
        with self._lock:
            session.series.add(series)
            self._open.add(session)
        self._announce()

    def forget(self, session: "Session") -> None:
        """Forgets a session that is over.

        Raises:
            OSError: when that cannot be announced to the other processes.
        """
        with self._lock:
            self._open.discard(session)
        self._announce()

    def _announce(self) -> None:
        """Tells the other processes which series are open; one thread at a time, so that the latest word stands."""
        if self._shared:
            with self._announcing:
                self._store.workspace.announce(self._open_here())


class Session:
    """One association, or one request of STOW-RS; `association_id` is unique, `series` what it has brought so far."""

    def __init__(self, sessions: Sessions, is_alive: Callable[[], bool]) -> None:
        self.association_id = uuid.uuid4().hex
        self.series: set[SeriesKey] = set()
        self.is_alive = is_alive
        self._sessions = sessions
        self._ended = False

    def arrived(self, uids: InstanceUids, receipt: Receipt, origin: Origin) -> None:
        """Reports an instance that is durable and about to be acknowledged.

        Its series is open before `on_arrival` is called.

        Raises:
            OSError: when the series cannot be announced to the other processes.
            Exception: when `on_arrival` raises it. In both cases the sender must not be told Success.
        """
        key = SeriesKey(uids.study_uid, uids.series_uid)
        if key not in self.series:
            self._sessions.note_series(self, key)
        self._sessions.on_arrival(
            Arrival(
                key=key,
                sop_uid=uids.sop_uid,
                sop_class_uid=uids.sop_class_uid,
                path=receipt.path,
                origin=origin,
                association_id=self.association_id,
                outcome=receipt.outcome,
            )
        )

    def end(self, *, aborted: bool) -> None:
        """Reports the end, the first time it is called; the series stay open until `on_end` has returned or raised.

        `aborted` is True for anything but an orderly release.

        Raises:
            OSError: when the end cannot be announced to the other processes.
            Exception: when `on_end` raises it.
        """
        if self._ended:
            return
        self._ended = True
        try:
            if self._sessions.on_end:
                self._sessions.on_end(AssociationEnd(self.association_id, frozenset(self.series), aborted))
        finally:
            self._sessions.forget(self)
