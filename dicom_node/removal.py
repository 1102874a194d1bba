"""Room on the disk: images and results leave the store, in such a way that none that arrives meanwhile goes with them.

```
home/leaving/<study uid>-<seconds>-<used at>/<series uid>/<sop uid>.dcm    set aside, to be removed or put back
```

<seconds> is when that was, and <used at> when the study was last used, as far as was known then; both since 1970.

An image that is sent again in the moment in which its study is removed would be acknowledged and lost. So a study is
first set aside as a whole, by one rename, and removed only later, when whoever was receiving has long said so.

Whoever takes a study out of the store, ends one that was set aside, or decides on what is there, holds `alone`
meanwhile: of all processes of a home one does so at a time, and what it has learned holds until it has acted.
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
from dicom_node.store import Store

_LEAVING = re.compile(r"(?P<study>[0-9.]+)-(?P<since>[0-9]+)(-(?P<used_at>[0-9.]+))?")


@dataclass(frozen=True)
class Leaving:
    """A study that was set aside."""

    study_uid: str
    since: float  # seconds since 1970-01-01 UTC
    used_at: float  # when it was last used, as far as was known then; 0: not known
    path: Path

    def bytes(self) -> int:
        """How much room it takes."""
        return _bytes_in(self.path)


@dataclass(frozen=True)
class Aside:
    """A file of the quarantine, and why it was there."""

    name: str
    reason: str


class Clearing:
    """Takes studies and results out of a store. Several processes may do so at once. Raises OSError."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._leaving = store.home / "leaving"
        self._leaving.mkdir(exist_ok=True)

    def studies(self) -> set[str]:
        """The Study Instance UIDs in the store."""
        return {entry.name for entry in os.scandir(self._store.studies) if entry.is_dir()}

    def holds(self, study_uids: Iterable[str]) -> bool:
        """Whether images of one of these studies are in the store or lie aside."""
        wanted = set(study_uids)
        here = any((self._store.studies / uid).exists() for uid in wanted)
        return here or any(study.study_uid in wanted for study in self.leaving())

    def jobs(self) -> set[str]:
        """The jobs that have results in the store."""
        return {entry.name for entry in os.scandir(self._store.home / "results") if entry.is_dir()}

    def leaving(self) -> list[Leaving]:
        """What has been set aside."""
        found = []
        for path in self._leaving.iterdir():
            if name := _LEAVING.fullmatch(path.name):
                found.append(Leaving(name["study"], float(name["since"]), float(name["used_at"] or 0), path))
        return found

    def is_aside(self, study_uid: str) -> bool:
        """Whether images of the study have been set aside."""
        return any(study.study_uid == study_uid for study in self.leaving())

    def alone(self) -> AbstractContextManager[None]:
        """Waits until nobody else is in such a block, in this process or another, and keeps them out of it."""
        return locked(self._leaving)

    def set_aside(self, study_uid: str, used_at: float) -> int:
        """Takes a study that was last used then out of the store; how many bytes it has, 0 when it is not there."""
        path = self._leaving / f"{study_uid}-{int(self._clock())}-{used_at!r}"
        try:
            (self._store.studies / study_uid).rename(path)
        except FileNotFoundError:
            return 0
        return _bytes_in(path)

    def put_back(self, study: Leaving) -> None:
        """Puts every image back that has not come again; one that came again with other content is kept aside.

        Raises StoreError ("later"); the study is still set aside then.
        """
        for path in study.path.glob("*/*.dcm"):
            self._store.put_back(path, study_uid=study.study_uid, series_uid=path.parent.name)
        self.remove(study)

    def bring_back(self, study_uid: str) -> None:
        """Puts a study back, for one who needs it now, if it has been set aside. Raises StoreError ("later")."""
        with self.alone():
            for study in self.leaving():
                if study.study_uid == study_uid:
                    self.put_back(study)

    def remove(self, study: Leaving) -> None:
        """Removes what was set aside, for good."""
        shutil.rmtree(study.path)
        fsync(self._leaving)

    def remove_results(self, job_id: str) -> int:
        """Removes the results of a job, all or none; how many bytes they had."""
        going = self._store.workspace.new_path()  # what a crash leaves there is swept away
        try:
            (self._store.home / "results" / job_id).rename(going)
        except FileNotFoundError:
            return 0
        freed = _bytes_in(going)
        shutil.rmtree(going, ignore_errors=True)
        return freed

    def remove_from_quarantine(self, before: float) -> list[Aside]:
        """Removes what last came before that time (seconds since 1970), each file with its note; what that was."""
        removed = []
        quarantine = self._store.home / "quarantine"
        for note in sorted(quarantine.glob("*.json")):
            with contextlib.suppress(FileNotFoundError), locked(quarantine):  # another process was first
                if note.stat().st_mtime >= before:
                    continue
                reason = str(json.loads(note.read_text()).get("reason", ""))
                note.with_suffix(".dcm").unlink(missing_ok=True)
                note.unlink()  # last, so that a crash leaves something that is found again
                removed.append(Aside(note.stem, reason))
        return removed


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
