"""One study from a folder: the same choice as the node's, and results told apart by series and volume."""

import json
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless
from typer.testing import CliRunner

from dicom_node.series import read_volume
from dicom_node.synthesis import write_slices
from tests.support.images import affine_of, edit, rotation, segment_points
from tests.support.listening import QUIET, IntakeSite
from tests.support.studies import echoes, series
from tests.support.twins import ThresholdSegmenter
from worker.__main__ import app
from worker.results.writable import require_writable
from worker.settings import Settings
from worker.steps import offline
from worker.steps.offline import NothingToDoError, Sent, UsedFolderError, run_study

PROTOCOLS = {
    "best": "choose: {take: best, prefer: [soft kernel, thin]}\n",
    "all": "choose: {take: all}\n",
    "one echo": "choose: {take: all}\n",
}


@pytest.fixture(autouse=True)
def _engine(monkeypatch):
    monkeypatch.setattr(offline, "load_engine", lambda _settings: ThresholdSegmenter())


def written(tmp_path: Path, more: str = "", match: str = "{Modality: CT}", prompts: str = "[liver]") -> Path:
    path = tmp_path / "home" / "protocols" / "liver.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"name: liver\nmatch: {match}\nprompts: {prompts}\n{more}")
    return path


@pytest.mark.peers
@pytest.mark.parametrize("case", PROTOCOLS)
def test_run_and_the_node_choose_the_same(tmp_path, case):
    study = tmp_path / "study"
    match = "{EchoTime: {min: 50}}" if case == "one echo" else "{Modality: CT}"
    path = written(tmp_path, PROTOCOLS[case], match)
    paths = echoes(study, "5.5", "90")
    paths += series(study, 2, spacing=1.0, ConvolutionKernel="B70f")
    paths += series(study, 3, spacing=1.0, ConvolutionKernel="B30f")
    paths += series(study, 4, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    node = IntakeSite(tmp_path / "home")
    node.receives(*paths, ago=QUIET + 1)
    jobs = node.tick()
    node.close()
    asked = offline.read_protocol(path)
    settings = Settings(home=tmp_path)
    chosen, reasons = offline._choose(asked, offline._reported(asked, [], None, settings), study, settings)
    assert {work.job_id for _, work in chosen} == {job.id for job in jobs}
    assert len(jobs) == {"best": 1, "all": 4, "one echo": 1}[case]
    assert len(reasons) == 5 - len(jobs)


def test_each_volume_has_a_folder_of_its_own(tmp_path):
    paths = echoes(tmp_path / "study", "5.5", "90")
    out = tmp_path / "out"
    done = run_study(
        Settings(home=tmp_path), tmp_path / "study", out, ["above -5", "above 50"], None, None, ("nifti", "seg")
    )
    uid = done[0].series_uid
    assert [one.volume for one in done] == ["EchoTime=5.5", "EchoTime=90"]
    assert [one.files[0].parent for one in done] == [out / uid / "EchoTime=5.5", out / uid / "EchoTime=90"]
    assert [dcmread(out / uid / one.volume / "seg.dcm").SeriesDescription for one in done] == [
        "Segmentation, UNAPPROVED, EchoTime=5.5",
        "Segmentation, UNAPPROVED, EchoTime=90",
    ]
    means = [read_volume(paths, one.volume).volume.array.mean() for one in done]
    assert means[1] - means[0] == pytest.approx(100)
    assert [len(one.result.found) for one in done] == [1, 2]  # only the second echo is brighter than 50


@pytest.mark.parametrize("volumes", [("5.5",), ("5.5", "90")], ids=["of one volume", "of several volumes"])
def test_a_folder_with_a_result_is_not_written_into(tmp_path, volumes):
    echoes(tmp_path / "study", *volumes)
    run = (Settings(home=tmp_path), tmp_path / "study", tmp_path / "out")
    run_study(*run, ["above -5"], None, None, ("nifti",))
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(UsedFolderError, match="holds the result of an earlier run; name another folder"):
        run_study(*run, ["above 0"], None, None, ("nifti",))
    assert sorted((tmp_path / "out").rglob("*")) == before


@pytest.mark.parametrize("volumes", [("5.5",), ("5.5", "90")], ids=["of one volume", "of several volumes"])
@pytest.mark.parametrize("place", ["a file/below it", "/proc"], ids=["a file in its place", "read-only"])
def test_a_folder_that_cannot_be_written_is_found_before_the_work(tmp_path, monkeypatch, volumes, place):
    monkeypatch.setattr(offline, "load_engine", lambda _settings: pytest.fail("the work has begun"))
    echoes(tmp_path / "study", *volumes)
    (tmp_path / "a file").write_text("a letter")
    with pytest.raises(OSError, match=r"Not a directory|No such file or directory") as refused:
        run_study(Settings(home=tmp_path), tmp_path / "study", tmp_path / place, ["above -5"], None, None, ())
    assert Path(refused.value.filename).is_relative_to(tmp_path / place)


def test_where_a_folder_will_be_made_nothing_is_left(tmp_path):
    require_writable(tmp_path / "results" / "of today")
    assert list(tmp_path.iterdir()) == []


def test_a_protocol_may_take_more_prompts_from_the_report_that_is_given(tmp_path):
    series(tmp_path / "study", 1)
    path = written(tmp_path, "report: {use: true}\n")
    report = tmp_path / "report.txt"
    report.write_text("FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion.")
    settings, study = Settings(home=tmp_path), tmp_path / "study"
    (with_report,) = run_study(settings, study, tmp_path / "with", [], report, path, ("nifti",))
    (without,) = run_study(settings, study, tmp_path / "without", [], None, path, ("nifti",))
    assert list(with_report.result.not_found) == ["liver", "solid nodule in the right upper lobe"]
    assert list(without.result.not_found) == ["liver"]


@pytest.mark.parametrize(
    ("more", "report", "message"),
    [
        ("report: {required: true}\n", False, "a report: no, it is not there: no report is given"),
        ("", True, "protocol 'liver' takes no prompts from reports; leave --report out"),
        ("choose: {never: [derived]}\n", False, r"none of derived: no, it is derived \(DERIVED\\MPR\\SECONDARY\)"),
        ("model: published\n", False, "an active protocol: no, it is not: .* voxtell-dicom model fetch"),
    ],
)
def test_why_nothing_is_done(tmp_path, more, report, message):
    series(tmp_path / "study", 1, ImageType=["DERIVED", "SECONDARY", "MPR"])
    text = tmp_path / "report.txt"
    text.write_text("FINDINGS: liver cyst.")
    with pytest.raises(NothingToDoError, match=message):
        run_study(
            Settings(home=tmp_path),
            tmp_path / "study",
            tmp_path / "out",
            [],
            text if report else None,
            written(tmp_path, more),
            (),
        )


@pytest.mark.long
def test_the_echoes_of_one_multi_frame_file_become_results_of_their_own(tmp_path, shared_data):
    study = shared_data("mr_enhanced/philips_fieldmap")
    done = run_study(Settings(home=tmp_path), study, tmp_path / "out", ["above -1"], None, None, ("seg",))
    assert [one.volume for one in done] == ["EchoTime=0.0", "EchoTime=1.52"]
    segs = [dcmread(one.files[0]) for one in done]
    assert len({seg.SOPInstanceUID for seg in segs}) == 2
    frames = [
        {
            int(source.ReferencedFrameNumber)
            for frame in seg.PerFrameFunctionalGroupsSequence
            for source in frame.DerivationImageSequence[0].SourceImageSequence
        }
        for seg in segs
    ]
    assert not frames[0] & frames[1]
    assert frames[0] | frames[1] <= set(range(1, 65))


@pytest.mark.parametrize("straighten", [False, True])
def test_under_a_tilted_gantry_the_result_lies_where_the_sphere_is_by_either_setting(tmp_path, straighten):
    affine = affine_of(rotation(20, 0, 0) @ np.eye(3)[:, ::-1], (2.0, 1.0, 1.0), (-30.0, 12.0, 5.0))
    affine[:3, 0] = (0, 0, 2.0)  # the table moves along z, the slices lean
    shape, centre, radius = (24, 40, 40), np.array([-10.0, 21.0, 33.0]), 9.0
    points = np.moveaxis(np.indices(shape), 0, -1) @ affine[:3, :3].T + affine[:3, 3]
    inside = np.linalg.norm(points - centre, axis=-1) < radius
    write_slices(np.where(inside, 100.0, -1000.0), affine, tmp_path / "study")
    settings = Settings(home=tmp_path, resample_tilt=straighten)
    run_study(settings, tmp_path / "study", tmp_path / "out", ["above 0"], None, None, ("seg",))
    found = segment_points(tmp_path / "out" / "seg.dcm")
    assert len(found) == inside.sum()
    assert np.abs(np.linalg.norm(found - centre, axis=1)).max() < radius + 1e-3
    assert np.abs(found.mean(axis=0) - centre).max() < 0.3
    told = str(dcmread(tmp_path / "out" / "seg.dcm").ContributingEquipmentSequence[0].ContributionDescription)
    assert ("straightened" in told) is straighten, "other masks have other UIDs, and the result says why"


def test_a_folder_of_many_studies_is_segmented_study_by_study(tmp_path):
    """Each result names its study and lies in a folder of its own."""
    for number, patient in enumerate(("ONE", "TWO")):
        for path in series(tmp_path / "studies" / patient, 1):
            edit(path, PatientID=patient, StudyInstanceUID=f"1.2.{number}", SeriesInstanceUID=f"1.2.{number}.1")
    run = (Settings(home=tmp_path), tmp_path / "studies", tmp_path / "out", ["above -5"], None, None, ("seg",))
    done = run_study(*run)
    assert [(one.patient_id, one.study_uid) for one in done] == [("ONE", "1.2.0"), ("TWO", "1.2.1")]
    assert len({one.files[0].parent for one in done}) == 2
    assert [dcmread(one.files[0]).PatientID for one in done] == ["ONE", "TWO"]
    none = written(tmp_path, match="{Modality: MR}")
    with pytest.raises(NothingToDoError, match=r"series 1 .* of study 1\.2\.0: .*; series 1 .* of study 1\.2\.1: "):
        run_study(*run[:2], tmp_path / "none", [], None, none, ())


@pytest.mark.long
def test_objects_are_written_as_a_destination_with_these_settings_gets_them(tmp_path):
    study = tmp_path / "study"
    series(study, 1)

    def written_as(name, form, syntax, prompts):
        sent = Sent(form, syntax)
        run = (Settings(home=tmp_path), study, tmp_path / name, prompts, None, None, ("seg", "sr", "preview"))
        (one,) = run_study(*run, sent=sent)
        listed = json.loads((tmp_path / name / "result.json").read_text())
        assert [file.name for file in one.files] == listed["files"]
        assert {path.name for path in (tmp_path / name).iterdir()} == {*listed["files"], "result.json"}
        return {file: dcmread(tmp_path / name / file) for file in listed["files"]}, listed

    plain, _ = written_as("plain", "binary", "explicit", ["above -5"])
    assert set(plain) == {"seg.dcm", "sr.dcm", "preview.dcm"}
    mapped, _ = written_as("mapped", "labelmap", "rle", ["above -5"])
    assert set(mapped) == {"seg-labelmap.dcm", "sr-labelmap.dcm", "preview.dcm"}
    assert mapped["seg-labelmap.dcm"].SegmentationType == "LABELMAP"
    assert mapped["seg-labelmap.dcm"].file_meta.TransferSyntaxUID == RLELossless
    assert np.array_equal(mapped["preview.dcm"].pixel_array, plain["preview.dcm"].pixel_array)
    assert mapped["preview.dcm"].SOPInstanceUID == plain["preview.dcm"].SOPInstanceUID
    deflated, _ = written_as("deflated", "binary", "deflated", ["above -5"])
    assert {one.file_meta.TransferSyntaxUID for one in deflated.values()} == {DeflatedExplicitVRLittleEndian}
    both, listed = written_as("overlapping", "labelmap", "explicit", ["above -5", "above -6"])
    assert set(both) == {"seg.dcm", "sr.dcm", "preview.dcm"}
    assert "segments overlap" in listed["notes"][0]


def test_progress_says_what_is_done_and_grows_to_one(tmp_path):
    echoes(tmp_path / "study", "5.5", "90")
    seen = []
    run = (Settings(home=tmp_path), tmp_path / "study", tmp_path / "out", ["above -5"], None, None, ("seg",))
    run_study(*run, progress=lambda what, part: seen.append((what, part)))
    parts = [part for _, part in seen]
    assert parts == sorted(parts)
    assert (parts[0], parts[-1]) == (0.0, 1.0)
    assert seen[0][0].endswith("loading the model")
    assert [what.split(",")[0] for what, _ in seen if what.endswith("writing")] == ["1 of 2", "2 of 2"]


@pytest.mark.parametrize(
    ("prompts", "options", "code"),
    [
        (["above 5000"], [], 0),
        (["above 5000"], ["--nothing-found", "4"], 4),
        (["above 5000", "above -5"], ["--nothing-found", "4"], 0),
        (["above 5000"], ["--nothing-found", "4", "--json"], 4),
        (["above 5000"], ["--nothing-found", "400"], 2),
    ],
)
def test_scripts_can_tell_that_nothing_was_found(tmp_path, monkeypatch, prompts, options, code):
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    series(tmp_path / "study", 1)
    asked = [word for prompt in prompts for word in ("-p", prompt)]
    done = CliRunner().invoke(app, ["run", str(tmp_path / "study"), *asked, "-o", str(tmp_path / "out"), *options])
    assert done.exit_code == code, done.output
    if "--json" in options:
        assert json.loads(done.stdout)[0]["not_found"] == prompts
    elif code != 2:
        assert "above 5000: looked for, not found" in done.stdout


def test_of_several_volumes_the_output_says_which_is_which(tmp_path, monkeypatch):
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    for path in echoes(tmp_path / "study", "5.5", "90"):
        edit(path, PatientID="P 7")
    command = ["run", str(tmp_path / "study"), "-p", "above 50", "-o", str(tmp_path / "out"), "--seg", "--labelmap"]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    heads = [line for line in done.stdout.splitlines() if line.startswith("patient P 7, series ")]
    assert [head.endswith(f"EchoTime={time}:") for head, time in zip(heads, ("5.5", "90"), strict=True)] == [True, True]
    assert str(tmp_path / "out") in done.stdout
    assert "seg-labelmap.dcm" in done.stdout
    assert "/seg.dcm" not in done.stdout
