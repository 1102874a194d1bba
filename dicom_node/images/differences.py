"""Which attributes differ between two files that claim to be one instance."""

from pathlib import Path
from typing import Final

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.tag import BaseTag

from dicom_node.errors import DicomNodeError
from dicom_node.images.frames import File, read_file
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS

_COMPARED_AT_ONCE: Final = 2**20


def differing_attributes(one: Path, other: Path) -> tuple[str, ...]:
    """Returns the keywords of the attributes whose values differ, in the order of their tags, PixelData last.

    A private attribute is named by its tag. Nothing is returned where one of the files cannot be read.
    """
    try:
        first, second = read_file(one), read_file(other)
        tags = sorted(set(first.header.keys()) | set(second.header.keys()))
        found = [_named(tag) for tag in tags if not _same(first.header, second.header, tag)]
        return (*found, *(() if _same_pixels(first, second) else ("PixelData",)))
    except (DicomNodeError, *PYDICOM_ERRORS):
        return ()


def _named(tag: BaseTag) -> str:
    return keyword_for_tag(tag) or f"({tag.group:04X},{tag.element:04X})"


def _same(one: Dataset, other: Dataset, tag: BaseTag) -> bool:
    return tag in one and tag in other and bool(one[tag] == other[tag])


def _same_pixels(one: File, other: File) -> bool:
    """Whether both files have the same bytes from their pixels on."""
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.pixels_at)
        second.seek(other.pixels_at)
        while piece := first.read(_COMPARED_AT_ONCE):
            if piece != second.read(_COMPARED_AT_ONCE):
                return False
        return not second.read(1)
