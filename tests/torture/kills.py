"""The steps at which a process of the node is killed, exactly there: before or after one function of the product.

The product knows nothing of this. `arm` wraps the functions in a process that `tests.torture.launch` started; a wrapped
function looks for a token, a file named after the step and what the process is working on. Whoever renames the token
away dies by SIGKILL in that instant, so each token kills once, in whichever process comes there first.
"""

import functools
import importlib
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

VARIABLE: Final = "TORTURE_TOKENS"
"""The environment variable that names the folder of the tokens."""

Needs = Literal["", "dicom", "web", "report", "leaving"]
"""What must happen to a study for a process to come to a step with it: its results go by C-STORE with commitment, or
by STOW-RS; a report comes; its images are removed."""

LET_GO: Final = "let-go"
"""The folder beside the tokens with a file for each study whose images may go."""

ARRIVED: Final = "worker.steps.intake:Intake.arrived"
P_DATA_TF: Final = 0x04  # type of the PDUs that carry messages, PS3.8 section 9.3.5


@dataclass(frozen=True)
class Step:
    """A place in the node's way. `key` says from the function's arguments which study or image is there; None: none."""

    name: str
    role: str
    target: str  # module:function or module:Class.method
    after: bool
    key: Callable[..., str | None]
    by_image: bool = False  # the key is a SOP Instance UID, otherwise a Study Instance UID
    needs: Needs = ""


class _Current:
    """What the worker process is at: its functions further inside do not say for which study they are called."""

    study_uid: str | None = None


def _current_study(*_args: Any, **_kwargs: Any) -> str | None:
    return _Current.study_uid


def _message_sent(_socket: Any, pdu: bytes) -> str | None:
    """After the first PDU with a message, the C-STORE command, and before its data set."""
    return _Current.study_uid if pdu[0] == P_DATA_TF else None


def _of_job(commitments: Any, delivery: Any) -> str:
    return str(commitments._jobs.get(delivery.job_id).study_uid)


STEPS: Final = (
    Step(
        "during receive",
        "listen",
        "dicom_node.scp.reception:Reception.write",
        True,
        lambda r, _: _expected(r),
        True,
    ),
    Step("between write and name", "listen", "os:link", False, lambda _, final: Path(final).stem, True),
    Step(
        "between fsync and ledger", "listen", "worker.steps.intake:Intake.arrived", False, lambda _, a: a.sop_uid, True
    ),
    Step(
        "between fsync and response", "listen", "worker.steps.intake:Intake.arrived", True, lambda _, a: a.sop_uid, True
    ),
    Step("while enqueuing", "listen", "worker.ledger:JobLedger.add", True, lambda _, work: work.study_uid),
    Step(
        "between settling and enqueuing", "listen", "worker.ledger:SeriesLedger.settle", True, lambda _, s: s.study_uid
    ),
    Step(
        "at the claim", "segment-worker", "worker.steps.segmentation:SegmentationWorker.attempt", False, _current_study
    ),
    Step("in the network", "segment-worker", "tests.support.twins:ThresholdSegmenter.__call__", True, _current_study),
    Step("before the rename", "segment-worker", "dicom_node.store:publish", False, _current_study),
    Step("between rename and ledger", "segment-worker", "worker.ledger:JobLedger.segmented", False, _current_study),
    Step("between ledger and delivery", "segment-worker", "worker.ledger:JobLedger.segmented", True, _current_study),
    Step(
        "before the association",
        "deliver-worker",
        "worker.steps.delivery:DeliveryWorker.attempt",
        False,
        _current_study,
    ),
    Step(
        "during send",
        "deliver-worker",
        "pynetdicom.transport:AssociationSocket.send",
        True,
        _message_sent,
        needs="dicom",
    ),
    Step("during STOW-RS", "deliver-worker", "dicom_node.scu.stow:_Body.readinto", True, _current_study, needs="web"),
    Step("between send and ledger", "deliver-worker", "worker.ledger:DeliveryLedger.end", False, _current_study),
    Step(
        "between send and commitment",
        "deliver-worker",
        "worker.maintenance.storage_commitment:CommitmentRequests.ask",
        False,
        _current_study,
        needs="dicom",
    ),
    Step(
        "between question and promise",
        "deliver-worker",
        "worker.ledger:CommitmentLedger.claim",
        True,
        _current_study,
        needs="dicom",
    ),
    Step(
        "between promise and ledger",
        "listen",
        "worker.ledger:CommitmentLedger.committed",
        False,
        _of_job,
        needs="dicom",
    ),
    Step(
        "between report and response",
        "receive-reports",
        "worker.reports.inbox:ReportInbox._enter",
        True,
        lambda _inbox, _id, links, _source: links.study_uid,
        needs="report",
    ),
    Step(
        "while set aside",
        "listen",
        "dicom_node.removal:StoreRemoval.set_aside",
        True,
        lambda _, uid, _used_at: uid,
        needs="leaving",
    ),
    Step(
        "before the removal",
        "listen",
        "dicom_node.removal:StoreRemoval.remove",
        False,
        lambda _, study: study.study_uid,
        needs="leaving",
    ),
)


