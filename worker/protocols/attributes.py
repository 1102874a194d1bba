"""Attributes of a series by name: what a condition can ask for, and what the images say.

A name is a DICOM keyword, a tag as gggg,eeee (private ones too), or a way through sequences with points between:
`RequestAttributesSequence.ScheduledProcedureStepDescription` has the values of all its items.
"""

import re
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator
from pydicom.datadict import dictionary_keyword, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

SERIES_FACTS = ("CallingAE", "CalledAE", "SenderAddress", "Instances")
"""What a condition can name besides DICOM attributes. Instances: images, or frames of a multi-frame image."""

DAMAGE = (
    *(InvalidDicomError, BytesLengthException, OSError, EOFError, struct.error),
    *(AttributeError, KeyError, NotImplementedError, TypeError, ValueError),
)
"""What pydicom raises on damaged files, at reading or when a value is first looked at."""

UNREADABLE = "unreadable, the file is damaged"
"""Stands for a value that cannot be decoded; it satisfies no condition."""

Values = tuple[Any, ...]
"""The values of one attribute in one image; empty when it is absent or has none."""

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?\s*([0-9A-Fa-f]{4})\)?")


@dataclass(frozen=True)
class Candidate:
    """A series as the protocols see it: headers without pixels, one per instance, and how it came.

    `only` are the attributes that can be known of it (those that a PACS told); None: all that the headers could hold.
    How it came is not known of a series that has not come yet: then these are empty.
    """

    headers: Sequence[Dataset]
    calling_ae: str = ""
    called_ae: str = ""
    address: str = ""
    only: Collection[str] | None = None
    instances: int | None = None  # where `headers` is not one per image
    at_least: int | None = None  # images, where it is not known how many frames they hold
    _asked: dict[str, list[Values] | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def values(self, name: str) -> list[Values] | None:
        """The values of an attribute or series fact: one tuple per distinct content over the instances.

        None when it cannot be known. Many protocols ask for the same: each name is looked up once.
        """
        if name not in self._asked:
            self._asked[name] = self._look_up(name)
        return self._asked[name]

    def _look_up(self, name: str) -> list[Values] | None:
        facts = {"CallingAE": self.calling_ae, "CalledAE": self.called_ae, "SenderAddress": self.address}
        if name in facts:
            return [(facts[name],)] if facts[name] else None
        if name == "Instances":
            return self._instances()
        if self.only is not None and keyword_of(name) not in self.only:
            return None
        return list(dict.fromkeys(tuple(_content(header, name)) for header in self.headers))

    def _instances(self) -> list[Values] | None:
        if self.only is None:
            return [(sum(map(_frames, self.headers)),)]
        return None if self.instances is None else [(self.instances,)]


def _frames(header: Dataset) -> int:
    try:
        return int(header.get("NumberOfFrames") or 1)
    except DAMAGE:
        return 1


def known(name: str) -> str:
    """The name, if it is one of SERIES_FACTS, or a keyword or tag or way through sequences. Raises ValueError."""
    for step in [name] if name in SERIES_FACTS else name.split("."):
        if step not in SERIES_FACTS and _tag(step) is None:
            raise ValueError(f"'{step}' is no DICOM keyword or tag{_did_you_mean(step)}")
    return name


AttributeName = Annotated[str, AfterValidator(known)]
"""A DICOM keyword, a tag as gggg,eeee, a way through sequences, or one of SERIES_FACTS."""


def keyword_of(name: str) -> str:
    """The keyword of an attribute however it is named; of one in a sequence, that of the sequence."""
    tag = _tag(name.split(".")[0])
    return keyword_for_tag(tag) if tag is not None else name


def _content(header: Dataset, name: str) -> Iterator[Any]:
    """The values of a name in one data set, over all items where it leads through sequences."""
    step, _, rest = name.partition(".")
    tag = _tag(step)
    try:
        element = header.get(tag) if tag is not None else None
        value = None if element is None or element.is_empty else element.value
    except DAMAGE:
        yield UNREADABLE
        return
    if value is None:
        return
    if rest:
        for item in value if isinstance(value, Items) else ():
            yield from _content(item, rest)
    elif isinstance(value, Items):
        yield f"a sequence of {len(value)}"
    else:
        yield from _each(value)


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, (MultiValue, list)) else (value,)


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
