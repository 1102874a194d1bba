"""Finds out which arriving series are provably complete, so that they need not wait for quiet time.

The intake calls `CompletenessWatch.proof` for each receiving series at every tick, so it must cost little: the images
are counted, and their headers are read only when there are as many as one of them promises, or as the archive named by
`VOXTELL_SERIES_COUNTS_FROM` counts. The same number of images is looked at once.

The archive is asked about a series only while no association brings images of it: an archive that passes images on as
it receives them counts, for a moment, no more than it has sent. The proofs themselves are in `completeness_proofs`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import Timeouts
from dicom_node.scu.query import find_series
from dicom_node.store import Store
from dicom_node.uids import SeriesKey
from worker.destinations.dicom import peer_of
from worker.ledger import Series
from worker.logs import get_logger
from worker.selection.answers import promise_of, proof_of
from worker.selection.looks import Looks
from worker.settings import Settings

log = get_logger(__name__)

ASKING = Timeouts(connect=3.0, association=5.0, response=10.0)  # seconds; short, since the intake waits meanwhile
PAUSE_SECONDS = 60.0  # an archive that did not answer is not asked again for this long


@dataclass(frozen=True)
class CompletenessProof:
    """The number of images with which a series is complete, and the proof in a few words."""

    images: int
    why: str


class CompletenessWatch:
    """Remembers what is known of the series that arrive. Used by the intake thread alone; lost with the process."""

    def __init__(self, settings: Settings, store: Store, looks: Looks) -> None:
        """Prepares to ask the archive that the settings name, if they name one.

        Raises:
            SettingsError: when the archive is no destination, or is reached by DICOMweb.
        """
        self._settings, self._store, self._looks = settings, store, looks
        self._archive = peer_of(settings.destination(name), settings) if (name := settings.series_counts_from) else None
        self._asking_from = 0.0
        self._promised: dict[SeriesKey, int | None] = {}
        self._proved: dict[SeriesKey, tuple[int, bool, str]] = {}  # count, whether the archive was asked, the proof

    def keep(self, receiving: Sequence[Series]) -> None:
        """Forgets every series that is not among those still receiving."""
        keys = {series.series_key for series in receiving}
        self._promised = {key: value for key, value in self._promised.items() if key in keys}
        self._proved = {key: value for key, value in self._proved.items() if key in keys}

    def proof(self, series: Series, *, is_open: bool) -> CompletenessProof | None:
        """Returns the proof that the series is complete; None without one, or where as many images had one before.

        `is_open`: an association that has brought images of it is open. Reads headers and may ask the archive; one
        that does not answer in the seconds of `ASKING` is left alone for a minute.
        """
        key = series.series_key
        ask = self._archive is not None and not is_open and time.monotonic() >= self._asking_from
        if self._promise(key) is None and not ask:
            return None
        count = self._store.count(key)
        if series.full_with == count:  # the same images again, however long that takes: quiet time decides
            return None
        before = self._proved.get(key)
        if before is None or before[0] != count or (ask and not before[1] and not before[2]):
            self._proved[key] = before = (count, ask, self._look(key, count, ask))
        return CompletenessProof(count, before[2]) if before[2] else None

    def _promise(self, key: SeriesKey) -> int | None:
        """Reads how many instances the first image of the series promises; once per series."""
        if key not in self._promised:
            paths = self._store.series_paths(key)
            if not paths:
                return None
            self._promised[key] = self._looks.at(key, promise_of, paths[0])
        return self._promised[key]

    def _look(self, key: SeriesKey, count: int, ask: bool) -> str:
        """Proves that `count` images are the whole series, by their headers, then by the archive; "" if it cannot."""
        if self._promised[key] == count and (found := self._proof(key)):
            return found
        if ask and self._counted(key) == count:
            return self._proof(key, count)
        return ""

    def _proof(self, key: SeriesKey, counted: int | None = None) -> str:
        return self._looks.at(key, proof_of, self._store.series_paths(key), counted)

    def _counted(self, key: SeriesKey) -> int | None:
        """Asks how many instances the archive counts in the series; None if it does not answer or does not know it."""
        assert self._archive is not None
        try:
            entries = find_series(self._archive, key.study_uid, calling_ae=self._settings.ae_title, timeouts=ASKING)
        except (PeerError, PeerRefusedError) as error:
            log.warning("archive_not_answering", problem=str(error))
            self._asking_from = time.monotonic() + PAUSE_SECONDS
            return None
        return next((entry.instances for entry in entries if entry.series_uid == key.series_uid), None)
