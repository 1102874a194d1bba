"""The protocols in force: a folder of files that is read again when one changes.

A file with a mistake keeps its last good version in force, and the mistake is logged. Good versions are also kept in
`HOME/protocols-in-force`, so that a node that restarts with a mistake in its folder goes on as before.

A file of which no version can be read, such as one that a new release refuses, is off: the node starts, receives and
stores without it, and says so until the file is mended (`worker.off_protocols`).

The intake thread asks `ProtocolFolder.current` at every tick. The commands use `read_folder` and `problems_in`, which
keep nothing, and `ProtocolFolder` without a home.
"""

import os
import shutil
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

from worker.errors import LedgerError, ProtocolError
from worker.logs import get_logger
from worker.off_protocols import CONSEQUENCE, KEPT, note_off, note_on, off_protocols
from worker.protocols.protocol import Protocol
from worker.protocols.yaml_file import parse_protocol, protocol_files, read_protocol, read_text

log = get_logger(__name__)

Stamp = tuple[int, int]
"""Time of the last change in ns, and size in bytes. A file with another stamp was edited."""


@dataclass(frozen=True)
class _File:
    """One file: the version in force, and the problem with the file as it stands now, if there is one."""

    stamp: Stamp
    protocol: Protocol | None
    problem: ProtocolError | None = None


def read_folder(folder: Path) -> list[Protocol]:
    """Returns every protocol of a folder, in the order of the files' names.

    Raises:
        ProtocolError: when a file is not valid, or two protocols have the same name.
    """
    protocols: dict[str, Protocol] = {}
    for path in protocol_files(folder):
        protocol = read_protocol(path)
        _check_name(protocol, protocols, path)
        protocols[protocol.name] = protocol
    return list(protocols.values())


def problems_in(folder: Path) -> list[ProtocolError]:
    """Returns what is wrong with the files of a folder: one problem per file at most, in the order of their names."""
    problems: list[ProtocolError] = []
    names: set[str] = set()
    for path in protocol_files(folder):
        try:
            protocol = read_protocol(path)
            _check_name(protocol, names, path)
            names.add(protocol.name)
        except ProtocolError as error:
            problems.append(error)
    return problems


def files_by_name(folder: Path) -> dict[str, Path]:
    """Returns the file of each valid protocol of a folder by the protocol's name, in the order of the files' names."""
    found: dict[str, Path] = {}
    for path in protocol_files(folder):
        try:
            found.setdefault(read_protocol(path).name, path)
        except ProtocolError:  # `protocols check` tells what is wrong with it
            continue
    return found


