"""Conditions on DICOM attributes, and what a series has to say to each: the answer to "why did this not run?".

A condition on an attribute holds for a series when it holds on every instance of it: nothing is decided from the first
slice. A multi-valued attribute (ImageType) satisfies `equals` and `regex` when one of its values does.
"""

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydicom.datadict import dictionary_keyword, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

SERIES_FACTS = ("CallingAE", "CalledAE", "SenderAddress", "Instances")
"""What a condition can name besides DICOM attributes."""

DAMAGE = (
    *(InvalidDicomError, BytesLengthException, OSError, EOFError, struct.error),
    *(AttributeError, KeyError, NotImplementedError, TypeError, ValueError),
)
"""What pydicom raises on damaged files, at reading or when a value is first looked at."""

UNREADABLE = "unreadable, the file is damaged"
"""Stands for a value that cannot be decoded; it satisfies no condition."""

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?\s*([0-9A-Fa-f]{4})\)?")
_GROUPS = ("all", "any", "not")


@dataclass(frozen=True)
class Candidate:
    """A series as the protocols see it: headers without pixels, one per instance, and how it came."""

    headers: Sequence[Dataset]
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""

    def values(self, name: str) -> list[tuple[Any, ...]]:
        """The values of an attribute or series fact: one tuple per distinct content over the instances."""
        facts = {
            "CallingAE": self.calling_ae,
            "CalledAE": self.called_ae,
            "SenderAddress": self.address,
            "Instances": len(self.headers),
        }
        if name in facts:
            return [(facts[name],)]
        return list(dict.fromkeys(_content(header, name) for header in self.headers))


@dataclass(frozen=True)
class Finding:
    """One condition, what was there, and whether that satisfies it."""

    condition: str
    found: str
    holds: bool

    def __str__(self) -> str:
        return f"{self.condition}: {'yes' if self.holds else 'no'}, it is {self.found}"


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

    def holds(self, values: tuple[Any, ...]) -> bool:
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

    def _in_range(self, values: tuple[Any, ...]) -> bool:
        if self.min is None and self.max is None:
            return True
        numbers = [number for number in map(_number, values) if number is not None]
        low = self.min if self.min is not None else float("-inf")
        high = self.max if self.max is not None else float("inf")
        return bool(numbers) and all(low <= number <= high for number in numbers)


def _known(name: str) -> str:
    if name not in SERIES_FACTS and _tag(name) is None:
        raise ValueError(f"'{name}' is no DICOM keyword or tag{_did_you_mean(name)}")
    return name


AttributeName = Annotated[str, AfterValidator(_known)]
"""A DICOM keyword, a tag as gggg,eeee, or one of SERIES_FACTS."""


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

    def ask(self, candidate: Candidate) -> tuple[bool, list[Finding]]:
        """Whether the series matches, and each condition with what was there."""
        findings = [_ask_attribute(name, condition, candidate) for name, condition in self.attributes.items()]
        holds = all(finding.holds for finding in findings)
        for part in self.all:
            inner, more = part.ask(candidate)
            holds, findings = holds and inner, findings + more
        if self.any:
            answers = [part.ask(candidate) for part in self.any]
            holds = holds and any(answer for answer, _ in answers)
            findings += [finding for _, more in answers for finding in more]
        if self.not_ is not None:
            inner, more = self.not_.ask(candidate)
            holds = holds and not inner
            findings += [Finding(f"not {f.condition}", f.found, not f.holds) for f in more]
        return holds, findings


def _ask_attribute(name: str, condition: Condition, candidate: Candidate) -> Finding:
    contents = candidate.values(name)
    failing = [values for values in contents if not condition.holds(values)]
    shown = failing or contents
    found = " or ".join(_shown(values) for values in shown[:3]) + (" ..." if len(shown) > 3 else "")
    return Finding(condition.describe(name), found, bool(contents) and not failing)


def _shown(values: tuple[Any, ...]) -> str:
    return "\\".join(str(value) for value in values) if values else "absent"


def _content(header: Dataset, name: str) -> tuple[Any, ...]:
    tag = _tag(name)
    try:
        element = header.get(tag) if tag is not None else None
    except DAMAGE:
        return (UNREADABLE,)
    if element is None or element.is_empty:
        return ()
    value = element.value
    if isinstance(value, Items):
        return (f"a sequence of {len(value)}",)
    return tuple(value) if isinstance(value, (MultiValue, list)) else (value,)


def _same(value: Any, wanted: Any) -> bool:
    if isinstance(wanted, (int, float)):
        number = _number(value)
        return number is not None and abs(number - wanted) <= 1e-6 * max(1.0, abs(wanted))
    return str(value).strip().casefold() == str(wanted).strip().casefold()


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _tag(name: str) -> int | None:
    written = _TAG.fullmatch(name)
    return int(Tag(int(written[1], 16), int(written[2], 16))) if written else tag_for_keyword(name)


def _did_you_mean(name: str) -> str:
    near = get_close_matches(name, _keywords(), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _keywords() -> Iterator[str]:
    from pydicom._dicom_dict import DicomDictionary

    yield from SERIES_FACTS
    yield from (dictionary_keyword(tag) for tag in DicomDictionary)
