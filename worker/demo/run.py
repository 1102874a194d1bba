"""`demo`: sends a CT through a whole node over real associations, and shows what comes back to a PACS.

Nothing is short-circuited. The study is sent by C-STORE to a node that runs as processes of its own with its embedded
defaults; the results are read from what the demo's PACS received, which is a storage SCP in this process with a folder
of its own. The node ends with the demo; the three folders stay, and the next demo in the same place replaces them.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TypeVar

import highdicom
import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from dicom_node.errors import PeerError
from dicom_node.listener import Listener
from dicom_node.masks.packed import Mask, Masks, PackedMask
from dicom_node.objects.preview import drawn
from dicom_node.objects.provenance import Algorithm, Provenance, Review
from dicom_node.regions import EmptyMask, region_for
from dicom_node.scu.association import Peer, echo
from dicom_node.scu.c_store import send
from dicom_node.series import ImageSeries, read_series
from dicom_node.store import Store
from worker.demo.received import masks_received
from worker.demo.study import DemoStudy, phantom_study, study_from_nifti
from worker.errors import WorkerError
from worker.ledger import Job, JobState, Ledger
from worker.result import ModelUsed, Result
from worker.selection.study_volumes import read_headers, series_in

NODE_AE, PACS_AE, MODALITY_AE = "VOXTELL", "DEMO-PACS", "DEMO-CT"
QUIET_SECONDS = 2.0  # the demo sends one study in one association: no need to wait longer
START_SECONDS = 180.0  # for the node's processes to come up
PROMPTS = (
    "brainstem",
    "spinal cord",
    "right parotid",
    "left parotid",
    "esophagus",
    "larynx",
    "mandible",
)


Value = TypeVar("Value")


class DemoError(WorkerError):
    """The demo did not come to its end."""


@dataclass(frozen=True)
class Shown:
    """One line of the demo's table: a structure, its volume, and its agreement with a known contour."""

    label: str
    volume_ml: float
    dice: float | None  # None: no contour is known


