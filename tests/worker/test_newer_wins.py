"""Where newer wins, corrected images make a new job with results of its own, and the old one is superseded and told."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from dicom_node.synthesis import ct_series
from tests.support.images import edit
from tests.support.listening import QUIET, IntakeSite
from tests.support.twins import ThresholdSegmenter
from worker.explain.history import history_of
from worker.identity import revision_of
from worker.job_spec import JobSpec
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.ledger.states import IMAGES_REPLACED
from worker.protocols import read_folder
from worker.queue.embedded_server import running_queue
from worker.result import Result, ResultObject
from worker.selection.contents import with_content
from worker.steps.delivery import DeliveryWorker
from worker.steps.segmentation import SegmentationWorker

pytestmark = pytest.mark.peers

PROTOCOL = "name: liver\nmatch: {Modality: CT}\nprompts: [above 300]\n"


@pytest.fixture
def node(tmp_path: Path) -> Iterator[IntakeSite]:
    (tmp_path / "home" / "protocols").mkdir(parents=True)
    (tmp_path / "home" / "protocols" / "liver.yaml").write_text(PROTOCOL)
    made = IntakeSite(tmp_path / "home", conflict="newer")
    with running_queue(made.settings):
        yield made
        made.close()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    image = np.zeros((4, 8, 8), np.float32)
    image[1:3, 2:5, 2:5] = 700
    return ct_series(image, (3.0, 2.0, 2.0), tmp_path / "images")


def corrected(paths: list[Path], patient: str = "RIGHT") -> list[Path]:
    """The same images of another patient."""
    for path in paths:
        image = dcmread(path)
        image.PatientID = patient
        image.save_as(path)
    return paths


def superseded(node: IntakeSite, old: Job, new: Job) -> Job:
    found = node.ledger.jobs.get(old.id)
    assert found.superseded_by == new.id
    return found


def test_a_corrected_patient_is_a_new_job_and_the_old_one_is_cancelled(node: IntakeSite, images: list[Path]) -> None:
    node.receives(*images, ago=QUIET + 1)
    (old,) = node.tick()
    assert old.spec.revision == ""
    node.receives(*corrected(images), ago=QUIET + 1, association="a2")
    _, new = node.tick()
    assert (new.state, new.spec.instances) == (JobState.QUEUED, old.spec.instances)
    assert new.spec.revision
    assert new.id != old.id
    found = superseded(node, old, new)
    assert (found.state, found.reason) == (
        JobState.CANCELLED,
        f"superseded by job {new.id}: its images came again with other content",
    )
    assert [job.id for job in node.tick()] == [old.id, new.id], "asked again, nothing is new"


def test_results_that_were_sent_are_superseded_and_explained(node: IntakeSite, images: list[Path]) -> None:
    node.receives(*images, ago=QUIET + 1)
    (old,) = node.tick()
    claimed = node.ledger.jobs.claim(old.id, 60)
    assert claimed is not None
    node.ledger.jobs.segmented(claimed, Result())
    node.receives(*corrected(images), ago=QUIET + 1, association="a2")
    _, new = node.tick()
    assert superseded(node, old, new).state is JobState.SEGMENTED
    protocols = read_folder(node.settings.protocols_folder)
    story = history_of(old.study_uid, node.ledger, node.store, node.settings, protocols)
    (hint,) = [hint for hint in story.hints if "came again" in hint]
    assert "4 files came again under a known SOP Instance UID with other PatientID" in hint
    assert "withdraw results that were made of the former" in hint
    (series,) = story.series
    assert f"job {new.id} replaces it" in series.jobs[0].sentence


def test_a_former_content_that_comes_back_is_the_job_that_it_was(node: IntakeSite, images: list[Path]) -> None:
    node.receives(*corrected(images, "A"), ago=QUIET + 1)
    (first,) = node.tick()
    for turn, patient in enumerate(("B", "A", "B", "A")):
        node.receives(*corrected(images, patient), ago=QUIET + 1, association=f"a{turn}")
        jobs = node.tick()
        assert len(jobs) == 2
        (standing,) = (job for job in jobs if not job.superseded_by)
        assert (standing.state, standing.id == first.id) == (JobState.QUEUED, patient == "A")
    assert node.queued[0] == 5, "each time one message"


@pytest.mark.parametrize("patient", ["A", "B"])
def test_whoever_removes_the_images_loses_nothing(node: IntakeSite, images: list[Path], patient: str) -> None:
    node.receives(*corrected(images, "A"), ago=QUIET + 1)
    (old,) = node.tick()
    shutil.rmtree(node.store.studies / old.study_uid)
    node.receives(*corrected(images, patient), ago=QUIET + 1, association="a2")
    jobs = node.tick()
    assert node.store.replacements(old.spec.series_key) == {}
    assert len(jobs) == (1 if patient == "A" else 2)
    if patient == "B":
        assert superseded(node, old, jobs[-1]).state is JobState.CANCELLED
        shutil.rmtree(node.store.studies / old.study_uid)
        node.receives(*images, ago=QUIET + 1, association="a3")
        assert node.tick() == jobs, "the same content is the same work"


def test_a_job_of_before_is_known_by_its_count(node: IntakeSite, images: list[Path]) -> None:
    """Earlier versions told contents apart by how often each image was replaced."""
    node.receives(*images, ago=QUIET + 1)
    (first,) = node.tick()
    node.receives(*corrected(images), ago=0, association="a2")
    counted = revision_of(node.store.replacements(first.spec.series_key), first.spec.instances)
    of_before = first.spec.model_copy(update={"revision": counted, "content": ""})
    assert node.ledger.jobs.add(of_before)
    node.receives(*images, ago=QUIET + 1, association="a3")
    assert [job.id for job in node.tick()] == [first.id, of_before.job_id], "the same content is the same work"


def test_one_corrected_image_is_enough_and_is_noted_at_once(node: IntakeSite, images: list[Path]) -> None:
    node.receives(*images, ago=QUIET + 1, association="a1")
    (old,) = node.tick()
    node.receives(images[0], ago=QUIET + 1, association="a2")  # the same once more, which is noted
    node.tick()
    edit(images[1], PixelData=bytes(2 * 8 * 8))
    node.receives(images[1], ago=QUIET + 1, association="a2")  # within the same quarter of the quiet time
    assert [job.superseded_by is None for job in node.tick()] == [False, True]
    assert node.ledger.jobs.get(old.id).superseded_by


def test_the_same_images_again_are_no_new_job(node: IntakeSite, images: list[Path]) -> None:
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    node.receives(*corrected(images), ago=QUIET + 1, association="a2")
    node.tick()
    node.receives(*images, ago=QUIET + 1, association="a3")
    assert len(node.tick()) == 2


def test_a_lost_ledger_gives_the_corrected_job_its_id_again(
    node: IntakeSite, images: list[Path], tmp_path: Path
) -> None:
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    node.receives(*corrected(images), ago=QUIET + 1, association="a2")
    new = node.tick()[-1]
    other = Ledger(f"sqlite:///{tmp_path / 'other.sqlite'}")
    plain = new.spec.model_copy(update={"revision": "", "content": ""})
    again = with_content(plain, node.store, other, newer_wins=True)
    assert again == new.spec
    assert other.jobs.add(again)
    assert other.jobs.find()[0].id == new.id
    other.close()


def test_by_default_nothing_changes(tmp_path: Path, images: list[Path]) -> None:
    (tmp_path / "home" / "protocols").mkdir(parents=True)
    (tmp_path / "home" / "protocols" / "liver.yaml").write_text(PROTOCOL)
    node = IntakeSite(tmp_path / "home")
    with running_queue(node.settings):
        node.receives(*images, ago=QUIET + 1)
        (job,) = node.tick()
        node.receives(*corrected(images), ago=QUIET + 1, association="a2")
        assert node.tick() == [job]
        node.close()


# -- the revision is part of the results' identity, and left out where there is none


@pytest.mark.parametrize(("counts", "same"), [({}, True), ({"9.9": 3}, True), ({"1.2": 1}, False)])
def test_only_replacements_of_its_own_images_are_part_of_a_jobs_identity(counts: dict[str, int], same: bool) -> None:
    facts: dict[str, Any] = {"study_uid": "1", "series_uid": "2", "protocol": "p", "protocol_digest": "", "prompts": ()}
    facts |= {"model": None, "instances": ["1.1", "1.2"]}
    revised = JobSpec.of(**facts, revision=revision_of(counts, ["1.1", "1.2"]))
    assert (revised.job_id == JobSpec.of(**facts).job_id) is same
    assert revised.same_work(JobSpec.of(**facts)) is same


# -- results of the former content


def sends(node: IntakeSite, job: Job) -> Job:
    """The job is segmented, and its results wait for two destinations."""
    claimed = node.ledger.jobs.claim(job.id, 60)
    assert claimed is not None
    found = Result(objects=(ResultObject(kind="seg", file="seg.dcm", sop_uid="1.2.3"),))
    assert node.ledger.jobs.segmented(claimed, found)
    return node.ledger.jobs.get(job.id)


@pytest.fixture
def sending(tmp_path: Path) -> Iterator[IntakeSite]:
    (tmp_path / "home" / "protocols").mkdir(parents=True)
    (tmp_path / "home" / "protocols" / "liver.yaml").write_text(PROTOCOL + "destinations: [pacs, plan]\n")
    two = [{"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": 104} for name in ("pacs", "plan")]
    made = IntakeSite(tmp_path / "home", conflict="newer", destinations=two)
    with running_queue(made.settings):
        yield made
        made.close()


def test_results_of_the_wrong_patient_are_not_sent_any_more(sending: IntakeSite, images: list[Path]) -> None:
    sending.receives(*images, ago=QUIET + 1)
    old = sends(sending, *sending.tick())
    assert old.state is JobState.SENDING
    sending.receives(*corrected(images), ago=QUIET + 1, association="a2")
    new = sends(sending, sending.tick()[-1])
    found = superseded(sending, old, new)
    assert found.state is JobState.CANCELLED
    assert "its images came again with other content" in found.reason
    assert sending.ledger.deliveries.claim(old.id, "pacs", 60) is None
    assert sending.ledger.deliveries.claim(new.id, "pacs", 60), "the right ones wait for nothing"


def test_the_right_results_wait_until_one_that_is_being_sent_has_ended(sending: IntakeSite, images: list[Path]) -> None:
    sending.receives(*images, ago=QUIET + 1)
    old = sends(sending, *sending.tick())
    on_its_way = sending.ledger.deliveries.claim(old.id, "pacs", 60)
    assert on_its_way
    sending.receives(*corrected(images), ago=QUIET + 1, association="a2")
    new = sends(sending, sending.tick()[-1])
    assert sending.ledger.deliveries.claim(old.id, "plan", 60) is None
    assert sending.ledger.deliveries.claim(new.id, "pacs", 60) is None, "what arrives last must be the newest"
    sending.ledger.deliveries.end(on_its_way, DeliveryState.DELIVERED)
    assert sending.ledger.jobs.get(old.id).state is JobState.CANCELLED
    assert sending.ledger.deliveries.claim(new.id, "pacs", 60)


@pytest.fixture
def sender(sending: IntakeSite) -> Iterator[DeliveryWorker]:
    made = DeliveryWorker(sending.settings)
    yield made
    made.ledger.close()


def test_a_delivery_that_a_worker_has_claimed_is_not_sent_once_the_correction_is_there(
    sending: IntakeSite, images: list[Path], sender: DeliveryWorker
) -> None:
    sending.receives(*corrected(images, "A"), ago=QUIET + 1)
    old = sends(sending, *sending.tick())
    claimed = sending.ledger.deliveries.claim(old.id, "pacs", 60)
    assert claimed
    sending.receives(*corrected(images, "B"), ago=0, association="a2")
    sender.attempt(claimed)
    found = sending.ledger.jobs.get(old.id)
    assert (found.state, found.reason) == (JobState.CANCELLED, IMAGES_REPLACED)
    assert {one.state for one in sending.ledger.deliveries.of_job(old.id)} == {DeliveryState.PENDING}
    assert sending.ledger.deliveries.due() == []
    sending.receives(*corrected(images, "A"), ago=QUIET + 1, association="a3")
    (again,) = sending.tick()
    assert (again.id, again.state) == (old.id, JobState.QUEUED), "the content is what it was"


def test_results_whose_content_comes_back_are_sent_again(sending: IntakeSite, images: list[Path]) -> None:
    """People were told to withdraw them."""
    sending.receives(*corrected(images, "A"), ago=QUIET + 1)
    first = sends(sending, *sending.tick())
    for name in ("pacs", "plan"):
        claimed = sending.ledger.deliveries.claim(first.id, name, 60)
        assert claimed
        sending.ledger.deliveries.end(claimed, DeliveryState.DELIVERED, taken=["seg.dcm"])
    sending.receives(*corrected(images, "B"), ago=QUIET + 1, association="a2")
    sending.tick()
    sending.receives(*corrected(images, "A"), ago=QUIET + 1, association="a3")
    sending.tick()
    again = sends(sending, sending.ledger.jobs.get(first.id))
    assert (again.state, again.superseded_by) == (JobState.SENDING, None)
    assert not any(one.taken for one in sending.ledger.deliveries.of_job(first.id))
    assert sending.ledger.deliveries.due() == [(first.id, "pacs"), (first.id, "plan")]


# -- the segmentation reads the content that its job was made for


@pytest.fixture
def desk(node: IntakeSite) -> Iterator[SegmentationWorker]:
    made = SegmentationWorker(node.settings)
    made.engine = ThresholdSegmenter()  # type: ignore[assignment]
    yield made
    made.ledger.close()


def attempted(desk: SegmentationWorker, job: Job) -> Job:
    claimed = desk.ledger.jobs.claim(job.id, 60)
    assert claimed is not None
    desk.attempt(claimed)
    return desk.ledger.jobs.get(job.id)


def test_results_of_the_corrected_images_have_uids_of_their_own(
    node: IntakeSite, images: list[Path], desk: SegmentationWorker
) -> None:
    node.receives(*images, ago=QUIET + 1)
    old = attempted(desk, *node.tick())
    node.receives(*corrected(images), ago=QUIET + 1, association="a2")
    new = attempted(desk, node.tick()[-1])
    assert (old.state, new.state) == (JobState.SEGMENTED, JobState.SEGMENTED)
    (before,), (after,) = old.result.objects, new.result.objects
    assert before.sop_uid != after.sop_uid
    (path,) = (path for path in node.store.result_paths(new.id) if path.suffix == ".dcm")
    seg = dcmread(path)
    assert seg.PatientID == "RIGHT"
    assert [one.SeriesInstanceUID for one in seg.RelatedSeriesSequence] == [before.series_uid]


def test_a_job_whose_images_were_replaced_before_it_began_makes_no_result(
    node: IntakeSite, images: list[Path], desk: SegmentationWorker
) -> None:
    node.receives(*images, ago=QUIET + 1)
    (old,) = node.tick()
    node.receives(*corrected(images), ago=0, association="a2")
    done = attempted(desk, old)
    assert (done.state, done.reason) == (
        JobState.CANCELLED,
        "its images came again with other content; the protocols are asked about that one",
    )
    assert node.store.result_paths(old.id) == []


def test_images_that_are_replaced_while_the_job_runs_end_it(
    node: IntakeSite, images: list[Path], desk: SegmentationWorker
) -> None:
    class Interrupted(ThresholdSegmenter):
        def __call__(self, *words: Any, **options: Any) -> Any:
            node.receives(*corrected(images), ago=0, association="a2")
            return super().__call__(*words, **options)

    node.receives(*images, ago=QUIET + 1)
    (old,) = node.tick()
    desk.engine = Interrupted()  # type: ignore[assignment]
    assert attempted(desk, old).state is JobState.CANCELLED
    assert node.store.result_paths(old.id) == []
