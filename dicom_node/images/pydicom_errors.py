"""Lists the exceptions that pydicom raises for damaged bytes, once for all who read DICOM, and says what they mean.

pydicom converts values when they are asked for, and documents none of these. The list is what its sources raise and
what random damage to real files brought up; a test keeps looking for others.
Their texts quote values, which may be a patient's, and classes of Python: `damage` makes words for people of them.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.errors import BytesLengthException, InvalidDicomError

from dicom_node.errors import UnreadableError

PYDICOM_ERRORS: Final = (
    InvalidDicomError,  # it does not begin like a file (PS3.10 7.1)
    BytesLengthException,  # binary numbers of another length than their VR
    OSError,  # "No tag to read": it ends, or goes on, within a sequence
    EOFError,  # it ends within a value
    struct.error,  # it ends within a tag or a length
    zlib.error,  # deflated data that is none
    RuntimeError,  # NotImplementedError for an unknown VR, RecursionError for a thousand nested sequences
    ValueError,  # text that is no number, date, UID or character set
    ArithmeticError,  # an infinite integer string
    TypeError,  # a character set that is no text
    AttributeError,  # a sequence where a value belongs
    LookupError,  # an empty value where there must be one, a codec for bytes where one for text belongs
)


_NAMED: Final = 3  # attributes in one sentence
_NUMBERS: Final = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"))


def damage(error: Exception, header: Dataset | None = None) -> str:
    """Returns a few words on what is damaged, for the end of a sentence; they quote no value and not pydicom.

    header: what was read; its attributes that cannot be read are named, at most three.
    """
    if hasattr(error, "retry"):  # the node's own, such as a limit
        return str(error)
    if named := list(islice(_damaged(header), _NAMED)) if header is not None else []:
        named = list(dict.fromkeys(named))
        return f"its {', '.join(named)} {'is' if len(named) == 1 else 'are'} damaged"
    if isinstance(error, AttributeError) and tag_for_keyword(str(error.name)) is not None:
        return f"{error.name} is missing"
    if isinstance(error, EOFError | struct.error):
        return "it was cut off within an element"
    return "its deflated part is damaged" if isinstance(error, zlib.error) else "its bytes are damaged"


def _damaged(header: Dataset) -> Iterator[str]:
    """Yields the attributes, at any depth, whose values cannot be converted: their keywords, or tags if private."""
    for tag in sorted(header.keys()):
        try:
            element = header[tag]
            damaged = _is_no_number(element)
            for item in element.value if element.VR == "SQ" else ():
                yield from _damaged(item)
        except PYDICOM_ERRORS:
            damaged = True
        if damaged:
            yield keyword_for_tag(tag) or f"({tag >> 16:04X},{tag & 0xFFFF:04X})"


def _is_no_number(element: DataElement) -> bool:
    """Whether an attribute for numbers holds something else, which pydicom then reads as another VR."""
    if not dictionary_has_tag(element.tag) or dictionary_VR(element.tag) not in _NUMBERS:
        return False
    values = element.value if element.VM > 1 else [element.value]
    return any(isinstance(value, str | bytes) and value.strip() for value in values)


def unreadable(path: Path, error: Exception) -> UnreadableError | None:
    """Returns an `UnreadableError` (retry: later) for an error of the disk, or None for an error of the content.

    The two are told apart by errno, which pydicom's own OSErrors lack.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableError(f"{path} cannot be read: {error.strerror}")
    return None
