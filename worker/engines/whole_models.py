"""Model directories that are whole: a half-copied one counts as not there, and a whole one is read once.

What was read and compared is noted in `HOME/verified-models.json` with the size and time of each file, so that only a
copy that has changed is read again: the published weights have 1.8 GB.
"""

import json
import os
from pathlib import Path

from voxtell.engine import recognise
from voxtell.errors import ModelError
from voxtell.integrity import compare_digests, model_files
from worker.logs import get_logger

log = get_logger(__name__)

FileStates = dict[str, list[int]]
"""Size in bytes and time of change in ns of each file of a model."""

_judged: dict[Path, tuple[FileStates, str]] = {}  # in this process: the state, and what was wrong with it


def problem_with(directory: Path, home: Path) -> str:
    """Returns in one sentence why a model is not whole; "" when every file verifies. Loads no torch.

    The first question about a copy reads all of it, later ones look at sizes and times.
    """
    try:
        recognise(directory).require_whole(directory)
        state = _state(directory)
        judged = _judged.get(directory)
        if judged is None or judged[0] != state:
            judged = _judged[directory] = state, _read(directory, state, home)
        return judged[1]
    except ModelError as error:
        return str(error)
    except OSError as error:
        return f"{error.filename or directory} cannot be read: {error.strerror}"


def note_verified(directory: Path, home: Path, state: FileStates | None = None) -> None:
    """Notes that every file of a model was read and is what it should be; nothing where it is not in that state now.

    state: sizes and times of its files before they were read; None for those of now.
    """
    path, now = home / "verified-models.json", _state(directory)
    if state is not None and state != now:
        return
    known = _noted(path) | {str(directory.resolve()): now}
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        fresh.write_text(json.dumps(known), encoding="utf-8")
        fresh.replace(path)
    except OSError as error:  # a full disk, or a home that this user may only read: the next process reads it again
        log.warning("model_note_not_kept", file=str(path), problem=str(error))


def _read(directory: Path, state: FileStates, home: Path) -> str:
    """Returns what is wrong with a copy in this state; reads it unless it was read before."""
    if _noted(home / "verified-models.json").get(str(directory.resolve())) == state:
        return ""
    try:
        compare_digests(directory)
    except ModelError as error:
        return str(error)
    note_verified(directory, home, state)
    return ""


def _state(directory: Path) -> FileStates:
    stats = {path: path.stat() for path in model_files(directory)}
    return {str(path.relative_to(directory)): [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()}


def _noted(path: Path) -> dict[str, FileStates]:
    """Returns the models that were verified, with their state at that time; {} where nothing is noted."""
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}