class Demo:
    """One run in one folder: `study/` what was sent, `node/` the node's home, `pacs/` what came back."""

    def __init__(self, folder: Path, study: Path | None, prompts: tuple[str, ...]) -> None:
        self._folder, self._study, self._prompts = folder, study, prompts or PROMPTS
        self._console = Console(highlight=False)
        self._started = time.perf_counter()

    def run(self) -> None:
        """Runs the demo step by step, and prints a line for each.

        Raises:
            DemoError: when a step fails; says which, and where the node's log is.
        """
        self._clean()
        study = self._step("study", self._prepare)
        port = _free_port()
        with ExitStack() as stack:
            pacs = stack.enter_context(
                Listener(Store(self._folder / "pacs"), ae_title=PACS_AE, host="127.0.0.1", port=0, on_arrival=_ignore)
            )
            self._configure()
            node = stack.enter_context(self._node(port, pacs.port))
            here = Peer(NODE_AE, "127.0.0.1", port)
            self._step("node up", lambda: self._await_answer(here, lambda: self._require_alive(node)))
            self._step("sent", lambda: self._send(study, here))
            job = self._step("segmented", lambda: self._await_job(node))
            received = self._step("received", lambda: self._received(job))
        self._show(study, job, received)

    def send_to(self, peer: Peer) -> None:
        """Sends the study to a node that runs already, as a modality would, and does nothing else.

        Raises:
            DemoError: when the node does not answer for three minutes, or takes none of the images.
        """
        self._clean()
        study = self._step("study", self._prepare)
        self._step("node", lambda: self._await_answer(peer, lambda: None))
        self._step("sent", lambda: self._send(study, peer))

    def _clean(self) -> None:
        """Removes what an earlier demo wrote: its three folders, and nothing else."""
        for name in ("study", "node", "pacs"):
            shutil.rmtree(self._folder / name, ignore_errors=True)
        self._folder.mkdir(parents=True, exist_ok=True)

    def _prepare(self) -> tuple[DemoStudy, str]:
        """Returns the study to send and a phrase on it: the phantom, a NIfTI CT, or a folder of DICOM files."""
        if self._study is None:
            study = phantom_study(self._folder / "study")
            return study, f"built-in head and neck phantom, {len(study.paths)} slices"
        if self._study.is_file():
            study = study_from_nifti(self._study, self._folder / "study")
            return study, f"{self._study.name} as a CT series, {len(study.paths)} slices"
        paths = tuple(path for series in series_in(self._study) for path in series.paths)
        return DemoStudy(paths, {}), f"{self._study}, {len(paths)} files"

    def _configure(self) -> None:
        """Writes the node's one protocol: every CT, MR and PET series, with the demo's prompts."""
        protocol = {
            "name": "demo",
            "match": {"Modality": {"regex": "^(CT|MR|PT)$"}, "Instances": {"min": 1}},
            "prompts": [{"text": text} for text in self._prompts],
        }
        folder = self._folder / "node" / "protocols"
        folder.mkdir(parents=True)
        (folder / "demo.yaml").write_text(yaml.safe_dump(protocol, sort_keys=False))

    @contextmanager
    def _node(self, port: int, pacs_port: int) -> Iterator[subprocess.Popen[bytes]]:
        """Runs `voxtell-dicom up` until the block ends, with its defaults but for home, port, PACS and quiet time."""
        destination = f'[{{"name": "demo-pacs", "ae_title": "{PACS_AE}", "host": "127.0.0.1", "port": {pacs_port}}}]'
        settings = {
            "VOXTELL_HOME": str(self._folder.resolve() / "node"),
            "VOXTELL_PORT": str(port),
            "VOXTELL_DESTINATIONS": destination,
            "VOXTELL_QUIET_SECONDS": str(QUIET_SECONDS),
        }
        with self._log.open("wb") as log:
            node = subprocess.Popen(
                [sys.executable, "-m", "worker", "up"], env=os.environ | settings, stdout=log, stderr=log
            )
            try:
                yield node
            finally:
                node.terminate()
                node.wait()

    def _await_answer(self, node: Peer, check: Callable[[], None]) -> tuple[None, str]:
        """Waits until the node answers a C-ECHO, for three minutes at most; `check` raises when it has ended."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            check()
            try:
                echo(node, calling_ae=MODALITY_AE)
            except PeerError as error:
                if time.monotonic() > deadline:
                    raise DemoError(f"the node did not come up: {error} Its log says why.") from None
                time.sleep(0.2)
            else:
                return None, f"{node} answers C-ECHO"

    def _send(self, study: DemoStudy, node: Peer) -> tuple[None, str]:
        """Sends the study; images that the node refuses are only printed, unless it refuses all of them."""
        outcomes = send(study.paths, node, calling_ae=MODALITY_AE)
        refused = [outcome for outcome in outcomes if outcome.result == "failed"]
        if len(refused) == len(outcomes):
            raise DemoError(f"the node took none of the files: {refused[0].message}")
        for outcome in refused:
            self._console.print(f"  [yellow]{outcome.message}[/]")
        return None, f"{len(outcomes) - len(refused)} images by C-STORE, each acknowledged after its fsync"

    def _await_job(self, node: subprocess.Popen[bytes]) -> tuple[Job, str]:
        """Waits until every job of the study has ended; returns the one that found most structures."""
        ledger = Ledger(f"sqlite:///{self._folder / 'node' / 'ledger.sqlite'}")
        seen: dict[str, JobState] = {}
        with self._console.status("waiting for the series to be complete") as status:
            while True:
                self._require_alive(node)
                jobs = ledger.jobs.find()
                for job in jobs:
                    if seen.get(job.id) is not job.state:
                        seen[job.id] = job.state
                        status.update(f"job {job.id} is {job.state}")
                asked = ledger.series.known() and not ledger.series.unsettled()
                if asked and all(job.state.is_finished for job in jobs):
                    break
                time.sleep(0.2)
        studies = {series.study_uid for series in ledger.series.known()}
        left_out = [one for study_uid in studies for one in ledger.series.decisions_on(study_uid) if not one.taken]
        ledger.close()
        for decision in left_out:
            self._console.print(f"  [yellow]series {decision.series_uid}: {decision.reason}[/]")
        if not jobs:
            raise DemoError("nothing was segmented: " + "; ".join(decision.reason for decision in left_out))
        done = [job for job in jobs if job.state.has_succeeded]
        for job in jobs:
            if job.state is JobState.FAILED:
                self._console.print(f"  [yellow]series {job.series_uid}: {job.reason}[/]")
        if not done:
            raise DemoError(f"no series became a result: {jobs[0].reason}")
        best = max(done, key=lambda job: len(_result(job).found))
        result = _result(best)
        model = f"{result.model.name} {result.model.version}, " if result.model else ""
        return best, f"by {model}job {best.id}, network {result.seconds['network']:.1f} s"

    def _received(self, job: Job) -> tuple[list[Path], str]:
        """Returns the files that have come back to the PACS."""
        files = [stored.path for stored in Store(self._folder / "pacs").walk()]
        if not files and _result(job).found:
            raise DemoError(f"nothing came back to the PACS; the node's log is {self._log}")
        return files, "\n".join(str(path) for path in files) or "nothing was found, so nothing was sent"

    def _show(self, study: DemoStudy, job: Job, received: list[Path]) -> None:
        """Prints volumes and Dice of what came back, and draws the picture."""
        series = read_series(_of_series(study.paths, job.series_uid))
        masks = masks_received(received, series)
        for row in shown(self._prompts, masks, study.truth_on(series.volume), series.volume):
            dice = "" if row.dice is None else f"   Dice {row.dice:.3f}"
            volume = f"{row.volume_ml:9.1f} ml" if row.volume_ml else "looked for, not found"
            self._console.print(f"  {row.label:<28}{volume}{dice}")
        picture = self._folder / "overlay.png"
        Image.fromarray(_sheet(series, masks, self._prompts, _result(job))).save(picture)
        self._console.print(f"[bold]overlay[/]    {picture}", soft_wrap=True)
        model = _result(job).model
        notice = model.notice if model else ""
        self._console.print(
            f"[bold]done[/]       {time.perf_counter() - self._started:.1f} s. {notice}", soft_wrap=True
        )

    @property
    def _log(self) -> Path:
        """The file with what the node's processes log."""
        return self._folder / "node.log"

    def _require_alive(self, node: subprocess.Popen[bytes]) -> None:
        """Raises DemoError, with the last line of the node's log, when the node has ended."""
        if node.poll() is not None:
            words = self._log.read_text(errors="replace").strip().splitlines()
            raise DemoError(f"the node ended (exit code {node.returncode}): {words[-1] if words else 'no words'}")

    def _step(self, name: str, work: Callable[[], tuple[Value, str]]) -> Value:
        """Runs a step and prints one line: its name, its outcome, its seconds."""
        started = time.perf_counter()
        with self._console.status(name):
            value, words = work()
        seconds = time.perf_counter() - started
        self._console.print(f"[bold]{name:<11}[/]{words}  [dim]({seconds:.1f} s)[/]", soft_wrap=True)
        return value


