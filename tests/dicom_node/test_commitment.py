"""Storage commitment in both roles, with Orthanc as the other side, and with ourselves on one association."""

import io
import socket
import struct
import threading
import tracemalloc

import pytest
from pydicom.filereader import read_dataset
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, MRImageStorage
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance, Verification

from dicom_node import commitment
from dicom_node.commitment import FailureReason, Reference, StorageCommitment, request_commitment
from dicom_node.errors import PeerRefusedError
from dicom_node.scu.association import Peer
from dicom_node.scu.c_store import send
from dicom_node.store import Store
from dicom_node.uids import derived_uid
from tests.support import attacks, wire
from tests.support.association_bytes import IMPLICIT, RELEASE, VERIFICATION, answer, connect, request, results
from tests.support.instances import small_instance
from tests.support.peers import orthanc
from tests.support.ports import LOOPBACK
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

SENT = [Reference(CTImageStorage, f"1.2.3.4.{number}") for number in (1, 2)]
MISSING = Reference(CTImageStorage, "1.2.3.4.99")


@pytest.fixture
def small_paths(tmp_path):
    paths = [tmp_path / "1.dcm", tmp_path / "2.dcm"]
    for number, path in enumerate(paths, 1):
        small_instance(number).save_as(path, enforce_file_format=True)
    return paths


def test_orthanc_commits_itself_and_reports_to_the_listener(site, tmp_path, small_paths):
    reports = []
    store = Store(tmp_path / "home")
    service = StorageCommitment(store, ae_title="VOXTELL", on_report=reports.append)
    with site(store=store, services=[service]) as here, orthanc(tmp_path / "orthanc") as pacs:
        pacs.add_modality(here.peer)
        send(small_paths, pacs.peer, calling_ae="VOXTELL")
        assert request_commitment(pacs.peer, [*SENT, MISSING], transaction_uid="2.25.1", calling_ae="VOXTELL") is None
        wait_until(lambda: reports)
    (report,) = reports
    assert report.transaction_uid == "2.25.1"
    assert report.committed == {reference.sop_uid for reference in SENT}
    assert report.failed == {MISSING.sop_uid: FailureReason.NO_SUCH_INSTANCE}


def test_orthanc_asks_us_and_hears_what_the_store_holds(site, tmp_path, small_paths):
    store = Store(tmp_path / "home")
    addresses = {}
    service = StorageCommitment(store, ae_title="VOXTELL", peer_of=addresses.get)
    with site(store=store, services=[service]) as here, orthanc(tmp_path / "orthanc") as pacs:
        addresses["ORTHANC"] = pacs.peer
        pacs.add_modality(here.peer)
        send(small_paths, here.peer, calling_ae="ORTHANC")
        asked = [[reference.sop_class_uid, reference.sop_uid] for reference in (*SENT, MISSING)]
        answer = pacs.post("/modalities/VOXTELL/storage-commitment", {"DicomInstances": asked})
        wait_until(lambda: pacs.get(answer["Path"])["Status"] != "Pending")
        report = pacs.get(answer["Path"])
    assert report["Status"] == "Failure"
    assert {item["SOPInstanceUID"] for item in report["Success"]} == {reference.sop_uid for reference in SENT}
    assert [item["SOPInstanceUID"] for item in report["Failures"]] == [MISSING.sop_uid]


def test_without_an_address_the_answer_comes_on_the_same_association(site, tmp_path, small_paths):
    store = Store(tmp_path / "home")
    with site(store=store, services=[StorageCommitment(store, ae_title="VOXTELL")]) as here:
        send(small_paths, here.peer, calling_ae="PACS")
        wrong_class = Reference(MRImageStorage, SENT[1].sop_uid)
        report = request_commitment(
            here.peer, [SENT[0], wrong_class], transaction_uid="2.25.2", calling_ae="PACS", wait_seconds=20
        )
    assert report is not None
    assert report.committed == {SENT[0].sop_uid}
    assert report.failed == {SENT[1].sop_uid: FailureReason.CLASS_INSTANCE_CONFLICT}


def test_a_report_that_cannot_be_noted_is_answered_with_a_failure(site, tmp_path, small_paths, caplog):
    """So that the peer may send it again."""
    told = threading.Event()

    def broken(_report: object) -> None:
        told.set()
        raise RuntimeError("no ledger")

    asker, provider = Store(tmp_path / "asker"), Store(tmp_path / "provider")
    with site(store=asker, services=[StorageCommitment(asker, ae_title="ASKER", on_report=broken)]) as asking:
        service = StorageCommitment(
            provider, ae_title="VOXTELL", peer_of=lambda _ae: Peer("ASKER", LOOPBACK, asking.peer.port)
        )
        with site(store=provider, services=[service]) as here:
            send(small_paths, here.peer, calling_ae="ASKER")
            transaction = derived_uid("a transaction")
            request_commitment(here.peer, SENT, transaction_uid=transaction, calling_ae="ASKER")
            assert told.wait(20)
            wait_until(lambda: any("answered 0x0110" in getattr(line, "problem", "") for line in caplog.records))


