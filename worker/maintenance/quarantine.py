"""Keeps the quarantine within its limits; acknowledged files are never removed here.

A file whose sender heard a failure is kept for people who look for the fault; the oldest go first. One with other
content under a known SOP Instance UID was acknowledged, and only `VOXTELL_KEEP_QUARANTINE_DAYS` removes it.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from dicom_node.removal import Quarantined, StoreRemoval
from worker.logs import get_logger
from worker.settings import Settings

log = get_logger(__name__)


def trim(clearing: StoreRemoval, settings: Settings, free_bytes: int) -> None:
    """Removes what is beyond the limits of the settings, and what the disk needs before images are refused.

    Raises:
        OSError: when the disk fails.
    """
    files = clearing.quarantined()
    going = files_to_remove(
        files,
        most_bytes=settings.quarantine_bytes,
        most_files=settings.quarantine_files,
        most_per_sender=settings.quarantine_files_per_sender,
        lacking=settings.min_free_bytes - free_bytes,
    )
    if dropped := clearing.drop(going):
        senders = dict(Counter(one.sender for one in dropped).most_common(5))
        log.warning("quarantine_trimmed", files=len(dropped), bytes=_bytes(dropped), senders=senders)
    kept = [one for one in files if one.acknowledged]
    if len(kept) > settings.quarantine_files or _bytes(kept) > settings.quarantine_bytes:
        log.error("quarantine_full_of_conflicts", files=len(kept), bytes=_bytes(kept))


def files_to_remove(
    files: Sequence[Quarantined], *, most_bytes: int, most_files: int, most_per_sender: int, lacking: int
) -> list[Quarantined]:
    """Returns the files to remove, so that the quarantine keeps its limits. `files`: oldest first.

    None that was acknowledged. First go those beyond a sender's share, so that one sender does not push out what others
    sent; then the oldest, until files, bytes and the `lacking` bytes of the disk are as they should be.
    """
    refused = [one for one in files if not one.acknowledged]
    left = Counter(one.sender for one in refused)
    going: dict[str, Quarantined] = {}
    for one in refused:
        if left[one.sender] > most_per_sender:
            left[one.sender] -= 1
            going[one.name] = one
    count, size, lacking = (
        len(files) - len(going),
        _bytes(files) - _bytes(going.values()),
        lacking - _bytes(going.values()),
    )
    for one in refused:
        if count <= most_files and size <= most_bytes and lacking <= 0:
            break
        if one.name not in going:
            count, size, lacking = count - 1, size - one.bytes, lacking - one.bytes
            going[one.name] = one
    return list(going.values())


def _bytes(files: Iterable[Quarantined]) -> int:
    return sum(one.bytes for one in files)
