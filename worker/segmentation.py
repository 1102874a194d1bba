"""The story of a segmentation: read the series, turn it to the network's axes, ask the network, turn the masks back,
name them, write the objects.

`segment` is that story; `run` is the Celery task around it: claim in the ledger, keep the lease, publish the results
folder with one rename, say how it ended. Only this module's process loads torch, and only when the first job comes.
"""

import importlib.util
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from billiard.exceptions import SoftTimeLimitExceeded
from celery import shared_task

from dicom_node.measures import extent
from dicom_node.regions import Region, region_for
from dicom_node.series import read_series, read_volume
from dicom_node.store import Store
from dicom_node.volume import from_network, to_network
from worker.broker import SEGMENT_TASK, Broker, celery_app
from worker.errors import BrokerError, EngineMissingError, WorkerError
from worker.jobs import Prompt, Work
from worker.ledger import Job, Ledger
from worker.outputs import Segmented, write_outputs
from worker.retries import backoff
from worker.settings import Settings, load

if TYPE_CHECKING:
    import voxtell

log = structlog.get_logger(__name__)


class ImagesMissingError(WorkerError):
    """Images that a job was made for are not in the store any more."""


LEASE_RENEWALS = 3  # how often a lease is renewed before it would run out


def segment(
    paths: Sequence[Path],
    prompts: Sequence[Prompt],
    segmenter: "voxtell.Segmenter",
    *,
    volume: str | None = None,
    straighten: bool = False,
    progress: Callable[[float], None] = lambda _part: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Segmented:
    """Reads a series, asks the network for each prompt, and brings the masks back to the source frames.

    `volume` names one of several volumes that the files hold; `straighten` is about a tilted gantry, see `to_network`.

    Raises:
        SeriesError: the files are not one regular volume, or hold none of that name; names the slice.
        VoxTellError: the engine cannot do it; its `retry` says whether another attempt makes sense.
    """
    clock = _Clock()
    series = read_series(paths) if volume is None else read_volume(paths, volume)
    network = to_network(series, straighten=straighten)
    clock.lap("read")
    found = segmenter(
        network.array,
        [prompt.text for prompt in prompts],
        spacing=network.spacing,
        progress=progress,
        cancelled=cancelled,
    )
    clock.lap("network")
    masks = from_network(found, network, series)
    regions = tuple(named(prompt) for prompt in prompts)
    clock.lap("back")
    # A sheared grid is not the one that the network saw: there the masks on the slices say where they lie.
    seen, affine = (masks, series.affine) if series.tilt_degrees else (found, network.affine)
    extents = tuple(extent(mask, affine) if mask.any() else None for mask in seen)
    return Segmented(series, tuple(prompts), regions, masks, extents, segmenter.info, clock.seconds)


def named(prompt: Prompt) -> Region:
    """The region of a prompt, under the name that the protocol gives it."""
    region = region_for(prompt.text)
    return region if prompt.name is None else replace(region, label=prompt.name)


def load_segmenter(settings: Settings) -> "voxtell.Segmenter":
    """The model that the settings name, on the device that they name.

    Raises:
        EngineMissingError: the node was installed without the engine.
        ModelError: the model's files are missing or not what they should be.
    """
    require_engine()
    import voxtell

    return voxtell.load(settings.model, device=settings.device, bank=settings.bank)


def require_engine() -> None:
    """Raises EngineMissingError if the node was installed without the engine."""
    if importlib.util.find_spec("torch") is None:
        raise EngineMissingError


@shared_task(name=SEGMENT_TASK)
def run(job_id: str) -> None:
    """One attempt at a job. A message that comes twice, or too early, does nothing."""
    desk = Desk.of_this_process()
    job = desk.ledger.claim(job_id, desk.settings.lease_seconds)
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

    @classmethod
    def of_this_process(cls) -> "Desk":
        """The one desk of a worker process; made at the first job, after the fork."""
        if cls._mine is None:
            cls._mine = cls(load())
        return cls._mine

    @cached_property
    def segmenter(self) -> "voxtell.Segmenter":
        """The model; loading the published one takes a minute."""
        return load_segmenter(self.settings)

    def attempt(self, job: Job) -> None:
        """A door: every outcome, also the unexpected, becomes a line of the ledger."""
        try:
            with self._lease(job) as lost:
                self._do(job, lost)
        except SoftTimeLimitExceeded:
            self._failed(job, f"took longer than {self.settings.job_time_limit_seconds} s; see job_time_limit_seconds")
        except Exception as error:
            reason = str(error)
            retry = getattr(error, "retry", None)
            if retry is None:
                log.exception("unexpected error")
                reason = f"unexpected {type(error).__name__}: {error}; the worker's log has the traceback"
            if retry == "later" and job.attempts < self.settings.max_attempts:
                self.ledger.postpone(job, reason, backoff(self.settings, job.attempts))
                log.warning("attempt failed, will try again", reason=reason)
            else:
                self._failed(job, reason)

    def _do(self, job: Job, lost: threading.Event) -> None:
        work = job.work
        done = segment(
            self._images(work),
            work.prompts,
            self.segmenter,
            volume=work.volume,
            straighten=self.settings.resample_tilt,
            cancelled=lost.is_set,
        )
        with self.store.results(job.id) as folder:
            result = write_outputs(done, work, folder)
        if not self.ledger.segmented(job, result):
            log.warning("the job was taken back while it ran; its results stay unsent")
            return
        log.info("segmented", found=len(result["found"]), seconds=round(sum(result["seconds"].values()), 1))
        try:
            self.broker.deliver(self.ledger.to_deliver(job.id), self.ledger.priorities())
        except BrokerError as error:  # the listener's sweep enqueues them
            log.warning("queue", problem=str(error))

    def _images(self, work: Work) -> list[Path]:
        """The files of exactly the instances that the work names: a result on fewer would not be what its UID says."""
        stored = {path.stem: path for path in self.store.series_paths(work.study_uid, work.series_uid)}
        missing = [uid for uid in work.instances if uid not in stored]
        if missing:
            raise ImagesMissingError(
                f"{len(missing)} of {len(work.instances)} images of series {work.series_uid} are not in the store any "
                f"more, the first is {missing[0]}; send the series again and then retry the job"
            )
        return [stored[uid] for uid in work.instances]

    def _failed(self, job: Job, reason: str) -> None:
        self.ledger.fail(job, reason)
        log.error("job failed", reason=reason)

    @contextmanager
    def _lease(self, job: Job) -> Iterator[threading.Event]:
        """Renews the claim while the work goes on; the event says that it was taken back or cancelled."""
        lost, over = threading.Event(), threading.Event()
        lease = self.settings.lease_seconds

        def renew() -> None:
            while not over.wait(lease / LEASE_RENEWALS):
                if not self.ledger.renew(job, lease):
                    lost.set()
                    return

        keeper = threading.Thread(target=renew, name="lease", daemon=True)
        keeper.start()
        try:
            yield lost
        finally:
            over.set()
            keeper.join()


class _Clock:
    """Seconds per step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now
