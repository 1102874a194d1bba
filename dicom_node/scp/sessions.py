"""Who brings what just now: associations and web requests, from their beginning until their end was told.

All sessions of a process share one `Sessions`; what it knows of the other processes of a home it learns from the
store's workspace. Each session is used by one thread at a time.
"""

import threading
import uuid
from collections.abc import Callable

from dicom_node.origin import Origin
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.scp.header import Header
from dicom_node.storage.workspace import SeriesKey
from dicom_node.store import Receipt, Store


class Sessions:
    """The sessions of this process, and the series that they or those of other processes bring."""

    def __init__(
        self,
        store: Store,
        *,
        on_arrival: Callable[[Arrival], None],
        on_end: Callable[[AssociationEnd], None] | None,
        shared: bool,
    ) -> None:
        """`shared`: other processes receive too and have to know."""
        self._store = store
        self.on_arrival = on_arrival
        self.on_end = on_end
        self._shared = shared
        self._open: set[Session] = set()
        self._lock = threading.Lock()
        self._announcing = threading.Lock()

    def begin(self, is_alive: Callable[[], bool] = lambda: True) -> "Session":
        """A new session; one whose `is_alive` says no holds up nobody, should its end never be told."""
        return Session(self, is_alive)

    def open_series(self) -> set[SeriesKey]:
        """(study UID, series UID) of every instance that an open session brought."""
        return self._open_here() | (self._store.workspace.announced_by_others() if self._shared else set())

    def _open_here(self) -> set[SeriesKey]:
        with self._lock:
            return {series for session in self._open if session.is_alive() for series in session.series}

    def brings(self, session: "Session", series: SeriesKey) -> None:
        """Note that a session brought the first instance of a series."""
        with self._lock:
            session.series.add(series)
            self._open.add(session)
        self._announce()

    def over(self, session: "Session") -> None:
        """Forget a session."""
        with self._lock:
            self._open.discard(session)
        self._announce()

    def _announce(self) -> None:
        """Let the other processes know; one at a time, so that the last word is the latest."""
        if self._shared:
            with self._announcing:
                self._store.workspace.announce(self._open_here())


class Session:
    """One association, or one request of DICOMweb."""

    def __init__(self, sessions: Sessions, is_alive: Callable[[], bool]) -> None:
        self.association_id = uuid.uuid4().hex
        self.series: set[SeriesKey] = set()
        self.is_alive = is_alive
        self._sessions = sessions
        self._ended = False

    def arrived(self, header: Header, receipt: Receipt, origin: Origin) -> None:
        """Tell of an instance that is durable and about to be acknowledged; raises what `on_arrival` raises."""
        key = (header.study_uid, header.series_uid)
        if key not in self.series:
            self._sessions.brings(self, key)
        self._sessions.on_arrival(
            Arrival(
                study_uid=header.study_uid,
                series_uid=header.series_uid,
                sop_uid=header.sop_uid,
                sop_class_uid=header.sop_class_uid,
                path=receipt.path,
                calling_ae=origin.calling_ae,
                called_ae=origin.called_ae,
                address=origin.address,
                association_id=self.association_id,
                outcome=receipt.outcome,
            )
        )

    def end(self, *, aborted: bool) -> None:
        """Tell once that it is over; its series are open until whoever is told has been told."""
        if self._ended:
            return
        self._ended = True
        try:
            if self._sessions.on_end:
                self._sessions.on_end(AssociationEnd(self.association_id, frozenset(self.series), aborted))
        finally:
            self._sessions.over(self)
