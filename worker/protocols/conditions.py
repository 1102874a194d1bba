"""Conditions on DICOM attributes, and what a series has to say to each: the answer to "why did this not run?".

A condition on an attribute holds for a series when it holds on every instance of it: nothing is decided from the first
slice. A multi-valued attribute (ImageType) satisfies `equals` and `regex` when one of its values does.

Of a series that is only listed by a PACS, not everything can be known. Then a condition neither holds nor fails, and so
do groups whose answer depends on it (Kleene's logic of three values).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from worker.protocols.attributes import DAMAGE as DAMAGE
from worker.protocols.attributes import UNREADABLE, AttributeName, Candidate, Values

_GROUPS = ("all", "any", "not")
_ANY = "any of these"
_AGE = re.compile(r"(\d{3})([DWMY])")
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}

Answer = bool | None
"""None: it cannot be known."""


@dataclass(frozen=True)
class Finding:
    """One condition, what was there, and whether that satisfies it (None: it cannot be known).

    `level` is how many groups (`any`, `all`, `not`) it stands in; a group is a finding itself, before its members.
    """

    condition: str
    found: str
    holds: Answer
    level: int = 0

    def __str__(self) -> str:
        if self.holds is None:
            return f"{self.condition}: not known"
        return f"{self.condition}: {'yes' if self.holds else 'no'}" + (f", it is {self.found}" if self.found else "")


def decisive(findings: Sequence[Finding], taken: bool) -> list[Finding]:
    """The findings that are the reason for the answer: what holds if it is yes, what does not if it is no.

    What stands in a group counts only where the group's own answer is of that kind.
    """
    chosen: list[Finding] = []
    within = -1  # members at this level or deeper belong to a group that is not the reason
    for finding in findings:
        if 0 <= within <= finding.level:
            continue
        within = -1
        if bool(finding.holds) is taken or finding.level:
            chosen.append(finding)
        else:
            within = finding.level + 1
    return chosen


class Condition(BaseModel):
    """What one attribute must be. Several operations on one condition must all hold."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    equals: str | float | tuple[str | float, ...] | None = None
    regex: str | None = None
    min: float | None = None
    max: float | None = None
    present: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        return value if isinstance(value, Mapping) else {"equals": value}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.model_dump(exclude_none=True) or self.equals == ():
            raise ValueError("a condition needs a value, or equals, regex, min, max or present with a value")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"nothing is at least {self.min:g} and at most {self.max:g}")
        return self

    @field_validator("equals", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        if any(isinstance(one, bool) for one in (value if isinstance(value, (list, tuple)) else [value])):
            raise ValueError("YAML reads a bare YES or NO as true or false; write it in quotes")
        return value

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def describe(self, name: str) -> str:
        """The condition as a person would say it."""
        parts = [f"{key} {value!r}" for key, value in self.model_dump(exclude_none=True).items()]
        return f"{name} {' and '.join(parts)}"

    def holds(self, values: Values) -> bool:
        """Whether one instance's values satisfy every operation."""
        if UNREADABLE in values:
            return False
        if self.present is not None and bool(values) is not self.present:
            return False
        wanted = self.equals if isinstance(self.equals, tuple) else (self.equals,)
        if self.equals is not None and not any(_same(value, one) for value in values for one in wanted):
            return False
        if self.regex is not None and not any(re.search(self.regex, str(value), re.IGNORECASE) for value in values):
            return False
        return self._in_range(values)

    def surely(self, least: float) -> Answer:
        """Whether a number satisfies the condition of which is known only that it is `least` or more."""
        if self.max is not None and least > self.max:
            return False
        only_min = self.model_dump(exclude_none=True).keys() == {"min"}
        return True if only_min and self.min is not None and least >= self.min else None

    def _in_range(self, values: Values) -> bool:
        if self.min is None and self.max is None:
            return True
        numbers = [number for number in map(_number, values) if number is not None]
        low = self.min if self.min is not None else float("-inf")
        high = self.max if self.max is not None else float("inf")
        return bool(numbers) and all(low <= number <= high for number in numbers)


class Match(BaseModel):
    """Conditions by attribute (keyword, or tag as gggg,eeee), with `all`, `any` and `not` for groups of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: dict[AttributeName, Condition] = {}
    all: tuple["Match", ...] = Field((), min_length=1)
    any: tuple["Match", ...] = Field((), min_length=1)
    not_: "Match | None" = None

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            raise ValueError("conditions are a mapping, such as Modality: CT")
        groups = {"not_" if key == "not" else key: value[key] for key in _GROUPS if key in value}
        return {"attributes": {str(k): v for k, v in value.items() if k not in _GROUPS}, **groups}

    def judge(self, candidate: Candidate) -> tuple[Answer, list[Finding]]:
        """Whether the series matches, and each condition with what was there."""
        findings: list[Finding] = []
        answers: list[Answer] = []
        for name, condition in self.attributes.items():
            findings.append(_ask_attribute(name, condition, candidate))
            answers.append(findings[-1].holds)
        for part in self.all:
            answer, inner = part.judge(candidate)
            answers.append(answer)
            findings += inner
        if self.any:
            judged = [part.judge(candidate) for part in self.any]
            answers.append(_either(answer for answer, _ in judged))
            members = [finding for answer, inner in judged for finding in _as_one(answer, inner)]
            findings += _grouped(_ANY, answers[-1], members)
        if self.not_ is not None:
            answer, inner = self.not_.judge(candidate)
            answers.append(_opposite(answer))
            findings += _negated(inner, answers[-1])
        return _both(answers), findings

    def ask(self, candidate: Candidate) -> tuple[bool, list[Finding]]:
        """Whether the series is known to match, and each condition with what was there."""
        answer, findings = self.judge(candidate)
        return bool(answer), findings

    def names(self) -> Iterator[str]:
        """Every attribute that it asks for."""
        yield from self.attributes
        for part in (*self.all, *self.any, *((self.not_,) if self.not_ is not None else ())):
            yield from part.names()


def _both(answers: Iterable[Answer]) -> Answer:
    """Whether all hold: one that fails settles it, else one that is not known leaves it open."""
    given = list(answers)
    return False if False in given else None if None in given else True


def _either(answers: Iterable[Answer]) -> Answer:
    return _opposite(_both([_opposite(answer) for answer in answers]))


def _opposite(answer: Answer) -> Answer:
    return None if answer is None else not answer


def _grouped(title: str, holds: Answer, members: Sequence[Finding]) -> list[Finding]:
    inside = [Finding(one.condition, one.found, one.holds, one.level + 1) for one in members]
    return [Finding(title, "", holds), *inside]


def _as_one(answer: Answer, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Findings that count together, as one member of a group."""
    alone = sum(finding.level == 0 for finding in findings) == 1
    return findings if alone else _grouped("all of these", answer, findings)


def _negated(members: Sequence[Finding], holds: Answer) -> list[Finding]:
    """One condition is told as its opposite; of several, not all may hold at once; of a group of any, none."""
    first, *others = members or [Finding("anything", "", True)]
    if not others:
        return [Finding(f"not {first.condition}", first.found, holds)]
    if first.condition == _ANY and all(other.level for other in others):
        return [Finding("none of these", "", holds), *others]
    return _grouped("not all of these", holds, members)


def _ask_attribute(name: str, condition: Condition, candidate: Candidate) -> Finding:
    contents = candidate.values(name)
    if contents is None and name == "Instances" and candidate.at_least is not None:
        return Finding(condition.describe(name), f"{candidate.at_least} or more", condition.surely(candidate.at_least))
    if contents is None:
        return Finding(condition.describe(name), "", None)
    failing = [values for values in contents if not condition.holds(values)]
    shown = failing or contents
    found = " or ".join(_shown(values) for values in shown[:3]) + (" ..." if len(shown) > 3 else "")
    return Finding(condition.describe(name), found, bool(contents) and not failing)


def _shown(values: Values) -> str:
    return "\\".join(str(value) for value in values) if values else "absent"


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, (int, float)):
        number = _number(value)
        return number is not None and abs(number - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return str(value).strip().casefold() == str(wanted).strip().casefold()


def _number(value: Any) -> float | None:
    """The number that a value is; of an age (VR AS, "018M"), the years."""
    if isinstance(value, str) and (age := _AGE.fullmatch(value)):
        return int(age[1]) / _PER_YEAR[age[2]]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
