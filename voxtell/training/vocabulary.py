"""Holds the words for each structure: what the network is trained to understand, and what it is only measured on.

`vocabulary.toml` has the former, `heldout.toml` the latter.
"""

import random
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

VOCABULARY = Path(__file__).with_name("vocabulary.toml")
HELDOUT = Path(__file__).with_name("heldout.toml")

CARRIERS = (
    "{}",
    "{}",
    "{}",
    "segment the {}",
    "the {}",
    "{} contour",
    "please contour the {}",
    "{} (organ at risk)",
    "{} on CT",
)
"""Phrases in which people put names; the bare name is the most frequent."""
SLIP_RATE = 0.25
"""Share of training prompts that get one slip of the keyboard."""


@dataclass(frozen=True)
class Union:
    """Describes a prompt for several structures: the union of `parts`."""

    parts: tuple[str, ...]
    prompts: tuple[str, ...]


@dataclass(frozen=True)
class Vocabulary:
    """Holds prompts by structure, unions of structures, and prompts whose answer is an empty mask."""

    structures: dict[str, tuple[str, ...]]
    unions: dict[str, Union] = field(default_factory=dict)
    negatives: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Structures, then unions."""
        return (*self.structures, *self.unions)

    @property
    def phrasings(self) -> tuple[str, ...]:
        """Everything that is answered with a mask, in the words of the vocabulary."""
        prompts = (*self.structures.values(), *(union.prompts for union in self.unions.values()))
        return tuple(dict.fromkeys(p for words in prompts for p in words))

    def restricted_to(self, structures: Mapping[str, Sequence[str]], negatives: Sequence[str] = ()) -> "Vocabulary":
        """Returns the vocabulary of a data set: its own prompts, else the built-in ones, else the bare name.

        `negatives` are asked for beside the built-in ones, from which the data set's own structures are taken out.
        """
        wanted = {name: tuple(prompts) or self.structures.get(name, (name,)) for name, prompts in structures.items()}
        unions = {name: union for name, union in self.unions.items() if set(union.parts) <= set(wanted)}
        taken = {prompt.casefold() for prompts in wanted.values() for prompt in prompts}
        absent = tuple(p for p in (*self.negatives, *negatives) if p.casefold() not in taken)
        return Vocabulary(wanted, unions, absent)


@dataclass(frozen=True)
class HeldOut:
    """Holds unseen prompts of one structure."""

    phrasings: tuple[str, ...]
    typos: tuple[str, ...]
    descriptions: tuple[str, ...]


@cache
def builtin() -> Vocabulary:
    """Returns the vocabulary shipped with the package (`vocabulary.toml`)."""
    raw = tomllib.loads(VOCABULARY.read_text(encoding="utf-8"))
    return Vocabulary(
        structures={name: tuple(prompts) for name, prompts in raw["structures"].items()},
        unions={name: Union(tuple(u["parts"]), tuple(u["prompts"])) for name, u in raw["unions"].items()},
        negatives=(*raw["negatives"]["absent"], *raw["negatives"]["uncontoured"]),
    )


@cache
def held_out() -> tuple[dict[str, HeldOut], tuple[str, ...]]:
    """Returns unseen prompts by structure, and unseen prompts for what is not in such a CT (`heldout.toml`)."""
    raw: dict[str, Any] = tomllib.loads(HELDOUT.read_text(encoding="utf-8"))
    structures = {
        name: HeldOut(**{key: tuple(words) for key, words in u.items()}) for name, u in raw["structures"].items()
    }
    return structures, tuple(raw["negatives"]["prompts"])


def vary(prompt: str, rng: random.Random) -> str:
    """Returns `prompt` as somebody might type it: in a carrier phrase, in capitals, sometimes with a slip."""
    if " " not in prompt or len(prompt) < 30:
        prompt = rng.choice(CARRIERS).format(prompt)
    if rng.random() < SLIP_RATE:
        prompt = slip(prompt, rng)
    return rng.choice((prompt, prompt, prompt.lower(), prompt.upper()))


def slip(text: str, rng: random.Random) -> str:
    """Returns the text with a letter of a longer word dropped, doubled or swapped; the first letter stays."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 4 and word.isalpha()]
    if not long:
        return text
    which = rng.choice(long)
    word = words[which]
    at = rng.randrange(1, len(word) - 1)
    words[which] = rng.choice(
        (
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
        )
    )
    return " ".join(words)
