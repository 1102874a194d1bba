"""Retrieving studies by C-GET from Orthanc into the store, and what a PACS that does not give them is said to do."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelGet,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.retrieval import get_into_store, lacking, usual_classes
from dicom_node.scp.arrivals import Arrival
from dicom_node.scu.association import Peer
from dicom_node.scu.c_get import MOST_CLASSES
from dicom_node.scu.c_store import send
from dicom_node.scu.query import find_series, move_study
from dicom_node.store import Outcome, Store
from dicom_node.uids import SeriesKey
from tests.support.instances import data_set, small_instance
from tests.support.peers import orthanc, storescp

pytestmark = pytest.mark.peers

CT, MR = SeriesKey("1.2.3", "1.2.3.4"), SeriesKey("1.2.3", "1.2.3.5")


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """An Orthanc with a study of three CT and two MR images."""
    folder = tmp_path_factory.mktemp("pacs")
    made = [small_instance(number, Modality="CT") for number in (1, 2, 3)]
    made += [small_instance(n, series=MR.series_uid, sop_class=MRImageStorage, Modality="MR") for n in (1, 2)]
    paths = []
    for number, instance in enumerate(made):
        paths.append(folder / f"{number}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)
    with orthanc(folder / "orthanc", DicomAlwaysAllowGet=True) as running:
        assert {outcome.result for outcome in send(paths, running.peer, calling_ae="TEST")} == {"ok"}
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_a_study_is_in_the_store_byte_for_byte_when_its_c_get_returns(pacs, store):
    arrivals: list[Arrival] = []
    report = get_into_store(pacs.peer, "1.2.3", store, calling_ae="VOXTELL", on_arrival=arrivals.append)
    assert (report.sent, report.failed) == (5, 0)
    assert (store.count(CT), store.count(MR)) == (3, 2)
    for arrival in arrivals:
        assert data_set(arrival.path.read_bytes()) == data_set(pacs.file(arrival.sop_uid))
        assert dcmread(arrival.path).file_meta.MediaStorageSOPInstanceUID == arrival.sop_uid
    assert {arrival.outcome for arrival in arrivals} == {Outcome.NEW}
    assert len({arrival.association_id for arrival in arrivals}) == 1
    assert arrivals[0].origin.calling_ae == "ORTHANC", "for protocols it is as if the PACS had sent it"
    get_into_store(pacs.peer, "1.2.3", store, calling_ae="VOXTELL", on_arrival=arrivals.append)
    assert {arrival.outcome for arrival in arrivals[5:]} == {Outcome.SAME}, "a second time changes nothing"


def test_only_the_series_named_come(pacs, store):
    report = get_into_store(
        pacs.peer, "1.2.3", store, series=[MR.series_uid], calling_ae="VOXTELL", on_arrival=lambda _: None
    )
    assert (report.sent, store.count(CT), store.count(MR)) == (2, 0, 2)
    listed = find_series(pacs.peer, "1.2.3", calling_ae="VOXTELL")
    assert lacking(store, listed) == {CT: 3}, "what a PACS counts and the store has not is told by series"


def test_a_full_disk_takes_nothing_and_is_an_error_that_passes(pacs, store):
    with pytest.raises(PeerError, match="0xA702"):  # what Orthanc says when no image was taken
        get_into_store(pacs.peer, "1.2.3", store, calling_ae="VOXTELL", required_bytes=2**62, on_arrival=pytest.fail)
    assert (store.count(CT), store.count(MR)) == (0, 0)


def test_a_study_with_a_class_that_was_not_offered_is_no_success(pacs, store):
    """Orthanc ends the C-GET there, others go on and count; a success would hide what is missing."""
    with pytest.raises(PeerRefusedError, match="0xC000"):
        get_into_store(
            pacs.peer, "1.2.3", store, sop_classes=[CTImageStorage], calling_ae="VOXTELL", on_arrival=lambda _: None
        )
    assert store.count(MR) == 0


def test_volumes_are_among_the_classes_that_an_association_takes():
    assert {CTImageStorage, MRImageStorage} < set(usual_classes()[:MOST_CLASSES])
    assert len(usual_classes()) > MOST_CLASSES


def test_a_pacs_without_c_get_is_named(tmp_path, store):
    """DCMTK's storescp takes images and nothing else."""
    with storescp(tmp_path / "received") as peer, pytest.raises(PeerRefusedError) as caught:
        get_into_store(peer, "1.2.3", store, calling_ae="VOXTELL", on_arrival=pytest.fail)
    assert str(caught.value) == (
        f"{peer} does not let VOXTELL retrieve by C-GET; allow it there, or retrieve by C-MOVE or WADO-RS."
    )


@contextlib.contextmanager
def answering(event: evt.InterventionEvent, answer: Callable[[evt.Event], object], sop_class: str):
    """A PACS that answers requests to retrieve as told."""
    ae = AE("PACS")
    ae.add_supported_context(sop_class)
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(event, answer)])
    try:
        yield Peer("PACS", "127.0.0.1", server.server_address[1])
    finally:
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "error"), [(0xA701, PeerError), (0xA900, PeerRefusedError), (0xC123, PeerRefusedError)]
)
def test_a_pacs_that_fails_says_with_which_status(store, status, error):
    def answer(_event: evt.Event):
        yield 1
        yield status, Dataset()

    model = StudyRootQueryRetrieveInformationModelGet
    with answering(evt.EVT_C_GET, answer, model) as peer, pytest.raises(error, match=f"0x{status:04X}"):
        get_into_store(peer, "1.2.3", store, calling_ae="VOXTELL", on_arrival=pytest.fail)


def test_a_wrong_move_destination_is_said_with_what_to_enter():
    def answer(_event: evt.Event):
        yield None, None  # pynetdicom's way to say that it does not know the destination

    model = StudyRootQueryRetrieveInformationModelMove
    with answering(evt.EVT_C_MOVE, answer, model) as peer, pytest.raises(PeerRefusedError) as caught:
        move_study(peer, "1.2.3", to_ae="STRANGER", calling_ae="VOXTELL")
    assert str(caught.value) == (
        f"{peer} does not know STRANGER to send images to (status 0xA801); enter this node there under STRANGER, with "
        "its address and port."
    )
