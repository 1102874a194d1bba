"""Images that came again with other content are told by series, with what differs and what to do."""

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread, dcmwrite
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_node.conflicts import conflicts_in
from dicom_node.images.differences import differing_attributes, is_correction
from dicom_node.store import Outcome, Store
from tests.support import attacks
from tests.support.examples import examples

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


@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
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


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_encoding_alone_makes_no_attribute_differ(ct_paths: list[Path], tmp_path: Path, syntax: str) -> None:
    """The pixels of a file are compared as they lie in it, so those of another encoding may count as others."""
    image = dcmread(ct_paths[0])
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = image.SOPClassUID, "1.2.3"
    image.ReferencedImageSequence = [item, Dataset()]
    image.save_as(tmp_path / "before.dcm")
    image.file_meta.TransferSyntaxUID = syntax
    image.ReferencedImageSequence.is_undefined_length = True
    dcmwrite(tmp_path / "after.dcm", image, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    assert set(differing_attributes(tmp_path / "before.dcm", tmp_path / "after.dcm")) <= {"PixelData"}
    item.ReferencedSOPInstanceUID = "1.2.4"
    image.save_as(tmp_path / "after.dcm")
    assert "ReferencedImageSequence" in differing_attributes(tmp_path / "before.dcm", tmp_path / "after.dcm")


MB = 2**20
BOMBS = {
    "items": attacks.data_set("1.2.3.4.1", behind=attacks.empty_items(240_000)),
    "items in the meta information": attacks.empty_items(240_000, 0x00021000) + attacks.data_set("1.2.3.4.1"),
    "claims 4 GB": attacks.data_set("1.2.3.4.1", behind=attacks.element(0x00291010, b"UN", b"", 0xFFFFFFF0)),
    "a long value": attacks.data_set("1.2.3.4.1", behind=attacks.element(0x00291010, b"UN", bytes(48 * MB))),
    "J2K": attacks.data_set("1.2.3.4.1", behind=attacks.j2k_bomb(2**16 - 1)),
    "RLE": attacks.data_set("1.2.3.4.1", behind=attacks.rle_bomb(8 * MB)),
}


@pytest.mark.long
@pytest.mark.parametrize("bomb", BOMBS)
def test_what_comes_again_is_compared_in_constant_memory(tmp_path: Path, bomb: str) -> None:
    """The listener does it itself, before it answers."""
    first, second = tmp_path / "1.dcm", tmp_path / "2.dcm"
    first.write_bytes(attacks.part10("1.2.3.4.1", BOMBS[bomb]))
    second.write_bytes(attacks.part10("1.2.3.4.1", BOMBS[bomb] + bytes(8)))
    tracemalloc.start()
    differing_attributes(first, second)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MB


def test_the_class_of_a_foreign_file_is_read_in_constant_memory(tmp_path: Path) -> None:
    """A peer may ask for storage commitment of what it has sent."""
    store = Store(tmp_path / "home")
    uids = {"study_uid": "1.2.3", "series_uid": "1.2.3.4"}
    bomb = attacks.part10("1.2.3.4.1", BOMBS["items in the meta information"])
    plain = attacks.part10("1.2.3.4.2", attacks.data_set("1.2.3.4.2"))
    for sop_uid, content in (("1.2.3.4.1", bomb), ("1.2.3.4.2", plain)):
        store.put(content, **uids, sop_uid=sop_uid)
    tracemalloc.start()
    classes = store.classes_of(["1.2.3.4.1", "1.2.3.4.2"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert classes == {"1.2.3.4.1": "", "1.2.3.4.2": CTImageStorage}
    assert peak < 8 * MB


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


def test_an_image_without_pixels_or_of_another_matrix_corrects_none(ct_paths: list[Path], tmp_path: Path) -> None:
    for name, change in {
        "name": lambda image: setattr(image, "PatientName", "Right^Name"),
        "no pixels": lambda image: delattr(image, "PixelData"),
        "matrix": lambda image: setattr(image, "Rows", 4),
    }.items():
        image = dcmread(ct_paths[0])
        change(image)
        image.save_as(tmp_path / name)
        differing = differing_attributes(ct_paths[0], tmp_path / name)
        assert is_correction(ct_paths[0], tmp_path / name, differing) is (name == "name"), name
