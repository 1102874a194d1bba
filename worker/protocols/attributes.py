"""The values of a series' attributes by name, as conditions ask for them.

A name is a DICOM keyword, a tag as gggg,eeee (private ones too), or a path through sequences with points between:
`RequestAttributesSequence.ScheduledProcedureStepDescription` has the values of all its items. Besides there are the
names of `SERIES_FACTS`, which no image holds.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import AfterValidator
from pydicom.datadict import dictionary_keyword, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.origin import FROM_A_FOLDER, Origin

SERIES_FACTS = ("CallingAE", "CalledAE", "SenderAddress", "Instances")
"""What a condition can name besides DICOM attributes: who sent the series, and `Instances`, its number of images (of a
multi-frame image, its frames)."""

UNREADABLE = "unreadable, the file is damaged"
"""Stands for a value that cannot be decoded; it satisfies no condition."""

Values = tuple[Any, ...]
"""The values of one attribute in one image; empty when it is absent or has none."""

_TAG = re.compile(r"\(?([0-9A-Fa-f]{4}),?\s*([0-9A-Fa-f]{4})\)?")


@dataclass(frozen=True)
class Candidate:
    """A series as the protocols see it: its headers without pixel data, one per instance, and who sent it.

    `origin` is empty for a series from a folder or a PACS's list, since nobody has sent it here; conditions on it then
    stay open. `only` names the attributes that can be known, those that a PACS
    returned; None: every attribute that the headers could hold.
    """

    headers: Sequence[Dataset]
    origin: Origin = FROM_A_FOLDER
    only: Collection[str] | None = None
    instances: int | None = None  # where `headers` is not one per image
    at_least: int | None = None  # images, where it is not known how many frames they hold
    _asked: dict[str, list[Values] | None] = field(default_factory=dict, init=False, repr=False, compare=False)

    def values(self, name: str) -> list[Values] | None:
        """Returns the values of an attribute or series fact: one tuple per distinct content over the instances.

        An example: [("ORIGINAL", "PRIMARY", "AXIAL"), ("DERIVED", "SECONDARY")] for `ImageType`. An instance without
        the attribute gives (). None when the attribute cannot be known. The answer is kept, since many protocols ask
        for the same names.
        """
        if name not in self._asked:
            self._asked[name] = self._look_up(name)
        return self._asked[name]

    def _look_up(self, name: str) -> list[Values] | None:
        """Returns what `values` does, from the headers."""
        sender = self.origin
        facts = {"CallingAE": sender.calling_ae, "CalledAE": sender.called_ae, "SenderAddress": sender.address}
        if name in facts:
            return [(facts[name],)] if facts[name] else None
        if name == "Instances":
            return self._instances()
        if self.only is not None and keyword_of(name) not in self.only:
            return None
        return list(dict.fromkeys(tuple(_content(header, name)) for header in self.headers))

    def _instances(self) -> list[Values] | None:
        """Counts the images of the series, frames of multi-frame images counted; None if that is not known."""
        if self.instances is not None:
            return [(self.instances,)]
        return [(sum(map(_frames, self.headers)),)] if self.only is None else None


def _frames(header: Dataset) -> int:
    """Counts the frames of an instance; 1 where it does not say."""
    try:
        return int(header.get("NumberOfFrames") or 1)
    except PYDICOM_ERRORS:
        return 1


def known(name: str) -> str:
    """Returns the name if it is a keyword, a tag, a path through sequences, or one of SERIES_FACTS.

    Raises:
        ValueError: when it is none of these; suggests the nearest keyword.
    """
    for step in [name] if name in SERIES_FACTS else name.split("."):
        if step not in SERIES_FACTS and _tag(step) is None:
            raise ValueError(f"'{step}' is no DICOM keyword or tag{_did_you_mean(step)}")
    return name


AttributeName = Annotated[str, AfterValidator(known)]
"""A DICOM keyword, a tag as gggg,eeee, a path through sequences, or one of SERIES_FACTS."""


def keyword_of(name: str) -> str:
    """Returns the keyword of an attribute, also where it is named by its tag: "0008,0060" gives "Modality".

    Of a path through sequences it is the keyword of the first sequence.
    """
    tag = _tag(name.split(".")[0])
    return keyword_for_tag(tag) if tag is not None else name


def _content(header: Dataset, name: str) -> Iterator[Any]:
    """Yields the values of a name in one data set; over all items where it leads through sequences."""
    step, _, rest = name.partition(".")
    tag = _tag(step)
    try:
        element = header.get(tag) if tag is not None else None
        value = None if element is None or element.is_empty else element.value
    except PYDICOM_ERRORS:
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
    """Returns the values of an element, whether it has one or several."""
    return value if isinstance(value, (MultiValue, list)) else (value,)


def _tag(name: str) -> int | None:
    """Returns the tag of a keyword, or of a tag written as gggg,eeee; None if the name is neither."""
    written = _TAG.fullmatch(name)
    return int(Tag(int(written[1], 16), int(written[2], 16))) if written else tag_for_keyword(name)


def _did_you_mean(name: str) -> str:
    """Makes the end of an error sentence with the nearest known name: "; did you mean Modality?"; or ""."""
    near = get_close_matches(name, _keywords(), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _keywords() -> Iterator[str]:
    """Yields every name that a condition may use, to suggest the nearest one."""
    from pydicom._dicom_dict import DicomDictionary

    yield from SERIES_FACTS
    yield from (dictionary_keyword(tag) for tag in DicomDictionary)
