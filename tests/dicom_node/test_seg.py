"""The SEG: valid for dciodvfy, equal voxel by voxel for dcmqi and highdicom, the same for the same work."""

import io
import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
import pytest
import SimpleITK
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydicom import Dataset, dcmread

from dicom_node.errors import ResultError
from dicom_node.objects.seg import Segmentation, write_seg
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series, split_series
from dicom_node.synthesis import ct_series, write_slices
from tests.support.examples import examples
from tests.support.images import PROVENANCE, affine_of, edit, iod_errors, rotation, series_files, tool

Data = Callable[..., Path]
PROMPTS = ("liver", "left kidney", "spleen", "a thing without a code")
REAL = (
    "ct_abdomen_crlm1004/dicom",
    "ct_gantry_tilt_phantom/S2010",
    "mr_brain_t1sag/HFDR/dicom",
    "fruit_pacs/1005/20200705_165100_MR_SR/t2_tse_tra_5mm",
    "fruit_pacs/1005/20200705_173347_CT_SR/Kopf_nativ__2.0__H70h",
    "mr_enhanced/siemens_anat_8frames/dicom",
    "mr_enhanced/philips_anat_8frames/dicom",
    "mr_enhanced/philips_fieldmap",
    "rtstruct_sts/STS_003/MR_T1/dicom",
    "tiny_cases/failing__gantrytilting__001/dicom",
    "tiny_cases/generic__anatomical__002_non_isotropic/dicom",
    "tiny_cases/generic__compressed_jpegls__001/dicom",
    "tiny_cases/hitachi__anatomical__001/dicom",
)


