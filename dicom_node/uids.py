"""Unique identifiers (PS3.5 section 9): tells which strings are UIDs, and derives the UIDs of results."""

import hashlib
import json
import re
from typing import Any, Final, NamedTuple

MAX_LENGTH: Final = 64  # characters, PS3.5 section 9.1

# Leading zeros in a component break PS3.5 section 9.1 but are common in the field and harmless as a file name.
_UID = re.compile(r"[0-9]+(?:\.[0-9]+)*")

_VARIANT_BITS: Final = 0xC000 << 48
_VERSION_BITS: Final = 0xF000 << 64


class SeriesKey(NamedTuple):
    """The UIDs that name a series: some devices give one Series Instance UID to series of several studies."""

    study_uid: str
    series_uid: str


def is_uid(text: str) -> bool:
    """Whether `text` has at most 64 characters of digits and dots without an empty component.

    Such a string is also a safe file name. Leading zeros in a component are let pass.
    """
    return len(text) <= MAX_LENGTH and _UID.fullmatch(text) is not None


def fingerprint(facts: Any) -> bytes:
    """Returns the SHA-256 (32 bytes) of facts that JSON can hold; the order of keys matters not, that of lists does.

    Every identity of this project is made of these bytes, so their form never changes.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).digest()


def derived_uid(*parts: str) -> str:
    """Derives a UID from `parts`: the same parts in the same order always give the same UID.

    The form is `2.25.<integer>` of a UUID (PS3.5 section B.2); the UUID is version 8 of RFC 9562, made of the first
    128 bits of SHA-256 over the parts.
    """
    number = int.from_bytes(fingerprint(parts)[:16], "big")
    number = (number & ~_VERSION_BITS) | (8 << 76)
    number = (number & ~_VARIANT_BITS) | (0x8000 << 48)
    return f"2.25.{number}"
