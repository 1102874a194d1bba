"""A new modality is one row of the table: reading a series, the SR and a PACS's list ask there."""

from pathlib import Path

import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes
from pydicom.uid import XRay3DAngiographicImageStorage, generate_uid

from dicom_node.errors import SeriesError
from dicom_node.modalities import MODALITIES, Modality
from dicom_node.objects.seg import write_seg
from dicom_node.objects.sr import write_sr
from dicom_node.regions import region_for
from dicom_node.scu.association import Peer
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE
from worker.explain import dry_run
from worker.protocols import Protocol
from worker.settings import Settings

QUANTITY = (codes.DCM.AttenuationCoefficient, codes.UCUM.NoUnits)
ANGIOGRAPHY = Modality(
    name="XA",
    label="3D angiography",
    single_frame=(),
    multi_frame=(XRay3DAngiographicImageStorage,),
    procedure=codes.cid100.ImagingProcedure,
    quantity=lambda _headers: QUANTITY,
)


@pytest.fixture
def angiogram(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file with all slices of a rotational angiography, and its values (slices, rows, columns)."""
    image = np.zeros((4, 8, 8), np.float32)
    image[1:3, 2:6, 2:6] = 700
    slices = [dcmread(path) for path in ct_series(image, (3.0, 1.0, 1.0), tmp_path / "slices")]
    made = LegacyConvertedEnhancedCTImage(slices, generate_uid(), 1, generate_uid(), 1)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = XRay3DAngiographicImageStorage
    made.Modality = "XA"
    path = tmp_path / "angiogram.dcm"
    made.save_as(path, enforce_file_format=True)
    return path, image


def test_its_series_is_a_volume_and_its_values_are_reported(
    angiogram: tuple[Path, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, image = angiogram
    with pytest.raises(SeriesError, match="X-Ray 3D Angiographic Image object, no CT, MR or PET image"):
        read_series([path])
    monkeypatch.setitem(MODALITIES, "XA", ANGIOGRAPHY)
    series = read_series([path])
    assert np.array_equal(np.sort(np.unique(series.volume.array)), [0, 700])
    assert series.volume.array.sum() == image.sum()
    masks = series.volume.array[None] > 300
    report = write_sr(series, masks, write_seg(series, masks, [region_for("spleen")], PROVENANCE), PROVENANCE)
    assert report is not None
    assert QUANTITY[0].meaning in str(report)


def listed(sop_class: str) -> list[tuple[Dataset, list[Dataset]]]:
    """What a PACS lists: a study of objects of one class, with a series of one object."""
    study, series = Dataset(), Dataset()
    study.StudyInstanceUID, study.SOPClassesInStudy = "1.2", sop_class
    series.StudyInstanceUID, series.SeriesInstanceUID, series.Modality = "1.2", "1.2.3", "XA"
    series.NumberOfSeriesRelatedInstances = 1
    return [(study, [series])]


def test_of_a_series_in_a_pacs_the_number_of_its_images_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "find_headers", lambda *_asked, **_more: listed(XRay3DAngiographicImageStorage))
    vessels = Protocol.model_validate(
        {"name": "vessels", "match": {"Modality": "XA", "Instances": {"min": 3}}, "prompts": ["aorta"]}
    )

    def asked() -> bool | None:
        ((answer,),) = dry_run.of_pacs(Peer("PACS", "127.0.0.1", 104), {}, [vessels], Settings(), print)
        return answer.taken

    assert asked() is False, "one object of an unknown class counts as one image"
    monkeypatch.setitem(MODALITIES, "XA", ANGIOGRAPHY)
    assert asked() is None
