"""Keeps instances, results and quarantined files on the disk, in one folder tree.

```
home/
  studies/<study uid>/<series uid>/<sop uid>.dcm    as received, DICOM File Format (PS3.10), never changed
                                   <sop uid>.replaced  how often another content took its place (where newer wins)
  results/<job>/                                    what a job made; appears and is replaced as a whole
  quarantine/<digest>.dcm                           what could not become an instance
             <sop uid>.conflict-<digest>.dcm        same SOP Instance UID, other content than in studies/
             *.json                                 beside each: the reason
  leaving/<study uid>-<seconds>-<used at>/          set aside to be removed (dicom_node.removal)
  incoming/<process>/                               unfinished writes of a living process, and its open series
```

How a file gets its name: it is written in incoming/, fsynced, hard linked to its final name (a link never replaces what
is there, so the first of several writers wins whatever process it is in), and the folder of the final name is fsynced.
A crash leaves either nothing or the whole file under the final name; the next start sweeps the rest in incoming/.
Where newer wins, a correction of an instance is renamed over it; the former content has its name in quarantine/ before.

Concurrency. Several processes, and several threads of each, may use one home. New instances need no lock, since the
link decides; who replaces one holds the lock of its series' folder. The quarantine has a lock, because its files are
removed by age. Only `dicom_node.removal` takes files away.
"""

import contextlib
import enum
import filecmp
import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from dicom_node.errors import StoreError
from dicom_node.images.differences import differing_attributes, is_correction
from dicom_node.images.headers import sop_class_of
from dicom_node.storage.durable import fsync, locked, publish
from dicom_node.storage.home_id import home_id
from dicom_node.storage.incoming import Incoming
from dicom_node.storage.links import Links
from dicom_node.storage.quarantine import FIRST, LATER, Quarantine
from dicom_node.storage.replacements import MARK, count_replacement, replacements_in
from dicom_node.storage.workspace import Workspace
from dicom_node.uids import SeriesKey, is_uid

_SAFE_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")


class Outcome(enum.Enum):
    """What became of an instance that was handed to the store; it was durable in each case."""

    NEW = "new"
    SAME = "same"  # already there, byte for byte
    CONFLICT = "conflict"  # its UID is there with other content; this one lies in quarantine
    REPLACED = (
        "replaced"  # its UID was there with other content, which lies in quarantine now; this one is in its place
    )


@dataclass(frozen=True)
class Receipt:
    """Where the bytes of an instance now lie, durable: in studies/, or for a CONFLICT in quarantine/."""

    path: Path
    outcome: Outcome


@dataclass(frozen=True)
class Stored:
    """One instance of the store, with its UIDs and its file."""

    study_uid: str
    series_uid: str
    sop_uid: str
    path: Path

    @property
    def series_key(self) -> SeriesKey:
        """The UIDs of its study and series."""
        return SeriesKey(self.study_uid, self.series_uid)


