"""One C-STORE request at a time, without a network: whatever bytes come, the outcome is a status."""

import contextlib
import json
import sys
import zlib
from collections import Counter
from io import BytesIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.dsutils import encode

from dicom_node.origin import Origin
from dicom_node.scp.instance_uids import HeaderError, InstanceUids, read_uids
from dicom_node.scp.reception import Announced, Reception, RefusedError, StoreStatus
from dicom_node.store import Outcome, Receipt, Store
from tests.support.instances import small_instance

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def keep(
    data_set: bytes,
    store: Store,
    required_bytes: int = 0,
    *,
    syntax: UID = ExplicitVRLittleEndian,
    sop_uid: str = "1.2.3.4.1",
    piece: int = 2**20,
) -> tuple[InstanceUids, Receipt]:
    """What becomes of a data set that comes in pieces of `piece` bytes."""
    announced = Announced(CTImageStorage, sop_uid, syntax, Origin("SCU", "VOXTELL", "127.0.0.1"))
    reception = Reception(announced, store, required_bytes)
    for start in range(0, len(data_set), piece):
        reception.write(data_set[start : start + piece])
    return reception.finish()


def encoded(syntax: UID = ExplicitVRLittleEndian, **attributes: str) -> bytes:
    """A small instance as it goes over the network."""
    data_set = encode(
        small_instance(**attributes), syntax.is_implicit_VR, syntax.is_little_endian, deflated=syntax.is_deflated
    )
    assert data_set is not None
    return data_set


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return Store(tmp_path_factory.mktemp("home"))


@given(st.binary(max_size=300), st.sampled_from(SYNTAXES))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_and_kept(store, content, syntax):
    with pytest.raises(RefusedError) as refused:
        keep(content, store, syntax=syntax)
    assert refused.value.status is StoreStatus.CANNOT_UNDERSTAND
    assert list(store.walk()) == []


@given(st.integers(min_value=0, max_value=400), st.sampled_from(SYNTAXES))
@settings(deadline=None)
def test_a_cut_data_set_is_refused_or_has_all_its_uids(cut, syntax):
    found = []
    with contextlib.suppress(Exception):  # of many kinds, as the door of C-STORE expects
        header = read_uids(BytesIO(encoded(syntax)[:cut]), syntax)
        found.append((header.study_uid, header.series_uid, header.sop_uid))
    assert found in ([], [("1.2.3", "1.2.3.4", "1.2.3.4.1")])


