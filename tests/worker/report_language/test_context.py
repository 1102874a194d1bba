"""Ways to deny, doubt or state a finding, each with many findings: none denied comes through, none stated is lost."""

import itertools

import pytest

from worker.report_language import prompts_from_text

FINDINGS = (
    "pulmonary nodule", "pleural effusion", "hepatic lesion", "lymphadenopathy", "acute infarct", "fracture",
    "pulmonary embolism", "hydronephrosis", "free air", "disc herniation", "enhancing mass", "intracranial hemorrhage",
)  # fmt: skip
TRIPLES = list(zip(FINDINGS, FINDINGS[3:] + FINDINGS[:3], FINDINGS[7:] + FINDINGS[:7], strict=True))

DENIED = """
No {a}. / No {a} or {b}. / No {a}, {b}, or {c}. / No {a}, {b}, {c}. / No {a} and {b}.
There is no {a} or {b} identified. / There is no evidence for {a}. / No CT evidence of {a}.
No definite evidence of {a}. / No convincing {a}. / No new {a}. / No signs of {a} or {b}.
No findings to suggest {a}. / The study is without {a} or {b}. / Negative for {a} or {b}. / Free of {a}.
Absence of {a}. / {a} is not identified. / {a} not seen. / {a} and {b} are not seen. / {a}: None. / {a}: Absent.
{a} - none. / {a} has been excluded. / Neither {a} nor {b} is seen. / No {a}; no {b}. / Again, no {a} is seen.
Unremarkable without {a}. / No evidence of residual or recurrent {a}. / No {a} larger than 5 mm.
No {a} has been identified. / Does not demonstrate {a}. / Reveals no evidence of {a}. / No other {a}.
No {a} (limited exam). / No {a}, although motion limits evaluation. / No {a}/{b}. / There isn't {a}.
{a} cannot be seen. / {a}, {b}, {c}: none. / {a}, {b}, and {c} are absent. / No {a} identified, {b}, or {c}.
There has been no {a}. / No focal or diffuse {a}.
"""
DOUBTED = """
Possible {a}. / Probable {a}. / Likely {a}. / {a}? / ? {a} / Cannot exclude {a}. / {a} cannot be excluded.
{a} is possible. / Questionable {a}. / May represent {a}. / Suspicious for {a}. / {a} vs {b}. / {a} versus {b}.
{a} or {b}. / {a} is suspected. / Rule out {a}. / r/o {a} / Evaluate for {a}. / Concern for {a}.
{a} would be difficult to exclude. / Recommend CT to exclude {a}.
"""
GONE = """
{a} has resolved. / {a} has completely resolved. / {a} is no longer seen. / Interval resolution of {a}.
Resolved {a}. / Previously seen {a} has resolved. / The {a} seen previously is no longer present.
History of {a}. / s/p resection of {a}. / INDICATION: {a} / Reason for exam: {a}
CLINICAL INFORMATION: {a}, {b} / Status post treatment of {a}.
"""
STATED = """
{a}. / There is {a}. / {a} is again seen. / Stable {a}. / {a} is unchanged. / No change in {a}.
The {a} has not changed. / No significant change in the {a}. / {a} without {b}. / {a}, no {b}. / {a} but no {b}.
No {b} but {a} is present. / {a} has decreased in size. / Findings consistent with {a}. / Again noted is {a}.
Although there is no {b}, there is {a}. / No {b}; {a} noted. / No {b}, with the exception of {a}.
No {b} other than {a}. / {a} has not resolved. / {a} has improved. / Worsening {a}.
Status post surgery, with {a}. / {a}, not previously seen. / Compared to prior, {a} is larger.
IMPRESSION: {a}. / 1. {a} / {a} measuring 5 mm. / 5 mm {a}.
There is {a}, which was not present on the prior study.
"""


def sentences(templates: str) -> list[str]:
    return [one.strip() for one in templates.strip().replace("\n", " / ").split(" / ")]


def filled(template: str) -> list[tuple[str, str]]:
    """(finding, text) for every finding, the text with a capital."""
    texts = [(a, template.format(a=a, b=b, c=c)) for a, b, c in TRIPLES]
    return [(finding, text[0].upper() + text[1:]) for finding, text in texts]


@pytest.mark.parametrize("template", sentences(DENIED) + sentences(GONE))
def test_nothing_denied_or_gone_comes_through(template: str) -> None:
    let_through = [text for _, text in filled(template) if prompts_from_text(text, include_uncertain=True).prompts]
    assert let_through == []


@pytest.mark.parametrize("template", sentences(DOUBTED))
def test_what_is_doubted_comes_only_when_it_is_asked_for(template: str) -> None:
    for _, text in filled(template):
        assert prompts_from_text(text).prompts == ()
        assert {one.reason for one in prompts_from_text(text).left_out} <= {"uncertain", "recommendation"}


@pytest.mark.parametrize("template", sentences(STATED))
def test_everything_stated_is_found(template: str) -> None:
    for finding, text in filled(template):
        assert [prompt.prompt for prompt in prompts_from_text(text).prompts] == [finding]


def test_a_sentence_denies_and_states_side_by_side() -> None:
    pairs = list(itertools.permutations(FINDINGS[:5], 2))
    text = " ".join(f"No {denied}. There is {stated}." for denied, stated in pairs)
    assert {prompt.prompt for prompt in prompts_from_text(text).prompts} == set(FINDINGS[:5])
