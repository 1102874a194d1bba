"""The story of a segmentation: read the series, turn it to the network's axes, ask the network, turn the masks back,
name them, write the objects.

`segment` is that story; `run` is the Celery task around it: claim in the ledger, keep the lease, publish the results
folder with one rename, say how it ended. Only this module's process loads torch, and only when the first job comes.
"""

import importlib.util
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import highdicom
import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task

from dicom_node.masks.packed import Mask, Masks, PackedMask
from dicom_node.objects.verify import check_way_back
from dicom_node.removal import Clearing
from dicom_node.series import ImageSeries, read_series, read_volume
from dicom_node.store import Store
from dicom_node.volume import from_network, to_network
from worker.errors import BrokerError, EngineMissingError, WorkerError
from worker.job_spec import Derived, JobSpec, Prompt
from worker.ledger import Job, Ledger
from worker.maintenance.leases import kept
from worker.maintenance.locks import device_turn, means_gpu
from worker.maintenance.retries import backoff
from worker.queue.broker import SEGMENT_TASK, TIME_LIMIT_GRACE_SECONDS, Broker, celery_app
from worker.results.forms import label_map_wanted
from worker.results.plausibility import grid_reviews, reviews
from worker.results.structures import finished, structures_of
from worker.results.write import Segmented, objects_named, write_outputs
from worker.settings import Settings, load

if TYPE_CHECKING:
    import voxtell

log = structlog.get_logger(__name__)


leave_process = os._exit
"""Without a word to anybody, as a process that was killed: Celery replaces it."""


class TakenBackError(WorkerError):
    """The job was taken back while it ran; its results stay unsent."""


class ImagesMissingError(WorkerError):
    """Images that a job was made for are not in the store any more."""


