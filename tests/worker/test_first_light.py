"""The whole way with real peers: DCMTK sends a real CT, the node segments it, Orthanc gets the SEG, others judge it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from dicom_node.series import ImageSeries
from tests.support.images import tool
from tests.support.models import write_random_model
from tests.support.node import node
from tests.support.peers import orthanc, storescu
from worker.demo.received import masks_received
from worker.engines.loading import load_engine
from worker.job_spec import Prompt
from worker.ledger import JobState
from worker.results.write import Segmented
from worker.settings import load
from worker.steps.pipeline import segment

pytestmark = pytest.mark.processes

PROTOCOL = """
name: test
match: {Modality: CT}
prompts: [liver, {text: left kidney, name: Kidney_L}]
"""
PROMPTS = (Prompt(text="liver"), Prompt(text="left kidney", name="Kidney_L"))
J2K = ("--propose-j2k-lossless",)
CASES = {"GE, 41 slices, feet first": ("ct_paths", ()), "Siemens, 20 slices, JPEG 2000": ("j2k_paths", J2K)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_model(tmp_path_factory.mktemp("models") / "random")


def our_masks(paths: list[Path], model: Path) -> Segmented:
    return segment(paths, PROMPTS, load_engine(load(model=str(model), device="cpu")))


@pytest.mark.parametrize("case", CASES)
def test_a_real_ct_goes_in_by_c_store_and_comes_back_as_a_seg(
    case: str, model: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture, options = CASES[case]
    files = request.getfixturevalue(fixture)
    with (
        orthanc(tmp_path / "orthanc") as pacs,
        node(tmp_path / "node", pacs=pacs.peer, protocol=PROTOCOL, model=model, device="cpu") as ours,
    ):
        sent = storescu(ours.peer, *files, options=options)
        assert sent.returncode == 0, sent.stderr
        job = ours.ended()
        assert job.state is JobState.DELIVERED, job.reason
        (uid,) = pacs.sop_uids()
        seg = tmp_path / "seg.dcm"
        seg.write_bytes(pacs.file(uid))

    expected = our_masks(files, model)
    received = masks_received([seg], expected.series)
    assert set(received) == {"liver", "Kidney_L"}
    for prompt, mask in zip(PROMPTS, expected.masks, strict=True):
        assert mask.any()
        np.testing.assert_array_equal(received[prompt.label], mask)
    assert_no_error(seg)
    for number, mask in enumerate(expected.masks, start=1):
        np.testing.assert_array_equal(by_dcmqi(seg, number, expected.series, tmp_path), mask)


def test_the_same_study_again_makes_no_second_job_and_no_second_object(
    model: Path, tmp_path: Path, j2k_paths: list[Path]
) -> None:
    files = j2k_paths
    with (
        orthanc(tmp_path / "orthanc") as pacs,
        node(tmp_path / "node", pacs=pacs.peer, protocol=PROTOCOL, model=model, device="cpu") as ours,
    ):
        for part in (files[:-3], files, files):
            assert storescu(ours.peer, *part, options=J2K).returncode == 0
            ours.ended(number=0 if part is not files else 1)
        first, second = (ours.ended(number) for number in (0, 1))
        objects = pacs.sop_uids()
    assert first.superseded_by == second.id
    assert (second.state, len(second.spec.instances)) == (JobState.DELIVERED, len(files))
    assert len(objects) == 2, "one object for the first 17 images and one for all 20"


def assert_no_error(seg: Path) -> None:
    """dciodvfy, which nobody here wrote, finds nothing that the standard forbids."""
    assert [line for line in tool("dciodvfy", seg).stderr.splitlines() if line.startswith("Error")] == []


def by_dcmqi(seg: Path, number: int, series: ImageSeries, folder: Path) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """The mask that dcmqi reads, voxel by voxel at the millimetre where it says it lies, on the series' slices."""
    out = folder / "dcmqi"
    out.mkdir(exist_ok=True)
    read = tool("segimage2itkimage", "--inputDICOM", seg, "--outputDirectory", out, "--outputType", "nrrd")
    assert read.returncode == 0, read.stderr
    image = sitk.ReadImage(str(out / f"{number}.nrrd"))
    inside = np.argwhere(sitk.GetArrayFromImage(image))[:, ::-1]
    directions = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    millimetres = inside @ directions.T + image.GetOrigin()
    indices = (millimetres - series.affine[:3, 3]) @ np.linalg.inv(series.affine[:3, :3]).T
    np.testing.assert_allclose(indices, np.rint(indices), atol=0.02)
    mask = np.zeros(series.volume.spatial_shape, bool)
    mask[tuple(np.rint(indices).astype(int).T)] = True
    return mask
