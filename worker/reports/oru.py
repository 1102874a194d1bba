"""HL7 v2 result messages (ORU^R01): the report text, and what links it to a study (HL7 v2.5.1, chapter 7)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import hl7

from .errors import NotAReportError

_LINE_BREAKS = dict.fromkeys((".br", ".sp", "X0A", "X0D", "X0D0A"), "\n")
_HL7_ESCAPES = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", **_LINE_BREAKS}
_HL7_TEXT_TYPES = frozenset({"TX", "FT", "ST", ""})


def observed_text(message: str) -> str:
    """The report text of an HL7 v2 ORU: the text observations (OBX-5) in order, a line each (HL7 v2.5.1, 7.4.2)."""
    lines: list[str] = []
    previous = ""
    for segment in re.split(r"[\r\n]+", message.strip("\x0b\x1c\r\n")):
        fields = segment.split("|")
        if fields[0] != "OBX" or len(fields) < 6 or fields[2] not in _HL7_TEXT_TYPES:
            continue
        observation = fields[3].split("^")
        title = observation[1] if len(observation) > 1 else ""
        if title != previous and lines:
            lines.append("")
        previous = title
        lines.extend(re.sub(r"\\([^\\\s]{1,6})\\", _unescaped, part) for part in fields[5].split("~"))
    return "\n".join(lines)


def _unescaped(match: re.Match[str]) -> str:
    return _HL7_ESCAPES.get(match.group(1), " ")


ACCESSION_FIELDS = ("OBR-18", "OBR-3", "ORC-3", "OBR-2")
"""Where systems put the accession number, the surest first: IHE RAD TF 4.1 has it in OBR-18, many RIS in OBR-3."""

_RETRACTED = frozenset({"X", "W", "D"})  # HL7 tables 0123 and 0085: cancelled, wrong (patient), deleted


@dataclass(frozen=True, slots=True)
class OruLinks:
    """What a result message says about the study it belongs to; empty where it says nothing."""

    control_id: str  # MSH-10
    patient_ids: tuple[str, ...]  # PID-3.1 of every repetition, PID-2.1
    accession_numbers: tuple[str, ...]  # of the fields asked for, in their order
    study_uid: str  # ZDS-1.1 (IHE), IPC-3 or the observation 113014 DCM


def parsed(message: str) -> hl7.Message:
    """The message by its segments; NotAReportError when it is no HL7 v2 message."""
    try:
        return hl7.parse("\r".join(line for line in re.split(r"[\r\n]+", message) if line) + "\r")
    except (hl7.HL7Exception, ValueError, IndexError, KeyError) as error:
        raise NotAReportError("the message is no HL7 v2 message; send an ORU^R01") from error


def oru_links(message: hl7.Message, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> OruLinks:
    """What links a result message to its study."""
    accessions = [_first(message, *_place(field)) for field in accession_fields]
    patients = (*_field(message, "PID", 3), *_field(message, "PID", 2))
    return OruLinks(
        control_id=_first(message, "MSH", 10),
        patient_ids=tuple(dict.fromkeys(one for one in patients if one)),
        accession_numbers=tuple(dict.fromkeys(number for number in accessions if number)),
        study_uid=_first(message, "ZDS", 1) or _first(message, "IPC", 3) or _observed_study(message),
    )


def is_retracted(message: hl7.Message) -> bool:
    """Whether the message takes a result back instead of giving one (OBR-25, OBX-11)."""
    observed = {_nth(str(segment).split("|"), 11) for segment in message if str(segment).startswith("OBX|")}
    return _first(message, "OBR", 25) in _RETRACTED or bool(observed and observed <= _RETRACTED)


def _nth(fields: Sequence[str], number: int) -> str:
    return fields[number] if number < len(fields) else ""


def _place(field: str) -> tuple[str, int]:
    segment, _, number = field.partition("-")
    return segment, int(number)


def _field(message: hl7.Message, segment: str, number: int) -> list[str]:
    """The first component of each repetition of a field of the first such segment."""
    try:
        repetitions = str(message.segment(segment)(number)).split("~")
    except (KeyError, IndexError):
        return []
    return [one.split("^")[0].strip() for one in repetitions]


def _first(message: hl7.Message, segment: str, number: int) -> str:
    return next(iter(_field(message, segment, number)), "")


def _observed_study(message: hl7.Message) -> str:
    """The Study Instance UID sent as an observation named "113014^DICOM Study^DCM"."""
    for segment in message:
        fields = str(segment).split("|")
        if fields[0] == "OBX" and len(fields) > 5 and fields[3].startswith("113014^"):
            return fields[5].split("^")[0]
    return ""
