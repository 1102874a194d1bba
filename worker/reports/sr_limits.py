"""Limits on a report that comes as a DICOM SR: it is read in the process that receives, and may come from anybody."""

import io
import zlib
from typing import Final

from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.images.header_limits import LimitError, Walk
from dicom_node.images.headers import file_meta
from dicom_node.images.inflate import inflate_all
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from worker.report_language import NotAReportError
from worker.report_language.formats.report_file import MAX_BYTES

MOST_ELEMENTS: Final = 30_000
"""Elements and items of a structured report: a long one has 3,000. So many take pydicom a second and 20 MB."""


def require_ordinary(content: bytes) -> None:
    """Checks a DICOM file before objects are made of it; nothing is inflated beyond the bytes that a report may have.

    Raises:
        NotAReportError: when it holds more than a report, or is damaged.
    """
    stream = io.BytesIO(content)
    try:
        syntax = file_meta(stream).get("TransferSyntaxUID", ExplicitVRLittleEndian)
        end = len(content)
        if syntax == DeflatedExplicitVRLittleEndian:
            inflated = inflate_all(stream, MAX_BYTES)
            stream, end = io.BytesIO(inflated), len(inflated)
        known = syntax.is_transfer_syntax
        implicit, little = known and syntax.is_implicit_VR, not known or syntax.is_little_endian
        Walk(stream, end, implicit=implicit, little=little, stop_at=2**32, most_elements=MOST_ELEMENTS).run()
    except LimitError as error:
        raise NotAReportError(f"the report is not read: {error}; send the report alone") from error
    except (*PYDICOM_ERRORS, zlib.error) as error:
        raise NotAReportError("the report is a damaged DICOM file; send it again") from error
