"""Images that came again with other content are told by series, with what differs and what to do."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.conflicts import conflicts_in
from dicom_node.images.differences import differing_attributes
from dicom_node.store import Outcome, Store

CHANGES = {
    "PatientID": "RIGHT",
    "PatientName": "Right^Patient",
    "ImagePositionPatient": [1, 2, 3],
    "InstanceNumber": "77",
    "SeriesDescription": "other",
    "WindowCenter": "41",
}


def changed(path: Path, folder: Path, **values: object) -> Path:
    image = dcmread(path)
    for keyword, value in values.items():
        setattr(image, keyword, value)
    image.save_as(folder / "changed.dcm")
    return folder / "changed.dcm"


def put(store: Store, path: Path, sop_uid: str | None = None) -> Outcome:
    image = dcmread(path, stop_before_pixels=True)
    return store.put(
        path.read_bytes(),
        study_uid=image.StudyInstanceUID,
        series_uid=image.SeriesInstanceUID,
        sop_uid=sop_uid or image.SOPInstanceUID,
    ).outcome


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.sampled_from(sorted(CHANGES))))
def test_exactly_what_was_changed_differs(ct_paths: list[Path], tmp_path_factory, names: set[str]) -> None:
    folder = tmp_path_factory.mktemp("changed")
    before = changed(ct_paths[0], folder).rename(folder / "before.dcm")
    after = changed(ct_paths[0], folder, **{name: CHANGES[name] for name in names})
    assert set(differing_attributes(before, after)) == names


def test_other_pixels_differ(ct_paths: list[Path], tmp_path: Path) -> None:
    image = dcmread(ct_paths[0])
    other = changed(ct_paths[0], tmp_path, PixelData=bytes(len(image.PixelData)))
    assert differing_attributes(ct_paths[0], other)[-1] == "PixelData"
    assert differing_attributes(ct_paths[0], Path("not there")) == ()


def test_a_corrected_patient_is_told_by_series(ct_paths: list[Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    assert conflicts_in(store.home) == []
    for path in ct_paths[:3]:
        assert put(store, path) is Outcome.NEW
        corrected = changed(path, tmp_path, PatientID="RIGHT", PatientName="Right^Patient")
        assert put(store, corrected) is Outcome.CONFLICT
    (found,) = conflicts_in(store.home)
    assert (found.files, found.images, found.series) == (3, 3, found.series)
    assert {"PatientID", "PatientName"} <= set(found.attributes)
    assert "3 files came again under a known SOP Instance UID with other PatientName, PatientID" in found.sentence
    assert "results may stand under the wrong patient" in found.sentence
    assert "RIGHT" not in found.sentence, "values are for no log"
    assert conflicts_in(store.home, "1.2.3") == []


def test_one_uid_for_all_slices_is_told_as_that(ct_paths: list[Path], tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    uid = str(dcmread(ct_paths[0], stop_before_pixels=True).SOPInstanceUID)
    outcomes = [put(store, path, sop_uid=uid) for path in ct_paths[:4]]
    assert outcomes == [Outcome.NEW, *[Outcome.CONFLICT] * 3]
    (found,) = conflicts_in(store.home)
    assert (found.files, found.images) == (3, 1)
    assert "3 files came again under the SOP Instance UID of another image" in found.sentence
    assert "each image needs a UID of its own" in found.sentence


@pytest.mark.parametrize("note", ["{", "[]", '{"reason": "of an earlier version"}'])
def test_a_note_that_says_less_is_passed_over(note: str, tmp_path: Path) -> None:
    (tmp_path / "quarantine").mkdir()
    (tmp_path / "quarantine" / "1.2.conflict-ab.json").write_text(note)
    assert conflicts_in(tmp_path) == []
