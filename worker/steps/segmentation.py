"""The segmentation worker: the Celery task that takes one job from QUEUED to SEGMENTED, REVIEW, SENDING or FAILED.

An attempt claims the job in the ledger, renews its lease while the pipeline runs, publishes the folder
`results/<job>/` with one rename, and notes in the ledger how it ended.

Processes: Celery forks one child for each of `segment_processes`, and each child runs one task at a time. A child opens
the ledger and the store at its first job, after the fork; it alone loads torch, and only then. The children share a
device by its lock (`worker.engines.devices`).

A child that is killed leaves a job in SEGMENTING and perhaps an unpublished folder. The lease runs out, the listener's
sweep queues the job again, and the next attempt begins from the images.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from functools import cached_property
from pathlib import Path
from typing import Final

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task

from dicom_node.removal import StoreRemoval
from dicom_node.store import Store
from voxtell.engine import Engine
from voxtell.errors import CancelledError
from worker.engines.devices import device_lock, means_gpu
from worker.engines.loading import engine_key, load_with_device_lock, settings_for
from worker.errors import BrokerError, WorkerError, reason_of
from worker.job_spec import JobSpec
from worker.ledger import Job, Ledger
from worker.ledger.states import IMAGES_REPLACED
from worker.logs import get_logger
from worker.maintenance.leases import kept
from worker.maintenance.retries import backoff
from worker.queue.broker import TIME_LIMIT_GRACE_SECONDS, Broker, celery_app
from worker.queue.messages import SEGMENT_TASK
from worker.results.forms import label_map_wanted
from worker.results.write import references_to, write_outputs
from worker.selection.contents import is_former
from worker.settings import Settings, load
from worker.steps.pipeline import segment
from worker.stopping import must_give_back

log = get_logger(__name__)

_GIVEN_BACK: Final = "given back: the worker was stopped"

leave_process = os._exit
"""Exits at once, without clean-up; Celery starts a new process."""


class TakenBackError(WorkerError):
    """The job was taken back while it ran; its results stay unsent."""


class ImagesMissingError(WorkerError):
    """Images that a job was made for are not in the store any more."""


class ImagesReplacedError(WorkerError):
    """Images that a job was made for came again with other content."""


@shared_task(name=SEGMENT_TASK)
def run(job_id: str) -> None:
    """Makes one attempt at a job.

    Does nothing if the job cannot be claimed now: the message came twice, another worker has the job, it has ended, or
    its next attempt is not due yet.
    """
    worker = SegmentationWorker.of_this_process()
    job = worker.ledger.jobs.claim(job_id, worker.settings.lease_seconds)
    if job is not None:
        with structlog.contextvars.bound_contextvars(job=job.id, attempt=job.attempts):
            worker.attempt(job)


class SegmentationWorker:
    """Holds what one worker process keeps between jobs: its connections, and the engine, loaded once.

    It is used by the thread that runs Celery's tasks; the lease and the time limit have threads of their own.
    """

    _mine: "SegmentationWorker | None" = None

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.home, newer_wins=settings.conflict == "newer")
        self.ledger = Ledger(settings.ledger_url, store_id=self.store.id)
        self.broker = Broker(celery_app(settings))
        self._other: tuple[tuple[object, ...], Engine] | None = None

    @classmethod
    def of_this_process(cls) -> "SegmentationWorker":
        """Returns this process's worker, made at the first job: no connection may be shared across a fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @cached_property
    def engine(self) -> Engine:
        """The engine of the node's own settings, loaded at first use; the published model takes about a minute."""
        return load_with_device_lock(self.settings)

    def _engine_for(self, wanted: Settings) -> Engine:
        """Returns the engine for the settings of a job, and loads it if need be.

        The node's own engine stays loaded for good. One other engine is kept beside it, until a job wants a third.
        """
        engine = engine_key(wanted)
        if engine == engine_key(self.settings):
            return self.engine
        if self._other is None or self._other[0] != engine:
            self._other = None  # makes room first
            self._other = engine, load_with_device_lock(wanted)
        return self._other[1]

    def attempt(self, job: Job) -> None:
        """Runs a claimed job to its end. Every outcome, also an unexpected error, is noted in the ledger.

        | outcome | state that follows |
        |---|---|
        | results published | SEGMENTED, REVIEW or SENDING |
        | error that may pass, attempts left | QUEUED, not before the backoff is over |
        | error for good, no attempt left, time limit | FAILED, with the reason |
        | images came again with other content | CANCELLED, with the reason |
        | worker stopped before the end | QUEUED, and the attempt does not count |
        | claim lost to a person or another worker | left as it is |

        An error in the process's CUDA context would meet every later job as well, so after an unexpected error on a
        GPU the process exits and Celery starts a new one.
        """
        try:
            lease = self.settings.lease_seconds
            with kept(lambda: self.ledger.jobs.renew(job, lease), lease) as lost, self._noted_before_killed(job):
                self._do(job, lost)
        except TakenBackError as error:
            log.warning("job_taken_back", reason=str(error))
        except CancelledError:  # else its claim is lost
            if must_give_back() and self.ledger.jobs.give_back(job, _GIVEN_BACK):
                log.warning("job_given_back", reason=_GIVEN_BACK)
        except ImagesReplacedError as error:
            if self.ledger.jobs.give_up(job):
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
                reason = reason_of(error)
            if (passing or broken) and job.attempts < self.settings.max_attempts:
                self.ledger.jobs.postpone(job, reason, backoff(self.settings, job.attempts))
                log.warning("job_postponed", reason=reason)
            else:
                self._failed(job, reason)
            if broken:  # an error of CUDA stays with its process: every later job would meet it
                log.error("worker_process_replaced")
                leave_process(1)

    def _do(self, job: Job, lost: threading.Event) -> None:
        """Segments the job's images, publishes the results, and enqueues the deliveries that follow.

        The network stops soon after `lost` is set, or when the worker must give its jobs back. Before the folder is
        renamed into place the lease is renewed once more: only the worker that still holds the claim may publish.
        """
        spec = job.spec
        wanted = settings_for(spec, self.settings)
        engine = self._engine_for(wanted)
        images = self._images(spec)
        with self._unchanged(spec):
            done = segment(
                images,
                spec.prompts,
                engine,
                derived=spec.derived,
                volume=spec.volume,
                straighten=wanted.resample_tilt,
                even=spec.engine.resample_spacing,
                character_set=self.settings.character_set or "",
                turn=device_lock(self.settings.home, engine.device),
                cancelled=lambda: lost.is_set() or must_give_back(),
            )
        before = self.ledger.jobs.predecessor(job)
        with self.store.results(job.id) as folder:
            result = write_outputs(
                done,
                spec,
                folder,
                label_map=label_map_wanted(spec.routes, self.settings.destinations),
                name_length=self.settings.roi_name_length,
                predecessors=references_to(before.result) if before and before.result else (),
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

    @contextmanager
    def _unchanged(self, spec: JobSpec) -> Iterator[None]:
        """Makes sure that the content which the block reads is the one that the job was made for, and the whole time.

        Raises:
            ImagesReplacedError: when it is not; whatever went wrong in the block has this cause then.
        """
        before = self.store.replacements(spec.series_key)  # a count grows before its content changes
        if is_former(spec, self.store):
            raise ImagesReplacedError(IMAGES_REPLACED)
        try:
            yield
        finally:
            if self.store.replacements(spec.series_key) != before:
                raise ImagesReplacedError(IMAGES_REPLACED)

    def _images(self, spec: JobSpec) -> list[Path]:
        """Returns the files of exactly the instances that the job names, in its order.

        The UIDs of the results are derived from these instances, so a result on fewer of them must not exist. A study
        that is set aside for removal is brought back.

        Raises:
            ImagesMissingError: when an instance is not in the store.
        """
        stored = self._stored(spec)
        if not stored.keys() >= set(spec.instances):  # such as a job that was started again when its days were over
            StoreRemoval(self.store).bring_back(spec.study_uid)
            stored = self._stored(spec)
        if missing := [uid for uid in spec.instances if uid not in stored]:
            raise ImagesMissingError(
                f"{len(missing)} of {len(spec.instances)} images of series {spec.series_uid} are not in the store any "
                f"more, the first is {missing[0]}; send the series again and then retry the job"
            )
        return [stored[uid] for uid in spec.instances]

    def _stored(self, spec: JobSpec) -> dict[str, Path]:
        """Returns the files of the series in the store, by SOP Instance UID."""
        return {path.stem: path for path in self.store.series_paths(spec.series_key)}

    @property
    def _too_long(self) -> str:
        """The reason to note for a job that was ended by its time limit."""
        return f"took longer than {self.settings.job_time_limit_seconds} s; see job_time_limit_seconds"

    @contextmanager
    def _noted_before_killed(self, job: Job) -> Iterator[None]:
        """Marks the job FAILED from a timer thread if it has not ended soon after its time limit.

        Celery's soft limit is a Python signal, which code stuck in a C library never sees; its hard limit then kills
        the process before anything can be noted. Without this note the job would be tried again and block the device
        once more. The timer fires between the two limits.
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
        """Marks the job FAILED and logs it, unless the claim is lost."""
        if self.ledger.jobs.fail(job, reason):
            log.error("job_failed", reason=reason)
