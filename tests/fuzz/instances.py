"""Series of images whose associations are as they should be, and whose data sets are not (PS3.4 annex B)."""

import random
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)

from dicom_node.synthesis import ct_series
from tests.fuzz.associations import asked, ended_how, pdus_of
from tests.fuzz.door import Case, FindingError
from tests.fuzz.mutations import mutated
from tests.support import attacks
from tests.support.association_bytes import CT, RELEASE, request
from tests.support.wire import command, pdu

STUDY_DESCRIPTION: Final = "fuzz"
"""The protocol of the node takes the series with it: they are segmented."""
SEGMENTED_EVERY: Final = 10
"""One series in so many has it; the others are judged and not segmented."""
SLICES: Final = 3
OUT_OF_RESOURCES: Final = 0xA700
PART: Final = 30_000  # bytes of a data set in one PDU

_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
_WORDS: Final = (
    b"SQ\0\0\xff\xff\xff\xff",
    b"UN\0\0\xff\xff\xff\xff",
    b"OW\0\0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\0\0\0\0",
    b"\xfe\xff\xdd\xe0\0\0\0\0",
    b"\xfe\xff\x0d\xe0\0\0\0\0",
    b"\xe0\x7f\x10\x00OW\0\0\xf0\xff\xff\xff",
    b"\x08\0\x05\0CS\x0a\0ISO 2022 IR 87",
    b"\x1b$B\x1b(B",
    b"\\\\\\",
)
_VALUES: Final[dict[str, Sequence[int | str | bytes]]] = {
    "Rows": (0, 1, 65535),
    "Columns": (0, 1, 65535),
    "BitsAllocated": (0, 1, 8, 12, 32, 64, 65535),
    "BitsStored": (0, 1, 17, 65535),
    "HighBit": (0, 65535),
    "PixelRepresentation": (2, 65535),
    "SamplesPerPixel": (0, 2, 3, 4, 65535),
    "NumberOfFrames": ("0", "-1", "2", "2000000000", "x"),
    "PhotometricInterpretation": ("RGB", "PALETTE COLOR", "YBR_FULL_422", "\x1b[2J", ""),
    "ImagePositionPatient": ("", "0\\0", "0\\0\\nan", "1e999\\0\\0", "x\\y\\z", "0\\0\\0"),
    "ImageOrientationPatient": ("", "0\\0\\0\\0\\0\\0", "1\\0\\0\\1\\0\\0", "nan\\0\\0\\0\\1\\0", "9\\9\\9\\9\\9\\9"),
    "PixelSpacing": ("", "0\\0", "-1\\-1", "1e300\\1e300", "1e-300\\1e-300", "nan\\inf", "2"),
    "SliceThickness": ("0", "-1", "1e400", "x"),
    "RescaleSlope": ("0", "nan", "1e400", "x", "-1", ""),
    "RescaleIntercept": ("inf", "1e400", "x", ""),
    "InstanceNumber": ("", "x", "9" * 12, "-1"),
    "ImagesInAcquisition": ("0", "-1", "1", "3", "x", "9" * 12),
    "Modality": ("", "SEG", "SR", "\r\nforged", "C" * 16),
    "StudyDate": ("", "2026.01.01", "99999999", "x" * 8),
    "SpecificCharacterSet": ("ISO_IR 192", "GB18030", "ISO 2022 IR 13\\ISO 2022 IR 87", "nonsense", ""),
    "PatientName": ("=" * 60, "\x1b$B\x1b(B", "A^" * 30, "", "\\"),
    "SeriesDescription": ("\r\n[error] forged", "\x1b[2J", "x" * 5000, "\0"),
    "FrameOfReferenceUID": ("", "../../x", "1." * 40),
    "PixelData": (b"", bytes(2), bytes(100_000), b"\xff" * 1152),
}
"""Values that no image should have."""

Values = dict[str, int | str | bytes]
"""Values by keyword, which are written as they are, whatever pydicom thinks of them."""


class Image:
    """An image of a series as it should be, to be encoded with other values."""

    def __init__(self, path: Path) -> None:
        self._dataset = dcmread(path)
        self._elements: dict[tuple[bool, bool], dict[BaseTag, bytes]] = {}

    def encoded(self, syntax: str, values: Values, *, without: Sequence[BaseTag] = ()) -> bytes:
        """The data set in a transfer syntax; the pixels of compressed ones are left as they are, which is wrong."""
        implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
        if (implicit, little) not in self._elements:
            made = {element.tag: _by_pydicom(element, implicit, little) for element in self._dataset}
            self._elements[implicit, little] = made
        own = {tag: _as_it_is(tag, value, implicit, little) for tag, value in ((Tag(k), v) for k, v in values.items())}
        elements = self._elements[implicit, little] | own
        content = b"".join(elements[tag] for tag in sorted(elements) if tag not in without)
        return attacks.deflated(content) if syntax == DeflatedExplicitVRLittleEndian else content

    @property
    def tags(self) -> list[BaseTag]:
        """The tags of its elements."""
        return [element.tag for element in self._dataset]


Spoil = Callable[[random.Random, Image, Values, str], bytes]
"""Makes the bytes of an image with these values of its own, and with something wrong, in a transfer syntax."""


