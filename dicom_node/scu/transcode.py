"""Transcodes an object to the transfer syntax that a destination asks for; no value and no pixel changes.

The SOP Instance UID stays, because it is the same object (PS3.3 C.12.1.1: a new one is due when pixels are lost).
"""

from pathlib import Path
from typing import Final, Literal

from pydicom import Dataset, dcmread
from pydicom.filereader import read_file_meta_info
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

Syntax = Literal["explicit", "deflated", "rle"]

_RLE_BITS: Final = (8, 16)  # one bit a pixel cannot be run-length encoded (PS3.5 G.2)


def transcoded(path: Path, syntax: Syntax, folder: Path) -> Path:
    """Transcodes the object at `path`; returns the path of the copy in `folder`, or `path` where it stays as it is.

    It stays where its own syntax is not explicit little endian (a structure set is implicit, because explicit VR cannot
    hold long contours), and for "rle" where it has no pixels of whole bytes. "deflated" is Deflated Explicit VR Little
    Endian (PS3.5 section A.5), "rle" RLE Lossless (annex G).

    Raises:
        OSError: when the file cannot be read, or the copy not written.
    """
    if syntax == "explicit" or read_file_meta_info(path).TransferSyntaxUID != ExplicitVRLittleEndian:
        return path
    dataset = dcmread(path)
    if syntax == "deflated":
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    elif _has_whole_bytes(dataset):
        # Not by GDCM, pydicom's first choice: it ends the whole process when it meets colours of small images.
        dataset.compress(RLELossless, encoding_plugin="pydicom", generate_instance_uid=False)
    else:
        return path
    copy = folder / path.name
    dataset.save_as(copy, enforce_file_format=True)
    return copy


def _has_whole_bytes(dataset: Dataset) -> bool:
    return "PixelData" in dataset and dataset.BitsAllocated in _RLE_BITS