def masks_on(series: ImageSeries) -> NDArray[np.bool_]:
    """Four masks: noise in a block, noise everywhere (they overlap), nothing, one voxel in a corner."""
    rng = np.random.default_rng(7)
    slices, rows, columns = series.volume.spatial_shape
    masks = np.zeros((4, slices, rows, columns), dtype=bool)
    block = masks[0, : slices // 2 + 1, rows // 4 : rows // 2, columns // 5 : columns // 2]
    block[...] = rng.random(block.shape) > 0.4
    masks[1] = rng.random(masks[1].shape) > 0.9
    masks[3, -1, 0, -1] = True
    return masks


def written(series: ImageSeries, masks: NDArray[np.bool_], prompts: tuple[str, ...] = PROMPTS) -> Segmentation:
    return write_seg(series, masks, [region_for(prompt) for prompt in prompts], PROVENANCE)


def dataset_of(result: Segmentation) -> Dataset:
    assert result.dataset is not None
    return result.dataset


@pytest.fixture
def ct(tmp_path: Path) -> ImageSeries:
    image = np.arange(6 * 5 * 7, dtype=np.float32).reshape(6, 5, 7)
    return read_series(ct_series(image, (3.0, 2.0, 1.0), tmp_path / "ct"))


@pytest.mark.peers
@pytest.mark.parametrize("case", REAL)
def test_over_real_series_the_seg_is_valid_and_highdicom_reads_the_same_masks(
    shared_data: Data, tmp_path: Path, case: str
) -> None:
    for series in split_series(series_files(shared_data(case))):
        masks = masks_on(series)
        dataset = dataset_of(written(series, masks))
        assert iod_errors(dataset, tmp_path) == []
        seg = highdicom.seg.segread(tmp_path / f"{dataset.SOPInstanceUID}.dcm")
        uids = [reference.sop_uid for reference in series.references]
        if series.references[0].frame_number is None:
            read = seg.get_pixels_by_source_instance(uids)
        else:
            numbers = [reference.frame_number for reference in series.references]
            read = seg.get_pixels_by_source_frame(uids[0], numbers)
        assert np.array_equal(np.moveaxis(read, -1, 0).astype(bool), masks[[0, 1, 3]])


@pytest.mark.peers
@pytest.mark.parametrize("case", [case for case in REAL if "tilt" not in case and "fieldmap" not in case])
def test_dcmqi_reads_the_same_voxels_at_the_same_millimetres(shared_data: Data, tmp_path: Path, case: str) -> None:
    series = read_series(series_files(shared_data(case)))
    masks = masks_on(series)
    dataset_of(written(series, masks)).save_as(tmp_path / "seg.dcm", enforce_file_format=True)
    made = tool(
        *("segimage2itkimage", "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path),
        *("--outputType", "nrrd"),
    )
    assert made.returncode == 0, made.stdout
    labels = json.loads((tmp_path / "meta.json").read_text())["segmentAttributes"]
    assert [segment["SegmentLabel"] for group in labels for segment in group] == ["liver", "left kidney", PROMPTS[3]]
    for number, mask in ((1, masks[0]), (2, masks[1]), (3, masks[3])):
        image = SimpleITK.ReadImage(tmp_path / f"{number}.nrrd")
        places = np.argwhere(SimpleITK.GetArrayFromImage(image))
        points = np.array([image.TransformIndexToPhysicalPoint(place[::-1].tolist()) for place in places[:2000]])
        inverse = np.linalg.inv(series.affine)
        indices = points @ inverse[:3, :3].T + inverse[:3, 3]
        rounded = np.rint(indices).astype(int)
        assert len(places) == mask.sum()
        assert np.abs(indices - rounded).max() < 1e-2, "voxels lie on our voxels"
        assert mask[tuple(rounded.T)].all()


def test_the_same_work_gives_the_same_bytes_and_other_work_another_object(ct: ImageSeries) -> None:
    masks = masks_on(ct)

    def content(work: object = PROVENANCE, prompts: tuple[str, ...] = PROMPTS) -> tuple[str, bytes]:
        dataset = dataset_of(write_seg(ct, masks, [region_for(prompt) for prompt in prompts], work))
        buffer = io.BytesIO()
        dataset.save_as(buffer, enforce_file_format=True)
        return str(dataset.SOPInstanceUID), buffer.getvalue()

    assert content() == content()
    later, _ = content(replace(PROVENANCE, made=datetime(2027, 1, 1)))
    assert later == content()[0]
    others = [
        content(prompts=("liver", "right kidney", "spleen", "thing"))[0],
        content(replace(PROVENANCE, protocol_digest="sha256:34"))[0],
        content(replace(PROVENANCE, algorithm=replace(PROVENANCE.algorithm, digest="sha256:00")))[0],
    ]
    assert len({content()[0], *others}) == 4


def test_empty_masks_are_reported_and_never_written(ct: ImageSeries) -> None:
    masks = masks_on(ct)
    result = written(ct, masks)
    assert [region.prompt for region in result.not_found] == ["spleen"]
    dataset = dataset_of(result)
    assert [item.SegmentLabel for item in dataset.SegmentSequence] == ["liver", "left kidney", PROMPTS[3]]
    assert [item.SegmentNumber for item in dataset.SegmentSequence] == [1, 2, 3]
    assert "Looked for, not found: spleen." in dataset.ImageComments
    nothing = written(ct, np.zeros_like(masks))
    assert nothing.dataset is None
    assert len(nothing.not_found) == 4


def test_only_frames_that_hold_the_segment_are_written(ct: ImageSeries) -> None:
    masks = np.zeros((1, 6, 5, 7), dtype=bool)
    masks[0, [1, 4], 2, 2] = True
    dataset = dataset_of(written(ct, masks, ("liver",)))
    positions = [
        frame.PlanePositionSequence[0].ImagePositionPatient[2] for frame in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert dataset.NumberOfFrames == 2
    assert positions == [ct.positions[1, 2], ct.positions[4, 2]]
    assert len(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence) == 6


def test_the_positions_of_frames_are_counted_without_gaps(tmp_path: Path) -> None:
    """Dimension Index Values go from 1 to the number of positions (PS3.3 C.7.6.17), wherever masks lie."""
    ct = read_series(ct_series(np.zeros((6, 8, 8), np.float32), (3.0, 2.0, 1.0), tmp_path))
    masks = np.zeros((2, *ct.volume.spatial_shape), dtype=bool)
    masks[0, [1, 4], 1, 1] = True
    masks[1, [4, 5], 2, 2] = True
    dataset = dataset_of(written(ct, masks, PROMPTS[:2]))
    indices = [
        list(one.FrameContentSequence[0].DimensionIndexValues) for one in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert indices == [[1, 1], [1, 2], [2, 2], [2, 3]]


def test_a_segment_says_what_it_is_and_how_it_was_made(ct: ImageSeries) -> None:
    liver, kidney, thing = dataset_of(written(ct, masks_on(ct))).SegmentSequence
    assert liver.SegmentedPropertyTypeCodeSequence[0].CodeValue == "10200004"
    modifier = kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence[0]
    assert modifier.CodeMeaning == "Left"
    assert thing.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Tissue"
    assert "No code is known" in thing.SegmentDescription
    assert "No code is known" not in liver.SegmentDescription
    algorithm = kidney.SegmentationAlgorithmIdentificationSequence[0]
    assert (algorithm.AlgorithmName, algorithm.AlgorithmVersion) == ("VoxTell", "0.1")
    assert f"prompt=left kidney,weights={PROVENANCE.algorithm.digest}" in algorithm.AlgorithmParameters
    assert len({segment.TrackingUID for segment in (liver, kidney, thing)}) == 3
    assert all(len(segment.RecommendedDisplayCIELabValue) == 3 for segment in (liver, kidney, thing))


def test_long_and_foreign_prompts_survive_next_to_foreign_names(tmp_path: Path) -> None:
    files = ct_series(np.zeros((2, 8, 8)), (3, 1, 1), tmp_path / "ct")
    for path in files:
        edit(path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    series = read_series(files)
    prompt = "Läsion 肝臓 " * 12
    dataset_of(written(series, np.ones((1, 2, 8, 8), dtype=bool), (prompt,))).save_as(
        tmp_path / "seg.dcm", enforce_file_format=True
    )
    seg = dcmread(tmp_path / "seg.dcm")
    assert seg.PatientName == "Müller^Jörg"
    assert seg.SegmentSequence[0].SegmentLabel == region_for(prompt).label
    assert prompt.strip() in seg.SegmentSequence[0].SegmentDescription


def test_results_call_themselves_unapproved(ct: ImageSeries) -> None:
    dataset = dataset_of(written(ct, masks_on(ct)))
    for text in (dataset.SeriesDescription, dataset.ContentDescription, dataset.ImageComments):
        assert "UNAPPROVED" in text
    equipment = dataset.ContributingEquipmentSequence[0]
    assert PROVENANCE.algorithm.digest in equipment.ContributionDescription


def by_highdicom(dataset: Dataset, series: ImageSeries, folder: Path) -> NDArray[np.bool_]:
    """Masks (segments, slices, rows, columns) as highdicom reads them."""
    path = folder / f"{dataset.SOPInstanceUID}.dcm"
    dataset.save_as(path, enforce_file_format=True)
    seg = highdicom.seg.segread(path)
    numbers = [reference.frame_number for reference in series.references]
    uids = [reference.sop_uid for reference in series.references]
    options = {"assert_missing_frames_are_empty": True}
    if numbers[0] is None:
        read = seg.get_pixels_by_source_instance(uids, **options)
    else:
        read = seg.get_pixels_by_source_frame(uids[0], numbers, **options)
    return np.asarray(np.moveaxis(read, -1, 0).astype(bool))


@pytest.mark.peers
@pytest.mark.parametrize("case", REAL)
def test_over_real_series_a_label_map_is_valid_and_highdicom_reads_the_same_masks(
    shared_data: Data, tmp_path: Path, case: str
) -> None:
    for series in split_series(series_files(shared_data(case))):
        masks = masks_on(series)
        masks[1] &= ~masks[0] & ~masks[3]
        masks[3] &= ~masks[0]
        result = write_seg(series, masks, [region_for(prompt) for prompt in PROMPTS], PROVENANCE, "LABELMAP")
        dataset = dataset_of(result)
        assert iod_errors(dataset, tmp_path) == []
        assert np.array_equal(by_highdicom(dataset, series, tmp_path), masks[[0, 1, 3]])


@pytest.mark.peers
def test_dcmqi_reads_the_labels_of_a_label_map(tmp_path: Path) -> None:
    series = read_series(ct_series(np.zeros((6, 32, 48)), (3.0, 2.0, 2.0), tmp_path / "ct"))
    masks = np.zeros((2, 6, 32, 48), dtype=bool)
    masks[0, 1:4, 3:9, 3:9], masks[1, 2:5, 12:20, 13:29] = True, True
    labels = dataset_of(write_seg(series, masks, [region_for("liver"), region_for("spleen")], PROVENANCE, "LABELMAP"))
    labels.save_as(tmp_path / "labels.dcm", enforce_file_format=True)
    made = tool(
        *("segimage2itkimage", "--inputDICOM", tmp_path / "labels.dcm", "--outputDirectory", tmp_path),
        *("--outputType", "nrrd"),
    )
    assert made.returncode == 0, made.stdout
    image = SimpleITK.ReadImage(tmp_path / "1.nrrd")
    for number, mask in ((1, masks[0]), (2, masks[1])):
        places = np.argwhere(SimpleITK.GetArrayFromImage(image) == number)
        points = np.array([image.TransformIndexToPhysicalPoint(place[::-1].tolist()) for place in places])
        inverse = np.linalg.inv(series.affine)
        indices = np.rint(points @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
        assert len(places) == mask.sum()
        assert mask[tuple(indices.T)].all()


def test_a_label_map_is_an_object_of_its_own_and_needs_segments_that_do_not_overlap(ct: ImageSeries) -> None:
    masks = np.zeros((3, 6, 5, 7), dtype=bool)
    masks[0, :3], masks[2, 4:] = True, True
    regions = [region_for(prompt) for prompt in PROMPTS[:3]]
    binary = write_seg(ct, masks, regions, PROVENANCE)
    labels = write_seg(ct, masks, regions, PROVENANCE, "LABELMAP")
    assert dataset_of(binary).SOPInstanceUID != dataset_of(labels).SOPInstanceUID
    assert dataset_of(binary).SeriesInstanceUID != dataset_of(labels).SeriesInstanceUID
    assert (labels.found, labels.not_found) == (binary.found, binary.not_found)
    described = [(one.SegmentNumber, one.SegmentLabel) for one in dataset_of(labels).SegmentSequence]
    assert described == [(1, "liver"), (2, "spleen"), (0, "Background")]
    assert dataset_of(labels).NumberOfFrames == 5
    masks[2, 2, 0, 0] = True
    with pytest.raises(ResultError, match="segments overlap"):
        write_seg(ct, masks, regions, PROVENANCE, "LABELMAP")


@pytest.mark.peers
@pytest.mark.parametrize(("count", "bits"), [(255, 8), (256, 16)])
def test_more_segments_than_a_byte_holds_take_two(tmp_path: Path, count: int, bits: int) -> None:
    series = read_series(ct_series(np.zeros((4, 9, 9)), (1, 1, 1), tmp_path / "ct"))
    masks = np.zeros((count, 4, 9, 9), dtype=bool)
    masks.reshape(count, -1)[np.arange(count), np.arange(count)] = True
    regions = [region_for(f"thing {number}") for number in range(count)]
    labels = dataset_of(write_seg(series, masks, regions, PROVENANCE, "LABELMAP"))
    assert (labels.BitsAllocated, labels.pixel_array.max()) == (bits, count)
    assert iod_errors(labels, tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "held", "frames"),
    [((4, 4, 6), 2, 2), ((4, 5, 5), 1, 2), ((4, 5, 5), 2, 2), ((4, 5, 5), 3, 4), ((4, 5, 5), 4, 4), ((3, 1, 3), 2, 2)],
)
def test_frames_that_end_within_a_byte_make_an_odd_length_where_a_slice_is_free(
    tmp_path: Path, shape: tuple[int, int, int], held: int, frames: int
) -> None:
    """OHIF would cut frames out of an object of even length at bytes, and show stripes (see `make viewers`)."""
    series = read_series(ct_series(np.zeros(shape), (3.0, 2.0, 1.0), tmp_path))
    mask = np.zeros((1, *shape), dtype=bool)
    mask[0, -held:] = True
    dataset = dataset_of(written(series, mask, PROMPTS[:1]))
    assert dataset.NumberOfFrames == frames
    assert np.array_equal(by_highdicom(dataset, series, tmp_path), mask)


def test_a_frame_more_lies_on_a_slice_of_the_source(tmp_path: Path) -> None:
    """Slices that were interpolated for the network have no image to lie on."""
    paths = ct_series(np.zeros((5, 5, 5)), (3.0, 2.0, 1.0), tmp_path / "ct")
    for path, depth in zip(paths, (0, 3, 6, 12, 18), strict=True):
        edit(path, ImagePositionPatient=[0, 0, depth])
    series = read_series(paths, even=True)
    assert series.interpolated == {3, 5}
    mask = np.zeros((1, 7, 5, 5), dtype=bool)
    mask[0, :3] = True
    dataset = dataset_of(written(series, mask, PROMPTS[:1]))
    sources = [
        one.DerivationImageSequence[0].SourceImageSequence[0] for one in dataset.PerFrameFunctionalGroupsSequence
    ]
    assert [one.ReferencedSOPInstanceUID for one in sources] == [one.sop_uid for one in series.references[:4]]


def test_overlap_is_stated(ct: ImageSeries) -> None:
    masks = np.zeros((2, 6, 5, 7), dtype=bool)
    masks[0, :3], masks[1, 3:] = True, True
    assert dataset_of(written(ct, masks, PROMPTS[:2])).SegmentsOverlap == "NO"
    masks[1, 2] = True
    assert dataset_of(written(ct, masks, PROMPTS[:2])).SegmentsOverlap == "YES"


@pytest.mark.peers
@given(angles=st.tuples(*[st.floats(-60, 60)] * 3), decimals=st.integers(3, 7))
@examples(5)
def test_cosines_of_few_decimals_become_perpendicular_ones(angles: tuple[float, float, float], decimals: int) -> None:
    directions = rotation(*angles)
    with tempfile.TemporaryDirectory() as folder:
        files = write_slices(np.zeros((4, 6, 5)), affine_of(directions, (3.0, 1.0, 1.0), (1, 2, 3)), Path(folder))
        for path in files:
            rounded = [round(float(value), decimals) for value in dcmread(path).ImageOrientationPatient]
            edit(path, ImageOrientationPatient=rounded)
        seg = dataset_of(written(read_series(files), np.ones((1, 4, 6, 5), dtype=bool), ("liver",)))
        assert iod_errors(seg, Path(folder)) == []
    said = seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    assert np.allclose(np.reshape(said, (2, 3)), directions[:, [2, 1]].T, atol=10.0**-decimals)


@pytest.mark.long
def test_masks_of_another_shape_and_sources_without_uids_are_refused(ct: ImageSeries, shared_data: Data) -> None:
    with pytest.raises(ResultError, match=r"need bool \(4, 6, 5, 7\)"):
        written(ct, np.zeros((4, 6, 5, 8), dtype=bool))
    anonymous = read_series(series_files(shared_data("ct_totalseg_j2k/dicom")))
    with pytest.raises(ResultError, match="no Study, Series or SOP Instance UIDs"):
        written(anonymous, np.ones((1, *anonymous.volume.spatial_shape), dtype=bool), ("liver",))


@pytest.mark.peers
@examples(12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shape=st.tuples(st.integers(2, 5), st.integers(1, 9), st.integers(1, 9)), seed=st.integers(0, 2**32 - 1))
def test_any_small_seg_is_valid_and_reads_back(tmp_path: Path, shape: tuple[int, int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    folder = tmp_path / "-".join(map(str, (*shape, seed)))
    series = read_series(ct_series(rng.normal(0, 300, shape), (3.0, 2.0, 1.0), folder))
    masks = rng.random((3, *shape)) > rng.random(3).reshape(3, 1, 1, 1)
    result = written(series, masks, PROMPTS[:3])
    kept = masks[masks.any(axis=(1, 2, 3))]
    assert len(result.found) == len(kept)
    if result.dataset is not None:
        assert iod_errors(result.dataset, folder) == []
        seg = highdicom.seg.segread(folder / f"{result.dataset.SOPInstanceUID}.dcm")
        read = seg.get_pixels_by_source_instance([reference.sop_uid for reference in series.references])
        assert np.array_equal(np.moveaxis(read, -1, 0).astype(bool), kept)
