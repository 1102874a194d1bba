"""What the demo makes of a NIfTI CT: a series that names its file, and the contours beside it."""

from pathlib import Path

import nibabel
import numpy as np
from pydicom import dcmread

from dicom_node.series import read_series
from worker.demo.run import _sheet
from worker.demo.study import study_from_nifti
from worker.result import ModelUsed, Result


def test_a_patient_is_shown_by_the_name_of_his_file_with_what_was_not_found(tmp_path: Path) -> None:
    image = np.full((16, 16, 8), -1000, np.float32)
    image[4:12, 4:12] = 40
    labels = np.zeros(image.shape, np.uint8)
    labels[6:9, 6:9, 3:6] = 7
    affine = np.diag([4.0, 4.0, 3.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(image, affine), tmp_path / "pt_1_ct.nii.gz")
    nibabel.save(nibabel.Nifti1Image(labels, affine), tmp_path / "pt_1_oar.nii.gz")
    study = study_from_nifti(tmp_path / "pt_1_ct.nii.gz", tmp_path / "study")
    assert {dcmread(path).SeriesDescription for path in study.paths} == {"pt_1_ct"}
    series = read_series(study.paths)
    truth = study.truth_on(series.volume)
    assert list(truth) == ["mandible"]
    result = Result(not_known=("liver",), model=ModelUsed(name="a model", version="1", digest="sha256:0"))
    sheet = _sheet(series, truth, ("mandible", "liver", "larynx"), result)
    nothing = _sheet(series, {}, ("mandible", "liver", "larynx"), result)
    assert sheet.shape[1:] == nothing.shape[1:] == (1600, 3)
    assert not np.array_equal(sheet[:400], nothing[:400]), "a contour"