def ship_protocols(folder: Path) -> None:
    """Makes the folder with the shipped protocols if there is none; an existing folder is never touched."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    with as_file(files("worker.protocols") / "shipped") as shipped:
        for path in protocol_files(shipped):
            shutil.copyfile(path, folder / path.name)


class ProtocolFolder:
    """The protocols of a folder that are in force. For one thread.

    Args:
        on_error: called once with each new problem of a file; without it the problem is logged.
        on_change: called with the protocols in force, at first and after every change.
        on_return: called when a file that was off is in force, with the time since when it was not asked about series
            (s since 1970-01-01 UTC).
        home: where good versions outlive the process, and notes of those that are off; None: they do not.
        keeps: whether it writes there, as the node does, or only reads.
    """

    def __init__(
        self,
        folder: Path,
        on_error: Callable[[ProtocolError], None] | None = None,
        on_change: Callable[[Sequence[Protocol]], None] | None = None,
        on_return: Callable[[float], None] | None = None,
        *,
        home: Path | None = None,
        keeps: bool = True,
    ) -> None:
        self._folder, self._home, self._keeps = folder, home, keeps and home is not None
        self._on_error = on_error
        self._on_change = on_change or (lambda _protocols: None)
        self._on_return = on_return or (lambda _since: None)
        self._files: dict[Path, _File] = {}
        self._missing = False
        self._came = False  # whether the last reading found a file of a new name
        self._owed = False  # whether notes could not be brought up to date, or their return not be told
        self._read()
        self._on_change(self._in_force())

    @property
    def problems(self) -> list[str]:
        """What is wrong with the files as they stand now, and what follows from it, in one sentence each."""
        return [
            f"{file.problem}; {'its last good version stays in force' if file.protocol else CONSEQUENCE}"
            for _, file in sorted(self._files.items())
            if file.problem is not None
        ]

    def current(self) -> list[Protocol]:
        """Reads the files again if one has changed; returns the protocols in force, in the order of their files."""
        if not self._folder.is_dir():  # perhaps unmounted, which is not the same as emptied by a person
            self._gone()
        elif {path: file.stamp for path, file in self._files.items()} != _stamps(self._folder):
            before = self._in_force()
            self._read()
            if self._in_force() != before:
                self._on_change(self._in_force())
        elif self._owed:
            self._note_off()
        return self._in_force()

    def _gone(self) -> None:
        """Reports once that the folder is missing."""
        if not self._missing:
            self._missing = True
            self._tell(ProtocolError(f"{self._folder} is not there any more; its protocols stay in force"), off=False)

    def _tell(self, problem: ProtocolError, *, off: bool) -> None:
        if self._on_error is not None:
            self._on_error(problem)
        elif off:
            log.error("protocol_off", problem=str(problem))
        else:
            log.error("protocol_change_rejected", problem=str(problem))

    def _in_force(self) -> list[Protocol]:
        """Returns the protocols in force, in the order of their files' names."""
        return [file.protocol for _, file in sorted(self._files.items()) if file.protocol is not None]

    def _read(self) -> None:
        """Reads the files that are new, changed or had a problem; those that are unchanged keep their name first.

        A new problem is reported once. A file with a problem keeps the version that it had in this process, else the
        one kept on the disk.
        """
        stamps, before = _stamps(self._folder), self._files
        self._came = bool(stamps.keys() - before.keys())
        self._missing = False
        self._files = {
            path: file for path, file in before.items() if stamps.get(path) == file.stamp and not file.problem
        }
        for path in [path for path in stamps if path not in self._files]:
            last = before.get(path)
            try:
                text = read_text(path)
                protocol = parse_protocol(text, str(path))
                _check_name(protocol, self._names(), path)
                self._files[path] = _File(stamps[path], protocol)
                self._keep(path, text)
            except ProtocolError as problem:
                good = last.protocol if last else self._kept_version(path)
                still = good if good is not None and good.name not in self._names() else None
                self._files[path] = _File(stamps[path], still, problem)
                if last is None or str(last.problem) != str(problem):
                    self._tell(problem, off=still is None)
        self._note_off()

    def _note_off(self) -> None:
        """Brings the notes of files that are off up to date, and tells of those that are in force again."""
        if self._home is None or not self._keeps:
            return
        off = {path.name: file.problem for path, file in self._files.items() if file.protocol is None}
        there = {path.name for path in self._files}
        self._owed = True
        try:
            for name, problem in off.items():
                note_off(self._home, name, str(problem))
            for before in off_protocols(self._home):
                if before.file not in off:
                    if before.file in there or self._came:  # mended, perhaps under another name
                        self._on_return(before.unasked_since)
                    note_on(self._home, before.file)
            self._owed = False
        except (OSError, LedgerError) as error:
            log.warning("protocol_version_not_kept", file=str(self._folder), problem=str(error))

    def _names(self) -> list[str]:
        """Returns the names of the protocols in force."""
        return [protocol.name for protocol in self._in_force()]

    def _keep(self, path: Path, text: str) -> None:
        """Keeps the text of a good version on the disk, and forgets files that are not in the folder any more.

        A full disk is only logged: the node has the version in memory.
        """
        if self._home is None or not self._keeps:
            return
        kept = self._home / KEPT
        try:
            kept.mkdir(parents=True, exist_ok=True)
            fresh = kept / f"{path.name}.{os.getpid()}"
            fresh.write_text(text, encoding="utf-8")
            fresh.replace(kept / path.name)
            there = {one.name for one in protocol_files(self._folder)}
            for one in protocol_files(kept):
                if one.name not in there:
                    one.unlink(missing_ok=True)
        except OSError as error:
            log.warning("protocol_version_not_kept", file=str(path), problem=str(error))

    def _kept_version(self, path: Path) -> Protocol | None:
        """Returns the version of a file that was good when the node last read it; None if there is none."""
        try:
            return read_protocol(self._home / KEPT / path.name) if self._home is not None else None
        except ProtocolError:  # none was kept, or a release has changed what is valid
            return None


def _stamps(folder: Path) -> dict[Path, Stamp]:
    """Returns the stamp of each protocol file of a folder."""
    stats = [(path, path.stat()) for path in protocol_files(folder)]
    return {path: (stat.st_mtime_ns, stat.st_size) for path, stat in stats}


def _check_name(protocol: Protocol, others: Container[str], path: Path) -> None:
    """Refuses a protocol whose name another file has already: decisions and results tell protocols apart by it."""
    if protocol.name in others:
        raise ProtocolError(f"{path}: another file already has a protocol named '{protocol.name}'; rename one")
