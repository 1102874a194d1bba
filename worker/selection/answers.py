"""What the intake asks about headers of the store: functions that its child process runs (`worker.selection.child`).

No header leaves the child. What comes back are verdicts, counts and short texts, however large the series is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from worker.protocols import Protocol
from worker.reports.narrative import Document, narrative
from worker.selection.choose import Done, Verdict, choose
from worker.selection.completeness_proofs import promised, proof
from worker.selection.study_volumes import StudyVolume, Unread, read_all, volumes_of, without_volume


@dataclass(frozen=True)
class SeriesFiles:
    """A series of the store: who sent it, where its files lie, and the character set of texts that declare none."""

    key: SeriesKey
    paths: tuple[Path, ...]
    origin: Origin
    character_set: str = ""


@dataclass(frozen=True)
class Question:
    """One protocol, and what the ledger and the settings say that bears on its choice; see `choose`."""

    protocol: Protocol
    incomplete: str
    inactive: str
    done: Done

    @property
    def of_study(self) -> bool:
        """Whether it is asked about the whole study."""
        return self.protocol.choose.take == "best" and not self.incomplete


@dataclass(frozen=True)
class Judged:
    """What was found in a series, and what each protocol says; volumes without their headers."""

    volumes: tuple[StudyVolume, ...]
    verdicts: tuple[tuple[Verdict, ...], ...]  # of each question in turn, on its volumes
    documents: tuple[Document, ...]
    unread: tuple[Unread, ...]  # files that are no instances, and why


def judge(series: SeriesFiles, others: Sequence[SeriesFiles], questions: Sequence[Question]) -> Judged:
    """Asks protocols about the volumes of a series, or of its study, which `others` make whole.

    Raises:
        UnreadableError: when the disk does not give an image just now.
    """
    files, unread = read_all(series.paths, series.character_set)
    documents = tuple(one for file in files if (one := narrative(file.path, file.header)))
    here = volumes_of(files, series.origin) if files else without_volume(series.key, unread)
    study: list[StudyVolume] | None = None
    verdicts = []
    for question in questions:
        asked = here
        if question.of_study:
            study = study if study is not None else [*here, *_volumes(others)]
            asked = study
        verdicts.append(
            choose(
                question.protocol,
                asked,
                incomplete=question.incomplete,
                inactive=question.inactive,
                done=question.done,
            )
        )
    return Judged(
        volumes=tuple(volume.bare() for volume in here),
        verdicts=tuple(tuple(Verdict(one.volume.bare(), one.taken, one.findings) for one in said) for said in verdicts),
        documents=documents,
        unread=tuple(unread),
    )


def _volumes(others: Sequence[SeriesFiles]) -> list[StudyVolume]:
    """Returns the volumes of other series of the study, as far as their images are in the store."""
    found: list[StudyVolume] = []
    for series in others:
        files, _ = read_all(series.paths, series.character_set)
        found += volumes_of(files, series.origin) if files else []
    return found


def promise_of(path: Path) -> int | None:
    """Reads how many instances the image in a file says that its series has; see `promised`.

    Raises:
        UnreadableError: when the disk does not give it just now.
    """
    files, _ = read_all([path])
    return promised(files[0].header) if files else None


def proof_of(paths: Sequence[Path], counted: int | None = None) -> str:
    """Says why the series that has exactly these files is complete; see `proof`.

    Raises:
        UnreadableError: when the disk does not give one just now.
    """
    files, _ = read_all(paths)
    return proof(files, counted=counted)
