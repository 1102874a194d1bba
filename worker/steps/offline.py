"""One study from a folder, without network and queue: the same story as a job, with the results in a folder."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from dicom_node.errors import SeriesError
from worker.engines.loading import load_engine, settings_for
from worker.errors import WorkerError
from worker.job_spec import JobSpec, Output, Prompt
from worker.protocols import Match, Protocol, inactive, read_protocol
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport
from worker.report_language.formats.read import read_report
from worker.reports.inbox import Reported, language_of, reported_by
from worker.results.writable import require_writable
from worker.results.write import write_outputs
from worker.selection.choose import choose
from worker.selection.select import spec_of, with_report
from worker.selection.study_volumes import StudyVolume, studies_in
from worker.settings import Settings
from worker.steps.pipeline import segment

log = structlog.get_logger(__name__)

EVERYTHING = Protocol(
    name="command line", match=Match(), choose=Choose(never=()), report=FromReport(use=True), outputs=("seg",)
)
"""Prompts alone: every volume, also a projection; the prompts come as those of a report do, from outside."""


class NothingToDoError(WorkerError):
    """No series of the study was segmented."""


class UsedFolderError(WorkerError):
    """The folder holds the result of an earlier run."""

    retry = "usage"


def run_study(
    settings: Settings,
    study: Path,
    output: Path,
    prompts: Sequence[str],
    report: Path | None,
    protocol: Path | None,
    outputs: tuple[Output, ...],
) -> list[dict[str, Any]]:
    """Segments the volumes that the protocol takes, as the node would, or every volume if there is none.

    Returns one result per volume (see `worker.results.write`), file names as written. With several volumes each has a
    folder of its own below `output`, named by its Series Instance UID, and below that by its name.

    Raises:
        NothingToDoError: with the reason for each series. UsedFolderError: a result is there already; nothing is done.
        OSError: nothing can be written there; nothing is done. Errors of the engine pass through.
    """
    asked = read_protocol(protocol) if protocol else EVERYTHING
    if outputs:
        asked = asked.model_copy(update={"outputs": outputs})
    reported = _reported(asked, prompts, report, settings)
    chosen, reasons = _choose(asked, reported, study, settings)
    folders = _folders(output, chosen)
    done: list[dict[str, Any]] = []
    engine = None
    for (volume, spec), folder in zip(chosen, folders, strict=True):
        wanted = settings_for(spec, settings)
        engine = engine or load_engine(wanted)
        try:
            found = segment(
                [file.path for file in volume.files],
                spec.prompts,
                engine,
                derived=spec.derived,
                volume=spec.volume,
                straighten=wanted.resample_tilt,
            )
        except SeriesError as error:  # of the pixels; the headers have been asked before
            reasons.append(f"{volume.label}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        result = write_outputs(found, spec, folder, name_length=settings.roi_name_length)
        files = [str(folder / name) for name in result.files]
        done.append(result.json_facts() | {"files": files, "series_uid": spec.series_uid, "volume": spec.volume})
    if not done:
        raise NothingToDoError(f"no series of {study} was segmented: " + "; ".join(reasons))
    for reason in reasons:
        log.warning("series_left_out", reason=reason)
    return done


def _reported(protocol: Protocol, prompts: Sequence[str], report: Path | None, settings: Settings) -> Reported:
    """What is asked for besides the protocol's own prompts.

    Raises:
        ReportError: the file is no report. NothingToDoError: it names no finding, or the protocol asks for none.
    """
    if report is None:
        given = tuple(Prompt(text=text) for text in prompts)
        return Reported(given, found=bool(given), line=f"{len(given)} prompts" if given else "no report is given")
    if not protocol.report.use:
        raise NothingToDoError(f"protocol '{protocol.name}' takes no prompts from reports; leave --report out")
    reported = reported_by(read_report(report), protocol.report, language_of(settings))
    if not reported.prompts and not protocol.prompts:
        left = "; ".join(f"{one.text} ({one.reason})" for one in reported.left_out) or "no finding is named"
        raise NothingToDoError(f"{report} gives no prompt: {left}")
    return reported


def _choose(
    protocol: Protocol, reported: Reported, study: Path, settings: Settings
) -> tuple[list[tuple[StudyVolume, JobSpec]], list[str]]:
    """The volumes to segment with their work, and why the others are left out."""
    chosen, reasons = [], []
    for volumes in studies_in(study):
        for verdict in choose(protocol, volumes, inactive=inactive(protocol, settings)):
            verdict = with_report(protocol, verdict, reported)
            if verdict.taken:
                chosen.append((verdict.volume, spec_of(protocol, verdict.volume, settings, reported.prompts)))
            else:
                reasons.append(f"{verdict.volume.label}: {verdict.reason}")
    return chosen, reasons


def _folders(output: Path, chosen: Sequence[tuple[StudyVolume, JobSpec]]) -> list[Path]:
    """Where the result of each volume goes: of an earlier one there files would stay that the new one does not list.

    Raises:
        UsedFolderError: one of them holds a result. OSError: one of them cannot be written.
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
    return re.sub(r"[^\w.=-]+", "_", name)