def _expected(reception: Any) -> str:
    """The image whose file has just got its start, or more of its data set."""
    return str(reception._announced.sop_uid)


def arm(role: str) -> None:
    """Makes this process die where tokens say so. AttributeError when the product has no such function any more."""
    tokens = Path(os.environ[VARIABLE])
    for step in STEPS:
        if step.role == role:
            _wrap(step.target, functools.partial(_mortal, step, tokens))
    if role == "segment-worker":
        _wrap("worker.steps.segmentation:SegmentationWorker.attempt", _remembering(lambda _desk, job: job.study_uid))
    if role == "deliver-worker":
        study = _remembering(lambda sender, delivery: sender.ledger.jobs.get(delivery.job_id).study_uid)
        _wrap("worker.steps.delivery:DeliveryWorker.attempt", study)
        asked = _remembering(lambda commitments, job_id, _name: commitments._ledger.jobs.get(job_id).study_uid)
        _wrap("worker.maintenance.storage_commitment:CommitmentRequests.ask", asked)


def _wrap(target: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    setattr(owner, name, wrapper(getattr(owner, name)))


def _mortal(step: Step, tokens: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not step.after:
            _die_if_due(step, tokens, step.key(*args))
        result = function(*args, **kwargs)
        if step.after:
            _die_if_due(step, tokens, step.key(*args))
        return result

    return wrapped


def _remembering(study_of: Callable[..., str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def wrapper(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapped(*args: Any) -> Any:
            before, _Current.study_uid = _Current.study_uid, study_of(*args)
            try:
                return function(*args)
            finally:
                _Current.study_uid = before

        return wrapped

    return wrapper


def _die_if_due(step: Step, tokens: Path, key: str | None) -> None:
    if key is None:
        return
    for token in tokens.glob(f"{_slug(step)}@{key}@*"):
        try:
            token.rename(tokens / "struck" / token.name)
        except FileNotFoundError:  # another process was faster
            continue
        os.kill(os.getpid(), signal.SIGKILL)


class Tokens:
    """The harness' side: lays tokens and counts those that struck."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "struck").mkdir(parents=True)
        (folder / LET_GO).mkdir()

    @property
    def environment(self) -> Mapping[str, str]:
        """What the processes of the node must know."""
        return {VARIABLE: str(self.folder)}

    def lay(self, step: Step, key: str, times: int = 1) -> None:
        """The next `times` processes that come to this step with this study or image die there."""
        for number in range(times):
            (self.folder / f"{_slug(step)}@{key}@{number}").touch()

    def let_go(self, study_uid: str) -> None:
        """The days of this study's images are over."""
        (self.folder / LET_GO / study_uid).touch()

    def struck(self) -> dict[str, int]:
        """How many processes died at each step."""
        names = [path.name.split("@")[0] for path in (self.folder / "struck").iterdir()]
        return {step.name: names.count(_slug(step)) for step in STEPS}

    def left(self) -> list[str]:
        """Tokens that nobody came across."""
        return sorted(path.name for path in self.folder.glob("*@*"))


def _slug(step: Step) -> str:
    return step.name.replace(" ", "-")
