"""The series of a folder, whatever its layout."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from dicom_node.synthesis import Subject, ct_series
from worker.candidates import FolderError, candidates_in, read_headers, series_in


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
