"""The listener against real senders: what it acknowledges is on disk, whatever happens to the association."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import threading
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    SegmentationStorage,
)
from pynetdicom.dsutils import create_file_meta, encode, encode_file_meta
from pynetdicom.presentation import build_context

from dicom_node.errors import ListenerError
from dicom_node.listener import Listener
from dicom_node.origin import Origin
from dicom_node.scp.access import Access, Limits
from dicom_node.scp.arrivals import Arrival
from dicom_node.scp.contexts import storage_classes, transfer_syntaxes
from dicom_node.scu.association import Peer, associated, echo
from dicom_node.store import Outcome, Store
from tests.support.instances import CT, data_set, send_data_sets, small_instance
from tests.support.peers import storescp, storescu, storescu_command
from tests.support.waiting import wait_until

LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"  # pydicom has no name for it yet


def bits_on_the_wire(folder: Path, *paths: Path, options=()) -> dict[str, bytes]:
    """What DCMTK's storescu really sends (it re-encodes sequences), as storescp takes it down bit by bit."""
    with storescp(folder, "--bit-preserving", "--accept-all") as peer:
        assert storescu(peer, *paths, options=options).returncode == 0
    taken = {dcmread(path, stop_before_pixels=True).SOPInstanceUID: path for path in folder.iterdir()}
    return {uid: data_set(path.read_bytes()) for uid, path in taken.items()}


@pytest.mark.peers
def test_dcmtk_sends_a_real_ct_and_its_bytes_lie_in_the_store(site, ct_paths, tmp_path):
    sent = bits_on_the_wire(tmp_path / "dcmtk", *ct_paths)
    with site() as here:
        assert storescu(here.peer, *ct_paths).returncode == 0
        wait_until(lambda: here.ends)
        assert [arrival.outcome for arrival in here.arrivals] == [Outcome.NEW] * 41
        for arrival in here.arrivals:
            assert data_set(arrival.path.read_bytes()) == sent[arrival.sop_uid]
            assert dcmread(arrival.path).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        first = here.arrivals[0]
        assert first.origin == Origin("STORESCU", "VOXTELL", "127.0.0.1")
        (end,) = here.ends
        assert end.association_id == first.association_id
        assert end.series == {first.key}
        assert not end.aborted
        assert len(here.store.series_paths(first.key)) == 41


@pytest.mark.peers
def test_jpeg_2000_stays_jpeg_2000(site, j2k_paths, tmp_path):
    sent = bits_on_the_wire(tmp_path / "dcmtk", *j2k_paths, options=["--propose-j2k-lossless"])
    with site() as here:
        assert storescu(here.peer, *j2k_paths, options=["--propose-j2k-lossless"]).returncode == 0
        assert len(here.arrivals) == 20
        for arrival in here.arrivals:
            assert dcmread(arrival.path).file_meta.TransferSyntaxUID == JPEG2000Lossless
            assert data_set(arrival.path.read_bytes()) == sent[arrival.sop_uid]


@pytest.mark.peers
def test_sending_again_is_success_without_work_and_other_content_is_quarantined(site):
    with site() as here:
        send_data_sets(here.peer, small_instance())
        responses = send_data_sets(here.peer, small_instance(), small_instance(PatientName="Someone^Else"))
        assert [response.Status for response in responses] == [0x0000, 0x0000]
        assert [arrival.outcome for arrival in here.arrivals] == [Outcome.NEW, Outcome.SAME, Outcome.CONFLICT]
        assert dcmread(here.arrivals[0].path).PatientName == "Test^Small"
        assert [dcmread(path).PatientName for path in here.quarantined()] == ["Someone^Else"]


@pytest.mark.peers
def test_every_transfer_syntax_is_taken_as_it_is():
    names = {uid.name for uid in transfer_syntaxes()}
    assert len(names) >= 55
    for part in ("JPEG Lossless", "JPEG-LS", "JPEG 2000", "High-Throughput", "RLE", "Deflated", "Big Endian", "HEVC"):
        assert any(part in name for name in names), part
    order = [uid.name for uid in transfer_syntaxes()]
    assert order[0] == "Explicit VR Little Endian"
    assert order.index("JPEG 2000 Image Compression (Lossless Only)") < order.index("JPEG 2000 Image Compression")


@pytest.mark.peers
def test_every_storage_class_is_offered_retired_ones_too():
    assert len(storage_classes()) > 180
    assert {CTImageStorage, SegmentationStorage, LABEL_MAP_SEGMENTATION_STORAGE} <= set(storage_classes())
    assert {"Ultrasound Image Storage", "Standalone Overlay Storage"} <= {uid.name for uid in storage_classes()}


