"""The own folder of a process in incoming/: its unfinished files, and what it tells the other processes of a home.

A living process holds a lock on its folder. The lock ends with the process, in another container too, which a process
id in a file name could not tell; what a dead process left is swept away by the next one that starts.
"""

import contextlib
import json
import os
import secrets
import shutil
import weakref
from collections.abc import Collection
from pathlib import Path
from typing import Final

from dicom_node.storage.durable import lock, locked, try_lock
from dicom_node.uids import SeriesKey

_OPEN_SERIES: Final = "open-series.json"


class Workspace:
    """The folder of one process, as long as that lives; any number of its threads may use it."""

    def __init__(self, incoming: Path) -> None:
        """Removes the folders of dead processes in `incoming`, and makes one for this process.

        Raises:
            OSError: when the disk does not take it, or has no locks.
        """
        self._incoming = incoming
        with locked(incoming):  # two starting processes would take each other's new folder for a dead one's
            for folder in _folders(incoming):
                if (descriptor := try_lock(folder)) is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    os.close(descriptor)
            self.path = incoming / secrets.token_hex(16)
            self.path.mkdir()
            weakref.finalize(self, os.close, lock(self.path))

    def new_path(self) -> Path:
        """Returns a path in the folder that nobody uses, for a file or a folder."""
        return self.path / secrets.token_hex(16)

    def announce(self, open_series: Collection[SeriesKey]) -> None:
        """Tells the other processes for which series this one has an open association, in place of what it said before.

        Raises:
            OSError: when the disk is full, say. Then this process announces nothing: an old word would keep its series
                open for good.
        """
        temporary = self.new_path()
        try:
            temporary.write_text(json.dumps(sorted(open_series)))
            temporary.replace(self.path / _OPEN_SERIES)
        except OSError:
            for path in (temporary, self.path / _OPEN_SERIES):
                path.unlink(missing_ok=True)
            raise

    def announced_by_others(self) -> set[SeriesKey]:
        """Returns the series that the other living processes have announced.

        Raises:
            OSError: when the disk fails.
        """
        found: set[SeriesKey] = set()
        for folder in _folders(self._incoming):
            with contextlib.suppress(FileNotFoundError):  # it ended meanwhile, or has announced nothing yet
                if folder != self.path and _is_alive(folder):
                    found.update(
                        SeriesKey(study, series) for study, series in json.loads((folder / _OPEN_SERIES).read_text())
                    )
        return found


def _is_alive(folder: Path) -> bool:
    descriptor = try_lock(folder)
    if descriptor is not None:
        os.close(descriptor)
    return descriptor is None


def _folders(incoming: Path) -> list[Path]:
    return [entry for entry in incoming.iterdir() if entry.is_dir()]
