"""One attempt at a job: claim, segment, publish, and what becomes of every kind of failure."""

import errno
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest

from dicom_node.removal import StoreRemoval
from dicom_node.synthesis import ct_series
from tests.support.twins import ThresholdSegmenter
from voxtell import CancelledError, OutOfMemoryError
from worker import stopping
from worker.destinations.dicom import DicomDestination
from worker.engines import loading
from worker.engines.devices import device_lock
from worker.errors import EngineMissingError
from worker.job_spec import Derived, EngineOptions, JobSpec, Prompt, Route
from worker.ledger import Job, JobState
from worker.queue.embedded_server import running_queue
from worker.settings import Settings, load
from worker.steps import pipeline, segmentation
from worker.steps.segmentation import SegmentationWorker

pytestmark = pytest.mark.peers

SPACING = (3.0, 2.0, 1.5)


class Failing(ThresholdSegmenter):
    """Raises what it is given, as often as it is asked."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __call__(self, *_args: Any, **_options: Any) -> Any:
        raise self.error


class Stopped(ThresholdSegmenter):
    """Is told to stop while it is at its first window, as if by SIGTERM, as often as `stops` says."""

    def __init__(self, stops: int) -> None:
        self.stops = stops

    def __call__(self, *args: Any, cancelled: Callable[[], bool], **options: Any) -> Any:
        if self.stops:
            self.stops -= 1
            stopping.stop_within(0)
        if cancelled():
            raise CancelledError
        return super().__call__(*args, **options)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in ("VOXTELL_MODEL", "VOXTELL_HOME"):
        monkeypatch.delenv(name, raising=False)
    return load(home=tmp_path / "home", max_attempts=2, backoff_seconds=0.001)


@pytest.fixture
def desk(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SegmentationWorker]:
    with running_queue(settings):
        desk = SegmentationWorker(settings)
        monkeypatch.setattr(SegmentationWorker, "_mine", desk)
        desk.engine = ThresholdSegmenter()  # type: ignore[assignment]
        yield desk
        desk.ledger.close()


@pytest.fixture
def queued(desk: SegmentationWorker, tmp_path: Path) -> Callable[..., Job]:
    """A job on a stored series: a box of 4 x 6 x 8 voxels at 700 HU in water."""

    def queue(*prompts: str, instances: int = 9, **facts: Any) -> Job:
        image = np.zeros((9, 16, 20), np.float32)
        image[2:6, 5:11, 4:12] = 700
        files = ct_series(image, SPACING, tmp_path / "series")
        uids = [(path, _uids(path)) for path in files]
        for path, (study_uid, series_uid, sop_uid) in uids[:instances]:
            desk.store.put(path.read_bytes(), study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid)
        study_uid, series_uid, _ = uids[0][1]
        work = JobSpec.of(
            study_uid=study_uid,
            series_uid=series_uid,
            instances=[sop_uid for _, (_, _, sop_uid) in uids[:instances]],
            protocol="test",
            protocol_digest="d",
            prompts=tuple(Prompt(text=text) for text in prompts),
            **{"model": None} | facts,
        )
        desk.ledger.jobs.add(work)
        return desk.ledger.jobs.get(work.job_id)

    return queue


def test_a_job_becomes_a_folder_of_results_and_a_line_in_the_ledger(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300", "nothing")
    segmentation.run(job.id)
    done = desk.ledger.jobs.get(job.id)
    assert done.state is JobState.SEGMENTED
    (found,) = done.result.found
    assert found.volume_ml == pytest.approx(4 * 6 * 8 * np.prod(SPACING) / 1000, abs=1e-3)
    assert done.result.not_found == ("nothing",)
    assert {path.name for path in desk.store.result_paths(job.id)} == {"seg.dcm", "result.json"}


def test_what_the_model_was_never_taught_is_not_called_absent(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    class OfBones(ThresholdSegmenter):
        info = replace(ThresholdSegmenter.info, knows=("nothing",))

        def unlearnt(self, prompts: Sequence[str]) -> list[str]:
            return [prompt for prompt in prompts if prompt == "liver"]

    desk.engine = OfBones()  # type: ignore[assignment]
    job = queued("above 300", "nothing", "liver")
    segmentation.run(job.id)
    result = desk.ledger.jobs.get(job.id).result
    assert (result.not_found, result.not_known) == (("nothing",), ("liver",))
    (sentence,) = result.review
    assert sentence.startswith("liver is not among the structures that the model was trained on")
    (seg,) = (pydicom.dcmread(path) for path in desk.store.result_paths(job.id) if path.name == "seg.dcm")
    assert "Looked for, not found: nothing." in seg.ImageComments
    assert sentence in seg.ImageComments


def test_a_message_that_comes_twice_does_nothing_the_second_time(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300")
    segmentation.run(job.id)
    first = desk.ledger.jobs.get(job.id)
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id) == first


def test_a_job_reads_its_images_and_then_waits_for_its_turn_at_the_device(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    asked = threading.Event()

    class Noted(ThresholdSegmenter):
        def __call__(self, *arguments: Any, **options: Any) -> Any:
            asked.set()
            return super().__call__(*arguments, **options)

    desk.engine, job = Noted(), queued("above 300")  # type: ignore[assignment]
    assert desk.settings.device == "auto"  # another name of the same device
    with ThreadPoolExecutor(1) as other, device_lock(desk.settings.home, desk.engine.device):
        claimed = desk.ledger.jobs.claim(job.id, desk.settings.lease_seconds)
        attempt = other.submit(desk.attempt, claimed)  # a Celery task is looked up anew in every thread
        assert not asked.wait(1)
    attempt.result()
    done = desk.ledger.jobs.get(job.id)
    assert (done.state, asked.is_set()) == (JobState.SEGMENTED, True)
    assert done.result.seconds["turn"] > 0.5 > done.result.seconds["network"]


def test_results_with_a_destination_wait_for_their_delivery(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300", routes=(Route(to="pacs"), Route(to="planning")))
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.SENDING
    assert desk.ledger.deliveries.due() == [(job.id, "pacs"), (job.id, "planning")]


def test_a_prompt_that_finds_nothing_is_a_result_and_sends_nothing(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("nothing", routes=(Route(to="pacs"),))
    segmentation.run(job.id)
    done = desk.ledger.jobs.get(job.id)
    assert (done.state, done.result.not_found, done.result.files) == (JobState.SEGMENTED, ("nothing",), ())
    assert desk.ledger.deliveries.of_job(job.id) == []


def test_a_bad_series_is_final_and_the_reason_names_what_is_wrong(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300", instances=1)
    segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert "single slice" in failed.reason


def test_a_job_whose_images_are_gone_fails_and_makes_nothing_of_the_rest(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300")
    desk.store.series_paths(job.series_key)[-1].unlink()
    segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert "1 of 9 images" in failed.reason
    assert desk.store.result_paths(job.id) == []


def test_a_job_is_done_on_its_own_images_when_more_have_come(
    desk: SegmentationWorker, queued: Callable[..., Job], tmp_path: Path
) -> None:
    """The UIDs of its results say which images they are of: a slice that came later belongs to another job."""
    job = queued("above 300", instances=8, outputs=("seg",))
    late = sorted((tmp_path / "series").iterdir())[8]
    study_uid, series_uid, sop_uid = _uids(late)
    desk.store.put(late.read_bytes(), study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid)
    segmentation.run(job.id)
    seg = pydicom.dcmread(desk.store.home / "results" / job.id / "seg.dcm")
    named = {one.ReferencedSOPInstanceUID for one in seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence}
    assert named == set(job.spec.instances)


def test_files_that_no_pacs_takes_wait_for_no_delivery(desk: SegmentationWorker, queued: Callable[..., Job]) -> None:
    job = queued("above 300", outputs=("nifti",), routes=(Route(to="pacs"),))
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED


def test_too_little_memory_is_tried_again_and_then_fails(desk: SegmentationWorker, queued: Callable[..., Job]) -> None:
    desk.engine = Failing(OutOfMemoryError("no room"))  # type: ignore[assignment]
    job = queued("above 300")
    segmentation.run(job.id)
    waiting = desk.ledger.jobs.get(job.id)
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, "no room")
    while desk.ledger.jobs.get(job.id).state is JobState.QUEUED:
        segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert (failed.state, failed.attempts, failed.reason) == (JobState.FAILED, 2, "no room")
    assert list(desk.store.home.glob("results/*")) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            OSError(errno.EMFILE, "Too many open files", "/home/series"),
            "the system refused /home/series: Too many open files",
        ),
        (OSError(errno.ESTALE, "Stale file handle"), "Stale file handle"),
        (MemoryError(), "the memory of this machine was full"),
    ],
)
def test_what_a_machine_lacks_for_a_minute_does_not_end_a_job(
    desk: SegmentationWorker, queued: Callable[..., Job], error: Exception, words: str
) -> None:
    """Each job of a backlog would meet it once, and the backlog would be gone."""
    job = queued("above 300")
    able, desk.engine = desk.engine, Failing(error)  # type: ignore[assignment]
    segmentation.run(job.id)
    waiting = desk.ledger.jobs.get(job.id)
    assert waiting.state is JobState.QUEUED
    assert words in waiting.reason
    desk.engine = able
    time.sleep(0.01)  # its backoff
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED


def test_a_machine_that_goes_on_to_lack_something_ends_a_job_after_the_last_attempt(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU too the process stays: no error of CUDA is in it."""
    left: list[int] = []
    monkeypatch.setattr(segmentation, "leave_process", left.append)
    desk.settings = desk.settings.model_copy(update={"device": "cuda"})
    desk.engine = Failing(OSError(errno.EIO, "Input/output error"))  # type: ignore[assignment]
    job = queued("above 300")
    while desk.ledger.jobs.get(job.id).state is JobState.QUEUED:
        segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert (failed.state, failed.attempts, left) == (JobState.FAILED, 2, [])
    assert "Input/output error" in failed.reason