def test_a_peer_without_commitment_is_named(site):
    with site() as here, pytest.raises(PeerRefusedError, match="nothing of it: Storage Commitment Push Model"):
        request_commitment(here.peer, SENT, transaction_uid="2.25.3", calling_ae="A")


def test_a_question_without_instances_is_refused(site, tmp_path):
    store = Store(tmp_path / "home")
    with (
        site(store=store, services=[StorageCommitment(store, ae_title="VOXTELL")]) as here,
        pytest.raises(PeerRefusedError, match="0x0115"),
    ):
        request_commitment(here.peer, [], transaction_uid="2.25.4", calling_ae="A")


EVENT_REPORT, ACTION = 0x0100, 0x0130
DEFLATED = str(DeflatedExplicitVRLittleEndian).encode()
TRANSACTION = struct.pack("<HHL", 0x0008, 0x1195, 6) + b"2.25.5"
US_1 = struct.pack("<H", 1)


def asked(connection: socket.socket, field: int, *elements: tuple[int, bytes], data: bytes = b"") -> int:
    """The status of the response to a request of these elements, as odd as they may be."""
    kind = struct.pack("<H", 1 if data else 0x0101)
    everything = [(0x0100, struct.pack("<H", field)), (0x0110, struct.pack("<H", 7)), (0x0800, kind), *elements]
    content = b"".join(wire.element(number, value) for number, value in sorted(everything))
    connection.sendall(wire.pdu((1, 3, content)))
    for start in range(0, len(data), 60_000):
        last = 2 * (start + 60_000 >= len(data))
        connection.sendall(wire.pdu((1, last, data[start : start + 60_000])))
    kind_of_pdu, answered = answer(connection)
    assert kind_of_pdu == 4
    response = read_dataset(io.BytesIO(answered[6:]), True, True)
    assert response[0x00000120].value == 7
    return int(response[0x00000900].value)


MODEL, MODEL_INSTANCE = (
    uid.encode() + b"\0" for uid in (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)
)
NAMED = ((0x0002, MODEL), (0x1000, MODEL_INSTANCE))


@pytest.mark.parametrize(
    ("field", "elements", "data", "status"),
    [
        (EVENT_REPORT, NAMED, b"", 0x0113),
        (EVENT_REPORT, (*NAMED, (0x1002, struct.pack("<H", 3))), TRANSACTION, 0x0113),
        (EVENT_REPORT, (*NAMED, (0x1002, US_1)), b"", 0x0115),
        (EVENT_REPORT, (*NAMED, (0x1002, US_1)), b"\xff" * 40, 0x0115),
        (EVENT_REPORT, (NAMED[0], (0x1002, US_1)), TRANSACTION, 0x0212),
        (ACTION, ((0x0003, MODEL), (0x1001, MODEL_INSTANCE)), TRANSACTION, 0x0212),
        (EVENT_REPORT, (*NAMED, (0x1002, US_1)), TRANSACTION, 0x0000),
    ],
    ids=["no type", "another type", "no information", "damaged", "no instance", "no action type", "whole"],
)
@pytest.mark.filterwarnings("ignore")  # pydicom's, of what is damaged
def test_a_request_that_lacks_something_is_answered_at_once(site, tmp_path, caplog, field, elements, data, status):
    """pynetdicom leaves it without an answer, so that the peer waits until its own time is over."""
    reports = []
    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL", on_report=reports.append)
    with site(services=[service]) as here, connect(here.peer.port) as connection:
        connection.sendall(request((1, StorageCommitmentPushModel.encode(), [IMPLICIT])))
        assert answer(connection)[0] == 2
        assert asked(connection, field, *elements, data=data) == status
        connection.sendall(RELEASE)
        assert answer(connection)[0] == 6
    assert len(reports) == (status == 0)
    assert [record for record in caplog.records if record.exc_info] == []


def test_a_request_that_cannot_be_answered_ends_its_association(site, tmp_path):
    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL")
    with site(services=[service]) as here, connect(here.peer.port) as connection:
        connection.sendall(request((1, StorageCommitmentPushModel.encode(), [IMPLICIT])))
        assert answer(connection)[0] == 2
        content = b"".join(wire.element(*one) for one in [NAMED[0], (0x0100, b"\0\1"), (0x0800, b"\1\1"), NAMED[1]])
        connection.sendall(wire.pdu((1, 3, content)))
        assert answer(connection)[0] == 7  # A-ABORT: it has no message id


QUESTION = ((0x0003, MODEL), (0x1001, MODEL_INSTANCE), (0x1008, US_1))
INSTANCE = (
    struct.pack("<HHL", 0x0008, 0x1150, 26)
    + CTImageStorage.encode()
    + b"\0"
    + struct.pack("<HHL", 0x0008, 0x1155, 10)
    + b"1.2.3.4.1\0"
)


def question() -> bytes:
    """Asks about one instance, in implicit VR."""
    item = b"\xfe\xff\x00\xe0" + struct.pack("<L", len(INSTANCE)) + INSTANCE
    return TRANSACTION + struct.pack("<HHL", 0x0008, 0x1199, len(item)) + item


