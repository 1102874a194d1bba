"""The folder quarantine/: files that are not in their place among the instances, each with its reason beside it."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from dicom_node.storage.durable import fsync, locked, write_new
from dicom_node.storage.workspace import Workspace

CONFLICT_MARK: Final = ".conflict-"
"""In the name of a file whose sender heard Success: its SOP Instance UID is known with other content."""

FIRST: Final = "the first one"
LATER: Final = "the later one"
"""Which of two contents is in the instance's place."""


class Quarantine:
    """The folder `path`; any number of processes and threads may use it. All methods raise OSError."""

    def __init__(self, path: Path, workspace: Workspace) -> None:
        """Takes the folder `path`, which exists, and `workspace` on the same disk for unfinished notes."""
        self.path = path
        self._workspace = workspace

    def put(self, file: Path, name: str, note: Mapping[str, str]) -> Path:
        """Gives `file`, whose content is on this disk, the name `name`.dcm here too, with `note` beside it as JSON.

        Under a name that is taken nothing is written, so the same bytes again take no more room. The time of the note
        (its st_mtime) is when the bytes came last.
        """
        kept = self.path / f"{name}.dcm"
        unfinished = self._workspace.new_path()
        try:
            write_new(unfinished, json.dumps(note, indent=2).encode())
            with locked(self.path):  # else what is old here may be removed under the same bytes
                try:
                    os.link(unfinished, kept.with_suffix(".json"))
                except FileExistsError:
                    os.utime(kept.with_suffix(".json"))
                with suppress(FileExistsError):
                    os.link(file, kept)
                fsync(self.path)
        finally:
            unfinished.unlink(missing_ok=True)
        return kept

    def put_conflict(self, file: Path, note: Mapping[str, str], *, stands: str) -> Path:
        """Puts one of two contents of an instance here; `stands` is FIRST or LATER."""
        reason = f"the SOP Instance UID {note['sop_uid']} was received again with other content; {stands} stands"
        name = _name_of_conflict(file, note["sop_uid"])
        return self.put(file, name, {"reason": reason, "stands": stands, **note})

    def drop_conflict(self, instance: Path) -> None:
        """Removes the content of the instance in the file `<sop uid>.dcm` from here, if it is: it is in its place."""
        kept = self.path / f"{_name_of_conflict(instance, instance.stem)}.dcm"
        with locked(self.path):
            kept.unlink(missing_ok=True)
            kept.with_suffix(".json").unlink(missing_ok=True)  # last, so that a crash leaves something that is found


def _name_of_conflict(file: Path, sop_uid: str) -> str:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return f"{sop_uid}{CONFLICT_MARK}{digest[:16]}"