class Store:
    """The folder tree of this module's docstring; every method may be called by any thread."""

    def __init__(self, home: Path, *, newer_wins: bool = False) -> None:
        """Makes the tree under `home` and removes what dead processes left in incoming/.

        newer_wins: an instance that comes again with other content takes the place of the first (see `keep`).

        Raises:
            StoreError: when `home` cannot be made or written, or its file system has no hard links or no locks.
        """
        self.home = home
        self.studies = home / "studies"
        self._results = home / "results"
        self._newer_wins = newer_wins
        self._links = Links(home)
        try:
            for folder in (self.studies, self._results, home / "quarantine", home / "incoming"):
                folder.mkdir(parents=True, exist_ok=True)
            fsync(home)
            self.workspace = Workspace(home / "incoming")
            self.id = home_id(home, self.workspace.new_path())
            self._quarantine = Quarantine(home / "quarantine", self.workspace)
            with self.incoming() as probe:  # finds out here that a file system has no hard links
                self._place(probe, linked := self.workspace.new_path())
                linked.unlink()
        except OSError as error:
            raise StoreError(
                f"The store {home} cannot be used ({error.strerror}); give a writable folder on a local disk."
            ) from error

    # instances

    def put(self, part10: bytes, *, study_uid: str, series_uid: str, sop_uid: str) -> Receipt:
        """Keeps one instance whose whole DICOM file is in memory; returns and raises as `keep` does."""
        self._instance_path(study_uid, series_uid, sop_uid)
        with self._as_store_error(self.home), self.incoming() as file:
            file.write(part10)
            return self.keep(file, study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid)

    def incoming(self) -> Incoming:
        """Makes a file to write a DICOM file into, for `keep` or `quarantine`; gone at the end of its `with` block.

        Raises:
            OSError: when the disk does not take it.
        """
        return Incoming(self.workspace.new_path())

    def keep(self, file: Incoming, *, study_uid: str, series_uid: str, sop_uid: str) -> Receipt:
        """Keeps one instance; when this returns, a power failure does not lose it.

        `file` is complete: preamble, file meta information, data set. The first instance of a SOP Instance UID stays
        for good; the same bytes again are SAME, any other byte makes a CONFLICT, which is put aside. So an instance
        that comes again in another transfer syntax is put aside too. Where newer wins, a correction (see
        `dicom_node.images.differences`) takes the place of the former instance, which is put aside: REPLACED.

        Raises:
            StoreError: when the disk does not take it; nothing is kept.
            ValueError: when one of the UIDs is not valid (PS3.5 section 9.1).
        """
        final = self._instance_path(study_uid, series_uid, sop_uid)
        with self._as_store_error(final):
            if not final.exists() and self._place(file, final):
                return Receipt(final, Outcome.NEW)
            if file.equals(final):
                fsync(final.parent)  # its first writer may have died before it came to this
                return Receipt(final, Outcome.SAME)
            file.sync()
            with locked(final.parent) if self._newer_wins else contextlib.nullcontext():
                return self._keep_other(file, final, SeriesKey(study_uid, series_uid))

    def _keep_other(self, file: Incoming, final: Path, series: SeriesKey) -> Receipt:
        """Keeps `file`, which differs from the instance `final`; where newer wins, under the lock of its folder."""
        if self._newer_wins and file.equals(final):  # another sender was first
            return Receipt(final, Outcome.SAME)
        note = _note(series.study_uid, series.series_uid, final, file.path)
        if not (self._newer_wins and is_correction(final, file.path, note["differs"].split())):
            return Receipt(self._quarantine.put_conflict(file.path, note, stands=FIRST), Outcome.CONFLICT)
        self._quarantine.put_conflict(final, note, stands=LATER)
        count_replacement(final, self.workspace.new_path())
        file.path.replace(final)
        fsync(final.parent)
        self._quarantine.drop_conflict(final)  # where it stands again, or was put aside when the first one stood
        return Receipt(final, Outcome.REPLACED)

    def put_back(self, path: Path, *, study_uid: str, series_uid: str) -> None:
        """Links the instance in the file `path`, which lies on the store's disk, back to its place; the file stays.

        This works on a full disk too. If the instance has come again meanwhile with other content, that one stays, and
        `path` is put aside: both were acknowledged.

        Raises:
            StoreError: when the disk does not take it.
        """
        final = self._instance_path(study_uid, series_uid, path.stem)
        with self._as_store_error(final):
            if path.with_suffix(MARK).exists():
                self._links.link(path.with_suffix(MARK), final.with_suffix(MARK))
            if self._links.link(path, final):
                return
            if filecmp.cmp(path, final, shallow=False):
                fsync(final.parent)  # its writer may have died before it came to this, and `path` is removed next
                return
            self._quarantine.put_conflict(path, _note(study_uid, series_uid, path, final), stands=LATER)
            if self._newer_wins:  # jobs on the former content are none on this
                count_replacement(final, self.workspace.new_path())

    def replacements(self, series: SeriesKey) -> dict[str, int]:
        """Returns how often instances of a series were replaced by later ones, by SOP Instance UID, where they were."""
        return replacements_in(self._series_folder(series))

    def series_paths(self, series: SeriesKey) -> list[Path]:
        """Returns the files of a series, sorted by name; empty when the series is unknown.

        Raises:
            ValueError: when one of the UIDs is not valid.
        """
        return sorted(self._series_folder(series).glob("*.dcm"))

    def count(self, series: SeriesKey) -> int:
        """Counts the instances of a series by their file names; 0 when the series is unknown."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self._series_folder(series)) as entries:
            return sum(entry.name.endswith(".dcm") for entry in entries)
        return 0

    def series_of(self, study_uid: str) -> list[str]:
        """Returns the Series Instance UIDs of a study; empty when the study is unknown."""
        return _names(self.studies / _checked_uid(study_uid))

    def walk(self) -> Iterator[Stored]:
        """Yields every instance, study by study and series by series, each in the order of UIDs."""
        for study_uid in filter(is_uid, _names(self.studies)):
            for series_uid in filter(is_uid, _names(self.studies / study_uid)):
                for path in self.series_paths(SeriesKey(study_uid, series_uid)):
                    yield Stored(study_uid, series_uid, path.stem, path)

    def classes_of(self, sop_uids: Collection[str]) -> dict[str, str]:
        """Returns the SOP Class UIDs of those of `sop_uids` that the store holds, by SOP Instance UID.

        The search begins with the series that changed last and ends when all are found: storage commitment is asked
        for what has just come. An instance that the store lacks makes it look at every series.
        """
        missing = set(sop_uids)
        found: dict[str, str] = {}
        for series in sorted(self.studies.glob("*/*"), key=_changed_at, reverse=True):
            if not missing:
                break
            for path in [path for path in series.glob("*.dcm") if path.stem in missing]:
                found[path.stem] = sop_class_of(path)
                missing.remove(path.stem)
        return found

    def quarantine(self, file: Incoming, reason: str, *, name: str | None = None, **facts: str) -> Path:
        """Puts a file into quarantine, with `reason` and `facts` beside it as JSON; returns its path.

        It is named by `name`, or by the SHA-256 of its content: the same bytes again take no more room.

        Raises:
            StoreError: when the disk does not take it.
        """
        with self._as_store_error(self._quarantine.path):
            file.sync()
            return self._quarantine.put(file.path, name or file.digest()[:32], {"reason": reason, **facts})

    # results

    @contextlib.contextmanager
    def results(self, job_id: str) -> Iterator[Path]:
        """Yields a folder to write a job's results into; on leaving without error it becomes results/<job> as a whole.

        An earlier result of the job is replaced in the same instant. On an error nothing of the new one remains.

        Raises:
            StoreError: when the disk does not take it; an OSError of whoever writes into the folder becomes one too.
            ValueError: when `job_id` cannot name a folder.
        """
        final = self._results / _checked_name(job_id)
        with self._as_store_error(final), self.scratch() as folder:
            yield folder
            for path in folder.rglob("*"):
                fsync(path)
            fsync(folder)
            publish(folder, final)
            fsync(final.parent)

    def result_paths(self, job_id: str) -> list[Path]:
        """Returns the files of a job's result, sorted by path; empty when it has none."""
        folder = self._results / _checked_name(job_id)
        return sorted(path for path in folder.rglob("*") if path.is_file())

    # the disk

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yields a folder on the store's disk for the `with` block, removed at its end.

        What a dead process leaves of its own goes at the next start of any process.

        Raises:
            OSError: when the disk does not take it.
        """
        folder = self.workspace.new_path()
        try:
            folder.mkdir()
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def free_bytes(self) -> int:
        """Returns how many bytes may still be written to the disk of the store, without those reserved for root."""
        disk = os.statvfs(self.home)
        return disk.f_bavail * disk.f_frsize

    # the way of one file

    def _series_folder(self, series: SeriesKey) -> Path:
        return self.studies / _checked_uid(series.study_uid) / _checked_uid(series.series_uid)

    def _instance_path(self, study_uid: str, series_uid: str, sop_uid: str) -> Path:
        return self.studies.joinpath(_checked_uid(study_uid), _checked_uid(series_uid), f"{_checked_uid(sop_uid)}.dcm")

    def _place(self, file: Incoming, final: Path) -> bool:
        """Gives `file` its final name, durable; returns False when that name is taken."""
        file.sync()
        return self._links.link(file.path, final)

    @contextlib.contextmanager
    def _as_store_error(self, path: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise StoreError(
                f"{path} could not be written ({error.strerror or error}); make room on its disk or check it."
            ) from error


def _note(study_uid: str, series_uid: str, former: Path, later: Path) -> dict[str, str]:
    """Returns what is written beside one of two contents of the instance `former`."""
    differs = " ".join(differing_attributes(former, later))
    return {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": former.stem, "differs": differs}


def _checked_uid(uid: str) -> str:
    if not is_uid(uid):
        raise ValueError(f"{uid!r} is not a UID (PS3.5 section 9.1)")
    return uid


def _checked_name(name: str) -> str:
    if not _SAFE_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a folder: letters, digits, '-', '_' and '.', at most 128")
    return name


def _changed_at(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # it is being removed
        return 0.0


def _names(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    except FileNotFoundError:
        return []
