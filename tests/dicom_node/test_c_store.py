"""The sender against real receivers: every instance gets its outcome."""

import signal
import subprocess
import threading
import time
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MRImageStorage,
    SegmentationStorage,
)
from pynetdicom import AE, association, evt
from pynetdicom.association import Association
from pynetdicom.presentation import AllStoragePresentationContexts, build_context
from pynetdicom.sop_class import Verification

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu import c_store
from dicom_node.scu.association import Peer, Timeouts, associated, probe
from dicom_node.scu.c_store import send
from dicom_node.synthesis import ct_series
from tests.support.instances import data_set, small_instance
from tests.support.peers import orthanc, program, running, storescp, wait_for_peer
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers


@pytest.fixture
def small_paths(tmp_path):
    """Five small CT instances as files."""
    paths = []
    for number in range(1, 6):
        paths.append(tmp_path / f"{number}.dcm")
        small_instance(number).save_as(paths[-1], enforce_file_format=True)
    return paths


class Answering:
    """A PACS that answers C-STORE with the statuses given, in turn, and keeps what it was sent."""

    def __init__(self, *statuses: int | Dataset, contexts=AllStoragePresentationContexts, abort_at: int = -1) -> None:
        self.received: list[Dataset] = []
        ae = AE("PACS")
        contexts = [*contexts, build_context(Verification)]

        def store(event: evt.Event) -> int | Dataset:
            if len(self.received) == abort_at:
                event.assoc.abort()
                return 0xC000
            instance = event.dataset
            instance.file_meta = event.file_meta
            self.received.append(instance)
            return statuses[(len(self.received) - 1) % len(statuses)]

        handlers = [(evt.EVT_C_STORE, store)]
        self.server = ae.start_server(("127.0.0.1", 0), block=False, contexts=contexts, evt_handlers=handlers)
        self.peer = Peer("PACS", "127.0.0.1", self.server.server_address[1])

    def __enter__(self) -> "Answering":
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()


def test_orthanc_receives_a_real_ct_and_gives_it_back(tmp_path, ct_paths):
    with orthanc(tmp_path / "orthanc") as pacs:
        outcomes = send(ct_paths, pacs.peer, calling_ae="VOXTELL")
        assert [outcome.path for outcome in outcomes] == ct_paths
        assert {(outcome.status, outcome.result, outcome.retry) for outcome in outcomes} == {(0x0000, "ok", None)}
        assert pacs.sop_uids() == {outcome.sop_uid for outcome in outcomes}
        for outcome in outcomes[::10]:
            assert dcmread(BytesIO(pacs.file(outcome.sop_uid))) == dcmread(outcome.path)


def test_jpeg_2000_goes_out_as_it_is(tmp_path, j2k_paths):
    with storescp(tmp_path / "scp", "--bit-preserving", "--accept-all") as peer:
        outcomes = send(j2k_paths, peer, calling_ae="VOXTELL")
        assert {outcome.result for outcome in outcomes} == {"ok"}
    received = {dcmread(path).SOPInstanceUID: path for path in (tmp_path / "scp").iterdir()}
    for outcome in outcomes:
        assert data_set(received[outcome.sop_uid].read_bytes()) == data_set(outcome.path.read_bytes())


def test_what_the_listener_gets_equals_the_file(site, ct_paths):
    with site() as here:
        send(ct_paths[:3], here.peer, calling_ae="PACS")
        for arrival, path in zip(here.arrivals, ct_paths, strict=False):
            assert data_set(arrival.path.read_bytes()) == data_set(path.read_bytes())


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_a_peer_that_takes_only_implicit_gets_it_rewritten(tmp_path, syntax):
    instance = small_instance()
    instance.file_meta.TransferSyntaxUID = syntax
    instance.save_as(tmp_path / "one.dcm", enforce_file_format=True)
    with Answering(0x0000, contexts=[build_context(CTImageStorage, ImplicitVRLittleEndian)]) as pacs:
        (outcome,) = send([tmp_path / "one.dcm"], pacs.peer, calling_ae="A")
        assert outcome.result == "ok"
        (received,) = pacs.received
        assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
        assert received.PixelData == instance.PixelData


def test_compressed_pixels_are_not_rewritten_but_reported(j2k_paths):
    with (
        Answering(0x0000, contexts=[build_context(CTImageStorage, ImplicitVRLittleEndian)]) as pacs,
        pytest.raises(PeerRefusedError, match="nothing of it: CT Image Storage"),
    ):
        send(j2k_paths[:1], pacs.peer, calling_ae="A")


