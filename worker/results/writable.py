"""Checks that results can be written where a person wants them, before the minutes that a segmentation takes."""

import tempfile
from pathlib import Path


def require_writable(folder: Path) -> None:
    """Tries to write into the folder, or where it is going to be made; leaves nothing there.

    Raises:
        OSError: when it is no folder, or nothing can be written there; names `folder`.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=there):  # tried, since permissions do not tell that a file system is read-only
            pass
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(folder)) from None
