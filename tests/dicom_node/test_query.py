"""Asking Orthanc what it holds, and having it sent to the listener."""

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage
from pynetdicom import AE, evt
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelFind

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import Peer
from dicom_node.scu.c_store import send
from dicom_node.scu.query import Matches, SeriesEntry, StudyEntry, find_headers, find_series, find_studies, move_study
from tests.support.instances import small_instance
from tests.support.peers import orthanc

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def pacs(tmp_path_factory):
    """An Orthanc with two studies: one CT of three images, one with an MR and a CT series."""
    folder = tmp_path_factory.mktemp("pacs")
    paths = []

    def keep(instance: Dataset, name: str) -> None:
        paths.append(folder / f"{name}.dcm")
        instance.save_as(paths[-1], enforce_file_format=True)

    first = {"PatientID": "P1", "StudyDate": "20250110", "Modality": "CT", "StudyDescription": "Abdomen"}
    second = {"PatientID": "P2", "StudyDate": "20250220", "StudyInstanceUID": "1.2.9", "AccessionNumber": "A77"}
    for number in (1, 2, 3):
        keep(small_instance(number, **first), f"a{number}")
    keep(small_instance(1, series="1.2.9.1", sop_class=MRImageStorage, Modality="MR", **second), "b1")
    keep(small_instance(1, series="1.2.9.2", Modality="CT", SeriesDescription="Scout", **second), "b2")
    with orthanc(folder / "orthanc") as running:
        assert {outcome.result for outcome in send(paths, running.peer, calling_ae="TEST")} == {"ok"}
        yield running


FIRST = StudyEntry("1.2.3", "P1", "", "20250110", "", "Abdomen", ("CT",), 3)


def test_studies_are_found_by_what_is_known_of_them(pacs):
    def found(**keys: str) -> list[str]:
        return sorted(study.study_uid for study in find_studies(pacs.peer, calling_ae="VOXTELL", **keys))

    assert found() == ["1.2.3", "1.2.9"]
    assert found(dates="20250101-20250131") == ["1.2.3"]
    assert found(modality="MR") == ["1.2.9"]
    assert found(accession_number="A77") == ["1.2.9"]
    assert found(patient_id="P1", modality="MR") == []
    assert find_studies(pacs.peer, calling_ae="VOXTELL", patient_id="P1") == Matches((FIRST,), True, 0)


def test_series_come_with_their_counts(pacs):
    (found,) = find_series(pacs.peer, "1.2.3", calling_ae="VOXTELL")
    assert found == SeriesEntry("1.2.3", "1.2.3.4", "CT", "", 3)
    assert {(entry.series_uid, entry.modality) for entry in find_series(pacs.peer, "1.2.9", calling_ae="VOXTELL")} == {
        ("1.2.9.1", "MR"),
        ("1.2.9.2", "CT"),
    }
    assert find_series(pacs.peer, "1.2.404", calling_ae="VOXTELL") == Matches((), True, 0)


def test_a_study_is_sent_to_the_listener(pacs, site):
    with site() as here:
        pacs.add_modality(here.peer)
        report = move_study(pacs.peer, "1.2.3", to_ae="VOXTELL", calling_ae="VOXTELL")
        assert (report.sent, report.failed) == (3, 0)
        assert sorted(dcmread(arrival.path).InstanceNumber for arrival in here.arrivals) == [1, 2, 3]


def test_a_destination_that_the_pacs_does_not_know_is_said(pacs):
    with pytest.raises(
        (PeerRefusedError, PeerError), match=r"ORTHANC@.* asked by VOXTELL to send 1.2.3 to STRANGER but"
    ):
        move_study(pacs.peer, "1.2.3", to_ae="STRANGER", calling_ae="VOXTELL")


@pytest.mark.parametrize(
    ("status", "error"), [(0xA700, PeerError), (0xA900, PeerRefusedError), (0xC001, PeerRefusedError)]
)
def test_a_pacs_that_fails_to_answer_a_question(status, error):
    ae = AE("PACS")
    ae.supported_contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]

    def answer(_event: evt.Event):
        yield status, None

    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])
    try:
        with pytest.raises(error, match=f"0x{status:04X}"):
            find_studies(Peer("PACS", "127.0.0.1", server.server_address[1]), calling_ae="A")
    finally:
        server.shutdown()


def answering(*statuses: int):
    """A PACS that gives a match for each status but the last, and ends with that one."""
    ae = AE("PACS")
    ae.supported_contexts = [build_context(StudyRootQueryRetrieveInformationModelFind)]

    def answer(_event: evt.Event):
        for number, status in enumerate(statuses):
            match = Dataset()
            match.StudyInstanceUID = f"1.2.{number}"
            yield status, match if status in (0xFF00, 0xFF01) else None

    return ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_FIND, answer)])


@pytest.mark.parametrize(
    ("statuses", "limit", "complete"),
    [
        ([0xFF00, 0xFF00, 0x0000], None, True),
        ([0xFF00, 0xFF00, 0xFE00], None, False),
        ([0xFF00, 0xFF01, 0xA700], None, False),
        ([0xFF00, 0xFF00, 0x0000], 2, False),
        ([0xFF00, 0xFF00, 0x0000], 3, True),
        ([0x0000], 1, True),
        ([0xFE00], None, False),
    ],
    ids=[
        "all",
        "cancelled",
        "out of resources",
        "as many as the limit",
        "fewer than the limit",
        "none",
        "none of many",
    ],
)
def test_a_list_that_the_pacs_cut_is_no_error_and_no_whole_list(statuses, limit, complete):
    server = answering(*statuses)
    try:
        found = find_studies(Peer("PACS", "127.0.0.1", server.server_address[1]), calling_ae="A", limit=limit)
    finally:
        server.shutdown()
    assert (len(found), found.complete, found.status) == (len(statuses) - 1, complete, statuses[-1])


def test_orthanc_cuts_its_list_and_says_so(pacs, tmp_path):
    with orthanc(tmp_path / "orthanc", LimitFindResults=2) as small:
        paths = []
        for number in range(5):
            paths.append(tmp_path / f"{number}.dcm")
            day = f"2025010{number + 1}"
            one = small_instance(1, series=f"1.2.{number}.1", StudyInstanceUID=f"1.2.{number}", StudyDate=day)
            one.SOPInstanceUID = f"1.2.{number}.1.1"
            one.save_as(paths[-1], enforce_file_format=True)
        assert {outcome.result for outcome in send(paths, small.peer, calling_ae="TEST")} == {"ok"}
        found = find_studies(small.peer, calling_ae="VOXTELL")
        assert (len(found), found.complete) == (2, False)
        assert find_studies(small.peer, calling_ae="VOXTELL", dates="20250101-20250102").complete
        said: list[str] = []
        listed = list(find_headers(small.peer, {"StudyDate": ""}, calling_ae="VOXTELL", on_cut=said.append))
    assert len(listed) == 2
    assert said == [f"{small.peer} cut its list after 2 studies: there are more that match; ask for fewer at a time."]