def segment(
    paths: Sequence[Path],
    prompts: Sequence[Prompt],
    segmenter: "voxtell.Engine",
    *,
    derived: Sequence[Derived] = (),
    volume: str | None = None,
    straighten: bool = False,
    turn: AbstractContextManager[None] | None = None,
    progress: Callable[[float], None] = lambda _part: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Segmented:
    """Reads a volume, asks the network for each prompt, brings the masks back to the source frames, finishes them.

    `volume` is its name in a series of several; `straighten` shows the network a tilted gantry's slices where they lie.
    The network is asked within `turn`, if one is given.

    Raises:
        SeriesError: the files are not one regular volume; names the slice.
        VoxTellError: the engine cannot do it; its `retry` says whether another attempt makes sense.
        ResultError: a mask on the slices does not lie where the network saw it.
        StructureError: a structure needs one that is not there.
    """
    clock = _Clock()
    series = read_series(paths) if volume is None else read_volume(paths, volume)
    network = to_network(series, straighten=straighten)
    clock.lap("read")
    with turn or nullcontext():
        clock.lap("turn")
        found = segmenter(
            network.array,
            [prompt.text for prompt in prompts],
            spacing=network.spacing,
            progress=progress,
            cancelled=cancelled,
        )
    clock.lap("network")
    back = Masks(_back(prompt, seen, network, series) for prompt, seen in zip(prompts, found, strict=True))
    del found
    clock.lap("back")
    masks = finished(back, prompts, derived, series.affine)
    unlearnt = segmenter.unlearnt([prompt.text for prompt in prompts]) if segmenter.info.knows else ()
    structures = structures_of(masks, prompts, derived, series.affine, unlearnt)
    clock.lap("finish")
    review = (*grid_reviews(network.affine, network.spacing, segmenter.info.spacing_max), *reviews(structures, masks))
    info = segmenter.info
    if straighten and series.tilt_degrees:  # another grid, other masks: other UIDs
        info = replace(info, digest=f"{info.digest} straightened")
    return Segmented(series, structures, masks, info, clock.seconds, review)


def _back(prompt: Prompt, seen: Mask, network: highdicom.Volume, series: ImageSeries) -> PackedMask:
    """One mask (S, A, R) on the slices; one after the other, so that no second set of whole arrays is held."""
    (mask,) = from_network(seen[None], network, series)
    check_way_back(prompt.label, seen, network.get_geometry(), mask, series)
    return PackedMask.of(mask)


def load_segmenter(settings: Settings, *, use_bank: bool = True) -> "voxtell.Engine":
    """The model that the settings name, on the device that they name, with the shortcuts that they allow.

    Raises:
        EngineMissingError: the node was installed without the engine.
        ModelError: the model's files are missing or not what they should be.
    """
    require_engine()
    import voxtell

    shortcuts = voxtell.Shortcuts(settings.early_exit, settings.skip_below, settings.coarse_first, settings.resample)
    return voxtell.load(
        settings.model,
        device=settings.device,
        bank=settings.bank,
        use_bank=use_bank,
        precision=settings.precision,
        shortcuts=shortcuts,
        compiled=settings.compile_encoder,
    )


def _load_in_turn(settings: Settings) -> "voxtell.Engine":
    """`load_segmenter` while no other process computes: what a network at work leaves of a GPU may be too little."""
    require_engine()
    from voxtell.inference.runner import pick_device

    with device_turn(settings.home, str(pick_device(settings.device))):
        return load_segmenter(settings)


def settings_for(spec: JobSpec, settings: Settings) -> Settings:
    """The node's settings with the model of a job, and with what its protocol says of the engine."""
    exact: dict[str, object] = {"early_exit": None, "skip_below": None, "coarse_first": None, "resample": False}
    asked = spec.engine.model_dump(exclude={"exact"}, exclude_none=True)
    return settings.model_copy(update={"model": spec.model} | (exact if spec.engine.exact else {}) | asked)


def _engine_of(settings: Settings) -> tuple[object, ...]:
    """What decides which segmenter is loaded."""
    return settings.model, settings.early_exit, settings.skip_below, settings.coarse_first, settings.resample


def require_engine() -> None:
    """Raises EngineMissingError if the node was installed without the engine."""
    if importlib.util.find_spec("torch") is None:
        raise EngineMissingError


@shared_task(name=SEGMENT_TASK)
def run(job_id: str) -> None:
    """One attempt at a job. A message that comes twice, or too early, does nothing."""
    desk = Desk.of_this_process()
    job = desk.ledger.jobs.claim(job_id, desk.settings.lease_seconds)
    if job is not None:
        with structlog.contextvars.bound_contextvars(job=job.id, attempt=job.attempts):
            desk.attempt(job)


class Desk:
    """What the segmentation process keeps between jobs: connections, and the model, loaded once."""

    _mine: "Desk | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)
        self.store = Store(settings.home)
        self.broker = Broker(celery_app(settings))
        self._other: tuple[tuple[object, ...], voxtell.Engine] | None = None

    @classmethod
    def of_this_process(cls) -> "Desk":
        """The one desk of a worker process; made at the first job, after the fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @cached_property
    def segmenter(self) -> "voxtell.Engine":
        """The node's model; loading the published one takes a minute."""
        return _load_in_turn(self.settings)

    def _segmenter(self, wanted: Settings) -> "voxtell.Engine":
        """The engine that a job was made for; of those that are not the node's own the last one stays loaded."""
        engine = _engine_of(wanted)
        if engine == _engine_of(self.settings):
            return self.segmenter
        if self._other is None or self._other[0] != engine:
            self._other = None  # makes room first
            self._other = engine, _load_in_turn(wanted)
        return self._other[1]

    def attempt(self, job: Job) -> None:
        """A door: every outcome, also the unexpected, becomes a line of the ledger."""
        try:
            lease = self.settings.lease_seconds
            with kept(lambda: self.ledger.jobs.renew(job, lease), lease) as lost, self._noted_before_killed(job):
                self._do(job, lost)
        except TakenBackError as error:
            log.warning("job_taken_back", reason=str(error))
        except SoftTimeLimitExceeded:
            self._failed(job, self._too_long)
        except Exception as error:
            retry = getattr(error, "retry", None)
            passing = retry == "later" or isinstance(error, OSError | MemoryError)
            broken = retry is None and not passing and means_gpu(self.settings.device)
            reason = str(error)
            if retry is None:
                log.exception("unexpected_error")
                reason = _unexpected(error)
            if (passing or broken) and job.attempts < self.settings.max_attempts:
                self.ledger.jobs.postpone(job, reason, backoff(self.settings, job.attempts))
                log.warning("job_postponed", reason=reason)
            else:
                self._failed(job, reason)
            if broken:  # an error of CUDA stays with its process: every later job would meet it
                log.error("worker_process_replaced")
                leave_process(1)

    def _do(self, job: Job, lost: threading.Event) -> None:
        spec = job.spec
        wanted = settings_for(spec, self.settings)
        segmenter = self._segmenter(wanted)
        done = segment(
            self._images(spec),
            spec.prompts,
            segmenter,
            derived=spec.derived,
            volume=spec.volume,
            straighten=wanted.resample_tilt,
            turn=device_turn(self.settings.home, segmenter.device),
            cancelled=lost.is_set,
        )
        before = self.ledger.jobs.predecessor(job)
        with self.store.results(job.id) as folder:
            result = write_outputs(
                done,
                spec,
                folder,
                label_map=label_map_wanted(spec.routes, self.settings.destinations),
                name_length=self.settings.roi_name_length,
                predecessors=objects_named(before.result) if before and before.result else (),
            )
            # Whoever has the job now may have published its results, which may be on their way.
            if not self.ledger.jobs.renew(job, self.settings.lease_seconds):
                raise TakenBackError
        if not self.ledger.jobs.segmented(job, result):
            raise TakenBackError
        log.info("job_segmented", found=len(result.found), seconds=round(sum(result.seconds.values()), 1))
        try:
            self.broker.deliver(self.ledger.deliveries.due(job.id), {job.id: spec.priority})
        except BrokerError as error:  # the listener's sweep enqueues them
            log.warning("queue_unreachable", problem=str(error))

    def _images(self, spec: JobSpec) -> list[Path]:
        """The files of exactly the instances that the work names: a result on fewer would not be what its UID says."""
        stored = self._stored(spec)
        if not stored.keys() >= set(spec.instances):  # such as a job that was started again when its days were over
            Clearing(self.store).bring_back(spec.study_uid)
            stored = self._stored(spec)
        if missing := [uid for uid in spec.instances if uid not in stored]:
            raise ImagesMissingError(
                f"{len(missing)} of {len(spec.instances)} images of series {spec.series_uid} are not in the store any "
                f"more, the first is {missing[0]}; send the series again and then retry the job"
            )
        return [stored[uid] for uid in spec.instances]

    def _stored(self, spec: JobSpec) -> dict[str, Path]:
        return {path.stem: path for path in self.store.series_paths(spec.study_uid, spec.series_uid)}

    @property
    def _too_long(self) -> str:
        return f"took longer than {self.settings.job_time_limit_seconds} s; see job_time_limit_seconds"

    @contextmanager
    def _noted_before_killed(self, job: Job) -> Iterator[None]:
        """Fails a job that does not end when its time is over, from a thread: after the grace Celery kills the process.

        What is stuck in foreign code hears no signal; unnoted it would block the device again at every further attempt.
        """
        seconds = self.settings.job_time_limit_seconds + TIME_LIMIT_GRACE_SECONDS / 2
        note = threading.Timer(seconds, copy_context().run, [self._failed, job, self._too_long])
        note.daemon = True
        note.start()
        try:
            yield
        finally:
            note.cancel()

    def _failed(self, job: Job, reason: str) -> None:
        if self.ledger.jobs.fail(job, reason):
            log.error("job_failed", reason=reason)


def _unexpected(error: Exception) -> str:
    """The reason to give for an error that is none of the rooms'."""
    if isinstance(error, MemoryError):
        return "the memory of this machine was full"
    return f"unexpected {type(error).__name__}: {error}; the worker's log has the traceback"


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now
