"""Conditions on DICOM attributes, judged against a series, with what was found for each.

The findings answer "why did this series not run?" in decisions, `protocols explain` and the log.

A condition holds for a series when it holds for every instance: the first slice alone decides nothing. A multi-valued
attribute (ImageType) satisfies `equals` and `regex` when one of its values does, and `min` and `max` when all do.

Of a series that is only listed by a PACS not every attribute is known. A condition on an unknown one is neither true
nor false, and so is a group whose answer depends on it (Kleene's three-valued logic).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from worker.findings import Answer, Finding
from worker.protocols.attributes import UNREADABLE, AttributeName, Candidate, Values
from worker.protocols.described import TEXTS, ask_region, ask_says
from worker.protocols.words import OwnWords, vocabulary

_GROUPS = ("all", "any", "not", "region", "says", "words")
_ANY = "any of these"
_AGE = re.compile(r"(\d{3})([DWMY])")
NO_WORDS: OwnWords = MappingProxyType({})
_PER_YEAR = {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}


class Condition(BaseModel):
    """What one attribute must be. Several operators in one condition must all hold.

    In a file `Modality: CT` is short for `Modality: {equals: CT}`. docs/reference/protocols.md explains the operators.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    equals: str | float | tuple[str | float, ...] | None = None
    regex: str | None = None
    min: float | None = None
    max: float | None = None
    present: bool | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_value(cls, value: Any) -> Any:
        """Reads `CT` as `{equals: CT}`."""
        return value if isinstance(value, Mapping) else {"equals": value}

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        """Refuses a condition without an operator, or with one that no value can satisfy."""
        if not self.model_dump(exclude_none=True) or self.equals == ():
            operators = ", ".join(type(self).model_fields)
            raise ValueError(f"a condition needs a value, or one of {operators} with a value")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"nothing is at least {self.min:g} and at most {self.max:g}")
        return self

    @field_validator("equals", mode="before")
    @classmethod
    def _no_boolean(cls, value: Any) -> Any:
        """Refuses true and false, which no DICOM attribute holds as such."""
        if any(isinstance(one, bool) for one in (value if isinstance(value, (list, tuple)) else [value])):
            raise ValueError("YAML reads a bare YES or NO as true or false; write it in quotes")
        return value

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        """Refuses what is no regular expression, when the file is read and not when a series arrives."""
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def describe(self, name: str) -> str:
        """Returns the condition on the attribute `name` as text, such as "SliceThickness min 0.5 and max 3.0"."""
        parts = [f"{key} {value!r}" for key, value in self.model_dump(exclude_none=True).items()]
        return f"{name} {' and '.join(parts)}"

    def holds(self, values: Values) -> bool:
        """Whether the values of one instance satisfy every operator. A value that cannot be decoded satisfies none."""
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
        """Whether a number satisfies the condition when all that is known of it is that it is at least `least`.

        For the number of images of a listed series, whose instances may have several frames.
        """
        if self.max is not None and least > self.max:
            return False
        only_min = self.model_dump(exclude_none=True).keys() == {"min"}
        return True if only_min and self.min is not None and least >= self.min else None

    def _in_range(self, values: Values) -> bool:
        """Whether there is a number, and all numbers lie between `min` and `max`."""
        if self.min is None and self.max is None:
            return True
        numbers = [number for number in map(_number, values) if number is not None]
        low = self.min if self.min is not None else float("-inf")
        high = self.max if self.max is not None else float("inf")
        return bool(numbers) and all(low <= number <= high for number in numbers)


