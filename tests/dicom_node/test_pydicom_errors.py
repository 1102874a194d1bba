"""Whatever bytes come: pydicom meets them with one of the errors that are named, and with no other."""

import io
import re
import warnings
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.images.header_limits import LimitError
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS, damage
from dicom_node.scp.instance_uids import HeaderError, read_uids
from dicom_node.storage.part10 import file_start
from tests.support.instances import data_set, small_instance

SYNTAXES = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)
START = file_start(sop_class_uid="1.2", sop_uid="1.2.3.4.1", transfer_syntax=ExplicitVRLittleEndian)
ITEM = b"\xfe\xff\x00\xe0"
PIECES = (  # what pydicom decides by: representations, undefined lengths, items and their ends
    *(b"SQ", b"UN", b"OB", b"FD", b"DS", b"IS", b"AT", b"PN", b"ZZ", b"\x00\x00"),
    *(b"\xff\xff", b"\xff\xff\xff\xff", ITEM + b"\xff\xff\xff\xff", ITEM + b"\x08\x00\x00\x00"),
    *(
        b"\xfe\xff\x0d\xe0\x00\x00\x00\x00",
        b"\xfe\xff\xdd\xe0\x00\x00\x00\x00",
        b"inf",
        b"nan",
        b"\\",
        b"ISO 2022 IR 87",
    ),
)
NESTED = (b"\x08\x00\x40\x11SQ\x00\x00\xff\xff\xff\xff" + ITEM + b"\xff\xff\xff\xff") * 2000


def instance() -> bytes:
    """A data set in explicit little endian with a sequence, numbers and text."""
    inner = Dataset()
    inner.ReferencedSOPInstanceUID = "1.2.3"
    stream = io.BytesIO()
    small_instance(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        ReferencedImageSequence=[inner],
        ImagePositionPatient=[1, 2, 3],
        EchoNumbers=1,
        DiffusionBValue=5.0,
    ).save_as(stream, enforce_file_format=True)
    return data_set(stream.getvalue())


WHOLE = instance()
DAMAGE = st.lists(
    st.tuples(
        st.integers(0, len(WHOLE)),
        st.integers(0, 8),
        st.sampled_from(PIECES) | st.binary(max_size=4),
    ),
    max_size=5,
)


def damaged(places: list[tuple[int, int, bytes]], end: int) -> bytes:
    """The data set with bytes replaced, then cut."""
    content = WHOLE
    for start, length, piece in places:
        content = content[:start] + piece + content[start + length :]
    return content[:end]


def judged(read: Callable[[], object]) -> None:
    """Fails for an exception that is not named."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read()
        except (HeaderError, *PYDICOM_ERRORS):
            return


def read_all(content: bytes) -> None:
    """Every value of a file, as whoever reads headers later asks for them."""
    for element in dcmread(io.BytesIO(content)).iterall():
        str(element.value)


@given(places=DAMAGE, end=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)), syntax=st.sampled_from(SYNTAXES))
@example(places=[(0, 0, NESTED)], end=10**6, syntax=ExplicitVRLittleEndian)
def test_damaged_instances_are_met_with_named_errors(
    places: list[tuple[int, int, bytes]], end: int, syntax: str
) -> None:
    content = damaged(places, end)
    encoded = zlib.compress(content, wbits=-zlib.MAX_WBITS) if syntax == DeflatedExplicitVRLittleEndian else content
    judged(lambda: read_uids(io.BytesIO(encoded), syntax))
    judged(lambda: read_uids(io.BytesIO(content), syntax))
    judged(lambda: read_all(START + content))


def test_what_is_said_of_damage_names_attributes_and_quotes_no_value() -> None:
    """pydicom's own words quote the value, which may be a patient's."""
    inner = Dataset()
    inner[0x00280030] = RawDataElement(BaseTag(0x00280030), "DS", 8, b"DOE^JANE", 0, False, True)
    header = small_instance(ReferencedImageSequence=[inner])  # with another damaged attribute within
    header[0x00200032] = RawDataElement(BaseTag(0x00200032), "DS", 8, b"DOE^JANE", 0, False, True)
    for cause, said in [
        (
            ValueError("could not convert string to float: 'DOE^JANE'"),
            "its PixelSpacing, ImagePositionPatient are damaged",
        ),
        (LimitError("it has more than 5 elements"), "it has more than 5 elements"),
    ]:
        assert said in damage(cause, header)
        assert "DOE" not in damage(cause, header)
    assert "PixelSpacing" in damage(ValueError(), header), "at any depth"
    with pytest.raises(AttributeError) as missing:
        _ = small_instance().SliceThickness
    assert damage(missing.value, small_instance()) == "SliceThickness is missing"
    assert damage(EOFError("'DOE^JANE'")) == "it was cut off within an element"
    assert damage(ValueError("'DOE^JANE'"), small_instance()) == "its bytes are damaged"


@given(places=DAMAGE, end=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)))
def test_whatever_was_read_of_damaged_bytes_can_be_described(places: list[tuple[int, int, bytes]], end: int) -> None:
    judged(lambda: _describe(dcmread(io.BytesIO(START + damaged(places, end)))))


def _describe(header: Dataset) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        said = damage(ValueError("?"), header)
    assert re.fullmatch(r"its [\w(), ]+ (is|are) damaged", said)


@given(places=DAMAGE.filter(bool))
def test_damaged_meta_information_is_met_with_named_errors(places: list[tuple[int, int, bytes]]) -> None:
    start = START
    for place, length, piece in places:
        place = 132 + place % (len(START) - 132)
        start = start[:place] + piece + start[place + length :]
    judged(lambda: read_all(start + WHOLE))
    judged(lambda: dcmread(io.BytesIO(start)).file_meta)
