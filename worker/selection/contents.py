"""Contents: which content of its images a job is made for, where they may come again under their UIDs with another one.

A job on images of that kind holds a digest of the content of their files. So the ledger tells one content from the
next, and knows a former one again, whatever became of the files meanwhile.
"""

import hashlib
from functools import lru_cache
from pathlib import Path

from dicom_node.store import Store
from worker.identity import digest_of, revision_of
from worker.job_spec import JobSpec
from worker.ledger import Ledger

_KNOWN_FILES = 8192  # of which a process remembers the digests


def with_content(spec: JobSpec, store: Store, ledger: Ledger, *, newer_wins: bool) -> JobSpec:
    """Returns a specification with the content of its images, and the revision under which the ledger knows that.

    It comes back as it is where images keep their first content and none was ever replaced: the files are not read.
    """
    counted = revision_of(store.replacements(spec.series_key), spec.instances)
    content = _content_of(spec, store) if newer_wins or counted else ""
    if not content:
        return spec
    mine = spec.model_copy(update={"content": content, "revision": content if counted else ""})
    return ledger.jobs.revised(mine, counted)


def is_former(spec: JobSpec, store: Store) -> bool:
    """Whether the store holds other content of a job's images than the job was made for; False where some are away."""
    if spec.content:
        return _content_of(spec, store) not in ("", spec.content)
    counted = revision_of(store.replacements(spec.series_key), spec.instances)
    return bool(_files(spec, store)) and counted != spec.revision


def _content_of(spec: JobSpec, store: Store) -> str:
    """Returns a digest of the files of a job's images; "" where one is away."""
    try:
        files = _files(spec, store)
        return digest_of([[path.stem, _digest_of(path)] for path in files]) if files else ""
    except FileNotFoundError:  # it was removed just now
        return ""


def _files(spec: JobSpec, store: Store) -> list[Path]:
    """Returns the files of a job's images, in its order; none where one is away."""
    stored = {path.stem: path for path in store.series_paths(spec.series_key)}
    return [stored[uid] for uid in spec.instances] if stored.keys() >= set(spec.instances) else []


def _digest_of(path: Path) -> str:
    """Returns the digest of a file; one that has not changed since it was read is not read again."""
    status = path.stat()
    return _digest(path, status.st_ino, status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=_KNOWN_FILES)
def _digest(path: Path, _inode: int, _changed_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