@pytest.mark.peers
@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian],
)
@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.6"])
def test_the_uids_are_found_in_every_encoding(site, syntax, sop_class):
    instance = small_instance(sop_class=sop_class)
    instance.file_meta.TransferSyntaxUID = syntax
    with site() as here:
        (response,) = send_data_sets(here.peer, instance, contexts=[build_context(sop_class, syntax)])
        assert response.Status == 0x0000
        (arrival,) = here.arrivals
        assert arrival.sop_class_uid == sop_class
        assert dcmread(arrival.path).file_meta.TransferSyntaxUID == syntax
        assert dcmread(arrival.path).PixelData == instance.PixelData


@pytest.mark.peers
def test_private_classes_need_the_setting(site):
    private = "1.3.12.2.1107.5.9.1"
    contexts = [build_context(private, ExplicitVRLittleEndian), *CT]
    instance = small_instance(sop_class=private)
    with site() as here, pytest.raises(ValueError, match="context"):
        send_data_sets(here.peer, instance, contexts=contexts)
    with site(access=Access(private_classes=True)) as here:
        (response,) = send_data_sets(here.peer, instance, contexts=contexts)
        assert response.Status == 0x0000
        assert here.arrivals[0].sop_class_uid == private


# What cannot be kept gets the status of PS3.4 section B.2.3, and lies in quarantine.


def forged(folder: Path, body: bytes, *, sop_uid: str = "1.2.3.4.1", sop_class: str = CTImageStorage) -> Path:
    """A file whose file meta information (which becomes the command) need not fit its data set."""
    meta = create_file_meta(
        sop_class_uid=UID(sop_class), sop_instance_uid=UID(sop_uid), transfer_syntax=ExplicitVRLittleEndian
    )
    path = folder / "forged.dcm"
    path.write_bytes(b"\0" * 128 + b"DICM" + encode_file_meta(meta) + body)
    return path