def test_what_a_peer_does_not_take_fails_alone(tmp_path, small_paths, j2k_paths):
    other = small_instance(9, sop_class=MRImageStorage)
    other.save_as(tmp_path / "mr.dcm", enforce_file_format=True)
    contexts = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
    with Answering(0x0000, contexts=contexts) as pacs:
        outcomes = send([small_paths[0], tmp_path / "mr.dcm", j2k_paths[0], small_paths[1]], pacs.peer, calling_ae="A")
    assert [(outcome.result, outcome.retry) for outcome in outcomes] == [
        ("ok", None),
        ("failed", "final"),
        ("failed", "final"),
        ("ok", None),
    ]
    assert "PACS@127.0.0.1" in outcomes[1].message
    assert "does not take MR Image Storage in Explicit VR Little Endian" in outcomes[1].message
    assert "JPEG 2000" in outcomes[2].message


@pytest.mark.parametrize(
    ("status", "result", "retry"),
    [
        (0x0000, "ok", None),
        (0xB000, "warning", None),
        (0xB006, "warning", None),
        (0xB007, "warning", None),
        (0x0111, "warning", None),
        (0xA700, "failed", "later"),
        (0xA702, "failed", "later"),
        (0x0110, "failed", "later"),
        (0xA900, "failed", "final"),
        (0xC000, "failed", "final"),
        (0xC123, "failed", "final"),
        (0x0122, "failed", "final"),
        (0x0124, "failed", "final"),
    ],
)
def test_the_statuses_of_part_4_are_told_apart(small_paths, status, result, retry):
    with Answering(status) as pacs:
        (outcome,) = send(small_paths[:1], pacs.peer, calling_ae="A")
        assert (outcome.status, outcome.result, outcome.retry) == (status, result, retry)
        assert str(pacs.peer) in outcome.message
        assert outcome.sop_uid in outcome.message


def test_the_peers_comment_is_passed_on(small_paths):
    answer = Dataset()
    answer.Status = 0xA900
    answer.ErrorComment = "patient unknown"
    with Answering(answer) as pacs:
        (outcome,) = send(small_paths[:1], pacs.peer, calling_ae="A")
    assert "0xA900 (patient unknown)" in outcome.message


def test_an_abort_in_the_middle_leaves_an_outcome_for_every_instance(small_paths):
    with Answering(0x0000, abort_at=2) as pacs:
        outcomes = send(small_paths, pacs.peer, calling_ae="A")
    assert [(outcome.result, outcome.retry) for outcome in outcomes] == [("ok", None)] * 2 + [("failed", "later")] * 3


@pytest.mark.parametrize("seen", [True, False], ids=["seen before it is sent", "seen when it is sent"])
def test_a_peer_that_aborts_between_two_objects_is_not_waited_for(small_paths, monkeypatch, seen):
    """pynetdicom's own thread has taken note of the abort, and with it what would wake the one who waits."""
    ours: list[Association] = []
    sending, split = c_store._send_one, association.split_dataset

    def noted(mine, *more):
        ours[:] = [mine]
        if seen:
            abort_at_the_third()
        return sending(mine, *more)

    def abort_at_the_third() -> None:
        if len(pacs.received) == 2:
            for theirs in pacs.server.active_associations:
                theirs.abort()
            wait_until(lambda: not ours[0].is_alive() and not ours[0].dul.is_alive())

    def split_later(path):
        if not seen:
            abort_at_the_third()
        return split(path)

    monkeypatch.setattr(c_store, "_send_one", noted)
    monkeypatch.setattr(association, "split_dataset", split_later)
    with Answering(0x0000) as pacs:
        outcomes = send(small_paths, pacs.peer, calling_ae="A", timeouts=Timeouts(response=5.0))
    assert [(outcome.result, outcome.retry) for outcome in outcomes] == [("ok", None)] * 2 + [("failed", "later")] * 3
    assert all("ended the association" in outcome.message for outcome in outcomes[2:])


def test_a_peer_that_does_not_answer_is_given_up(small_paths):
    with Answering(0x0000) as pacs:

        def sleep(_event: evt.Event) -> int:
            time.sleep(1.0)
            return 0x0000

        pacs.server.bind(evt.EVT_C_STORE, sleep)
        outcomes = send(small_paths[:2], pacs.peer, calling_ae="A", timeouts=Timeouts(response=0.2))
    assert [(outcome.status, outcome.retry) for outcome in outcomes] == [(None, "later")] * 2
    assert outcomes[0].silent


def test_a_peer_that_takes_no_more_bytes_is_given_up(tmp_path, monkeypatch):
    """Its process is stopped when the association stands, and the object is larger than what the sockets hold."""
    paths = ct_series(np.zeros((1, 3000, 3000)), (1.0, 1.0, 1.0), tmp_path)
    peer = Peer("STOPPED", "127.0.0.1", free_port())
    one = c_store._send_one
    outcomes = []
    with running([program("storescp"), "--ignore", str(peer.port)], stderr=subprocess.DEVNULL) as process:
        wait_for_peer(peer, process)

        def stopped(*arguments):
            process.send_signal(signal.SIGSTOP)
            return one(*arguments)

        def give_up():
            outcomes.extend(send(paths, peer, calling_ae="A", timeouts=Timeouts(response=0.5)))

        monkeypatch.setattr(c_store, "_send_one", stopped)
        sending = threading.Thread(target=give_up, daemon=True)
        sending.start()
        sending.join(20)
        process.send_signal(signal.SIGCONT)
    assert [(outcome.status, outcome.retry, outcome.silent) for outcome in outcomes] == [(None, "later", True)]


