"""Changes to bytes and to JSON documents, drawn from a `random.Random`: the same state gives the same changes."""

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any, Final

_NUMBERS: Final = tuple(
    number.to_bytes(size, order)
    for size, numbers in {
        1: (0, 1, 0x7F, 0x80, 0xFF),
        2: (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0xFFFE),
        4: (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0, 0x10000000),
        8: (0, 2**63 - 1, 2**64 - 1),
    }.items()
    for number in numbers
    for order in ("little", "big")
)
"""What lengths and counts break at."""

_VALUES: Final = (
    None,
    True,
    [],
    {},
    "",
    "x",
    "\x1b[2J\r\nforged",
    "\ud800",
    "9" * 5000,
    0,
    -1,
    1,
    2**31,
    2**63,
    10**400,
    1e308,
    -0.0,
    float("nan"),
    float("inf"),
    [[]],
    [{}],
    {"": ""},
    [None, 0, "x"],
    [1] * 200,
)
"""What a value of a document may be instead."""

_DEEP: Final = 3000  # levels: more than Python's stack has


def mutated(
    chance: random.Random, content: bytes, *, words: Sequence[bytes] = (), most: int = 4, near: int | None = None
) -> bytes:
    """`content` after one to `most` changes.

    `words`: what is also put in. `near`: most changes are within so many bytes of the start; None: anywhere.
    """
    changed = bytearray(content)
    for _ in range(chance.randint(1, most)):
        if not changed:
            return chance.randbytes(chance.randrange(20))
        at = min(int(chance.expovariate(1 / near)), len(changed) - 1) if near else chance.randrange(len(changed))
        chance.choice(_CHANGES)(chance, changed, at, words)
    return bytes(changed)


def _another_byte(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    content[at] = chance.randrange(256)


def _another_bit(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    content[at] ^= 1 << chance.randrange(8)


def _number(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    number = chance.choice(_NUMBERS)
    content[at : at + len(number)] = number


def _without(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    del content[at : at + chance.choice((1, 2, 4, 8, 30, 300))]


def _with_more(chance: random.Random, content: bytearray, at: int, words: Sequence[bytes]) -> None:
    content[at:at] = chance.choice(words) if words and chance.random() < 0.6 else chance.randbytes(chance.randint(1, 9))


def _repeated(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    part = content[at : at + chance.choice((1, 8, 40, 200))]
    content[at:at] = part * chance.choice((1, 2, 50))


def _moved(chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    size = chance.choice((2, 8, 60))
    part = content[at : at + size]
    del content[at : at + size]
    to = chance.randrange(len(content) + 1)
    content[to:to] = part


def _cut_off(_chance: random.Random, content: bytearray, at: int, _words: Sequence[bytes]) -> None:
    del content[at:]


_CHANGES: Final[Sequence[Callable[[random.Random, bytearray, int, Sequence[bytes]], None]]] = (
    _another_byte,
    _another_bit,
    _number,
    _number,
    _without,
    _with_more,
    _with_more,
    _repeated,
    _moved,
    _cut_off,
)


def mutated_json(chance: random.Random, document: Any, *, most: int = 3) -> bytes:
    """The text of a document in which one to `most` values or keys are others, or are not there."""
    changed = copy.deepcopy(document)
    for _ in range(chance.randint(1, most)):
        changed = _with_another_value(chance, changed)
    text = json.dumps(changed)
    if chance.random() < 0.02:
        text = text.replace(": ", ": " + "[" * _DEEP, 1)
    elif chance.random() < 0.1:
        return mutated(chance, text.encode(), words=(b"{", b"}", b'"', b"\\u", b"NaN", b"1e999", b","))
    return text.encode()


def _with_another_value(chance: random.Random, document: Any) -> Any:
    """The document with a change at a place that is drawn from all of its places."""
    places = list(_places(document))
    if not places:
        return chance.choice(_VALUES)
    holder, key = chance.choice(places)
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[chance.choice(("", "x", "value", str(key) + "s"))] = holder.pop(key)
        case 2:
            holder[key] = [holder[key]]
        case 3 if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
            holder[key] = chance.choice((0, -holder[key], holder[key] * 1000, holder[key] + 1, 10**9))
        case 4 if isinstance(holder[key], list):
            holder[key] = holder[key] * chance.choice((0, 2, 100))
        case _:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))
    return document


def _places(document: Any) -> Any:
    """Yields every holder of a value with its key."""
    keys = document if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in list(keys):
        yield document, key
        yield from _places(document[key])
