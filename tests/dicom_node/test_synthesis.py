"""Synthetic CTs are proper CTs."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.series import read_series
from dicom_node.synthesis import Subject, ct_series
from dicom_node.volume import to_network
from tests.support.images import iod_errors


def test_the_network_sees_the_image_that_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(0, 400, (5, 6, 7)).astype(np.float32)
    network = to_network(read_series(ct_series(image, (3.0, 2.0, 1.5), tmp_path)))
    assert np.array_equal(network.array, np.rint(image))
    assert np.allclose(network.spacing, (3.0, 2.0, 1.5))
    assert np.allclose(network.center_position, 0, atol=1e-9)


@pytest.mark.peers
def test_a_synthetic_series_is_a_valid_ct_with_the_subject_given(tmp_path: Path) -> None:
    subject = Subject(patient_id="42", patient_name="Müller^Jörg", body_part="HEADNECK", accession_number="A1")
    paths = ct_series(np.zeros((3, 8, 8)), (3, 1, 1), tmp_path / "ct", subject=subject)
    for path in paths:
        slice_ = dcmread(path)
        assert iod_errors(slice_, tmp_path) == []
        assert (slice_.PatientID, slice_.PatientName, slice_.BodyPartExamined) == ("42", "Müller^Jörg", "HEADNECK")


def test_the_same_image_makes_the_same_files_and_another_seed_another_study(tmp_path: Path) -> None:
    image = np.zeros((3, 8, 8))
    one, again, other = (ct_series(image, (3, 1, 1), tmp_path / str(n), seed=seed) for n, seed in enumerate((5, 5, 6)))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in again]
    assert dcmread(one[0]).StudyInstanceUID != dcmread(other[0]).StudyInstanceUID
