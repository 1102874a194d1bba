"""A model of a power cut: only what was synced survives it. Killing a process is no such test, the page cache lives on.

`Disk` watches os.fsync. A file's content survives if it was synced since it last changed, its name if the folder was
synced since the name came there, and so on up to the root that is watched.
"""

import os
import stat
from pathlib import Path

import pytest


class Disk:
    """What of the folder `root` is on the disk; what lay there before counts as synced."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = root
        self._contents: dict[int, tuple[int, int]] = {}  # by inode: size and time of change when it was synced
        self._names: dict[int, dict[str, int]] = {}  # of a folder by inode: its entries when it was synced
        for path in [root, *root.rglob("*")]:
            self.note(path)
        sync = os.fsync

        def fsync(descriptor: int) -> None:
            sync(descriptor)
            self.note(Path(f"/proc/self/fd/{descriptor}").readlink())

        monkeypatch.setattr(os, "fsync", fsync)

    def holds(self, path: Path) -> bool:
        """Whether the file, or the folder with everything in it, is there after a power cut."""
        if path.is_dir():
            return self._is_reached(path) and all(self.holds(one) for one in path.iterdir())
        found = path.stat()
        return self._is_reached(path) and self._contents.get(found.st_ino) == (found.st_size, found.st_mtime_ns)

    def _is_reached(self, path: Path) -> bool:
        """Whether every name from the root down to `path` was synced, each for the file that bears it now."""
        steps = [path, *path.parents]
        below = steps[: steps.index(self._root)]
        return all(self._names.get(one.parent.stat().st_ino, {}).get(one.name) == one.stat().st_ino for one in below)

    def note(self, path: Path) -> None:
        """Takes the file's content, or the folder's names, for synced."""
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            self._names[found.st_ino] = {one.name: one.stat(follow_symlinks=False).st_ino for one in path.iterdir()}
        else:
            self._contents[found.st_ino] = found.st_size, found.st_mtime_ns
