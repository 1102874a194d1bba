r"""HL7 v2 result messages (ORU^R01): the report text, and what links it to a study (HL7 v2.5.1, chapter 7).

    MSH|^~\&|RIS|HOSPITAL|NODE|HOSPITAL|20240101||ORU^R01|MSG7|P|2.5.1
    PID|1||4711^^^HOSPITAL^MR
    OBR|1|PLACER1|FILLER1|71260^CT CHEST||||||||||||||ACC0042
    OBX|1|TX|^FINDINGS||Nodule in the right upper lobe.||||||F
    ZDS|1.2.3.4^RIS^Application^DICOM

Segments end with a carriage return; fields are told by segment and number, such as OBR-18.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import hl7

from worker.report_language.errors import NotAReportError
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.report_file import ReportFile
from worker.report_language.formats.report_format import ReportFormat

ACCESSION_FIELDS = ("OBR-18", "OBR-3", "ORC-3", "OBR-2")
"""Where systems put the accession number, the surest first: IHE RAD TF 4.1 has it in OBR-18, many RIS in OBR-3."""

_LINE_BREAKS = dict.fromkeys((".br", ".sp", "X0A", "X0D", "X0D0A"), "\n")
_ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", **_LINE_BREAKS}
_MOST_FIELDS = 50  # OBR, the longest segment that is read, has 49
_MOST_REPETITIONS = 20  # of patient identifiers
_LONGEST_HEADER = 2_000  # characters of MSH, which has some 20 short fields
_TEXT_TYPES = frozenset({"TX", "FT", "ST", ""})  # OBX-2
_RETRACTED = frozenset({"X", "W", "D"})  # HL7 tables 0123 and 0085: cancelled, wrong (patient), deleted


@dataclass(frozen=True, slots=True)
class OruLinks:
    """What a result message says about the study it belongs to; empty where it says nothing."""

    control_id: str  # MSH-10
    patient_ids: tuple[str, ...]  # PID-3.1 of every repetition, PID-2.1
    accession_numbers: tuple[str, ...]  # of the fields asked for, in their order
    study_uid: str  # ZDS-1.1 (IHE), IPC-3 or the observation 113014 DCM


def is_oru(file: ReportFile) -> bool:
    """Whether the text is an HL7 v2 message, with or without its MLLP start character."""
    return file.text.startswith(("MSH|", "\x0bMSH|"))


def observed_text(message: str) -> str:
    r"""Reads the report text of a message: its text observations (OBX-5) in order (HL7 v2.5.1, 7.4.2).

    Each OBX is a line, and so is each repetition (`~`) and each line break (`\.br\`) in it; other escapes become their
    character. An empty line stands where the observation's name changes, such as from FINDINGS to IMPRESSION.
    """
    lines: list[str] = []
    previous = ""
    for fields in segments(message):
        if fields[0] != "OBX" or len(fields) < 6 or fields[2] not in _TEXT_TYPES:
            continue
        observation = fields[3].split("^", 2)
        title = observation[1] if len(observation) > 1 else ""
        if title != previous and lines:
            lines.append("")
        previous = title
        lines.extend(re.sub(r"\\([^\\\s]{1,6})\\", _unescaped, part) for part in fields[5].split("~"))
    return "\n".join(lines)


def _unescaped(match: re.Match[str]) -> str:
    r"""The character that an escape stands for: "|" for `\F\`; a blank for one that is unknown, such as `\H\`."""
    return _ESCAPES.get(match.group(1), " ")


def segments(message: str) -> list[list[str]]:
    """Splits a message into segments and those into fields, the segment's name first; at most fifty fields each.

    The hl7 library would build an object for every component, in more than linear time for a field of many.
    """
    lines = re.split(r"[\r\n]+", message.strip("\x0b\x1c\r\n"))
    return [line.split("|", _MOST_FIELDS) for line in lines]


def header(message: str) -> hl7.Message:
    """Reads the MSH segment, from which an acknowledgement is made.

    Raises:
        NotAReportError: when the message begins with no MSH segment, or with one that is no header.
    """
    first = re.split(r"[\r\n]", message.strip("\x0b\x1c\r\n"), maxsplit=1)[0]
    try:
        if len(first) > _LONGEST_HEADER:
            raise ValueError
        return hl7.parse(first + "\r")
    except (hl7.HL7Exception, AssertionError, ValueError, IndexError, KeyError) as error:
        raise NotAReportError("the message is no HL7 v2 message; send an ORU^R01") from error


def oru_links(message: str, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> OruLinks:
    """Reads what links a message to its study, as the message wrote it.

    `accession_fields` name where the accession number may stand, the surest first. The message above gives control id
    MSG7, patient 4711, accession numbers ACC0042, FILLER1 and PLACER1, and study 1.2.3.4.
    """
    found = segments(message)
    accessions = [_first(found, *_place(field)) for field in accession_fields]
    patients = (*_field(found, "PID", 3), *_field(found, "PID", 2))
    return OruLinks(
        control_id=_first(found, "MSH", 9),  # MSH-1 is the separator itself: MSH-10 is the ninth after it
        patient_ids=tuple(dict.fromkeys(one for one in patients if one)),
        accession_numbers=tuple(dict.fromkeys(number for number in accessions if number)),
        study_uid=_first(found, "ZDS", 1) or _first(found, "IPC", 3) or _observed_study(found),
    )


def is_retracted(message: str) -> bool:
    """Whether the message takes a result back instead of giving one (OBR-25 or every OBX-11 says so)."""
    found = segments(message)
    observed = {_nth(fields, 11) for fields in found if fields[0] == "OBX"}
    return _first(found, "OBR", 25) in _RETRACTED or bool(observed and observed <= _RETRACTED)


def _links(file: ReportFile, accession_fields: Sequence[str]) -> ReportLinks:
    """The links of a message, with the surest accession number that it has."""
    message = oru_links(file.text, accession_fields)
    return ReportLinks.of(message.study_uid, next(iter(message.accession_numbers), ""), message.patient_ids)


def _nth(fields: Sequence[str], number: int) -> str:
    """A field of a segment by its number; "" where the segment is shorter."""
    return fields[number] if number < len(fields) else ""


def _place(field: str) -> tuple[str, int]:
    """Segment and number of a field: "OBR-18" is ("OBR", 18)."""
    segment, _, number = field.partition("-")
    return segment, int(number)


def _field(found: Sequence[Sequence[str]], segment: str, number: int) -> list[str]:
    """The first component of each of the first repetitions of a field, in the first segment of that name."""
    fields = next((fields for fields in found if fields[0] == segment), [])
    repetitions = _nth(fields, number).split("~", _MOST_REPETITIONS)[:_MOST_REPETITIONS]
    return [one.split("^", 1)[0].strip() for one in repetitions]


def _first(found: Sequence[Sequence[str]], segment: str, number: int) -> str:
    """The first component of the first repetition of a field; "" if there is none."""
    return next(iter(_field(found, segment, number)), "")


def _observed_study(found: Sequence[Sequence[str]]) -> str:
    """The Study Instance UID sent as an observation named "113014^DICOM Study^DCM"."""
    observed = (fields for fields in found if fields[0] == "OBX" and _nth(fields, 3).startswith("113014^"))
    return next((_nth(fields, 5).split("^", 1)[0] for fields in observed), "")


ORU = ReportFormat("HL7 v2 ORU", is_oru, lambda file: observed_text(file.text), _links)
