"""The segmentation worker: claims a job in the ledger, keeps its lease, runs the pipeline, publishes the results folder
with one rename, and notes how it ended. Only this process loads torch, and only when the first job comes.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cached_property
from pathlib import Path

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task

from dicom_node.removal import Clearing
from dicom_node.store import Store
from voxtell.engine import Engine
from worker.engines.devices import device_lock, means_gpu
from worker.engines.loading import engine_key, load_with_device_lock, settings_for
from worker.errors import BrokerError, WorkerError
from worker.job_spec import JobSpec
from worker.ledger import Job, Ledger
from worker.maintenance.leases import kept
from worker.maintenance.retries import backoff
from worker.queue.broker import SEGMENT_TASK, TIME_LIMIT_GRACE_SECONDS, Broker, celery_app
from worker.results.forms import label_map_wanted
from worker.results.write import objects_named, write_outputs
from worker.settings import Settings, load
from worker.steps.pipeline import segment

log = structlog.get_logger(__name__)


leave_process = os._exit
"""Without a word to anybody, as a process that was killed: Celery replaces it."""


class TakenBackError(WorkerError):
    """The job was taken back while it ran; its results stay unsent."""


class ImagesMissingError(WorkerError):
    """Images that a job was made for are not in the store any more."""


@shared_task(name=SEGMENT_TASK)
def run(job_id: str) -> None:
    """One attempt at a job. A message that comes twice, or too early, does nothing."""
    worker = SegmentationWorker.of_this_process()
    job = worker.ledger.jobs.claim(job_id, worker.settings.lease_seconds)
    if job is not None:
        with structlog.contextvars.bound_contextvars(job=job.id, attempt=job.attempts):
            worker.attempt(job)


class SegmentationWorker:
    """What the segmentation process keeps between jobs: connections, and the model, loaded once."""

    _mine: "SegmentationWorker | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.ledger = Ledger(settings.ledger_url)
        self.store = Store(settings.home)
        self.broker = Broker(celery_app(settings))
        self._other: tuple[tuple[object, ...], Engine] | None = None

    @classmethod
    def of_this_process(cls) -> "SegmentationWorker":
        """The one of a worker process; made at the first job, after the fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @cached_property
    def engine(self) -> Engine:
        """The node's model; loading the published one takes a minute."""
        return load_with_device_lock(self.settings)

    def _engine_for(self, wanted: Settings) -> Engine:
        """The engine that a job was made for; of those that are not the node's own the last one stays loaded."""
        engine = engine_key(wanted)
        if engine == engine_key(self.settings):
            return self.engine
        if self._other is None or self._other[0] != engine:
            self._other = None  # makes room first
            self._other = engine, load_with_device_lock(wanted)
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
        engine = self._engine_for(wanted)
        done = segment(
            self._images(spec),
            spec.prompts,
            engine,
            derived=spec.derived,
            volume=spec.volume,
            straighten=wanted.resample_tilt,
            turn=device_lock(self.settings.home, engine.device),
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
        return {path.stem: path for path in self.store.series_paths(spec.series_key)}

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