def shown(
    labels: Sequence[str], masks: Mapping[str, Mask], truth: Mapping[str, Mask], grid: highdicom.Volume
) -> list[Shown]:
    """Returns volume and Dice of each structure asked for.

    `masks` and `truth` are bool (slices, rows, columns) on the voxels of `grid`. A structure that was not found has
    volume 0; one without a known contour has no Dice.
    """
    voxel_ml = float(np.prod(grid.spacing)) / 1000.0
    rows = []
    for label in labels:
        mask = masks.get(label, np.zeros(grid.spatial_shape, bool))
        known = truth.get(label)
        dice = None
        if known is not None and known.any():
            dice = float(2 * np.count_nonzero(mask & known) / (np.count_nonzero(mask) + np.count_nonzero(known)))
        rows.append(Shown(label, float(np.count_nonzero(mask)) * voxel_ml, dice))
    return rows


def _result(job: Job) -> Result:
    """Returns the result of a job.

    Raises:
        DemoError: when the job has none.
    """
    if job.result is None:
        raise DemoError(f"job {job.id} is {job.state} and has no result")
    return job.result


def _sheet(series: ImageSeries, masks: Mapping[str, Mask], prompts: Sequence[str], result: Result) -> NDArray[np.uint8]:
    """Returns the picture of the masks that came back, as a preview shows them: uint8 (rows, columns, RGB)."""
    model = result.model or ModelUsed(name="", version="", digest="")
    nothing = np.zeros(series.volume.spatial_shape, bool)
    regions = [replace(region_for(one), empty_means=_meaning(one, result)) for one in prompts]
    facts = Provenance(
        Algorithm(model.name, model.version, model.digest),
        made=datetime.now().astimezone(),
        review=tuple(map(Review, result.review)),
    )
    return drawn(series, Masks(PackedMask.of(masks.get(one, nothing)) for one in prompts), regions, facts)


def _meaning(label: str, result: Result) -> EmptyMask:
    """Returns what an empty mask of a structure says, as the result lists it."""
    return "not known" if label in result.not_known else "not judged" if label in result.not_judged else "not found"


def _of_series(paths: Sequence[Path], series_uid: str) -> list[Path]:
    """Returns the files that belong to one series."""
    readable, headers = read_headers(paths)
    return [p for p, h in zip(readable, headers, strict=True) if str(h.get("SeriesInstanceUID")) == series_uid]


def _free_port() -> int:
    """Returns a TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ignore(_arrival: object) -> None:
    """Does nothing: the demo's PACS only keeps what it is sent."""
