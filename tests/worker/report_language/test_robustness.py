"""Any text is read in linear time or refused, and never comes back in an error message."""

import random
import string
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from worker.report_language import ReportLanguage, ReportTooLargeError, load_language, prompts_from_text
from worker.report_language.findings.context import trigger_scopes
from worker.report_language.language.lexicon import Lexicon
from worker.report_language.language.tokens import MAX_CHARACTERS, Token, tokenize, visible

LINE = "no not without nodule mass effusion in the right left upper lobe liver is seen and or , . ; : ( ) ? - 8 mm x 3"
OTHERS = "stable possible versus history of resolved Findings: Impression: 1. • normal enlarged spleen kidney L4"
WORDS = [*LINE.split(), *OTHERS.split(), "\n", "\n\n"]


@given(st.lists(st.sampled_from(WORDS), max_size=60))
@examples(300)
def test_any_order_of_report_words_is_read(words: list[str]) -> None:
    text = " ".join(words)
    for prompt in prompts_from_text(text).prompts:
        start, end = prompt.span
        assert text[start:end] == prompt.sentence
        assert prompt.prompt.strip()


@given(st.text(max_size=200))
@examples(200)
def test_any_characters_are_read(text: str) -> None:
    result = prompts_from_text(text)
    assert all(prompt.sentence in visible(text) for prompt in result.prompts)


def test_control_and_direction_marks_are_passed_over() -> None:
    text = "FINDINGS:\x07 8 mm solid\u200f nodule in\u202e the right\x00 upper lobe."
    assert [prompt.prompt for prompt in prompts_from_text(text).prompts] == ["solid nodule in the right upper lobe"]


def test_right_to_left_text_gives_no_prompt_and_no_error() -> None:
    assert prompts_from_text("ממצאים: נודול בריאה. لا يوجد انصباب").prompts == ()


def test_more_text_than_a_report_is_refused_without_quoting_it() -> None:
    with pytest.raises(ReportTooLargeError) as refused:
        prompts_from_text("secret " * MAX_CHARACTERS)
    assert "secret" not in str(refused.value)
    assert str(MAX_CHARACTERS) in str(refused.value)
    assert refused.value.retry == "final"


class CountingLexicon(Lexicon):
    """Counts how often the lexicon is asked."""

    asked = 0

    def longest(self, tokens: object, position: int) -> object:  # type: ignore[override]
        self.asked += 1
        return super().longest(tokens, position)  # type: ignore[arg-type]


def _nodules(length: int) -> str:
    return "nodule " * length


def _negated(length: int) -> str:
    return "no " * length + "nodule"


def _commas(length: int) -> str:
    return "right, upper, " * length


def _parentheses(length: int) -> str:
    return "nodule (" * length


def _colons(length: int) -> str:
    return "a: " * length


def _breaks(length: int) -> str:
    return "nodule\n" * length


def _numbers(length: int) -> str:
    return "8 x " * length


def _noise(length: int) -> str:
    return "".join(random.Random(5).choices(string.printable, k=length))


@pytest.mark.long
@pytest.mark.parametrize(
    "adversary", [_nodules, _negated, _commas, _parentheses, _colons, _breaks, _numbers, _noise]
)  # fmt: skip
def test_twice_the_text_is_at_most_about_twice_the_work(adversary: Callable[[int], str]) -> None:
    steps = []
    for length in (1500, 3000):
        lexicon = CountingLexicon(load_language().lexicon.file)
        prompts_from_text(adversary(length), language=ReportLanguage(lexicon, load_language().rules))
        steps.append(lexicon.asked)
    assert steps[1] <= 2.3 * steps[0] + 500


def test_triggers_are_matched_in_bounded_steps_per_token() -> None:
    """Every phrase has a bounded length and gap, so a sentence of triggers costs no more per token than another."""
    tokens = tokenize("no evidence of interval change in or no " * 30)
    looked: list[int] = []

    class CountingTokens(list[Token]):
        def __getitem__(self, index: object) -> Token:  # type: ignore[override]
            looked.append(1)
            return super().__getitem__(index)  # type: ignore[index, return-value]

    counts = []
    for count in (120, 240):
        looked.clear()
        trigger_scopes(CountingTokens(tokens[:count]), load_language().rules)
        counts.append(len(looked))
    assert counts[1] <= 4.5 * counts[0]  # scopes of one sentence may overlap; sentences are cut at 300 tokens
