"""Files that cost more than they should are refused before they cost it."""

import io
import resource

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicom_node.errors import SeriesError
from dicom_node.images.frames import read_file
from dicom_node.images.header_limits import DEEPEST, Walk
from dicom_node.origin import Origin
from dicom_node.scp.instance_uids import HeaderError, read_uids
from dicom_node.scp.reception import Announced, Reception, RefusedError
from dicom_node.store import Store
from tests.support import attacks

SOP = "1.2.3.4.5"
CLAIMS = 0xFFFFFFF0
MB = 2**20


class Cost:
    """What a block cost: by how many bytes this process grew at its peak."""

    def __enter__(self) -> "Cost":
        self.before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return self

    def __exit__(self, *_: object) -> None:
        self.peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self.before)


@pytest.mark.long
@pytest.mark.parametrize(
    ("bomb", "syntax", "says"),
    [
        (
            lambda: attacks.deflate_bomb(SOP, 256 * MB),
            attacks.DEFLATED,
            "inflated it has more than 16777216 bytes before",
        ),
        (
            lambda: attacks.deflated(attacks.data_set(SOP, behind=attacks.empty_items(260_000))),
            attacks.DEFLATED,
            "elements",
        ),
        (
            lambda: attacks.data_set(SOP, behind=attacks.empty_items(260_000)),
            ExplicitVRLittleEndian,
            "elements and items",
        ),
        (
            lambda: attacks.data_set(SOP, before=attacks.endless_items(260_000)),
            ExplicitVRLittleEndian,
            "elements and items",
        ),
        (
            lambda: attacks.data_set(SOP, behind=attacks.element(0x00291010, b"UN", bytes(9), CLAIMS)),
            ExplicitVRLittleEndian,
            f"claims {CLAIMS} bytes",
        ),
        (
            lambda: attacks.data_set(SOP, behind=attacks.element(0x00204000, b"UT", b"", CLAIMS)),
            ExplicitVRLittleEndian,
            "claim",
        ),
        (
            lambda: attacks.data_set(
                SOP, behind=attacks.deep(1)[:-16] + attacks.element(0x00291010, b"UN", b"", CLAIMS)
            ),
            ExplicitVRLittleEndian,
            f"claims {CLAIMS} bytes",
        ),
    ],
    ids=["deflate bomb", "deflated items", "items", "endless items", "claims 4 GB", "long text", "claims in an item"],
)
def test_a_header_beyond_a_limit_is_refused_with_the_file_and_the_limit(tmp_path, bomb, syntax, says):
    path = attacks.written(tmp_path / f"{SOP}.dcm", bomb(), syntax)
    with Cost() as cost, pytest.raises(SeriesError, match=says) as refused:
        read_file(path)
    assert refused.value.retry == "final"
    assert path.name in str(refused.value)
    assert cost.peak < 96 * MB


def test_thousands_of_nested_sequences_are_refused(tmp_path):
    path = attacks.written(tmp_path / f"{SOP}.dcm", attacks.data_set(SOP, behind=attacks.deep(5_000)))
    with pytest.raises(SeriesError, match=path.name):
        read_file(path)
    with pytest.raises(HeaderError, match=f"more than {DEEPEST} deep"):
        read_uids(
            io.BytesIO(attacks.data_set(SOP, before=attacks.deep(DEEPEST + 1, 0x00081140))), UID("1.2.840.10008.1.2.1")
        )


@pytest.mark.long
def test_a_deflated_header_of_ordinary_size_is_read_whatever_its_pixels_inflate_to(tmp_path):
    pixels = attacks.element(0x7FE00010, b"OB", bytes(64 * MB))
    content = attacks.deflated(attacks.data_set(SOP, behind=attacks.element(0x00280010, b"US", b"\x02\x00") + pixels))
    with Cost() as cost:
        file = read_file(attacks.written(tmp_path / f"{SOP}.dcm", content, attacks.DEFLATED))
    assert (file.sop_uid, file.header.Rows, "PixelData" in file.header) == (SOP, 2, False)
    assert file.header.file_meta.TransferSyntaxUID == attacks.DEFLATED
    assert cost.peak < 64 * MB


@pytest.mark.long
def test_a_large_enhanced_header_within_the_limits_is_read(tmp_path):
    item = attacks.element(0x00204000, b"LT", b"ab")
    frames = b"".join(b"\xfe\xff\x00\xe0" + len(item).to_bytes(4, "little") + item for _ in range(60_000))
    file = read_file(
        attacks.written(
            tmp_path / f"{SOP}.dcm", attacks.data_set(SOP, behind=attacks.element(0x52009230, b"SQ", frames))
        )
    )
    assert len(file.header.PerFrameFunctionalGroupsSequence) == 60_000


@pytest.mark.parametrize("implicit", [True, False])
def test_the_walk_counts_what_pydicom_builds(implicit):
    rng = np.random.default_rng(7)

    def made(depth: int) -> tuple[Dataset, int]:
        built, count = Dataset(), 0
        for tag in rng.choice(0x4000, size=rng.integers(1, 6), replace=False):
            built.add_new(0x00290000 + 0x1000 + int(tag) % 0xEFFF, "LO", "x" * int(rng.integers(0, 9)))
        count += len(built)
        if depth:
            inner = [made(depth - 1) for _ in range(rng.integers(0, 4))]
            built.ContentSequence = [one for one, _ in inner]
            built["ContentSequence"].is_undefined_length = bool(rng.integers(2))
            count += 1 + sum(1 + size for _, size in inner)
        return built, count

    for _ in range(20):
        built, count = made(3)
        buffer = io.BytesIO()
        built.save_as(buffer, implicit_vr=implicit, little_endian=True)
        content = buffer.getvalue()
        assert Walk(io.BytesIO(content), len(content), implicit=implicit).run().elements == count


def test_the_uids_are_found_behind_much_and_within_limits():
    behind_items = attacks.data_set(SOP, before=attacks.endless_items(10_000))
    header = read_uids(io.BytesIO(behind_items), UID(ExplicitVRLittleEndian))
    assert (header.sop_uid, header.series_uid) == (SOP, attacks.SERIES)


@pytest.mark.parametrize(
    ("content", "syntax"),
    [
        (attacks.data_set(SOP, before=attacks.endless_items(1_000_000)), ExplicitVRLittleEndian),
        (attacks.data_set(SOP, before=attacks.element(0x00104000, b"UT", b"", CLAIMS)), ExplicitVRLittleEndian),
        (attacks.element(0x00080016, b"UT", b"", CLAIMS), ExplicitVRLittleEndian),
        (
            attacks.deflated(attacks.data_set(SOP, before=attacks.element(0x00104000, b"UT", bytes(64 * MB)))),
            attacks.DEFLATED,
        ),
    ],
    ids=["8 MB of empty items", "claims 4 GB before the UIDs", "a UID of 4 GB", "deflate bomb before the UIDs"],
)
def test_an_instance_beyond_a_limit_gets_a_final_status_at_once(tmp_path, content, syntax):
    store = Store(tmp_path)
    reception = Reception(Announced(CTImageStorage, SOP, UID(syntax), Origin("A", "B", "127.0.0.1")), store, 0)
    reception.write(content)
    with Cost() as cost, pytest.raises(RefusedError) as refused:
        reception.finish()
    assert refused.value.status == 0xC000
    assert cost.peak < 64 * MB
