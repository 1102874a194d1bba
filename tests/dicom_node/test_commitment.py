"""Storage commitment in both roles, with Orthanc as the other side, and with ourselves on one association."""

import threading

import pytest
from pydicom.uid import CTImageStorage, MRImageStorage

from dicom_node.commitment import FailureReason, Reference, StorageCommitment, request_commitment
from dicom_node.errors import PeerRefusedError
from dicom_node.scu.association import Peer
from dicom_node.scu.c_store import send
from dicom_node.store import Store
from dicom_node.uids import derived_uid
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
