"""`voxtell-dicom run`: segments the studies of a folder without network, ledger and queue.

The volumes are chosen, segmented and written by the same code as in the node, one after the other in this process. The
results lie in the folder that the caller names.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dicom_node.errors import SeriesError
from dicom_node.objects import Form
from dicom_node.scu.transcode import Syntax
from voxtell.engine import Engine
from voxtell.prompt_checks import check_prompts
from worker.engines.loading import load_engine, settings_for
from worker.errors import WorkerError
from worker.job_spec import JobSpec, Output, Prompt
from worker.logs import get_logger
from worker.protocols import Match, Protocol, inactive, read_protocol
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport
from worker.report_language.formats.read import read_report
from worker.reports.reported import Reported, codec_for, language_of, reported_by
from worker.result import Result
from worker.results.as_sent import as_sent
from worker.results.writable import require_writable
from worker.results.write import write_outputs
from worker.selection.choose import choose
from worker.selection.select import spec_of, with_report
from worker.selection.study_volumes import StudyVolume, studies_in
from worker.settings import Settings
from worker.steps.pipeline import segment

log = get_logger(__name__)

EVERYTHING = Protocol(
    name="command line", match=Match(), choose=Choose(never=()), report=FromReport(use=True), outputs=("seg",)
)
"""The protocol of a run with prompts alone: it takes every volume, also a projection. The prompts given on the command
line reach it in the same way as those of a report."""


class NothingToDoError(WorkerError):
    """No series of the study was segmented."""


class UsedFolderError(WorkerError):
    """The folder holds the result of an earlier run."""

    retry = "usage"


@dataclass(frozen=True)
class VolumeResult:
    """What came of one volume: its result, and the folder with the files that `result.files` names."""

    study_uid: str
    series_uid: str
    volume: str | None  # its name, where the series holds several
    label: str
    patient_id: str
    folder: Path
    result: Result

    @property
    def files(self) -> list[Path]:
        """The files that were written."""
        return [self.folder / name for name in self.result.files]

    def json_facts(self) -> dict[str, Any]:
        """Returns the result as JSON values, with the paths of its files and which volume it is of."""
        facts = {name: value for name, value in vars(self).items() if name not in ("folder", "result")}
        return self.result.json_facts() | facts | {"files": [str(file) for file in self.files]}


@dataclass(frozen=True)
class Sent:
    """How the objects are written: as a destination with this form of SEG and this transfer syntax gets them."""

    form: Form = "binary"
    syntax: Syntax = "explicit"


def run_study(
    settings: Settings,
    study: Path,
    output: Path,
    prompts: Sequence[str],
    report: Path | None,
    protocol: Path | None,
    outputs: tuple[Output, ...],
    *,
    sent: Sent = Sent(),
    resample_spacing: bool = False,
    progress: Callable[[str, float], None] = lambda _what, _part: None,
) -> list[VolumeResult]:
    """Segments the volumes that the protocol takes, or every volume if no protocol is given.

    Args:
        study: folder of DICOM files of one study or many, whatever its layout.
        output: folder of the results. Where several volumes are segmented, each has a folder of its own below it,
            `<Series Instance UID>/<name of the volume>`.
        prompts: texts to segment; used where there is no report.
        report: file of a radiology report whose findings become prompts.
        outputs: kinds of results, instead of the protocol's; () leaves these as they are.
        sent: how the objects are written.
        resample_spacing: take volumes whose spacing changes by design, too, as a protocol may.
        progress: called with what is being done and the part of all work that is done, 0 to 1.

    Returns:
        One result per volume.

    Raises:
        NothingToDoError: when no volume was segmented; gives the reason for each series.
        UsedFolderError: when a folder holds an earlier result; nothing is done.
        OSError: when nothing can be written there; nothing is done.
        VoxTellError: when the engine cannot do it.
    """
    asked = read_protocol(protocol) if protocol else EVERYTHING
    if outputs:
        asked = asked.model_copy(update={"outputs": outputs})
    if resample_spacing:
        asked = asked.model_copy(update={"engine": asked.engine.model_copy(update={"resample_spacing": True})})
    reported = _reported(asked, prompts, report, settings)
    chosen, reasons = _choose(asked, reported, study, settings)
    folders = _folders(output, chosen)
    done: list[VolumeResult] = []
    engine: Engine | None = None
    for place, ((volume, spec), folder) in enumerate(zip(chosen, folders, strict=True)):
        say = _Volume(progress, volume.label, place, len(chosen))
        if engine is None:
            say("loading the model", 0.0)
            engine = load_engine(settings_for(spec, settings))
        try:
            done.append(_segmented(volume, spec, folder, engine, settings, sent, say))
        except SeriesError as error:  # found in the pixels: the headers have been judged before
            reasons.append(f"{volume.label}: {error}")
    if not done:
        raise NothingToDoError(f"no series of {study} was segmented: " + "; ".join(reasons))
    for reason in reasons:
        log.warning("series_left_out", reason=reason)
    return done


@dataclass(frozen=True)
class _Volume:
    """Reports the progress of one of several volumes as the part of all work."""

    progress: Callable[[str, float], None]
    label: str
    place: int
    of: int

    def __call__(self, what: str, part: float) -> None:
        number = f"{self.place + 1} of {self.of}, " if self.of > 1 else ""
        self.progress(f"{number}{self.label}: {what}", (self.place + part) / self.of)


def _segmented(
    volume: StudyVolume,
    spec: JobSpec,
    folder: Path,
    engine: Engine,
    settings: Settings,
    sent: Sent,
    say: Callable[[str, float], None],
) -> VolumeResult:
    """Segments one volume, and writes and returns what came of it.

    Raises:
        SeriesError: when its files are not one regular volume.
    """
    say("reading", 0.0)
    found = segment(
        [file.path for file in volume.files],
        spec.prompts,
        engine,
        derived=spec.derived,
        volume=spec.volume,
        straighten=settings_for(spec, settings).resample_tilt,
        even=spec.engine.resample_spacing,
        character_set=settings.character_set or "",
        progress=partial(say, "segmenting"),
    )
    say("writing", 1.0)
    folder.mkdir(parents=True, exist_ok=True)
    label_map = sent.form == "labelmap"
    result = write_outputs(found, spec, folder, label_map=label_map, name_length=settings.roi_name_length)
    result = as_sent(result, folder, sent.form, sent.syntax)
    return VolumeResult(spec.study_uid, spec.series_uid, spec.volume, volume.label, volume.patient_id, folder, result)


def _reported(protocol: Protocol, prompts: Sequence[str], report: Path | None, settings: Settings) -> Reported:
    """Returns what is asked for besides the protocol's own prompts: prompts given, or the report's findings.

    Raises:
        PromptError: when a prompt does not just name a structure.
        ReportError: when the file is no report.
        NothingToDoError: when it names no finding, or the protocol takes no prompts from reports.
    """
    if report is None:
        check_prompts(prompts)
        given = tuple(Prompt(text=text) for text in prompts)
        return Reported(given, found=bool(given), line=f"{len(given)} prompts" if given else "no report is given")
    if not protocol.report.use:
        raise NothingToDoError(f"protocol '{protocol.name}' takes no prompts from reports; leave --report out")
    reported = reported_by(read_report(report, codec=codec_for(settings)), protocol.report, language_of(settings))
    if not reported.prompts and not protocol.prompts:
        left = "; ".join(f"{one.text} ({one.reason})" for one in reported.left_out) or "no finding is named"
        raise NothingToDoError(f"{report} gives no prompt: {left}")
    return reported


def _choose(
    protocol: Protocol, reported: Reported, study: Path, settings: Settings
) -> tuple[list[tuple[StudyVolume, JobSpec]], list[str]]:
    """Returns the volumes to segment, each with its job, and one sentence for each volume that is left out.

    Where there are several studies, the sentence names the volume's.
    """
    chosen, reasons = [], []
    studies = list(studies_in(study, settings.character_set or ""))
    for volumes in studies:
        for verdict in choose(protocol, volumes, inactive=inactive(protocol, settings)):
            verdict = with_report(protocol, verdict, reported)
            if verdict.taken:
                chosen.append((verdict.volume, spec_of(protocol, verdict.volume, settings, reported.prompts)))
            else:
                of = f" of study {verdict.volume.study_uid}" if len(studies) > 1 else ""
                reasons.append(f"{verdict.volume.label}{of}: {verdict.reason}")
    return chosen, reasons


def _folders(output: Path, chosen: Sequence[tuple[StudyVolume, JobSpec]]) -> list[Path]:
    """Returns the folder for the result of each volume, none of which may hold a result yet.

    Files of an earlier result could stay beside the new ones, and `result.json` would not list them.

    Raises:
        UsedFolderError: when one of the folders holds a result.
        OSError: when one of them cannot be written.
    """
    folders = [output / spec.series_uid / _file_name(volume.name) for volume, spec in chosen]
    if len(chosen) == 1:
        folders = [output]
    for folder in folders:
        if (folder / "result.json").exists():
            raise UsedFolderError(f"{folder} holds the result of an earlier run; name another folder, or remove it")
        require_writable(folder)
    return folders


def _file_name(name: str) -> str:
    """Turns a volume's name into a folder's: "EchoTime=90 ms" becomes "EchoTime=90_ms"."""
    return re.sub(r"[^\w.=-]+", "_", name)
