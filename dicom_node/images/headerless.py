"""Data sets without preamble and File Meta Information, as some planning systems and scanners export them.

PS3.10 7.1 forbids such files, but Elekta Monaco and older exports of Siemens and GE write them. Their transfer syntax
is told by the first element: a VR in letters is explicit, a binary length implicit VR little endian.
"""

from typing import BinaryIO, Final

from pydicom.dataset import FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.images.header_limits import check_meta

_META_GROUP: Final = b"\x02\x00"
_FIRST_GROUP: Final = b"\x08\x00"  # no image begins with a later group: its class stands in this one
_MAX_ELEMENT: Final = 0x20  # (0008,0018) is the SOP Instance UID; what begins behind it is no image


def headerless_meta(stream: BinaryIO) -> FileMetaDataset:
    """Returns file meta information for a data set that has none; `stream` then stands at the data set.

    Raises:
        InvalidDicomError: when the file does not begin like a data set either.
        LimitError: when meta information that stands there is beyond a limit.
        PYDICOM_ERRORS: when meta information that stands there without its preamble is damaged.
    """
    stream.seek(0)
    start = stream.read(8)
    stream.seek(0)
    if start[:2] == _META_GROUP:
        check_meta(stream)
        return FileMetaDataset(read_dataset(stream, False, True, stop_when=lambda tag, _vr, _length: tag.group != 2))
    if len(start) < 8 or start[:2] != _FIRST_GROUP or int.from_bytes(start[2:4], "little") > _MAX_ELEMENT:
        raise InvalidDicomError
    meta = FileMetaDataset()
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if explicit else ImplicitVRLittleEndian
    return meta