@pytest.mark.peers
@pytest.mark.parametrize(
    ("attributes", "command", "status", "reason"),
    [
        ({}, {"sop_uid": "1.2.3.4.99"}, 0xA900, "the command says otherwise"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"}, {}, 0xA900, "the command says otherwise"),
        ({"StudyInstanceUID": ""}, {}, 0xC000, "StudyInstanceUID is missing (PS3.5 section 9.1)"),
        ({"SeriesInstanceUID": ""}, {}, 0xC000, "SeriesInstanceUID is missing"),
        ({"SOPInstanceUID": ""}, {}, 0xC000, "SOPInstanceUID is missing"),
        ({"StudyInstanceUID": "../../../etc"}, {}, 0xC000, "StudyInstanceUID is no UID"),
        ({"SeriesInstanceUID": "1.2/../../../../tmp/x"}, {}, 0xC000, "SeriesInstanceUID is no UID"),
        ({"SeriesInstanceUID": "1" * 80}, {}, 0xC000, "SeriesInstanceUID is no UID"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*:UserWarning:pydicom")
def test_an_instance_that_cannot_be_placed_is_refused_and_quarantined(
    site, tmp_path, attributes, command, status, reason
):
    body = encode(small_instance(**attributes), is_implicit_vr=False, is_little_endian=True)
    path = forged(tmp_path, body, **command)
    with site() as here:
        (response,) = send_data_sets(here.peer, path)
        assert response.Status == status
        assert len(response.ErrorComment) <= 64
        assert here.arrivals == []
        assert list(here.store.walk()) == []
        (kept,) = here.quarantined()
        assert data_set(kept.read_bytes()) == data_set(path.read_bytes())
        note = json.loads(kept.with_suffix(".json").read_text())
        assert reason in note["reason"]
        assert (note["calling_ae"], note["address"]) == ("SCU", "127.0.0.1")
    assert {entry.name for entry in here.store.home.iterdir()} == {
        "studies",
        "results",
        "quarantine",
        "incoming",
        "home-id",
    }


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom wonders aloud before it gives up
@pytest.mark.parametrize(
    "body",
    [b"\x00" * 100, b"no data set at all, only words that go on and on", os.urandom(1000)],
    ids=["zeros", "words", "noise"],
)
def test_bytes_that_are_no_data_set_are_not_understood(site, tmp_path, body):
    path = forged(tmp_path, body)
    with site() as here:
        responses = send_data_sets(here.peer, path, path, small_instance(2))
        assert [response.Status for response in responses] == [0xC000, 0xC000, 0x0000]
        assert len(here.quarantined()) == 1
        assert [arrival.sop_uid for arrival in here.arrivals] == ["1.2.3.4.2"]


@pytest.mark.peers
def test_a_full_disk_is_said_and_recovers_by_itself(site, tmp_path):
    store = Store(tmp_path / "home")
    free = [0]
    store.free_bytes = lambda: free[0]
    with site(store=store, limits=Limits(free_bytes=1000)) as here:
        (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0xA700
        assert list(store.walk()) == []
        free[0] = 10_000
        (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0x0000
        assert len(list(store.walk())) == 1


@pytest.mark.peers
def test_a_disk_that_fails_while_writing_is_out_of_resources(site, monkeypatch):
    with site() as here:

        def full(_descriptor, _content):
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr("dicom_node.storage.durable.os.write", full)
            (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0xA700
        assert here.arrivals == []
        (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0x0000


@pytest.mark.peers
def test_what_the_ledger_cannot_note_is_not_acknowledged_but_stays(site):
    def broken(_arrival: Arrival) -> None:
        raise RuntimeError("no ledger")

    with site(on_arrival=broken) as here:
        (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0xA700
        assert len(list(here.store.walk())) == 1


@pytest.mark.peers
def test_the_ledger_hears_of_an_instance_after_it_is_on_disk_and_before_the_sender(site):
    told = threading.Event()
    go_on = threading.Event()

    def slow(arrival: Arrival) -> None:
        assert dcmread(arrival.path).InstanceNumber == 1
        told.set()
        assert go_on.wait(20)

    with site(on_arrival=slow) as here:
        responses = []
        sender = threading.Thread(target=lambda: responses.extend(send_data_sets(here.peer, small_instance())))
        sender.start()
        assert told.wait(20)
        assert responses == []
        go_on.set()
        sender.join()
        assert responses[0].Status == 0x0000


# Associations that end badly keep what was acknowledged.


@pytest.mark.peers
def test_an_abort_in_the_middle_keeps_what_was_acknowledged(site):
    with site() as here:
        with associated(here.peer, CT, calling_ae="SCU") as association:
            for number in range(1, 6):
                assert association.send_c_store(small_instance(number)).Status == 0x0000
            assert here.listener.open_series() == {("1.2.3", "1.2.3.4")}
            association.abort()
        wait_until(lambda: here.ends)
        assert here.ends[0].aborted
        assert here.ends[0].series == {("1.2.3", "1.2.3.4")}
        wait_until(lambda: here.listener.open_series() == set())
        assert [stored.sop_uid for stored in here.store.walk()] == [f"1.2.3.4.{number}" for number in range(1, 6)]


@pytest.mark.peers
def test_a_killed_sender_keeps_what_was_acknowledged(site, ct_paths):
    """storescu says which responses it has seen; all of those must be in the store."""
    with site() as here:
        command = storescu_command(here.peer, *ct_paths * 20, options=["--verbose"])
        sender = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        acknowledged = 0
        assert sender.stdout is not None
        for line in sender.stdout:
            acknowledged += "Received Store Response (Success)" in line
            if acknowledged == 7:
                break
        sender.send_signal(signal.SIGKILL)
        sender.stdout.close()
        sender.wait()
        wait_until(lambda: here.ends)
        assert here.ends[0].aborted
        assert acknowledged == 7
        stored = {stored.sop_uid: stored.path for stored in here.store.walk()}
        for path in ct_paths[:acknowledged]:
            uid = dcmread(path, stop_before_pixels=True).SOPInstanceUID
            assert dcmread(stored[uid]) == dcmread(path)


@pytest.mark.peers
def test_a_dropped_line_ends_the_association_too(site):
    with site() as here:
        with associated(here.peer, CT, calling_ae="SCU") as association:
            association.send_c_store(small_instance())
            association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
            wait_until(lambda: here.ends)
        assert here.ends[0].aborted
        assert len(here.ends) == 1


def _listen(home: Path, pipe: Connection, *, share_port: bool = False, port: int = 0) -> None:
    """A listener process that reports every arrival."""
    listener = Listener(
        Store(home),
        ae_title="VOXTELL",
        host="127.0.0.1",
        port=port,
        on_arrival=lambda arrival: pipe.send(arrival.sop_uid),
        share_port=share_port,
    )
    with listener:
        pipe.send(listener.port)
        pipe.recv()


class ListenerProcess:
    """A listener in a process of its own."""

    def __init__(self, home: Path, target=_listen, **options) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=target, args=(home, theirs), kwargs=options)
        self.process.start()
        theirs.close()
        self.port = self.pipe.recv()
        self.peer = Peer("VOXTELL", "127.0.0.1", self.port)

    def arrivals(self) -> list[str]:
        """The SOP Instance UIDs that it has reported."""
        found = []
        while self.pipe.poll():
            found.append(self.pipe.recv())
        return found

    def __enter__(self):
        return self

    def __exit__(self, *_) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


@pytest.mark.processes
def test_a_listener_killed_right_after_its_answer_has_the_instance(tmp_path):
    with (
        ListenerProcess(tmp_path) as node,
        associated(node.peer, CT, calling_ae="SCU") as association,
    ):
        for number in range(1, 4):
            assert association.send_c_store(small_instance(number)).Status == 0x0000
        os.kill(node.process.pid, signal.SIGKILL)
        node.process.join()
        association.abort()
    assert [dcmread(stored.path).InstanceNumber for stored in Store(tmp_path).walk()] == [1, 2, 3]


def _die(_arrival: Arrival) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _listen_and_die(home: Path, pipe: Connection) -> None:
    with Listener(Store(home), ae_title="VOXTELL", host="127.0.0.1", port=0, on_arrival=_die) as listener:
        pipe.send(listener.port)
        pipe.recv()


@pytest.mark.processes
def test_a_listener_killed_before_its_answer_knows_the_instance_when_it_comes_again(tmp_path, site):
    with ListenerProcess(tmp_path, target=_listen_and_die) as node:
        with associated(node.peer, CT, calling_ae="SCU") as association:
            assert "Status" not in association.send_c_store(small_instance())
        node.process.join()
    with site(home=tmp_path) as here:
        (response,) = send_data_sets(here.peer, small_instance())
        assert response.Status == 0x0000
        assert [arrival.outcome for arrival in here.arrivals] == [Outcome.SAME]


@pytest.mark.processes
def test_two_processes_share_a_port_and_a_store(tmp_path):
    with (
        ListenerProcess(tmp_path, share_port=True) as first,
        ListenerProcess(tmp_path, share_port=True, port=first.port) as second,
    ):
        for number in range(40):
            send_data_sets(first.peer, small_instance(number))
        taken = [first.arrivals(), second.arrivals()]
    assert sorted(len(arrivals) > 0 for arrivals in taken) == [True, True]
    assert len({uid for arrivals in taken for uid in arrivals}) == 40
    assert len(list(Store(tmp_path).walk())) == 40


@pytest.mark.processes
def test_a_series_is_open_for_all_processes_until_its_association_ends(tmp_path, site):
    """Also when the other process dies: nobody waits for an association that is no more."""
    with site(home=tmp_path, share_port=True) as here, ListenerProcess(tmp_path, share_port=True) as other:
        with associated(other.peer, CT, calling_ae="SCU") as association:
            association.send_c_store(small_instance())
            assert here.listener.open_series() == {("1.2.3", "1.2.3.4")}
        wait_until(lambda: here.listener.open_series() == set())
        with associated(other.peer, CT, calling_ae="SCU") as association:
            association.send_c_store(small_instance(1, series="1.2.3.5"))
            assert here.listener.open_series() == {("1.2.3", "1.2.3.5")}
            os.kill(other.process.pid, signal.SIGKILL)
            other.process.join()
            assert here.listener.open_series() == set()
            association.abort()


@pytest.mark.peers
def test_a_port_in_use_is_said_in_one_sentence(site):
    with site() as here:
        second = Listener(
            here.store, ae_title="V", host="127.0.0.1", port=here.listener.port, on_arrival=lambda _arrival: None
        )
        with pytest.raises(ListenerError, match=rf"Port {here.listener.port} on 127.0.0.1 .*set another") as caught:
            second.start()
        assert caught.value.retry == "usage"


@pytest.mark.peers
def test_stopping_ends_open_associations_and_says_so(site):
    with site() as here:
        with associated(here.peer, CT, calling_ae="SCU") as association:
            association.send_c_store(small_instance())
            here.listener.stop()
        assert [end.series for end in here.ends] == [{("1.2.3", "1.2.3.4")}]
        assert here.ends[0].aborted


@pytest.mark.peers
def test_it_answers_an_echo(site):
    with site() as here:
        assert echo(here.peer, calling_ae="ANYBODY").seconds < 20
        wait_until(lambda: here.ends)
        assert here.ends[0].series == frozenset()
