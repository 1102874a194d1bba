"""One study from a folder, without network and queue: the same story as a job, with the results in a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from dicom_node.errors import SeriesError
from worker.candidates import FolderSeries, series_in
from worker.errors import WorkerError
from worker.jobs import Output, Prompt, Work
from worker.outputs import write_outputs
from worker.protocols import read_protocol
from worker.reports import prompts_from_text
from worker.reports.read import read_report
from worker.segmentation import load_segmenter, segment
from worker.settings import Settings

log = structlog.get_logger(__name__)


class NothingToDoError(WorkerError):
    """No series of the study was segmented."""


def prompts_of_report(path: Path) -> list[Prompt]:
    """The findings of a radiology report that can be drawn, each with its sentence.

    Raises:
        ReportError: the file is no report. NothingToDoError: it names no such finding.
    """
    found = prompts_from_text(read_report(path))
    if not found.prompts:
        left = "; ".join(f"{one.text} ({one.reason})" for one in found.left_out) or "no finding is named"
        raise NothingToDoError(f"{path} gives no prompt: {left}")
    return [Prompt(text=one.prompt, sentence=one.sentence) for one in found.prompts]


def run_study(
    settings: Settings,
    study: Path,
    output: Path,
    prompts: Sequence[Prompt],
    protocol: Path | None,
    outputs: tuple[Output, ...],
) -> list[dict[str, Any]]:
    """Segments every series that the protocol takes or, with prompts alone, every series that is one volume.

    Returns one result per series (see `worker.outputs`), file names as written. With several series each has a folder
    of its own below `output`, named by its Series Instance UID.

    Raises:
        NothingToDoError: with the reason for each series. Errors of the engine pass through.
    """
    chosen, reasons = _choose(series_in(study), prompts, protocol, outputs)
    done: list[dict[str, Any]] = []
    segmenter = load_segmenter(settings) if chosen else None
    for series, work in chosen:
        folder = output if len(chosen) == 1 else output / work.series_uid
        try:
            found = segment(series.paths, work.prompts, segmenter)  # type: ignore[arg-type] # chosen, so loaded
        except SeriesError as error:
            reasons.append(f"{work.series_uid}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        result = write_outputs(found, work, folder)
        result["files"] = [str(folder / name) for name in result["files"]]
        done.append(result | {"series_uid": work.series_uid})
    if not done:
        raise NothingToDoError(f"no series of {study} was segmented: " + "; ".join(reasons))
    for reason in reasons:
        log.warning("series left out", reason=reason)
    return done


def _choose(
    found: Sequence[FolderSeries], prompts: Sequence[Prompt], path: Path | None, outputs: tuple[Output, ...]
) -> tuple[list[tuple[FolderSeries, Work]], list[str]]:
    """The series to segment with their work, and why the others are left out."""
    protocol = read_protocol(path) if path else None
    chosen, reasons = [], []
    for series in found:
        first = series.candidate.headers[0]
        uid = str(first.SeriesInstanceUID)
        if protocol is not None:
            taken, findings = protocol.ask(series.candidate)
            if not taken:
                missing = "; ".join(str(finding) for finding in findings if not finding.holds)
                reasons.append(f"{uid}: protocol {protocol.name} does not take it: {missing}")
                continue
        elif "Rows" not in first:
            reasons.append(f"{uid}: {first.get('Modality', 'it')} has no pixels")
            continue
        work = Work.of(
            study_uid=str(first.StudyInstanceUID),
            series_uid=uid,
            instances=[str(header.SOPInstanceUID) for header in series.candidate.headers],
            protocol=protocol.name if protocol else "command line",
            protocol_digest=protocol.digest if protocol else "",
            prompts=protocol.prompts if protocol else tuple(prompts),
            model=None,
            outputs=outputs or (protocol.outputs if protocol else ("seg",)),
        )
        chosen.append((series, work))
    return chosen, reasons
