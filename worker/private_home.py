"""Makes HOME and all that the node writes readable by its user only."""

import os
import stat
from pathlib import Path

from worker.settings import Settings, load

OTHERS = 0o077  # permissions of group and others


def load_privately() -> Settings:
    """Reads the settings for a command that may make HOME: what this process writes from here on is its user's alone.

    Raises:
        SettingsError: when a setting cannot be used (`worker.settings.load`).
    """
    os.umask(OTHERS)
    return load()


def keep_private(home: Path) -> None:
    """Has this process and its children write for this user only, and closes HOME and what lies in it to others.

    A home of an earlier version is put right with a line of the log: HOME itself, so that nobody gets below it, and
    the files and folders in it. One that this user may not change is left with a warning.

    Raises:
        OSError: when HOME cannot be made.
    """
    os.umask(OTHERS)
    home.mkdir(parents=True, exist_ok=True)
    mode = open_to_others(home)
    if not mode:
        return
    from worker.logs import get_logger  # structlog, which commands that log nothing do without

    log = get_logger(__name__)
    try:
        for path in (home, *home.iterdir()):
            if open_to_others(path) and not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~OTHERS)
    except OSError as error:
        log.warning("home_open_to_others", home=str(home), mode=f"{mode:04o}", problem=error.strerror)
    else:
        log.warning("home_closed_to_others", home=str(home), mode=f"{mode:04o}")


def open_to_others(path: Path) -> int:
    """Returns the permissions of a file or folder where group or others have any; else 0."""
    mode = stat.S_IMODE(path.stat().st_mode)
    return mode if mode & OTHERS else 0
