"""The series of a folder, whatever its layout."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag
from structlog.testing import capture_logs

from dicom_node.errors import UnreadableError
from dicom_node.synthesis import Subject, ct_series
from tests.support.examples import examples
from worker.protocols import Candidate, Match
from worker.selection.study_volumes import (
    FolderError,
    candidates_in,
    read_headers,
    readable,
    series_in,
    studies_in,
    volumes_of,
)


def ct(folder, slices, **subject):
    image = np.full((slices, 8, 8), slices, np.float32)
    return ct_series(image, (3.0, 1.0, 1.0), folder, subject=Subject(**subject))


def test_series_are_told_apart_by_their_uid_and_not_by_their_folder(tmp_path):
    first, second = ct(tmp_path / "a", 3), ct(tmp_path / "b" / "c", 5)
    second[0].rename(tmp_path / "a" / "stray.dcm")
    found = {len(series.paths): series for series in series_in(tmp_path)}
    assert set(found) == {3, 5}
    assert found[3].paths == tuple(first)
    for series in found.values():
        uids = {header.SeriesInstanceUID for header in series.candidate.headers}
        assert len(uids) == 1
        assert all("PixelData" not in header for header in series.candidate.headers)


def test_files_that_are_no_dicom_are_left_out_and_logged(tmp_path):
    paths = ct(tmp_path, 3)
    (tmp_path / "README").write_text("a letter")
    paths[0].write_bytes(b"")
    with capture_logs() as logs:
        (candidate,) = candidates_in(tmp_path)
    assert len(candidate.headers) == 2
    assert {line["file"] for line in logs} == {str(paths[0]), str(tmp_path / "README")}


def test_a_file_that_the_disk_does_not_give_makes_no_smaller_series(tmp_path):
    """Its series is asked about again; without the file, a part would be segmented as if it were all."""
    ct_series(np.zeros((3, 8, 8)), (1.0, 1.0, 1.0), tmp_path)
    (tmp_path / "0002.dcm").unlink()
    (tmp_path / "0002.dcm").symlink_to("/proc/self/mem")  # Linux answers EIO
    with pytest.raises(UnreadableError, match=r"0002.dcm cannot be read: Input/output error") as caught:
        readable(sorted(tmp_path.iterdir()))
    assert caught.value.retry == "later"


def test_a_damaged_header_is_named_with_its_attribute_and_without_its_value(tmp_path):
    paths = ct(tmp_path, 3)
    header = dcmread(paths[1])
    header[0x00280008] = RawDataElement(BaseTag(0x00280008), "IS", 8, b"DOE^JANE", 0, False, True)  # NumberOfFrames
    header.save_as(paths[1])
    (volume,) = volumes_of(readable(paths))
    assert volume.problem == "the header of 0002.dcm cannot be read: its NumberOfFrames is damaged"


def test_headers_stay_beside_their_files(tmp_path):
    paths = ct(tmp_path, 3)
    readable, headers = read_headers([paths[2], tmp_path / "gone.dcm", paths[0]])
    assert readable == [paths[2], paths[0]]
    assert [int(header.InstanceNumber) for header in headers] == [3, 1]


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_a_series_is_one_sentence(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FolderError, match=r"name a folder of DICOM files$"):
        series_in(tmp_path / name)


EVERYTHING = Match.model_validate(
    {
        "Modality": "CT",
        "SliceThickness": {"min": 1},
        "Rows": 8,
        "PatientName": {"regex": "phantom"},
        "StudyDate": {"regex": "^2"},
        "ImageType": "AXIAL",
        "RequestAttributesSequence": {"present": False},
    }
)


@given(st.data())
@examples(200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_damaged_file_never_stops_the_questions_about_the_others(tmp_path, data):
    """Bytes overwritten, or cut off: the file is left out, or its values do not match; nothing raises."""
    good, bad = (tmp_path / "good.dcm", tmp_path / "bad.dcm")
    if not good.exists():
        ct(tmp_path / "ct", 1)[0].rename(good)
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(132, len(content) - 1))] = data.draw(st.integers(0, 255))
    bad.write_bytes(content[: data.draw(st.integers(132, len(content)) | st.just(len(content)))])
    readable, headers = read_headers([bad, good])
    assert readable[-1] == good
    taken, findings = EVERYTHING.ask(Candidate(headers))
    assert len(findings) == 7
    assert taken is all(finding.holds for finding in findings)
    assert EVERYTHING.ask(Candidate(headers[-1:]))[0]


def test_a_value_that_cannot_be_read_satisfies_nothing_and_is_said_to_be_so(tmp_path):
    (path,) = ct(tmp_path, 1)
    content = path.read_bytes()
    at = content.index(b"\x10\x00\x10\x00PN")  # Patient's Name gets a value representation that there is not
    path.write_bytes(content[: at + 4] + b"P\x07" + content[at + 6 :])
    _, findings = Match.model_validate({"PatientName": {"regex": "."}}).ask(Candidate([dcmread(path)]))
    assert str(findings[0]) == "PatientName regex '.': no, it is unreadable, the file is damaged"


@pytest.mark.filterwarnings("ignore:Invalid value for VR IS", "ignore:.*VR IS.*")
def test_a_number_beyond_all_numbers_is_unreadable_too(tmp_path):
    (path,) = ct(tmp_path, 1)
    content = path.read_bytes()
    at = content.index(b"\x20\x00\x11\x00IS")  # Series Number
    length = int.from_bytes(content[at + 6 : at + 8], "little")
    value = b"1e400 "
    path.write_bytes(content[: at + 6] + len(value).to_bytes(2, "little") + value + content[at + 8 + length :])
    _, findings = Match.model_validate({"SeriesNumber": {"min": 1}}).ask(Candidate([dcmread(path)]))
    assert str(findings[0]) == "SeriesNumber min 1.0: no, it is unreadable, the file is damaged"


def test_sequences_are_there_or_not(tmp_path):
    (path,) = ct(tmp_path, 1)
    header = dcmread(path)
    for items in (0, 2):
        header.RequestAttributesSequence = [Dataset() for _ in range(items)]
        match = Match.model_validate({"RequestAttributesSequence": {"present": True}})
        assert match.ask(Candidate([header]))[0] is bool(items)


def test_a_volume_says_which_frames_are_its_own_where_its_file_holds_others_too(tmp_path, shared_data):
    (volumes,) = studies_in(shared_data("mr_enhanced/philips_fieldmap"))
    assert len(volumes) > 1
    assert len({tuple(volume.instances) for volume in volumes}) == 1  # all in one file
    assert len({volume.frames for volume in volumes} - {None}) == len(volumes)
    ct(tmp_path / "one", 3)
    (whole,) = studies_in(tmp_path / "one")
    assert [volume.frames for volume in whole] == [None]