def test_a_file_that_is_no_dicom_fails_alone(tmp_path, small_paths):
    (tmp_path / "text.dcm").write_text("hello")
    with Answering(0x0000) as pacs:
        outcomes = send([tmp_path / "text.dcm", tmp_path / "gone.dcm", small_paths[0]], pacs.peer, calling_ae="A")
    assert [outcome.result for outcome in outcomes] == ["failed", "failed", "ok"]
    assert "text.dcm is no DICOM file" in outcomes[0].message
    assert "gone.dcm" in outcomes[1].message


def test_more_contexts_than_an_association_has_are_sent_in_several(tmp_path, site):
    classes = [context.abstract_syntax for context in AllStoragePresentationContexts][:70]
    paths = []
    for number, sop_class in enumerate(classes):
        paths.append(tmp_path / f"{number}.dcm")
        small_instance(number, sop_class=sop_class).save_as(paths[-1], enforce_file_format=True)
    with site() as here:
        outcomes = send(paths, here.peer, calling_ae="A")
        assert {outcome.result for outcome in outcomes} == {"ok"}
        assert len({arrival.association_id for arrival in here.arrivals}) == 2


def test_nothing_to_send_is_nothing_done(free_port):
    assert send([], Peer("PACS", "127.0.0.1", free_port), calling_ae="A") == []


def test_a_pacs_that_is_down_is_an_error_for_later(small_paths, free_port):
    with pytest.raises(PeerError, match=rf"PACS@127.0.0.1:{free_port} cannot be reached") as caught:
        send(small_paths, Peer("PACS", "127.0.0.1", free_port), calling_ae="A")
    assert caught.value.retry == "later"


def test_dcmtk_takes_a_segmentation(tmp_path):
    small_instance(sop_class=SegmentationStorage).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    with storescp(tmp_path / "scp", "--bit-preserving") as peer:
        (outcome,) = send([tmp_path / "seg.dcm"], peer, calling_ae="A")
    assert outcome.result == "ok"
    assert len(list((tmp_path / "scp").iterdir())) == 1


def test_a_probe_says_what_a_peer_would_take():
    offered = [
        build_context(CTImageStorage, ExplicitVRLittleEndian),
        build_context(MRImageStorage, ExplicitVRLittleEndian),
        build_context(CTImageStorage, DeflatedExplicitVRLittleEndian),
    ]
    with Answering(0x0000, contexts=offered[:1]) as pacs:
        answers = probe(pacs.peer, offered, calling_ae="A")
    assert [(answer.sop_class, answer.accepted) for answer in answers] == [
        ("CT Image Storage", True),
        ("MR Image Storage", False),
        ("CT Image Storage", False),
    ]
    assert answers[0].transfer_syntax == "Explicit VR Little Endian"
    assert "Abstract Syntax Not Supported" in answers[1].reason
    assert "Transfer Syntax" in answers[2].reason


def test_a_file_that_goes_away_while_others_are_sent_is_for_later(small_paths):
    def store(_event: evt.Event) -> int:
        small_paths[1].unlink(missing_ok=True)
        return 0x0000

    with Answering(0x0000) as pacs:
        pacs.server.bind(evt.EVT_C_STORE, store)
        outcomes = send(small_paths[:3], pacs.peer, calling_ae="A")
    assert [(outcome.result, outcome.retry) for outcome in outcomes] == [
        ("ok", None),
        ("failed", "later"),
        ("failed", "later"),
    ]
    assert "2.dcm could not be read" in outcomes[1].message


def test_an_answer_is_not_taken_away_from_the_one_who_asked(site):
    """pynetdicom's own thread, which had passed its stop when the request went out, comes for the answer first."""
    with site() as here, associated(here.peer, [build_context(Verification)], calling_ae="SCU") as association:
        checkpoint, wait_for_answer = association._reactor_checkpoint, association.dimse.msg_queue.get

        def rival_first(block=True, timeout=None):
            if block:
                while association.dimse.msg_queue.empty():
                    time.sleep(0.001)
                assert association.dimse.get_msg(block=False) == (None, None)
            return wait_for_answer(block, timeout)

        association.dimse.msg_queue.get = rival_first
        assert association.send_c_echo().Status == 0x0000
        assert checkpoint.is_set()
