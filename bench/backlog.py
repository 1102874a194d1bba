"""How busy the network is kept on a backlog: the share of the time in which a network call is under way.

    python -m bench.backlog [--jobs 20] [--seconds 10] [--slices 120] [--size 512] [--processes 1 2] [--folder DIR]

Real segmentation and delivery workers, with their queue and ledger, work off jobs on one CT of noise with eight
ellipsoids; DCMTK's storescp takes the results (SEG and RTSTRUCT). The network is a sleep of --seconds with fixed masks,
as a GPU leaves the processor alone; the device lock (worker.engines.devices) lets one process ask at a time. The
share is the time within calls over the time from the first call's start to the last one's end. Everything but the
network takes processor time: the table says how much for each job, so that the share can be reckoned for another
machine and another network.
"""

import argparse
import contextlib
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from dicom_node.store import Store
from dicom_node.synthesis import centred_affine, write_slices
from tests.support.peers import running, storescp
from tests.support.twins import ThresholdSegmenter
from worker.job_spec import JobSpec, Prompt, Route
from worker.ledger import JobState, Ledger
from worker.queue.broker import Broker, celery_app
from worker.queue.embedded_server import running_queue
from worker.settings import Settings, load

STRUCTURES: Final = 8
SPACING: Final = (2.5, 0.9, 0.9)
LOOK_SECONDS: Final = 0.5
CALLS, CALL_SECONDS = (
    "BACKLOG_CALLS",
    "BACKLOG_SECONDS",
)  # environment of the worker: its journal, and how long a call takes


class TimedNetwork(ThresholdSegmenter):
    """Sleeps as long as a network would compute, and finds ellipsoids that do not depend on the image."""

    def __call__(
        self,
        image: np.ndarray[Any, np.dtype[np.float32]],
        prompts: Sequence[str],
        *,
        spacing: tuple[float, float, float] | None = None,  # noqa: ARG002 (as the network is called)
        progress: Callable[[float], None] = lambda _part: None,  # noqa: ARG002
        cancelled: Callable[[], bool] = lambda: False,  # noqa: ARG002
    ) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Masks bool (P, S, A, R)."""
        with Path(os.environ[CALLS]).open("a") as journal:
            started = time.monotonic()
            time.sleep(float(os.environ[CALL_SECONDS]))
            journal.write(f"{started} {time.monotonic()} {time.process_time()} {os.getpid()}\n")
        return ellipsoids(image.shape, len(prompts))


@functools.cache
def ellipsoids(shape: tuple[int, ...], count: int) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Bool (count, S, A, R): along R, each as high as half of the volume."""
    axes = np.ogrid[tuple(slice(-1, 1, size * 1j) for size in shape)]
    masks = [
        (axes[0] / 0.5) ** 2 + (axes[1] / 0.3) ** 2 + ((axes[2] - middle) * count) ** 2 < 1
        for middle in np.linspace(-0.8, 0.8, count)
    ]
    return np.stack(masks)


def measure(folder: Path, options: argparse.Namespace, processes: int) -> str:
    """One row of the table: works off the backlog in a home of its own."""
    home, calls = folder / f"home-{processes}", folder / f"calls-{processes}"
    with storescp(folder / f"pacs-{processes}") as pacs:
        destination = {"name": "pacs", "ae_title": pacs.ae_title, "host": pacs.host, "port": pacs.port}
        settings = load(home=home, destinations=[destination], segment_processes=processes, log_level="warning")
        ledger, store = Ledger(settings.ledger_url), Store(home)
        add_jobs(ledger, store, options)
        environment = {
            **os.environ,
            **{CALLS: str(calls), CALL_SECONDS: str(options.seconds), "VOXTELL_HOME": str(home)},
            "VOXTELL_DESTINATIONS": f"[{destination}]".replace("'", '"'),
            **{"VOXTELL_SEGMENT_PROCESSES": str(processes), "VOXTELL_LOG_LEVEL": "warning"},
        }
        with running_queue(settings, ours=True), workers(environment):
            Broker(celery_app(settings)).segment(ledger.jobs.due())
            work_off(ledger, settings)
    jobs = ledger.jobs.find(JobState.DELIVERED)
    ledger.close()
    if len(jobs) != options.jobs:
        sys.exit(f"{len(jobs)} of {options.jobs} jobs were delivered")
    lines = np.array([list(map(float, line.split())) for line in calls.read_text().splitlines()])
    wall = lines[:, 1].max() - lines[:, 0].min()
    busy = (lines[:, 1] - lines[:, 0]).sum() / wall
    work = np.concatenate([np.diff(lines[lines[:, 3] == process, 2]) for process in set(lines[:, 3])])
    return f"{processes:>9}  {busy:>6.2f}  {wall:>8.1f}  {np.median(work):>31.2f}"


def add_jobs(ledger: Ledger, store: Store, options: argparse.Namespace) -> None:
    """A CT in the store and a job for each of many protocols on it."""
    shape = (options.slices, options.size, options.size)
    image = np.random.default_rng(0).normal(0, 100, shape).astype(np.float32)
    with tempfile.TemporaryDirectory() as made:
        uids = []
        for path in write_slices(image, centred_affine(shape, SPACING), Path(made)):
            uids.append(f"1.2.3.4.{len(uids) + 1}")
            store.put(path.read_bytes(), study_uid="1.2.3", series_uid="1.2.3.4", sop_uid=uids[-1])
    for number in range(options.jobs):
        ledger.jobs.add(
            JobSpec.of(
                study_uid="1.2.3",
                series_uid="1.2.3.4",
                instances=uids,
                protocol=f"backlog {number}",
                protocol_digest="0",
                prompts=tuple(Prompt(text=f"structure {index}") for index in range(STRUCTURES)),
                model=None,
                outputs=("seg", "rtstruct"),
                routes=(Route(to="pacs"),),
            )
        )


@contextlib.contextmanager
def workers(environment: dict[str, str]) -> Iterator[None]:
    """A segmentation worker with the timed network, and a delivery worker."""
    segment = [sys.executable, "-m", "bench.backlog", "--worker"]
    deliver = [sys.executable, "-m", "worker", "deliver-worker"]
    with running(segment, env=environment), running(deliver, env=environment):
        yield


def work_off(ledger: Ledger, settings: Settings) -> None:
    """Until no job is left to be done; looks after the queue as the listener would."""
    broker, left = Broker(celery_app(settings)), True
    while left:
        time.sleep(LOOK_SECONDS)
        left = any(job.state.is_unfinished for job in ledger.jobs.find())
        broker.top_up([], ledger.deliveries.due())


def main() -> None:
    """Prints the table, or is the segmentation worker of one row."""
    parser = argparse.ArgumentParser(prog="python -m bench.backlog", description=__doc__)
    parser.add_argument("--jobs", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0, help="of one network call")
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        from worker import roles
        from worker.engines import loading

        loading.load_engine = lambda _settings, **_options: TimedNetwork()  # type: ignore[assignment, return-value]
        roles.segment_worker(load())
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as made:
        print(f"{options.jobs} jobs, {options.slices} x {options.size} x {options.size}, network {options.seconds:g} s")
        print(f"{'processes':>9}  {'busy':>6}  {'wall (s)':>8}  processor time between calls (s)")
        for processes in options.processes:
            print(measure(Path(made), options, processes), flush=True)


if __name__ == "__main__":
    main()
