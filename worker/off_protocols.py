"""Protocols that are off: the node can read no version of their files, as after an upgrade that refuses what was valid.

The node receives and stores all the same. A note beside the kept versions of protocols says which file it is, why, and
since when, so that commands that read no protocols can tell it, retention keeps what nobody has been asked about, and
the series that came meanwhile are asked about when the file can be read again.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

KEPT: Final = "protocols-in-force"
"""The folder in HOME of protocols' last good versions, and of these notes."""
_SUFFIX: Final = ".off"
_UNDECIDED_SECONDS: Final = 3600.0  # what came so shortly before may not have been decided then
CONSEQUENCE: Final = "the protocol is off: its studies are stored, and segmented when the file can be read again"


@dataclass(frozen=True)
class OffProtocol:
    """A protocol's file that cannot be read, the problem in one sentence, and since when (s since 1970-01-01 UTC)."""

    file: str
    problem: str
    since: float

    @property
    def unasked_since(self) -> float:
        """The time of the first image about which nobody may have asked the protocol, in s since 1970-01-01 UTC."""
        return self.since - _UNDECIDED_SECONDS

    @property
    def sentence(self) -> str:
        """The problem, and what follows from it."""
        return f"{self.problem}; {CONSEQUENCE}"


def off_protocols(home: Path) -> list[OffProtocol]:
    """Returns the protocols that are off in a home, as the node last read them; a note that is damaged counts too."""
    found = []
    for path in sorted((home / KEPT).glob(f"*{_SUFFIX}")):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            problem, since = str(note["problem"]), float(note["since"])
        except (OSError, ValueError, KeyError, TypeError):
            problem, since = f"{path.name.removesuffix(_SUFFIX)} cannot be read", _written_at(path)
        found.append(OffProtocol(path.name.removesuffix(_SUFFIX), problem, since))
    return found


def _written_at(note: Path) -> float:
    """Returns when a note was written, in s since 1970-01-01 UTC; now where it is gone."""
    try:
        return note.stat().st_mtime
    except OSError:
        return time.time()


def note_off(home: Path, file: str, problem: str) -> None:
    """Notes that a file is off; one that is off already keeps its time.

    Raises:
        OSError: when the disk does not take it.
    """
    since = next((one.since for one in off_protocols(home) if one.file == file), time.time())
    folder = home / KEPT
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{file}{_SUFFIX}.new"
    fresh.write_text(json.dumps({"problem": problem, "since": since}), encoding="utf-8")
    fresh.replace(folder / f"{file}{_SUFFIX}")


def note_on(home: Path, file: str) -> None:
    """Notes that a file is off no more; harmless where it was not.

    Raises:
        OSError: when the disk does not let the note go.
    """
    (home / KEPT / f"{file}{_SUFFIX}").unlink(missing_ok=True)
