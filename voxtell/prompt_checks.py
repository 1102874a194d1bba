"""Judges a prompt's words: does it name one structure, or does it deny, except, expand, relate or list structures?

A model reads the name in "no mandible", "everything except the mandible", "SpinalCord_PRV05" or "contralateral parotid"
and draws the plain organ, which the model knows; of "larynx and mandible" it draws one. Nothing in the mask tells that
it was not asked for. So such prompts are refused, here for every way in. The words stand in `prompt_checks.toml`.
"""

import re
import tomllib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from voxtell.errors import PromptError

WORDS: Final = Path(__file__).with_name("prompt_checks.toml")
_NAMES: Final = Path(__file__).parent / "text" / "lexicon.toml"
_BESIDE_NAMES: Final = re.compile(
    r"\b(?:(?:both|all|whole|entire)(?: of)?|the|an?|left|right|lt|rt|l|r|bilateral|side)\b"
)


@dataclass(frozen=True)
class PromptProblem:
    """What a prompt says besides a name.

    kind: relative, exception, denial, margin, planning or combination; word: what says so; said, instead: for people.
    """

    kind: str
    word: str
    said: str
    instead: str

    def __str__(self) -> str:
        return f'{self.said} ("{self.word}"); {self.instead}'


@dataclass(frozen=True)
class _Kind:
    """One kind of wording, as regular expressions."""

    name: str
    said: str
    instead: str
    words: re.Pattern[str]  # on words that are parted by one space each
    patterns: re.Pattern[str]  # on the prompt as it is written
    joints: re.Pattern[str] | None  # between the names of two structures


def problem_of(prompt: str) -> PromptProblem | None:
    """Finds what the prompt says besides the name of a structure; None where it only names one.

    >>> problem_of("the left parotid") is None, problem_of("not the left parotid").kind
    (True, 'denial')
    """
    unless, kinds = _kinds()
    written = unless.sub(" ", _plain(prompt))
    words = _words(written)
    for kind in kinds:
        found = kind.words.search(words) or kind.patterns.search(written) or _joint(kind, written)
        if found and found.group() != words:  # alone ("nothing") it names no structure that could be drawn instead
            return PromptProblem(kind.name, found.group().strip(" _"), kind.said, kind.instead)
    return None


def check_prompts(prompts: Iterable[str]) -> None:
    """Refuses the first prompt that says more than a name.

    Raises:
        PromptError: when one does; says what is wrong with it, and what to write instead.
    """
    for prompt in prompts:
        if problem := problem_of(prompt):
            raise PromptError(f"the prompt {prompt!r} {problem}")


@cache
def _kinds() -> tuple[re.Pattern[str], tuple[_Kind, ...]]:
    """Reads the harmless uses, and the kinds in the order of the file."""
    table = tomllib.loads(WORDS.read_text(encoding="utf-8"))
    unless = _one_of(table.pop("unless"))
    kinds = [
        _Kind(
            name,
            entry["said"],
            entry["instead"],
            _one_of(rf"\b{re.escape(word)}\b" for word in entry["words"]),
            _one_of(entry["patterns"]),
            _one_of(entry["joints"]) if "joints" in entry else None,
        )
        for name, entry in table.items()
    ]
    return unless, tuple(kinds)


def _joint(kind: _Kind, written: str) -> re.Match[str] | None:
    """Finds what joins the names of several structures; None where not all parts are names, or all name one thing."""
    joint = kind.joints and kind.joints.search(written)
    if not kind.joints or not joint:
        return None
    named = {_concept(part) for part in map(_words, kind.joints.split(written)) if part}
    return joint if len(named) > 1 and None not in named else None


def _words(written: str) -> str:
    """Returns the words of a prompt in lower case: "Parotid_L" and "ParotidL" come apart."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", written)
    return " ".join(re.findall(r"[^\W_]+", parted.casefold()))


def _concept(part: str) -> str | None:
    """Returns the concept that a name stands for, with its side or in the plural too; None where it is not known."""
    names = _names()
    bare = " ".join(_BESIDE_NAMES.sub(" ", part).split())
    forms = (form for name in (part, bare) for form in (name, name.removesuffix("s"), name.removesuffix("es")))
    return next((names[form] for form in forms if form in names), None)


@cache
def _names() -> dict[str, str]:
    """Reads the names of structures, each with its concept."""
    concepts = tomllib.loads(_NAMES.read_text(encoding="utf-8"))["concepts"]
    return {name: concept for concept, names in concepts.items() for name in names}


def _one_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.IGNORECASE)


def _plain(prompt: str) -> str:
    """Returns the prompt without accents, typographic apostrophes and doubled spaces."""
    letters = unicodedata.normalize("NFKD", prompt)
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    return " ".join(letters.replace("ß", "ss").replace("\N{RIGHT SINGLE QUOTATION MARK}", "'").split())
