"""Gives files of one disk their final names, by hard links that never replace what is there."""

import os
from pathlib import Path
from typing import Final

from dicom_node.storage.durable import fsync

_REMEMBERED_FOLDERS: Final = 4096  # series whose folder needs no further fsync in its parents; about 1 MB


class Links:
    """Links files into the tree below `home`; any thread may use it. All methods raise OSError."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._durable_folders: set[Path] = set()

    def link(self, path: Path, final: Path) -> bool:
        """Gives the file `path`, which is on the disk, its final name too, durable; returns False when it is taken."""
        folder = final.parent
        if folder not in self._durable_folders:
            self._make_folder(folder)
        try:
            try:
                os.link(path, final)
            except FileNotFoundError:  # old series are removed with their folders, whenever it is their time
                self._make_folder(folder)
                os.link(path, final)
        except FileExistsError:
            return False
        fsync(folder)
        return True

    def _make_folder(self, folder: Path) -> None:
        """Makes `folder` with its parents; its entry in them is durable on return, whichever process made them."""
        folder.mkdir(parents=True, exist_ok=True)
        for parent in folder.parents:
            fsync(parent)
            if parent == self._home:
                break
        if len(self._durable_folders) >= _REMEMBERED_FOLDERS:
            self._durable_folders.clear()
        self._durable_folders.add(folder)
