"""How often the instances of a folder were replaced by a later one, in a file `<sop uid>.replaced` beside each.

The count grows before the content changes, so whoever finds the count of before and after his work unchanged has read
one content. All functions raise OSError.
"""

from pathlib import Path
from typing import Final

from dicom_node.storage.durable import fsync, write_new

MARK: Final = ".replaced"


def count_replacement(instance: Path, unfinished: Path) -> None:
    """Adds one to the count of the instance in that file, durable; `unfinished` is a free path on its disk."""
    mark = instance.with_suffix(MARK)
    write_new(unfinished, str(_count(mark) + 1).encode())
    unfinished.replace(mark)
    fsync(mark.parent)


def replacements_in(folder: Path) -> dict[str, int]:
    """Returns the counts by SOP Instance UID of those instances that were replaced at all."""
    return {mark.stem: _count(mark) for mark in sorted(folder.glob(f"*{MARK}"))}


def any_replaced(study: Path) -> bool:
    """Whether an image in one of the series folders of a study was replaced."""
    return next(study.glob(f"*/*{MARK}"), None) is not None


def _count(mark: Path) -> int:
    try:
        return int(mark.read_bytes())
    except FileNotFoundError:
        return 0
    except ValueError:
        return 1
