"""When is a series provably complete: the promises of its headers, its geometry, the count of an archive."""

import itertools
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from dicom_node.errors import PeerError
from dicom_node.images.frames import read_file
from dicom_node.scp.arrivals import AssociationEnd
from dicom_node.synthesis import ct_series
from dicom_node.uids import SeriesKey
from tests.support.listening import QUIET, IntakeSite
from tests.support.looking import InThisProcess
from tests.support.peers import orthanc, storescu
from worker.destinations.dicom import DicomDestination
from worker.errors import SettingsError
from worker.ledger import SeriesState
from worker.queue.embedded_server import running_queue
from worker.selection import completeness
from worker.selection.answers import promise_of, proof_of
from worker.selection.completeness import CompletenessWatch
from worker.selection.completeness_proofs import promised, proof
from worker.settings import Settings

SLICES = 5


@pytest.fixture
def series(tmp_path):
    """`series(ImagesInAcquisition=5, ...)` writes a CT; a function gives the value for each slice."""
    numbers = itertools.count()

    def make(slices: int = SLICES, **attributes) -> list[Path]:
        folder = tmp_path / f"ct{next(numbers)}"
        paths = ct_series(np.zeros((slices, 8, 8), np.float32), (3.0, 1.0, 1.0), folder)
        for number, path in enumerate(paths):
            header = dcmread(path)
            for keyword, value in attributes.items():
                setattr(header, keyword, value(number) if callable(value) else value)
            header.save_as(path)
        return paths

    return make


def why(paths, **options) -> str:
    return proof([read_file(path) for path in paths], **options)


ACQUISITION = {"ImagesInAcquisition": SLICES, "AcquisitionNumber": 1}


# -- the proof


def test_an_acquisition_with_all_its_images_is_full_and_with_fewer_is_not(series):
    paths = series(**ACQUISITION)
    assert why(paths) == "5 images, as their headers say, without a gap"
    for missing in range(SLICES):
        assert why([*paths[:missing], *paths[missing + 1 :]]) == ""


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"ImagesInAcquisition": SLICES + 1, "AcquisitionNumber": 1},
        {"ImagesInAcquisition": lambda number: SLICES + (number == 2), "AcquisitionNumber": 1},
        {"ImagesInAcquisition": SLICES, "AcquisitionNumber": lambda number: 1 + number // 3},
        {"ImagesInAcquisition": SLICES, "InstanceNumber": lambda number: 2 * number},
        {**ACQUISITION, "ImagePositionPatient": lambda number: [0, 0, 3 * (number + 3 * (number == 4))]},
        {**ACQUISITION, "ImageType": lambda number: ["ORIGINAL", "PRIMARY", "AXIAL" if number else "LOCALIZER"]},
        {**ACQUISITION, "NumberOfTemporalPositions": 2},
        {"ImagesInAcquisition": "", "AcquisitionNumber": 1},
    ],
    ids=[
        "no promise",
        "one more is promised",
        "the promises differ",
        "two acquisitions",
        "instance numbers leave some out",
        "a gap",
        "a localizer among them",
        "a second temporal position is missing",
        "an empty promise",
    ],
)
def test_what_is_not_proved_waits(series, attributes):
    assert why(series(**attributes)) == ""


def test_the_number_of_the_series_counts_whatever_the_acquisitions(series):
    paths = series(NumberOfSeriesRelatedInstances=SLICES, AcquisitionNumber=lambda number: number)
    assert why(paths)
    assert why(paths[1:]) == ""


def test_each_place_has_an_image_of_each_temporal_position(series):
    first, second = (
        series(
            ImagesInAcquisition=2 * SLICES,
            AcquisitionNumber=1,
            NumberOfTemporalPositions=2,
            TemporalPositionIdentifier=time + 1,
            InstanceNumber=lambda number, time=time: time * SLICES + number + 1,
            SOPInstanceUID=lambda number, time=time: f"1.2.{time}.{number}",
        )
        for time in range(2)
    )
    assert why([*first, *second]) == "10 images, as their headers say, without a gap"
    assert why([*first, *second[:-1]]) == ""


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"SeriesType": ["STATIC", "IMAGE"], "NumberOfSlices": 47}, 47),
        ({"SeriesType": ["WHOLE BODY", "IMAGE"], "NumberOfSlices": 263}, 263),
        ({"SeriesType": ["DYNAMIC", "IMAGE"], "NumberOfSlices": 47, "NumberOfTimeSlices": 10}, 470),
        ({"SeriesType": ["DYNAMIC", "IMAGE"], "NumberOfSlices": 47}, None),
        ({"SeriesType": ["GATED", "IMAGE"], "NumberOfSlices": 47}, None),
        ({"SeriesType": ["GATED", "IMAGE"], "NumberOfSlices": 47, "NumberOfSeriesRelatedInstances": 376}, 376),
    ],
)
def test_what_a_pet_promises(attributes, expected):
    header = Dataset()
    header.Modality = "PT"
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    assert promised(header) == expected


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [({}, 1), ({"ConcatenationUID": "1.2", "InConcatenationTotalNumber": 3}, 3), ({"ConcatenationUID": "1.2"}, None)],
)
def test_what_a_multi_frame_image_promises(attributes, expected):
    header = Dataset()
    header.PerFrameFunctionalGroupsSequence = [Dataset()]
    for keyword, value in attributes.items():
        setattr(header, keyword, value)
    assert promised(header) == expected