class Instances:
    """Series of three images: judged, and some of them segmented."""

    name = "C-STORE"
    is_port = True

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._series = small_series(folder)

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """An association that brings one series; of one that is not sound, one image or all are spoilt."""
        syntax = ExplicitVRLittleEndian if sound else chance.choice(_SYNTAXES)
        told = syntax if sound or chance.random() < 0.9 else chance.choice(_SYNTAXES)
        stream = [request((1, CT, [told.encode()]), calling=b"FUZZ")]
        spoil = None if sound else chance.choice(SPOILS)
        victims = range(SLICES) if chance.random() < 0.3 else [chance.randrange(SLICES)]
        for index, image in enumerate(self._series):
            own = own_values(number, index, segmented=number % SEGMENTED_EVERY < 2)
            is_spoilt = spoil and index in victims
            content = spoil(chance, image, own, syntax) if is_spoilt else image.encoded(syntax, own)
            stream += [pdu((1, 3, command(number=index + 1, sop_uid=sop_uid_of(number, index))))]
            stream += [pdu((1, 0, content[at : at + PART])) for at in range(0, len(content), PART)]
            stream += [pdu((1, 2, b""))]
        return b"".join([*stream, RELEASE])

    def send(self, case: Case) -> str:
        """Says how the association ended, and with which statuses its images were answered."""
        received = asked(case, self._port)
        ended, statuses = ended_how(case, received), statuses_of(received)
        if case.sound and (ended, statuses) != ("released", [0] * SLICES):
            raise FindingError(f"{SLICES} sound images were answered by {statuses}, {ended}")
        if OUT_OF_RESOURCES in statuses:
            raise FindingError("an image is to be sent again, without end: 0xA700, and the disk is not full")
        return " ".join([ended, *sorted({f"0x{status:04X}" for status in statuses})])


def small_series(folder: Path) -> list[Image]:
    """A CT with a bright box, inferior slice first."""
    image = np.full((SLICES, 24, 24), -1000.0, np.float32)
    image[1:-1, 6:12, 6:18] = 400
    return [Image(path) for path in ct_series(image, (3.0, 2.0, 2.0), folder)]


def sop_uid_of(number: int, index: int, *, way: int = 1) -> str:
    """The SOP Instance UID of an image of a case; `way` tells doors apart."""
    return f"1.2.826.{way}.1.{1 + number}.{1 + index}"


def own_values(number: int, index: int, *, segmented: bool, way: int = 1) -> Values:
    """What makes an image one of a study of its own, which the protocol of the node takes or does not."""
    return {
        "SOPInstanceUID": sop_uid_of(number, index, way=way),
        "StudyInstanceUID": f"1.2.826.{way}.2.{1 + number}",
        "SeriesInstanceUID": f"1.2.826.{way}.3.{1 + number}",
        "FrameOfReferenceUID": f"1.2.826.{way}.4.{1 + number}",
        "PatientID": f"F{way}.{number}",
        "StudyDescription": STUDY_DESCRIPTION if segmented else "other",
    }


def _by_pydicom(element: DataElement, implicit: bool, little: bool) -> bytes:
    alone = Dataset()
    alone.add(element)
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, little
    write_dataset(buffer, alone)
    return bytes(buffer.getvalue())


def _as_it_is(tag: BaseTag, value: int | str | bytes, implicit: bool, little: bool) -> bytes:
    order = "<" if little else ">"
    content = struct.pack(f"{order}H", value) if isinstance(value, int) else value
    content = content.encode() if isinstance(content, str) else content
    vr = dictionary_VR(tag)[:2].encode()
    content += (b"\0" if vr == b"UI" else b" ") * (len(content) % 2)
    head = struct.pack(f"{order}HH", tag.group, tag.element)
    if implicit:
        return head + struct.pack(f"{order}L", len(content)) + content
    if vr == b"OB":
        return head + vr + struct.pack(f"{order}HL", 0, len(content)) + content
    return head + vr + struct.pack(f"{order}H", len(content)) + content


def statuses_of(received: bytes) -> list[int]:
    """The statuses of the C-STORE responses in what came back (PS3.7 section 9.3.1.2)."""
    commands = b"".join(content[6:] for kind, content in pdus_of(received) if kind == 4)
    return [int.from_bytes(part[:2], "little") for part in commands.split(struct.pack("<HHL", 0, 0x0900, 2))[1:]]


def _other_bytes(chance: random.Random, image: Image, own: Values, syntax: str) -> bytes:
    return mutated(chance, image.encoded(syntax, own), words=_WORDS, near=chance.choice((150, 500, None)))


def _other_values(chance: random.Random, image: Image, own: Values, syntax: str) -> bytes:
    keywords = chance.sample(sorted(_VALUES), chance.randint(1, 3))
    return image.encoded(syntax, own | {keyword: chance.choice(_VALUES[keyword]) for keyword in keywords})


def _missing(chance: random.Random, image: Image, own: Values, syntax: str) -> bytes:
    return image.encoded(syntax, own, without=chance.sample(image.tags, chance.randint(1, 4)))


def _costly(chance: random.Random, image: Image, own: Values, syntax: str) -> bytes:
    """What costs its reader more than its bytes: much inflated, many items, deep ones, claims without bytes."""
    count = chance.choice((100, 10_000, 100_000))
    behind = chance.choice(
        (
            lambda: attacks.empty_items(count),
            lambda: attacks.endless_items(count),
            lambda: attacks.deep(chance.choice((10, 63, 64, 65, 2000))),
            lambda: attacks.element(0x00409096, b"UT", b"x", chance.choice((0xFFFFFFF0, 0x7FFFFFFF, 2**24))),
            lambda: attacks.element(0x00291010, b"UN", bytes(chance.choice((10_000, 3_000_000)))),
        )
    )()
    uids = {0x00080016: CT.decode(), 0x00080018: own["SOPInstanceUID"]}
    uids |= {0x0020000D: own["StudyInstanceUID"], 0x0020000E: own["SeriesInstanceUID"]}
    content = b"".join(attacks.uid(tag, str(value)) for tag, value in uids.items()) + behind
    return attacks.deflated(content) if syntax == DeflatedExplicitVRLittleEndian else content


SPOILS: Final[Sequence[Spoil]] = (_other_bytes, _other_bytes, _other_values, _other_values, _missing, _costly)
