"""A protocol may take volumes whose spacing changes by design; without that it says why not, and what would help."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.errors import SeriesError
from dicom_node.images.frames import read_files
from dicom_node.synthesis import ct_series
from tests.support.images import edit
from tests.support.twins import ThresholdSegmenter
from worker.__main__ import app
from worker.job_spec import EngineOptions, JobSpec, Prompt
from worker.protocols import Protocol
from worker.results.write import write_outputs
from worker.selection.choose import Verdict, choose
from worker.selection.study_volumes import volumes_of
from worker.steps import offline
from worker.steps.pipeline import segment

DEPTHS = [0, 3, 6, 9, 12, 18, 24, 30]  # mm


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """A CT of 3 mm, then 6: a block of 700 HU from 6 to 24 mm."""
    image = np.zeros((len(DEPTHS), 12, 10), np.float32)
    image[2:7, 3:9, 2:6] = 700
    made = ct_series(image, (3.0, 2.0, 1.5), tmp_path / "ct")
    first = [float(value) for value in dcmread(made[0]).ImagePositionPatient]
    for path, depth in zip(made, DEPTHS, strict=True):
        edit(path, ImagePositionPatient=[first[0], first[1], first[2] + depth])
    return made


def asked(paths: list[Path], **engine: object) -> Verdict:
    given = {"name": "p", "match": {"Modality": "CT"}, "prompts": ["liver"], "engine": engine}
    (verdict,) = choose(Protocol.model_validate(given), volumes_of(read_files(paths)))
    return verdict


def test_without_the_setting_the_cause_and_the_way_out_are_said(paths: list[Path]) -> None:
    verdict = asked(paths)
    assert not verdict.taken
    assert "spacing changes from 3 to 6 mm at 0005.dcm" in verdict.reason
    assert (
        "or let the protocol resample it (engine: {resample_spacing: true}, or run --resample-spacing)"
        in verdict.reason
    )
    assert "missing" not in verdict.reason


def test_with_it_the_volume_is_taken_and_described(paths: list[Path]) -> None:
    verdict = asked(paths, resample_spacing=True)
    assert verdict.taken
    (found,) = [finding.found for finding in verdict.findings if finding.condition == "one regular volume"]
    assert found == "8 slices, up to 6.00 mm apart, resampled to 3.00 mm, axial"
    assert verdict.volume.problem == ""


def test_a_missing_slice_is_none_for_it(paths: list[Path]) -> None:
    verdict = asked([path for number, path in enumerate(paths) if number != 2], resample_spacing=True)
    assert not verdict.taken
    assert "uneven spacing: 0005.dcm" in verdict.reason
    assert "resample" not in verdict.reason


def test_it_is_part_of_the_work_and_its_absence_is_not() -> None:
    facts = {"study_uid": "1", "series_uid": "2", "protocol": "p", "protocol_digest": "", "prompts": (), "model": None}
    plain = JobSpec.of(instances=["1.1"], **facts)
    assert JobSpec.of(instances=["1.1"], engine=EngineOptions(resample_spacing=False), **facts).job_id == plain.job_id
    assert JobSpec.of(instances=["1.1"], engine=EngineOptions(resample_spacing=True), **facts).job_id != plain.job_id


def test_volumes_are_those_of_the_grid_and_objects_lie_on_the_slices(paths: list[Path], tmp_path: Path) -> None:
    prompts = (Prompt(text="above 400"), Prompt(text="nothing"))
    with pytest.raises(SeriesError, match="spacing changes"):
        segment(paths, prompts, ThresholdSegmenter())  # type: ignore[arg-type]
    done = segment(paths, prompts, ThresholdSegmenter(), even=True)  # type: ignore[arg-type]
    spec = JobSpec.of(
        study_uid=done.series.study_uid,
        series_uid=done.series.series_uid,
        instances=[reference.sop_uid for reference in done.series.references],
        protocol="p",
        protocol_digest="",
        prompts=prompts,
        model=None,
        outputs=("seg", "rtstruct", "sr", "preview", "nifti"),
    )
    result = write_outputs(done, spec, tmp_path)
    (found,) = result.found
    # 6 to 24 mm every 3 mm: seven slices, of which those at 15 and 21 mm lie between others; 350 HU at 27 mm are less.
    assert found.volume_ml == pytest.approx(7 * 6 * 4 * 3.0 * 2.0 * 1.5 / 1000, abs=1e-3)
    assert any("results lie on the source slices" in note for note in result.notes)
    assert "spacing made even" in result.model.digest  # type: ignore[union-attr]
    assert len(dcmread(tmp_path / "seg.dcm").PerFrameFunctionalGroupsSequence) == 5
    assert json.loads((tmp_path / "result.json").read_text())["not_found"] == ["nothing"]


def test_what_lies_between_the_slices_alone_is_not_found(paths: list[Path], tmp_path: Path) -> None:
    class Between(ThresholdSegmenter):
        """Finds something at 15 mm, where no file has a slice."""

        def __call__(self, image: np.ndarray, prompts: list[str], **_options: object) -> np.ndarray:  # type: ignore[override]
            mask = np.zeros((len(prompts), *image.shape), bool)
            mask[:, 5, 4:6, 3:5] = True
            return mask

    done = segment(paths, (Prompt(text="x"),), Between(), even=True)  # type: ignore[arg-type]
    assert [one.extent for one in done.structures] == [None]


# -- from the command line, by the same code


def test_run_and_volume_have_a_switch_for_it(
    paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(offline, "load_engine", lambda _settings: ThresholdSegmenter())
    folder = str(paths[0].parent)
    run = ["run", folder, "-p", "above 300", "-o"]
    refused = CliRunner().invoke(app, [*run, str(tmp_path / "first")])
    assert refused.exit_code != 0
    done = CliRunner().invoke(app, [*run, str(tmp_path / "second"), "--resample-spacing"])
    assert done.exit_code == 0, done.output
    assert len(dcmread(tmp_path / "second" / "seg.dcm").PerFrameFunctionalGroupsSequence) == 5
    nifti = tmp_path / "seen.nii.gz"
    assert CliRunner().invoke(app, ["volume", folder, "-o", str(nifti)]).exit_code != 0
    assert CliRunner().invoke(app, ["volume", folder, "-o", str(nifti), "--resample-spacing"]).exit_code == 0
    assert nibabel.load(nifti).shape[2] == 11, "3 mm from 0 to 30"
