"""What a protocol file says, from the arrival of a series to what may leave the node."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.synthesis import Subject, ct_series
from tests.support.images import result_errors
from tests.support.listening import QUIET, IntakeSite
from tests.support.twins import ThresholdSegmenter
from worker.explain.history import history_of
from worker.ledger import JobState
from worker.queue.embedded_server import running_queue
from worker.steps import segmentation
from worker.steps.segmentation import SegmentationWorker

pytestmark = pytest.mark.peers

PACS = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}
PLANNING = {"name": "planning", "ae_title": "TPS", "host": "tps", "port": 104}

SPHERE = """\
name: sphere
match: {Modality: CT}
prompts:
  - {text: above 300, name: ball, tg263: Ball, finish: {largest_component: true}}
derived:
  - {name: ball and 3 mm, union: [ball], margin_mm: 3, tg263: Ball_PRV03, roi_type: AVOIDANCE}
outputs: [seg, rtstruct]
"""


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IntakeSite]:
    """A listening node and its segmentation desk, on one home and one queue."""
    (tmp_path / "home" / "protocols").mkdir(parents=True)
    made = IntakeSite(tmp_path / "home", destinations=(PACS, PLANNING))
    with running_queue(made.settings):
        desk = SegmentationWorker(made.settings)
        desk.engine = ThresholdSegmenter()  # type: ignore[assignment]
        monkeypatch.setattr(SegmentationWorker, "_mine", desk)
        yield made
        desk.ledger.close()
        made.close()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """A CT with two boxes of bone in water, one large and one small."""
    image = np.zeros((9, 16, 20), np.float32)
    image[2:6, 5:11, 4:12] = 700
    image[7:8, 1:3, 16:18] = 700
    return ct_series(image, (3.0, 2.0, 1.5), tmp_path / "ct", subject=Subject(body_part="CHEST"))


def arrives(node: IntakeSite, images: list[Path]) -> list[str]:
    """The ids of the jobs after the series has come and been segmented."""
    node.receives(*images, ago=QUIET + 1)
    jobs = node.tick()
    for job in jobs:
        segmentation.run(job.id)
    return [job.id for job in jobs]


def write(node: IntakeSite, text: str, name: str = "sphere.yaml") -> None:
    (node.settings.protocols_folder / name).write_text(text)


def test_in_the_shadow_everything_is_made_and_nothing_is_sent(node, images):
    write(node, SPHERE + "shadow: true\ndestinations: [pacs]\n")
    (job_id,) = arrives(node, images)
    job = node.ledger.jobs.get(job_id)
    assert job.state is JobState.SEGMENTED
    assert {path.name for path in node.store.result_paths(job_id)} >= {"seg.dcm", "rtstruct.dcm"}
    assert (node.ledger.deliveries.of_job(job_id), node.ledger.deliveries.due(), node.queued[1]) == ([], [], 0)
    said = history_of(job.study_uid, node.ledger, node.store, node.settings, [])
    assert "its protocol is in shadow mode: results are kept, not sent" in said.series[0].jobs[0].sentence


def test_out_of_the_shadow_it_goes_where_the_protocol_says(node, images):
    write(node, SPHERE + "destinations: [{to: planning, outputs: [rtstruct], fallback: pacs}]\n")
    (job_id,) = arrives(node, images)
    assert node.ledger.jobs.get(job_id).state is JobState.SENDING
    assert node.ledger.deliveries.due() == [(job_id, "planning")]


def test_what_a_person_must_release_waits_for_it(node, images):
    write(node, SPHERE + "release: true\n")
    (job_id,) = arrives(node, images)
    job = node.ledger.jobs.get(job_id)
    assert (job.state, node.ledger.deliveries.due()) == (JobState.REVIEW, [])
    said = history_of(job.study_uid, node.ledger, node.store, node.settings, [])
    assert f"a person must release it: voxtell-dicom jobs release {job_id}" in said.series[0].jobs[0].sentence


def test_names_types_and_made_structures_reach_the_rtstruct(node, images):
    write(node, SPHERE)
    (job_id,) = arrives(node, images)
    structures = dcmread(next(path for path in node.store.result_paths(job_id) if path.name == "rtstruct.dcm"))
    names = [roi.ROIName for roi in structures.StructureSetROISequence]
    types = [one.RTROIInterpretedType for one in structures.RTROIObservationsSequence]
    assert dict(zip(names, types, strict=True)).keys() == {"Ball", "Ball_PRV03"}
    assert dict(zip(names, types, strict=True))["Ball_PRV03"] == "AVOIDANCE"


def test_the_body_and_the_label_reach_the_objects(node, images):
    text = SPHERE.replace("derived:\n", "derived:\n  - {name: BODY, body: true}\n").replace(
        "[seg, rtstruct]", "[seg, sr, rtstruct]"
    )
    write(node, text + "structure_set_label: CHEST draft\n")
    (job_id,) = arrives(node, images)
    files = {path.name: path for path in node.store.result_paths(job_id)}
    structures, seg = dcmread(files["rtstruct.dcm"]), dcmread(files["seg.dcm"])
    assert structures.StructureSetLabel == "CHEST draft"
    names = [roi.ROIName for roi in structures.StructureSetROISequence]
    assert names == ["Ball", "BODY", "Ball_PRV03"]
    body, observed = structures.StructureSetROISequence[1], structures.RTROIObservationsSequence[1]
    assert observed.RTROIInterpretedType == "EXTERNAL"
    assert "weights" not in body.ROIDescription
    assert body.ROIGenerationDescription.startswith("body outline")
    segment = seg.SegmentSequence[1]
    algorithm = segment.SegmentationAlgorithmIdentificationSequence[0]
    assert (segment.SegmentLabel, segment.SegmentAlgorithmName) == ("BODY", "body outline")
    assert "weights" not in algorithm.AlgorithmParameters
    assert seg.SegmentSequence[0].SegmentAlgorithmName != segment.SegmentAlgorithmName
    assert [
        line
        for name in files
        if name.endswith(".dcm")
        for line in result_errors(dcmread(files[name]), node.settings.home)
    ] == []


@pytest.mark.parametrize(("outputs", "sent"), [("[seg, sr, rtstruct]", ["sr.dcm"]), ("[seg, rtstruct]", [])])
def test_where_nothing_is_found_a_report_that_was_asked_for_is_sent(node, images, outputs, sent):
    text = SPHERE.replace("above 300", "above 3000").replace("[seg, rtstruct]", outputs)
    write(node, text + "destinations: [pacs]\n")
    (job_id,) = arrives(node, images)
    job = node.ledger.jobs.get(job_id)
    assert [one.file for one in job.result.objects] == sent
    assert job.state is (JobState.SENDING if sent else JobState.SEGMENTED)
    assert [line.destination for line in node.ledger.deliveries.of_job(job_id)] == ["pacs"] * len(sent)


def test_several_protocols_make_a_job_each_and_urgent_ones_go_first(node, images):
    write(node, SPHERE)
    write(node, SPHERE.replace("name: sphere", "name: urgent") + "priority: urgent\n", "urgent.yaml")
    write(node, SPHERE.replace("name: sphere", "name: needs") + "model: published\n", "needs.yaml")
    node.receives(*images, ago=QUIET + 1)
    jobs = {job.id: job.protocol for job in node.tick()}
    assert [jobs[job_id] for job_id in node.ledger.jobs.due()] == ["urgent", "sphere"]
    (series,) = history_of(node.ledger.jobs.find()[0].study_uid, node.ledger, node.store, node.settings, []).series
    inactive = next(decision for decision in series.decisions if decision.protocol == "needs")
    assert "protocol 'needs' is inactive: it needs the published weights" in inactive.reason


def test_an_edit_takes_effect_at_the_next_series_and_a_bad_one_never(node, images):
    write(node, SPHERE)
    before = node.tick()
    write(node, SPHERE.replace("CT", "MR") + "prompt: x\n")
    (job_id,) = arrives(node, images)
    assert before == []
    assert node.ledger.jobs.get(job_id).protocol == "sphere", "the last good version still takes CTs"