def test_questions_without_end_wait_for_each_other_and_are_put_off(site, tmp_path, monkeypatch, caplog):
    """Each costs a thread, the instances that it names, and an association to a peer that may not answer."""
    monkeypatch.setattr(commitment, "_MOST_PER_ADDRESS", 2)
    monkeypatch.setattr(commitment, "_WAIT_SECONDS", 0.1)
    answered = threading.Event()

    def nowhere(_ae_title: str) -> None:
        answered.wait(30)

    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL", peer_of=nowhere)
    with site(services=[service]) as here:
        with connect(here.peer.port) as connection:
            connection.sendall(request((1, StorageCommitmentPushModel.encode(), [IMPLICIT])))
            assert answer(connection)[0] == 2
            said = [asked(connection, ACTION, *QUESTION, data=question()) for _ in range(4)]
            assert said == [0, 0, 0x0213, 0x0213]
        answered.set()
        wait_until(lambda: not any(thread.name == "commitment" for thread in threading.enumerate()))
        with connect(here.peer.port) as connection:
            connection.sendall(request((1, StorageCommitmentPushModel.encode(), [IMPLICIT])))
            assert answer(connection)[0] == 2
            assert asked(connection, ACTION, *QUESTION, data=question()) == 0, "its places are free again"
    assert "commitment_put_off" in {record.message for record in caplog.records}


@pytest.mark.parametrize("uid", [b"Doe^Jane", b"1" * 66, b"\x1b[31mx"])
@pytest.mark.filterwarnings("ignore")  # pydicom's, of what is no UID
def test_a_transaction_without_a_uid_is_refused(site, tmp_path, uid):
    """It would go into the log as it came."""
    reports = []
    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL", on_report=reports.append)
    named = (*NAMED, (0x1002, US_1))
    with site(services=[service]) as here, connect(here.peer.port) as connection:
        connection.sendall(request((1, StorageCommitmentPushModel.encode(), [IMPLICIT])))
        assert answer(connection)[0] == 2
        transaction = struct.pack("<HHL", 0x0008, 0x1195, len(uid)) + uid
        assert asked(connection, EVENT_REPORT, *named, data=transaction) == 0x0115
    assert reports == []


FIND = b"1.2.840.10008.5.1.4.1.2.2.1\0"  # Study Root Query/Retrieve, which is offered to nobody
MB = 2**20


def bomb(syntax: bytes) -> bytes:
    """A data set that becomes 64 MB, or 60,000 items of a sequence."""
    if syntax == DEFLATED:
        return attacks.deflated(attacks.element(0x00104000, b"OB", bytes(64 * MB)))
    return struct.pack("<HHL", 0x0008, 0x1199, 8 * 60_000) + attacks.EMPTY_ITEM * 60_000


@pytest.mark.parametrize(
    ("sop_class", "syntax", "field", "elements", "status"),
    [
        (CTImageStorage, DEFLATED, 0x0020, ((0x0002, FIND), (0x0700, b"\0\0")), 0x0122),
        (CTImageStorage, DEFLATED, EVENT_REPORT, (*NAMED, (0x1002, US_1)), 0x0118),
        (StorageCommitmentPushModel, IMPLICIT, EVENT_REPORT, (*NAMED, (0x1002, US_1)), 0x0115),
        (
            StorageCommitmentPushModel,
            IMPLICIT,
            ACTION,
            ((0x0003, MODEL), (0x1001, MODEL_INSTANCE), (0x1008, US_1)),
            0x0115,
        ),
        (Verification, IMPLICIT, 0x0001, ((0x0002, VERIFICATION + b"\0"), (0x1000, b"1.2.3\0")), 0x0211),
    ],
    ids=["C-FIND where CT is stored", "a report where CT is stored", "report", "question", "C-STORE where is echo"],
)
@pytest.mark.filterwarnings("ignore")
def test_the_data_set_of_a_request_costs_no_more_than_its_bytes(
    site, tmp_path, monkeypatch, sop_class, syntax, field, elements, status
):
    monkeypatch.setattr(commitment, "_MOST_ELEMENTS", 10_000)  # for the time of the test, which counts every byte
    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL", on_report=print)
    content = bomb(syntax)
    with site(services=[service]) as here, connect(here.peer.port) as connection:
        connection.sendall(request((1, sop_class.encode(), [syntax])))
        assert results(answer(connection)[1]) == {1: 0}
        tracemalloc.start()
        assert asked(connection, field, *elements, data=content) == status
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 5 * len(content) + 8 * MB


def test_deflated_requests_are_not_negotiated(site, tmp_path):
    """Who reads one has to inflate it."""
    service = StorageCommitment(Store(tmp_path / "home"), ae_title="VOXTELL")
    with site(services=[service]) as here, connect(here.peer.port) as connection:
        connection.sendall(request((1, StorageCommitmentPushModel.encode(), [DEFLATED])))
        assert results(answer(connection)[1]) == {1: 4}
