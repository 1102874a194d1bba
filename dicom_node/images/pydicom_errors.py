"""Lists the exceptions that pydicom raises for damaged bytes, once for all who read DICOM.

pydicom converts values when they are asked for, and documents none of these. The list is what its sources raise and
what random damage to real files brought up; a test keeps looking for others.
"""

import struct
import zlib
from pathlib import Path
from typing import Final

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


def unreadable(path: Path, error: Exception) -> UnreadableError | None:
    """Returns an `UnreadableError` (retry: later) for an error of the disk, or None for an error of the content.

    The two are told apart by errno, which pydicom's own OSErrors lack.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return UnreadableError(f"{path} cannot be read: {error.strerror}")
    return None
