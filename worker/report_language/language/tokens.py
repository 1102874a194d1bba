"""Report text as tokens, in one linear pass.

    "Ground-glass nodule, 8 mm."  ->  ground | glass (joined) | nodule | , | 8 | mm | .

A token keeps its offsets in the text, so that prompts can quote the report's own words.
"""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from worker.report_language.errors import ReportTooLargeError

# A long CT report of a trauma patient has about 10,000 characters; ten times that is not one report.
MAX_CHARACTERS = 100_000


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or mark: `text[start:end]`; `norm` is its spelling for look-ups."""

    start: int
    end: int
    norm: str
    joined: bool  # a hyphen without spaces ties it to the token before ("ground-glass")


@dataclass(frozen=True, slots=True)
class Spelling:
    """How a language writes one word in several ways.

    `variants` are pairs (as written, standard), parts of words in lower case: ("haem", "hem") makes "haematoma"
    "hematoma". `ordinal_endings` stand behind a number and belong to it: the "th" of "7th".
    """

    variants: Sequence[tuple[str, str]] = ()
    ordinal_endings: Sequence[str] = ()

    def standard(self, word: str) -> str:
        """Returns the word in lower case and standard spelling: "Haematoma" as "hematoma"."""
        word = word.casefold().replace("’", "'")
        for variant, standard in self.variants:
            word = word.replace(variant, standard)
        return word


@lru_cache(maxsize=8)
def _token_pattern(ordinal_endings: tuple[str, ...]) -> re.Pattern[str]:
    """Compiles the pattern of one token.

    Its alternatives start with different characters and nest no quantifier, so that every character is read once and no
    report can make matching slow.
    """
    after_number = "|".join([*map(re.escape, ordinal_endings), "[a-dA-D]"])
    return re.compile(
        rf"\d+(?:{after_number})(?![^\W_])"  # 7th, 4A
        r"|\d+(?:[.,]\d+)*"  # 8, 2.5, 18.02.2019
        r"|[xX×](?=\d)"  # the x of 2x3
        r"|[^\W\d_]/[^\W\d_]?(?![^\W_])"  # s/p, h/o, r/o, w/
        r"|[^\W\d_][^\W_]*(?:['’][^\W\d_]+)?"  # words, RUL, T12, Schmorl's
        r"|\S"
    )


@lru_cache(maxsize=1)
def _invisible() -> dict[int, str]:
    """Maps control and format characters (Cc, Cf: bidirectional marks, zero width) to blanks; line breaks stay."""
    codes = (code for block in ((0, 0x3000), (0xE000, 0x10000), (0xE0000, 0xE0080)) for code in range(*block))
    return {code: " " for code in codes if chr(code) != "\n" and unicodedata.category(chr(code)) in ("Cc", "Cf")}


def visible(text: str) -> str:
    """Replaces every invisible character by a blank; the length stays, so that offsets stay true.

    Raises:
        ReportTooLargeError: when the text has more than MAX_CHARACTERS.
    """
    if len(text) > MAX_CHARACTERS:
        raise ReportTooLargeError(
            f"the report has {len(text)} characters and at most {MAX_CHARACTERS} are read; send the report text alone"
        )
    return text.translate(_invisible())


def tokenize(text: str, spelling: Spelling | None = None) -> list[Token]:
    """Cuts a text into tokens, in order.

    "Ground-glass nodule, 8 mm" has the norms "ground", "glass" (joined), "nodule", ",", "8" and "mm": a hyphen between
    two words is no token. `spelling` unifies variants in `norm`; without one, `norm` is the word in lower case.
    """
    spelling = spelling or Spelling()
    tokens: list[Token] = []
    joined = False
    for match in _token_pattern(tuple(spelling.ordinal_endings)).finditer(text):
        start, end = match.span()
        word = match.group()
        if word in "-‐‑" and _between_words(text, start):
            joined = True
            continue
        tokens.append(Token(start, end, spelling.standard(word), joined))
        joined = False
    return tokens


def _between_words(text: str, position: int) -> bool:
    """Whether the character at `position` stands between two letters or digits, as the hyphen of "ground-glass"."""
    return 0 < position < len(text) - 1 and text[position - 1].isalnum() and text[position + 1].isalnum()