@given(st.dictionaries(st.sampled_from(["ImagesInAcquisition", "NumberOfSlices"]), st.text(max_size=5)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_promise_that_is_no_number_is_none(values):
    header = Dataset()
    header.Modality = "PT"
    for keyword, value in values.items():
        header.add(DataElement(tag_for_keyword(keyword), "LO", value, already_converted=True))
    number = promised(header)
    assert number is None or number > 0


# -- the listener settles what is complete at once


@contextmanager
def listening(home, **options):
    (home / "protocols").mkdir(parents=True, exist_ok=True)
    (home / "protocols" / "any.yaml").write_text("name: any\nmatch: {Modality: CT}\nprompts: [liver]\n")
    node = IntakeSite(home, **options)
    with running_queue(node.settings):
        yield node
        node.close()


def key(path: Path) -> SeriesKey:
    header = dcmread(path, stop_before_pixels=True)
    return SeriesKey(str(header.StudyInstanceUID), str(header.SeriesInstanceUID))


@pytest.mark.peers
def test_a_full_series_does_not_wait_for_the_end_of_its_association(series, tmp_path):
    paths = series(**ACQUISITION)
    with listening(tmp_path / "home") as node:
        node.receives(*paths[:-1], ago=0)
        assert node.tick(key(paths[0])) == []
        node.receives(paths[-1], ago=0)
        with capture_logs() as logs:
            (job,) = node.tick(key(paths[0]))
        assert len(job.spec.instances) == SLICES
        assert [line["why"] for line in logs if line["event"] == "series_asked"] == [
            "5 images, as their headers say, without a gap"
        ]
        node.intake.association_ended(AssociationEnd("a1", frozenset({key(paths[0])}), aborted=False))
        assert [one.state for one in node.ledger.series.unsettled()] == [SeriesState.FULL]


@pytest.mark.peers
def test_an_image_behind_the_last_one_opens_the_series_again(series, tmp_path):
    """Noted or not: its association has brought so many in so little time that the ledger did not hear of each."""
    paths = series(slices=SLICES + 1, **ACQUISITION)
    with listening(tmp_path / "home") as node:
        node.receives(*paths[:-1], ago=0)
        (first,) = node.tick(key(paths[0]))
        node.receives(paths[-1], ago=0)
        node.lag = QUIET + 1
        node.intake.association_ended(AssociationEnd("a1", frozenset({key(paths[0])}), aborted=False))
        node.lag = 0.0
        jobs = {len(job.spec.instances): job for job in node.tick()}
        assert jobs[SLICES].superseded_by == jobs[SLICES + 1].id
        assert jobs[SLICES].id == first.id


@pytest.mark.peers
@pytest.mark.parametrize("noted", [True, False], ids=["acknowledged", "stored and not noted"])
def test_an_image_behind_the_last_one_counts_also_when_the_listener_dies_before_its_association_ends(
    series, tmp_path, noted
):
    """Its sender may have heard Success, and nobody remembers: the ledger knows on how many images it was decided."""
    paths = series(slices=SLICES + 1, **ACQUISITION)
    with listening(tmp_path / "home") as node:
        node.receives(*paths[:-1], ago=QUIET + 1)
        (first,) = node.tick(key(paths[0]))
        if noted:
            node.receives(paths[-1], ago=QUIET + 1)
        else:
            node.stores(paths[-1])
        node.restart()
        jobs = {len(job.spec.instances): job for job in node.tick()}
        assert jobs[SLICES].superseded_by == jobs[SLICES + 1].id
        assert jobs[SLICES].id == first.id
        assert node.tick()[-1].id == jobs[SLICES + 1].id
        assert node.ledger.series.unsettled() == []


@pytest.mark.peers
def test_a_full_series_that_nothing_follows_is_settled_without_a_second_question(series, tmp_path):
    paths = series(**ACQUISITION)
    with listening(tmp_path / "home") as node:
        node.receives(*paths, ago=QUIET + 1)
        (job,) = node.tick(key(paths[0]))
        assert [one.state for one in node.ledger.series.unsettled()] == [SeriesState.FULL]
        node.restart()
        with capture_logs() as logs:
            assert node.tick(key(paths[0])) == [job]
            assert [one.state for one in node.ledger.series.unsettled()] == [
                SeriesState.FULL
            ]  # its association goes on
            assert node.tick() == [job]
        assert node.ledger.series.unsettled() == []
        assert logs == []


@pytest.mark.peers
def test_one_process_settles_a_full_series_and_another_dies_with_the_image_behind_it(series, tmp_path):
    paths = series(slices=SLICES + 1, **ACQUISITION)
    with listening(tmp_path / "home") as node:
        leader = node.intake
        node.restart()  # the other process, which receives
        node.receives(*paths[:-1], ago=QUIET + 1)
        leader.tick(frozenset({key(paths[0])}))
        assert len(node.ledger.jobs.find()) == 1
        node.receives(paths[-1], ago=QUIET + 1)
        leader.tick(frozenset())
        assert sorted(len(job.spec.instances) for job in node.ledger.jobs.find()) == [SLICES, SLICES + 1]
        assert node.ledger.series.unsettled() == []


@pytest.mark.peers
def test_the_same_images_again_are_asked_about_once_they_have_all_come(series, tmp_path):
    paths = series(**ACQUISITION)
    with listening(tmp_path / "home") as node:
        node.receives(*paths, ago=0)
        (job,) = node.tick(key(paths[0]))
        with capture_logs() as logs:
            node.receives(*paths, ago=QUIET + 1, association="a2")
            assert node.tick(key(paths[0])) == [job]
            assert logs == []
            assert node.tick() == [job]
        assert [line["why"] for line in logs if line["event"] == "series_asked"] == ["quiet"]


def headers_read(monkeypatch) -> list[Path]:
    """The files that the child process is asked to read for a proof, as they come."""
    read, ask = [], InThisProcess.ask

    def noting(child, function, *arguments):
        if function in (promise_of, proof_of):
            read.extend([arguments[0]] if function is promise_of else arguments[0])
        return ask(child, function, *arguments)

    monkeypatch.setattr(InThisProcess, "ask", noting)
    return read


@pytest.mark.peers
def test_headers_are_read_when_the_promised_number_is_there_and_not_before(series, tmp_path, monkeypatch):
    """The work for a long series grows with it and not with its square."""
    read = headers_read(monkeypatch)
    paths = series(slices=60, ImagesInAcquisition=60, AcquisitionNumber=1)
    with listening(tmp_path / "home") as node:
        for number in range(0, 60, 10):
            node.receives(*paths[number : number + 10], ago=0)
            for _ in range(3):
                node.tick(key(paths[0]))
        assert len(node.ledger.jobs.find()) == 1
    assert len(read) == 1 + 60  # the first promise, then each header once


@pytest.mark.peers
def test_a_series_that_breaks_its_promise_is_read_once_and_waits(series, tmp_path, monkeypatch):
    read = headers_read(monkeypatch)
    paths = series(ImagesInAcquisition=SLICES, AcquisitionNumber=lambda number: number)
    with listening(tmp_path / "home") as node:
        node.receives(*paths, ago=0)
        for _ in range(3):
            assert node.tick() == []
        assert len(read) == 1 + SLICES
        node.receives(paths[0], ago=QUIET + 1, association="a2")
        assert len(node.tick()) == 1


# -- the archive's word


@pytest.mark.peers
def test_a_series_that_has_as_many_images_as_the_archive_counts_is_settled(series, tmp_path):
    paths = series()
    with orthanc(tmp_path / "orthanc") as archive:
        assert storescu(archive.peer, *paths).returncode == 0
        pacs = DicomDestination(
            name="pacs", ae_title=archive.peer.ae_title, host=archive.peer.host, port=archive.peer.port
        )
        with listening(tmp_path / "home", destinations=(pacs,), series_counts_from="pacs") as node:
            node.receives(*paths[:-1], ago=0)
            assert node.tick() == []
            node.receives(paths[-1], ago=0)
            assert node.tick(key(paths[0])) == []  # not while an association brings it
            with capture_logs() as logs:
                assert len(node.tick()) == 1
            assert [line["why"] for line in logs if line["event"] == "series_asked"] == [
                "5 images, as the archive counts, without a gap"
            ]


@pytest.mark.peers
def test_an_archive_that_does_not_answer_is_asked_rarely_and_quiet_time_decides(series, tmp_path, monkeypatch):
    asked = []

    def silent(*_arguments, **_options):
        asked.append(1)
        raise PeerError("nobody there")

    monkeypatch.setattr(completeness, "find_series", silent)
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104)
    with listening(tmp_path / "home", destinations=(pacs,), series_counts_from="pacs") as node:
        for number, path in enumerate(series()):
            node.receives(path, ago=0, association=f"a{number}")
            assert node.tick() == []
        assert len(asked) == 1
        node.lag = QUIET + 1
        node.intake.association_ended(AssociationEnd("a0", frozenset({key(path)}), aborted=False))
        node.lag = 0.0
        assert len(node.tick()) == 1


def test_an_archive_that_is_no_destination_stops_the_start(tmp_path):
    with pytest.raises(SettingsError, match="'archive' is not in VOXTELL_DESTINATIONS"):
        CompletenessWatch(Settings(home=tmp_path, series_counts_from="archive"), store=None, looks=None)