class Match(BaseModel):
    """The conditions under `match`: by attribute, with `all`, `any` and `not` for groups. All of them must hold.

    `region` asks which regions of the body the series shows, `says` what else its descriptions say: one of these.
    `words` are a site's own, beside those of `worker/protocols/words.toml`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    attributes: dict[AttributeName, Condition] = {}
    all: tuple["Match", ...] = Field((), min_length=1)
    any: tuple["Match", ...] = Field((), min_length=1)
    not_: "Match | None" = None
    region: tuple[str, ...] = Field((), min_length=1)
    says: tuple[str, ...] = Field((), min_length=1)
    words: dict[str, tuple[str, ...]] = {}

    @field_validator("region", "says", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        """Reads `neck` as `[neck]`."""
        return (value,) if isinstance(value, str) else value

    @field_validator("region", "says", "words")
    @classmethod
    def _listed(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuses a region, or a list of words, that there is not."""
        regions, says = vocabulary().region_names, set(vocabulary().says)
        known = sorted({"region": regions, "says": says}.get(str(info.field_name), regions | says))
        for name in value:
            if name not in known:
                raise ValueError(f"there are no words for '{name}'; there are for {', '.join(known)}")
        return value

    @model_validator(mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        """Tells groups (`all`, `any`, `not`) and words (`region`, `says`) from attributes, which stand side by side."""
        if not isinstance(value, Mapping):
            raise ValueError("conditions are a mapping, such as Modality: CT")
        groups = {"not_" if key == "not" else key: value[key] for key in _GROUPS if key in value}
        return {"attributes": {str(k): v for k, v in value.items() if k not in _GROUPS}, **groups}

    def judge(self, candidate: Candidate, own: OwnWords = NO_WORDS) -> tuple[Answer, list[Finding]]:
        """Returns whether the series matches (None: open), and the finding of each condition.

        `own`: words of a group around this one, beside its own.
        """
        own = {**own, **self.words}
        findings = [_ask_attribute(name, condition, candidate) for name, condition in self.attributes.items()]
        findings += [ask_region(self.region, candidate, own)] if self.region else []
        answers: list[Answer] = [finding.holds for finding in findings]
        if self.says:
            said = [ask_says(name, candidate, own) for name in self.says]
            answers.append(_either(finding.holds for finding in said))
            findings += said if len(said) == 1 else _grouped(_ANY, answers[-1], said)
        for part in self.all:
            answer, inner = part.judge(candidate, own)
            answers.append(answer)
            findings += inner
        if self.any:
            judged = [part.judge(candidate, own) for part in self.any]
            answers.append(_either(answer for answer, _ in judged))
            members = [finding for answer, inner in judged for finding in _as_one(answer, inner)]
            findings += _grouped(_ANY, answers[-1], members)
        if self.not_ is not None:
            answer, inner = self.not_.judge(candidate, own)
            answers.append(_opposite(answer))
            findings += _negated(inner, answers[-1])
        return _both(answers), findings

    def ask(self, candidate: Candidate) -> tuple[bool, list[Finding]]:
        """Returns whether the series is known to match, and the finding of each condition; an open answer is no."""
        answer, findings = self.judge(candidate)
        return bool(answer), findings

    @property
    def asks_words(self) -> bool:
        """Whether a condition asks the lists of words."""
        inner = (*self.all, *self.any, *((self.not_,) if self.not_ is not None else ()))
        return bool(self.region or self.says) or any(part.asks_words for part in inner)

    def names(self) -> Iterator[str]:
        """Yields every attribute that the conditions ask for."""
        yield from self.attributes
        yield from TEXTS if self.region else ()
        for name in self.says:
            yield from vocabulary().looked_at[name]
        for part in (*self.all, *self.any, *((self.not_,) if self.not_ is not None else ())):
            yield from part.names()


def _both(answers: Iterable[Answer]) -> Answer:
    """Whether all hold: no if one fails, else open if one is open."""
    given = list(answers)
    return False if False in given else None if None in given else True


def _either(answers: Iterable[Answer]) -> Answer:
    """Whether at least one holds: yes if one does, else open if one is open."""
    return _opposite(_both([_opposite(answer) for answer in answers]))


def _opposite(answer: Answer) -> Answer:
    """Returns the answer to the negated condition; open stays open."""
    return None if answer is None else not answer


def _grouped(title: str, holds: Answer, members: Sequence[Finding]) -> list[Finding]:
    """Returns the finding of a group, then its members one level deeper."""
    inside = [Finding(one.condition, one.found, one.holds, one.level + 1) for one in members]
    return [Finding(title, "", holds), *inside]


def _as_one(answer: Answer, findings: Sequence[Finding]) -> Sequence[Finding]:
    """Returns the findings of one member of a group; several conditions in it become a group "all of these"."""
    alone = sum(finding.level == 0 for finding in findings) == 1
    return findings if alone else _grouped("all of these", answer, findings)


def _negated(members: Sequence[Finding], holds: Answer) -> list[Finding]:
    """Words the findings under `not`: "not CONDITION", "none of these" for a group of any, else "not all of these"."""
    first, *others = members or [Finding("anything", "", True)]
    if not others:
        return [Finding(f"not {first.condition}", first.found, holds)]
    if first.condition == _ANY and all(other.level for other in others):
        return [Finding("none of these", "", holds), *others]
    return _grouped("not all of these", holds, members)


def _ask_attribute(name: str, condition: Condition, candidate: Candidate) -> Finding:
    """Judges one condition over all instances; shows up to three different contents, those that fail first."""
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
    r"""Values as text, as DICOM separates them: "ORIGINAL\PRIMARY"; "absent" for none."""
    return "\\".join(str(value) for value in values) if values else "absent"


def _same(value: Any, wanted: Any) -> bool:
    """Whether a value equals the wanted one: numbers to six digits, texts without regard to case and outer spaces."""
    if isinstance(wanted, (int, float)):
        number = _number(value)
        return number is not None and abs(number - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return str(value).strip().casefold() == str(wanted).strip().casefold()


def _number(value: Any) -> float | None:
    """Returns the value as a number, an age (VR AS) in years: "018M" is 1.5; None where it is no number."""
    if isinstance(value, str) and (age := _AGE.fullmatch(value)):
        return int(age[1]) / _PER_YEAR[age[2]]
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