def test_an_image_that_the_disk_does_not_give_is_asked_for_again(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300")
    image = desk.store.series_paths(job.series_key)[4]
    image.rename(image.with_suffix(".there"))
    image.symlink_to("/proc/self/mem")  # Linux answers EIO
    segmentation.run(job.id)
    waiting = desk.ledger.jobs.get(job.id)
    assert (waiting.state, waiting.reason) == (JobState.QUEUED, f"{image} cannot be read: Input/output error")
    image.with_suffix(".there").replace(image)
    time.sleep(0.01)  # its backoff
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED


def test_images_that_lie_aside_to_be_removed_come_back_for_a_job_that_needs_them(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300")
    StoreRemoval(desk.store).set_aside(job.study_uid, 0.0)
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED
    assert StoreRemoval(desk.store).leaving() == []


def test_a_job_whose_worker_is_stopped_is_given_back_and_the_attempt_does_not_count(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    """Two attempts are allowed, and the worker is stopped three times while it is at the job."""
    job = queued("above 300")
    desk.engine = Stopped(3)  # type: ignore[assignment]
    for _ in range(3):
        segmentation.run(job.id)
        waiting = desk.ledger.jobs.get(job.id)
        assert (waiting.state, waiting.attempts) == (JobState.QUEUED, 0)
        assert waiting.reason == "given back: the worker was stopped"
        assert desk.ledger.jobs.due() == [job.id], "another worker may take it at once"
        stopping.go_on()
    segmentation.run(job.id)
    done = desk.ledger.jobs.get(job.id)
    assert (done.state, done.attempts, done.reason) == (JobState.SEGMENTED, 1, "")


def test_a_worker_that_lost_its_job_gives_nothing_back(desk: SegmentationWorker, queued: Callable[..., Job]) -> None:
    job = queued("above 300")

    class CancelledByAPerson(Stopped):
        def __call__(self, *args: Any, **options: Any) -> Any:
            desk.ledger.jobs.cancel(job.id)
            return super().__call__(*args, **options)

    desk.engine = CancelledByAPerson(1)  # type: ignore[assignment]
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.CANCELLED
    stopping.go_on()


def test_the_unexpected_fails_the_job_and_not_the_worker(desk: SegmentationWorker, queued: Callable[..., Job]) -> None:
    desk.engine = Failing(ZeroDivisionError("oops"))  # type: ignore[assignment]
    job = queued("above 300")
    segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert "the node met an error that it does not know (" in failed.reason
    assert "oops" not in failed.reason, "what an error quotes may be a patient's"


@pytest.mark.parametrize("while_loading", [True, False])
def test_after_an_unexpected_error_on_a_gpu_the_job_is_tried_by_another_process(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, while_loading: bool
) -> None:
    """An error of CUDA stays with its process; a backlog would fail there, job after job."""
    words, left = "CUDA error: an illegal memory access", []
    monkeypatch.setattr(segmentation, "leave_process", left.append)
    desk.settings = desk.settings.model_copy(update={"device": "cuda"})
    if while_loading:
        monkeypatch.setattr(segmentation, "load_with_device_lock", Failing(RuntimeError(words)))
        del desk.engine
    else:
        desk.engine = Failing(RuntimeError(words))  # type: ignore[assignment]
    job = queued("above 300")
    segmentation.run(job.id)
    assert (desk.ledger.jobs.get(job.id).state, left) == (JobState.QUEUED, [1])
    time.sleep(0.01)  # its backoff
    segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert (failed.state, left) == (JobState.FAILED, [1, 1])
    assert "the node met an error that it does not know" in failed.reason


def test_a_node_without_the_engine_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(EngineMissingError, match=r"pip install .*gpu"):
        loading.load_engine(settings)


@pytest.mark.parametrize("output", ["seg", "rtstruct"])
def test_a_result_that_does_not_lie_where_its_mask_lies_is_never_sent(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    honest = pipeline.from_network
    monkeypatch.setattr(pipeline, "from_network", lambda *args: np.ascontiguousarray(honest(*args)[..., ::-1]))
    job = queued("above 300", outputs=(output,), routes=(Route(to="pacs"),))
    segmentation.run(job.id)
    failed = desk.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert "does not lie where its mask lies" in failed.reason
    assert desk.ledger.deliveries.due() == []


def test_a_job_cancelled_while_it_runs_leaves_no_result_in_the_ledger(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    job = queued("above 300", routes=(Route(to="pacs"),))

    class Cancelling(ThresholdSegmenter):
        def __call__(self, *args: Any, **options: Any) -> Any:
            desk.ledger.jobs.cancel(job.id)
            return super().__call__(*args, **options)

    desk.engine = Cancelling()  # type: ignore[assignment]
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).state is JobState.CANCELLED
    assert desk.ledger.deliveries.due() == []


def test_a_worker_that_stood_still_does_not_touch_the_results_of_its_successor(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queued("above 300", routes=(Route(to="pacs"),))
    published: list[bytes] = []

    class Overtaken(ThresholdSegmenter):
        """While it stands still, its lease runs out and another process, on another device, does the job."""

        def __call__(self, *arguments: Any, **options: Any) -> Any:
            monkeypatch.setattr(segmentation, "device_lock", lambda *_device: nullcontext())
            desk.engine = ThresholdSegmenter()  # type: ignore[assignment]
            late = desk.ledger.database.clock
            desk.ledger.database.clock = lambda: late() + 2 * desk.settings.lease_seconds  # type: ignore[method-assign]
            desk.ledger.jobs.free_lost_leases(desk.settings.max_attempts)
            segmentation.run(job.id)
            published.extend(path.read_bytes() for path in desk.store.result_paths(job.id))
            return super().__call__(*arguments, **options)

    desk.engine = Overtaken()  # type: ignore[assignment]
    segmentation.run(job.id)
    done = desk.ledger.jobs.get(job.id)
    assert (done.state, done.attempts) == (JobState.SENDING, 2)
    assert [path.read_bytes() for path in desk.store.result_paths(job.id)] == published


def test_a_job_on_more_images_names_the_objects_of_the_one_before(
    desk: SegmentationWorker, queued: Callable[..., Job]
) -> None:
    older = queued("above 300", instances=8, outputs=("seg", "rtstruct"))
    segmentation.run(older.id)
    old = {one.file: one for one in desk.ledger.jobs.get(older.id).result.objects}
    newer = queued("above 300", outputs=("seg", "rtstruct"))
    segmentation.run(newer.id)
    paths = {path.name: path for path in desk.store.result_paths(newer.id)}
    (replaced,) = pydicom.dcmread(paths["rtstruct.dcm"]).PredecessorStructureSetSequence
    assert replaced.ReferencedSOPInstanceUID == old["rtstruct.dcm"].sop_uid
    (series,) = pydicom.dcmread(paths["seg.dcm"]).RelatedSeriesSequence
    assert series.SeriesInstanceUID == old["seg.dcm"].series_uid


def test_derived_structures_and_label_maps_come_by_job_and_destination(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    viewer = DicomDestination(name="viewer", ae_title="V", host="h", seg="labelmap")
    monkeypatch.setattr(desk, "settings", desk.settings.model_copy(update={"destinations": (viewer,)}))
    grown = Derived(name="PTV", union=("above 300",), margin_mm=3)
    job = queued("above 300", derived=(grown,), outputs=("seg", "rtstruct"), routes=(Route(to="viewer"),))
    segmentation.run(job.id)
    result = desk.ledger.jobs.get(job.id).result
    assert [one.label for one in result.found] == ["above 300", "PTV"]
    assert result.files == ("seg.dcm", "rtstruct.dcm"), "they overlap"
    job = queued("above 300", outputs=("seg",), routes=(Route(to="viewer"),))
    segmentation.run(job.id)
    assert desk.ledger.jobs.get(job.id).result.files == ("seg.dcm", "seg-labelmap.dcm")


def test_a_job_is_done_with_the_model_that_it_was_made_for(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[str | None] = []

    def load_segmenter(settings: Settings) -> ThresholdSegmenter:
        loaded.append(settings.model)
        return ThresholdSegmenter()

    monkeypatch.setattr(loading, "load_engine", load_segmenter)
    for limit, model in ((300, "/models/one"), (301, None), (302, "/models/one"), (303, "/models/two")):
        job = queued(f"above {limit}", model=model)
        segmentation.run(job.id)
        assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED
    assert loaded == ["/models/one", "/models/two"], "the node's own model was there, and one stays loaded"


def test_a_protocol_may_ask_for_other_settings_of_the_engine_than_the_node_has(
    desk: SegmentationWorker, queued: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[float | None, float | None, bool]] = []

    def load_segmenter(settings: Settings) -> ThresholdSegmenter:
        loaded.append((settings.early_exit, settings.skip_below, settings.resample))
        return ThresholdSegmenter()

    monkeypatch.setattr(loading, "load_engine", load_segmenter)
    monkeypatch.setattr(desk, "settings", desk.settings.model_copy(update={"early_exit": 2.0, "resample": True}))
    for engine in (
        EngineOptions(),
        EngineOptions(early_exit=2),
        EngineOptions(skip_below=-400),
        EngineOptions(exact=True, skip_below=0),
    ):
        job = queued("above 300", engine=engine)
        segmentation.run(job.id)
        assert desk.ledger.jobs.get(job.id).state is JobState.SEGMENTED
    assert loaded == [(2.0, -400.0, True), (None, 0.0, False)], "the node's own engine was there for the first two"


def test_the_same_work_gives_the_same_uids(
    desk: SegmentationWorker, queued: Callable[..., Job], tmp_path: Path
) -> None:
    job = queued("above 300")
    segmentation.run(job.id)
    (seg,) = [path for path in desk.store.result_paths(job.id) if path.name == "seg.dcm"]
    first = _uids(seg)
    other = SegmentationWorker(load(home=desk.settings.home, database_url=f"sqlite:///{tmp_path / 'other.sqlite'}"))
    other.engine = ThresholdSegmenter()  # type: ignore[assignment]
    other.ledger.jobs.add(job.spec)
    claimed = other.ledger.jobs.claim(job.id, 60)
    assert claimed is not None
    other.attempt(claimed)
    other.ledger.close()
    assert _uids(seg) == first


def _uids(path: Path) -> tuple[str, str, str]:
    header = pydicom.dcmread(path, stop_before_pixels=True)
    return str(header.StudyInstanceUID), str(header.SeriesInstanceUID), str(header.SOPInstanceUID)
