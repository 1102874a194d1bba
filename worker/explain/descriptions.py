"""Asks the protocols about series that a table lists, one row each, whose columns are DICOM attributes.

No image is here.
The rows go through `worker.selection.choose`, as the volumes of the node do. Rows with the same StudyInstanceUID are
one study, so that the best of them is chosen; without that column each row is a study. What the table does not tell is
absent from the series, but for the number of images: without a column for it there are enough.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.ranking.facts import listed_facts
from worker.errors import WorkerError
from worker.explain.dry_run import COUNT, Explained, and_a_report
from worker.protocols import Candidate, Protocol
from worker.selection.choose import choose
from worker.selection.select import study_facts
from worker.selection.study_volumes import StudyVolume

MOST_BYTES = 2**28
"""Of a table. The descriptions of a million series are about half of it."""
ENOUGH = 10_000
"""Images of a series whose table does not tell their number."""

_COUNTS = ("Instances", COUNT)


class TableError(WorkerError):
    """The table of descriptions cannot be read."""

    retry = "usage"


@dataclass(frozen=True)
class Row:
    """One series of the table: the line where it ends, from 1, and its cells by column."""

    line: int
    cells: Mapping[str, str]


def read_rows(path: Path) -> list[Row]:
    """Returns the rows of a table as CSV with a line of headings, between which stands a comma, semicolon or tab.

    Raises:
        TableError: when it cannot be read, or has no heading that is a DICOM keyword; names the file.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise TableError(f"{path}: has {size} bytes, and at most {MOST_BYTES} are read; split it")
        with path.open(encoding="utf-8-sig", newline="") as file:
            headings = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=max(",;\t", key=headings.count), restkey="", restval="")
            rows = [Row(reader.line_num, {k: v for k, v in row.items() if k}) for row in reader]
            columns = list(reader.fieldnames or ())
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path}: cannot be read as CSV in UTF-8: {error}") from None
    if not any(tag_for_keyword(column) for column in columns):
        raise TableError(
            f"{path}: none of its columns ({', '.join(columns) or 'it is empty'}) is a DICOM keyword; the first line "
            "holds headings such as Modality,StudyDescription,SeriesDescription,BodyPartExamined,Instances"
        )
    return rows


def of_rows(rows: Sequence[Row], protocols: Sequence[Protocol], source: str) -> list[Explained]:
    """Asks every protocol about every row; one answer per row and protocol, in their order. `source` names the table.

    A protocol that is inactive for want of its model is asked all the same: the question is about words.

    Raises:
        TableError: when a cell is no value of its attribute; names the line and the column.
    """
    volumes = [_volume(row, source) for row in rows]
    studies: dict[str, list[int]] = defaultdict(list)
    for place, volume in enumerate(volumes):
        studies[volume.study_uid].append(place)
    answers: dict[int, list[Explained]] = {}
    for places in studies.values():
        study = [volumes[place] for place in places]
        verdicts = [choose(protocol, study) for protocol in protocols]
        for i, place in enumerate(places):
            answers[place] = []
            for protocol, said in zip(protocols, verdicts, strict=True):
                volume, verdict = study[i], said[i]
                facts = (volume.study_uid, volume.series_uid, volume.label, _images(rows[place]))
                judged = and_a_report(protocol, verdict.taken, verdict.findings)
                answers[place].append(Explained(*facts, protocol.name, *judged, about=study_facts(volume)))
    return [answer for place in range(len(rows)) for answer in answers[place]]


def _volume(row: Row, source: str) -> StudyVolume:
    """Describes the series of a row as one volume."""
    header = Dataset()
    for column, text in row.cells.items():
        tag = tag_for_keyword(column)
        if tag is None or not text.strip():
            continue
        try:
            header.add(DataElement(tag, dictionary_VR(tag), text.strip(), validation_mode=config.IGNORE))
        except PYDICOM_ERRORS as error:
            raise TableError(f"{source}, line {row.line}, {column}: '{text}' is no value of it: {error}") from None
    images = _images(row) or (0 if _counted(row) else ENOUGH)
    try:
        facts = listed_facts(header, images)
    except PYDICOM_ERRORS as error:
        raise TableError(f"{source}, line {row.line}: {error}") from None
    words = header.get("SeriesDescription") or header.get("StudyDescription") or header.get("BodyPartExamined") or "-"
    return StudyVolume(
        study_uid=str(header.get("StudyInstanceUID") or f"line {row.line}"),
        series_uid=str(header.get("SeriesInstanceUID") or f"line {row.line}"),
        name="",
        series_number=str(header.get("SeriesNumber") or ""),
        label=str(words),
        files=(),
        candidate=Candidate([header], instances=images),
        facts=facts,
        accession=str(header.get("AccessionNumber") or ""),
        patient_id=str(header.get("PatientID") or ""),
        patient_name=str(header.get("PatientName") or ""),
        study_date=str(header.get("StudyDate") or ""),
        study_description=str(header.get("StudyDescription") or ""),
    )


def _counted(row: Row) -> bool:
    """Whether the table has a column for the number of images."""
    return any(column in row.cells for column in _COUNTS)


def _images(row: Row) -> int | None:
    """Returns the number of images that a row tells; None where it tells none."""
    told = (row.cells.get(column, "").strip() for column in _COUNTS)
    return next((int(text) for text in told if text.isascii() and text.isdigit()), None)