@pytest.mark.parametrize("announced", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.parametrize("sent", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
@pytest.mark.filterwarnings("ignore:Expected (im|ex)plicit VR:UserWarning")
def test_an_instance_in_the_other_encoding_than_announced_is_known_all_the_same(announced, sent):
    header = read_uids(BytesIO(encoded(sent)), announced)
    assert header == InstanceUids(CTImageStorage, "1.2.3.4.1", "1.2.3", "1.2.3.4")


@pytest.mark.long
@given(st.text(alphabet=st.characters(codec="latin-1"), max_size=40))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_only_uids_become_paths_and_every_reason_can_be_sent(store, text):
    try:
        keep(encoded(SeriesInstanceUID=text), store)
    except RefusedError as refusal:
        comment = refusal.comment()
        assert len(comment) <= 64
        assert comment.isascii()
        assert comment.isprintable()
        assert "\\" not in comment
    for stored in store.walk():
        assert set(stored.series_uid) <= set("0123456789.")


def test_the_kinds_of_arrivals(tmp_path):
    store = Store(tmp_path)
    outcomes = [keep(encoded(PatientName=name), store)[1].outcome for name in ("First", "First", "Second", "First")]
    assert outcomes == [Outcome.NEW, Outcome.SAME, Outcome.CONFLICT, Outcome.SAME]


@pytest.mark.parametrize("sop_uid", ["1.2.\xe9", "../../../etc/passwd", "", "1.2\\1.3", "x" * 64])
def test_a_command_with_a_uid_that_is_none_is_refused_and_kept(tmp_path, sop_uid):
    store = Store(tmp_path)
    with pytest.raises(RefusedError) as refused:
        keep(encoded(), store, sop_uid=sop_uid)
    assert refused.value.status is StoreStatus.DATA_SET_DOES_NOT_MATCH
    assert len(list((tmp_path / "quarantine").glob("*.dcm"))) == 1
    assert list(store.walk()) == []


def test_the_reason_lies_beside_what_was_quarantined(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RefusedError) as refused:
        keep(encoded(), store, sop_uid="1.2.3.4.77")
    assert refused.value.status is StoreStatus.DATA_SET_DOES_NOT_MATCH
    (note,) = (tmp_path / "quarantine").glob("*.json")
    assert json.loads(note.read_text()) == {"reason": str(refused.value), "calling_ae": "SCU", "address": "127.0.0.1"}


_counted: Counter[str] | None = None


def _count(event: str, _arguments: tuple[object, ...]) -> None:
    if _counted is not None and event.startswith(("os.", "open")):
        _counted[event] += 1


sys.addaudithook(_count)


@contextlib.contextmanager
def counted():
    """The calls to the file system within the block, by name."""
    global _counted
    _counted = Counter()
    try:
        yield _counted
    finally:
        _counted = None


def test_an_instance_costs_the_same_however_many_its_series_has(tmp_path):
    """Calls to the file system are counted: none lists a folder, and the 100th instance needs as many as the 2nd."""
    store = Store(tmp_path)
    costs = []
    for number in range(100):
        content = encoded(SOPInstanceUID=f"1.2.3.4.{number}")
        with counted() as calls:
            keep(content, store, sop_uid=f"1.2.3.4.{number}")
        costs.append(calls)
    assert costs[1] == costs[99]
    assert not {"os.listdir", "os.scandir"} & set(costs[99])
    assert costs[99]["os.link"] == 1


def test_nothing_is_taken_when_the_disk_would_be_too_full(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RefusedError) as refused:
        keep(encoded(), store, store.free_bytes() * 2)
    assert refused.value.status is StoreStatus.OUT_OF_RESOURCES
    assert list((tmp_path / "quarantine").iterdir()) == []


def test_room_that_goes_while_an_image_comes_is_noticed_at_its_end(tmp_path, monkeypatch):
    store, room = Store(tmp_path), [2000, 999]
    monkeypatch.setattr(store, "free_bytes", lambda: room.pop(0))
    with pytest.raises(RefusedError, match="too little free disk space") as refused:
        keep(encoded(), store, 1000)
    assert refused.value.status is StoreStatus.OUT_OF_RESOURCES
    assert list(store.walk()) == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:Expected explicit VR:UserWarning")
def test_a_deflated_data_set_is_not_inflated_without_end():
    """16 MiB of header are looked at; a gigabyte of zeros in a few kilobytes is not."""
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    bomb = b"".join(squeezer.compress(bytes(2**20)) for _ in range(256)) + squeezer.flush()
    with pytest.raises(HeaderError, match="SOPClassUID"):
        read_uids(BytesIO(bomb), DeflatedExplicitVRLittleEndian)


@pytest.mark.parametrize("syntax", ["../../x", "", "1.2.840.10008.1.2.", "1." * 40])
@pytest.mark.filterwarnings("ignore:.*VR UI:UserWarning")
def test_a_transfer_syntax_that_is_no_uid_is_refused(tmp_path, syntax):
    """The file would name an encoding that nobody can read."""
    with pytest.raises(RefusedError, match="its transfer syntax is no UID") as caught:
        keep(encoded(), Store(tmp_path), syntax=UID(syntax))
    assert caught.value.status == StoreStatus.CANNOT_UNDERSTAND
    assert list(Store(tmp_path).walk()) == []


def test_a_private_transfer_syntax_is_kept(tmp_path):
    assert keep(encoded(), Store(tmp_path), syntax=UID("1.2.840.113619.5.2"))[1].outcome is Outcome.NEW


def test_what_pydicom_says_of_a_value_goes_into_no_reason(tmp_path):
    """Its texts quote values, which may be a patient's."""
    damaged = encoded().replace(b"\x20\x00\x0d\x00UI", b"\x20\x00\x0d\x00Zz")
    with pytest.raises(RefusedError) as caught:
        keep(damaged, Store(tmp_path))
    assert "Test" not in str(caught.value)
    assert "Small" not in str(caught.value)
