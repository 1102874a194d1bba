"""Report text as tokens, in one linear pass."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from worker.report_language.errors import ReportTooLargeError

# A long CT report of a trauma patient has about 10,000 characters; ten times that is not one report.
MAX_CHARACTERS = 100_000

# Alternatives start with different characters and none nests a quantifier over another: every character is read once.
_TOKEN = re.compile(
    r"\d+(?:st|nd|rd|th|[a-dA-D])(?![^\W_])"  # 7th, 4A
    r"|\d+(?:[.,]\d+)*"  # 8, 2.5, 18.02.2019
    r"|[xX×](?=\d)"  # the x of 2x3
    r"|[^\W\d_]/[^\W\d_]?(?![^\W_])"  # s/p, h/o, r/o, w/
    r"|[^\W\d_][^\W_]*(?:['’][^\W\d_]+)?"  # words, RUL, T12, Schmorl's
    r"|\S"
)


@dataclass(frozen=True, slots=True)
class Token:
    """One word, number or mark: `text[start:end]`; `norm` is its spelling for look-ups."""

    start: int
    end: int
    norm: str
    joined: bool  # a hyphen without spaces ties it to the token before ("ground-glass")


@lru_cache(maxsize=1)
def _invisible() -> dict[int, str]:
    """Control and format characters (Cc, Cf: bidirectional marks, zero width) as blanks; line breaks stay."""
    codes = (code for block in ((0, 0x3000), (0xE000, 0x10000), (0xE0000, 0xE0080)) for code in range(*block))
    return {code: " " for code in codes if chr(code) != "\n" and unicodedata.category(chr(code)) in ("Cc", "Cf")}


def visible(text: str) -> str:
    """The text with every invisible character replaced by a blank: same length, so that offsets stay true."""
    if len(text) > MAX_CHARACTERS:
        raise ReportTooLargeError(
            f"the report has {len(text)} characters and at most {MAX_CHARACTERS} are read; send the report text alone"
        )
    return text.translate(_invisible())


def tokenize(text: str, spelling: Sequence[tuple[str, str]] = ()) -> list[Token]:
    """Tokens of `text` in order; `spelling` pairs (from, to) unify variants such as "haem" and "hem" in `norm`."""
    tokens: list[Token] = []
    joined = False
    for match in _TOKEN.finditer(text):
        start, end = match.span()
        word = match.group().casefold().replace("’", "'")
        if word in "-‐‑" and _between_words(text, start):
            joined = True
            continue
        word = word.removesuffix("'s")  # "the left kidney's upper pole"
        for variant, standard in spelling:
            word = word.replace(variant, standard)
        tokens.append(Token(start, end, word, joined))
        joined = False
    return tokens


def _between_words(text: str, position: int) -> bool:
    return 0 < position < len(text) - 1 and text[position - 1].isalnum() and text[position + 1].isalnum()
