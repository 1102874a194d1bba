"""Removes studies and results without losing an image that arrives during the removal.

```
home/leaving/<study uid>-<seconds>-<used at>/<series uid>/<sop uid>.dcm    set aside, to be removed or put back
```

<seconds> is when it was set aside, <used at> when the study was last used, as far as was known then; both in seconds
since 1970-01-01 UTC.

An image that is sent again in the moment in which its study is removed would be acknowledged and lost. So a study is
first set aside as a whole, by one rename, and removed only later, when the arrival of every image that was being
received at that time has been noted. If one came meanwhile, the study is put back.

Concurrency. Several processes may do this on one home. Hold `alone` while you set a study aside, put one back, remove
one, or decide which: one process of a home at a time does so, and what it has read stays true until it has acted.
Receiving goes on meanwhile and never waits for it.
"""

import contextlib
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dicom_node.storage.durable import fsync, locked
from dicom_node.storage.quarantine import CONFLICT_MARK
from dicom_node.store import Store

_LEAVING = re.compile(r"(?P<study>[0-9.]+)-(?P<since>[0-9]+)(-(?P<used_at>[0-9.]+))?")


@dataclass(frozen=True)
class PendingRemoval:
    """A study that was set aside."""

    study_uid: str
    since: float  # seconds since 1970-01-01 UTC
    used_at: float  # when it was last used, as far as was known then; 0: not known
    path: Path

    def bytes(self) -> int:
        """Returns how much room it takes."""
        return _bytes_in(self.path)


@dataclass(frozen=True)
class QuarantinedFile:
    """A file of the quarantine, and why it was there."""

    name: str
    reason: str


@dataclass(frozen=True)
class Quarantined:
    """A file that lies in the quarantine."""

    name: str
    sender: str  # AE title and address; "" where the note names none
    bytes: int
    since: float  # when it came last, in seconds since 1970-01-01 UTC
    acknowledged: bool  # its sender heard Success: other content under a known SOP Instance UID


class StoreRemoval:
    """Takes studies and results out of a store; several processes may do so at once.

    Raises:
        OSError: when the disk fails, in every method.
    """

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._leaving = store.home / "leaving"
        self._quarantine = store.home / "quarantine"
        self._leaving.mkdir(exist_ok=True)

    def studies(self) -> set[str]:
        """Returns the Study Instance UIDs in the store, without those that were set aside."""
        return {entry.name for entry in os.scandir(self._store.studies) if entry.is_dir()}

    def holds(self, study_uids: Iterable[str]) -> bool:
        """Whether images of one of these studies are in the store or have been set aside."""
        wanted = set(study_uids)
        here = any((self._store.studies / uid).exists() for uid in wanted)
        return here or any(study.study_uid in wanted for study in self.leaving())

    def jobs(self) -> set[str]:
        """Returns the IDs of the jobs that have results in the store."""
        return {entry.name for entry in os.scandir(self._store.home / "results") if entry.is_dir()}

    def leaving(self) -> list[PendingRemoval]:
        """Returns the studies that have been set aside, in no order; one may be there several times."""
        found = []
        for path in self._leaving.iterdir():
            if name := _LEAVING.fullmatch(path.name):
                found.append(PendingRemoval(name["study"], float(name["since"]), float(name["used_at"] or 0), path))
        return found

    def is_aside(self, study_uid: str) -> bool:
        """Whether images of the study have been set aside."""
        return any(study.study_uid == study_uid for study in self.leaving())

    def alone(self) -> AbstractContextManager[None]:
        """Holds the lock of removal during a `with` block, after waiting for any other holder, in any process."""
        return locked(self._leaving)

    def set_aside(self, study_uid: str, used_at: float) -> int:
        """Takes a study out of the store by one rename; returns its size in bytes, 0 when it is not there.

        `used_at` is when it was last used, in seconds since 1970-01-01 UTC. Hold `alone`.
        """
        path = self._leaving / f"{study_uid}-{int(self._clock())}-{used_at!r}"
        try:
            (self._store.studies / study_uid).rename(path)
        except FileNotFoundError:
            return 0
        return _bytes_in(path)

    def put_back(self, study: PendingRemoval) -> None:
        """Puts every image of a study back into the store; one that came again with other content goes to quarantine.

        Hold `alone`.

        Raises:
            StoreError: when the disk does not take it. The study stays set aside, and this may be called again.
        """
        for path in study.path.glob("*/*.dcm"):
            self._store.put_back(path, study_uid=study.study_uid, series_uid=path.parent.name)
        self.remove(study)

    def bring_back(self, study_uid: str) -> None:
        """Puts a study back if it has been set aside, because somebody needs it now; takes `alone` itself.

        Raises:
            StoreError: when the disk does not take it.
        """
        with self.alone():
            for study in self.leaving():
                if study.study_uid == study_uid:
                    self.put_back(study)

    def remove(self, study: PendingRemoval) -> None:
        """Removes a study that was set aside, for good. Hold `alone`."""
        shutil.rmtree(study.path)
        fsync(self._leaving)

    def remove_results(self, job_id: str) -> int:
        """Removes the results of a job, all or none; returns their size in bytes, 0 when there are none."""
        going = self._store.workspace.new_path()  # what a crash leaves there is swept away
        try:
            (self._store.home / "results" / job_id).rename(going)
        except FileNotFoundError:
            return 0
        freed = _bytes_in(going)
        shutil.rmtree(going, ignore_errors=True)
        return freed

    def remove_from_quarantine(self, before: float) -> list[QuarantinedFile]:
        """Removes the files of the quarantine, with their notes, that last came before a time; returns what they were.

        `before` is in seconds since 1970-01-01 UTC. The same bytes that come again meanwhile are kept.
        """
        removed = []
        quarantine = self._quarantine
        for note in sorted(quarantine.glob("*.json")):
            with contextlib.suppress(FileNotFoundError), locked(quarantine):  # another process was first
                if note.stat().st_mtime >= before:
                    continue
                reason = str(json.loads(note.read_text()).get("reason", ""))
                note.with_suffix(".dcm").unlink(missing_ok=True)
                note.unlink()  # last, so that a crash leaves something that is found again
                removed.append(QuarantinedFile(note.stem, reason))
        return removed

    def quarantined(self) -> list[Quarantined]:
        """Returns the files of the quarantine, those first that came longest ago."""
        found = []
        for note in self._quarantine.glob("*.json"):
            with contextlib.suppress(FileNotFoundError):  # another process removes it
                content, since = json.loads(note.read_text()), note.stat().st_mtime
                sender = " ".join(str(content[key]) for key in ("calling_ae", "address") if content.get(key))
                size = note.with_suffix(".dcm").stat().st_size + note.stat().st_size
                found.append(Quarantined(note.stem, sender, size, since, CONFLICT_MARK in note.stem))
        return sorted(found, key=lambda one: (one.since, one.name))

    def drop(self, files: Iterable[Quarantined]) -> list[Quarantined]:
        """Removes these files from the quarantine, unless their bytes have come again meanwhile; returns which went."""
        dropped = []
        for file in files:
            note = self._quarantine / f"{file.name}.json"
            with contextlib.suppress(FileNotFoundError), locked(self._quarantine):
                if note.stat().st_mtime == file.since:
                    note.with_suffix(".dcm").unlink(missing_ok=True)
                    note.unlink()
                    dropped.append(file)
        return dropped


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
