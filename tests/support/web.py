"""Bodies of STOW-RS requests."""

import io

from pydicom import Dataset, dcmwrite

BOUNDARY = "the-boundary"


def part10(instance: Dataset) -> bytes:
    """The bytes of a DICOM file."""
    buffer = io.BytesIO()
    dcmwrite(buffer, instance, enforce_file_format=True)
    return buffer.getvalue()


def body(*parts: bytes, boundary: str = BOUNDARY) -> bytes:
    """A multipart/related message of DICOM files."""
    head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()
