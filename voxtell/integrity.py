"""Whether the files of a model are whole: held against their own ends, and against digests that travel with them.

A directory that `model fetch` made holds `fetched.json` with the size and SHA-256 of every file; with
`model verify --record` any other model has one. It goes along when the directory is copied. Without it, archives
(.pth, .npz) are held against the checksums inside them, and .safetensors against the length that their header
announces. Nothing here loads torch.
"""

import hashlib
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from voxtell.errors import ModelError

RECORD: Final = "fetched.json"
RECORD_BYTES: Final = 2**20  # of a record; that of the published weights has under a thousand

_HEADER_BYTES: Final = 100_000_000  # of a .safetensors file, as its format allows
_ZIP: Final = b"PK\x03\x04"  # how an archive begins; torch wrote none before version 1.6
_CHANGED: Final = "copy it again, or fetch the model again"
_AGAIN: Final = f"it was not copied to its end: {_CHANGED}"


def digest_of(path: Path) -> str:
    """Returns "sha256:..." over all bytes of a file, the digits as `sha256sum` prints them."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def record_of(directory: Path) -> Mapping[str, Any]:
    """Returns the record that travels with a model: `files` (digests), `bytes` (sizes), origin; {} without one.

    Raises:
        ModelError: when it is damaged.
    """
    path = directory / RECORD
    if not path.is_file():
        return {}
    try:
        if path.stat().st_size > RECORD_BYTES:
            raise ValueError(f"it has more than {RECORD_BYTES} bytes")
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        texts = [value for key, value in record.items() if key not in ("files", "bytes")]
        texts += [text for item in record.get("files", {}).items() for text in item]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("it holds other values than text")
        if not all(isinstance(size, int) for size in record.get("bytes", {}).values()):
            raise ValueError("it holds sizes that are no numbers")
    except (AttributeError, ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} is damaged ({error}); {_CHANGED}, or remove it") from error
    return record


def write_record(directory: Path, **origin: object) -> None:
    """Writes the size and digest of every file of a model beside them, with facts on its origin."""
    files = [path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != RECORD]
    names = [str(path.relative_to(directory)) for path in files]
    digests = [digest_of(path) for path in files]
    sizes = [path.stat().st_size for path in files]
    record = origin | {"files": dict(zip(names, digests, strict=True)), "bytes": dict(zip(names, sizes, strict=True))}
    (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def model_files(directory: Path) -> list[Path]:
    """Returns the files that make a model: those of its record, and descriptions, weights and banks."""
    named = {directory / name for name in record_of(directory).get("files", {})}
    there = (path for folder in ("*", "*/*") for path in directory.glob(folder))
    kinds = {".json", ".pth", ".safetensors", ".npz"}
    return sorted(named | {path for path in there if path.suffix in kinds and path.is_file()})


def require_whole(directory: Path) -> None:
    """Checks that every file of a model is there to its end, without reading all of it.

    Raises:
        ModelError: when a file is missing or ends early; names the first.
    """
    sizes = record_of(directory).get("bytes", {})
    for path in model_files(directory):
        if not path.is_file():
            raise ModelError(f"{path} is missing; copy the whole directory, or fetch the model again")
        expected, found = sizes.get(str(path.relative_to(directory))), path.stat().st_size
        if expected is not None and found < expected:
            raise ModelError(f"{path} has {found} of {expected} bytes; {_AGAIN}")
        if expected is not None and found > expected:
            raise ModelError(f"{path} has {found} bytes, expected {expected}; {_CHANGED}")
        _require_end(path, found)


def compare_digests(directory: Path) -> dict[str, str]:
    """Reads every file of a model and compares it with the digest in its record; returns file -> digest.

    Files without a recorded digest are held against the checksums inside them, where they have any.

    Raises:
        ModelError: when a file is missing or has changed; names the first.
    """
    require_whole(directory)
    expected = record_of(directory).get("files", {})
    for path in model_files(directory):
        name = str(path.relative_to(directory))
        if name not in expected:
            _require_checksums(path)
        elif (found := digest_of(path)) != expected[name]:
            raise ModelError(f"{path} has {found}, expected {expected[name]}; {_CHANGED}")
    return dict(expected)


def _require_end(path: Path, size: int) -> None:
    """Raises ModelError when a file does not reach the end that its own format tells."""
    if size == 0:
        raise ModelError(f"{path} is empty; {_AGAIN}")
    if path.suffix == ".safetensors":
        if size != (announced := _announced(path)):
            raise ModelError(f"{path} has {size} of {announced} bytes; {_AGAIN}")
    elif path.suffix in (".pth", ".npz") and _is_archive(path):
        try:
            with zipfile.ZipFile(path):
                pass
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            raise ModelError(f"{path} ends early; {_AGAIN}") from None


def _announced(path: Path) -> int:
    """Returns the size that the header of a .safetensors file announces; 0 where it has none."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length)) if length <= _HEADER_BYTES else {}
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        return 8 + int(length) + int(max(ends, default=0))
    except (struct.error, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        return 0


def _is_archive(path: Path) -> bool:
    """Whether a file is an archive or the very beginning of one; an older checkpoint is a pickle."""
    with path.open("rb") as file:
        return path.suffix == ".npz" or _ZIP.startswith(file.read(4))


_ARCHIVE_ERRORS: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,  # a place before the beginning of the file
    EOFError,
    RuntimeError,  # encrypted, or compressed in a way of its own
    ValueError,
)
"""What zipfile raises over a damaged archive."""


def _require_checksums(path: Path) -> None:
    """Raises ModelError when a member of an archive is not what its checksum (CRC-32) says."""
    if not _is_archive(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except _ARCHIVE_ERRORS as error:
        damaged = str(error)
    if damaged is not None:
        raise ModelError(f"{path} is damaged ({damaged}); {_CHANGED}")


def blob_is_whole(path: Path, name: str) -> bool:
    """Returns whether a file of the Hugging Face hub's cache is what its name says.

    Large files are named by their SHA-256, small ones by their git object id (SHA-1).
    """
    with path.open("rb") as file:
        if len(name) == 64:
            return hashlib.file_digest(file, "sha256").hexdigest() == name
        content = file.read()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == name
