r"""HL7 v2 result messages (ORU^R01): the report text, and what links it to a study (HL7 v2.5.1, chapter 7).

    MSH|^~\&|RIS|HOSPITAL|NODE|HOSPITAL|20240101||ORU^R01|MSG7|P|2.5.1
    PID|1||4711^^^HOSPITAL^MR
    OBR|1|PLACER1|FILLER1|71260^CT CHEST||||||||||||||ACC0042
    OBX|1|TX|^FINDINGS||Nodule in the right upper lobe.||||||F
    ZDS|1.2.3.4^RIS^Application^DICOM

A message may hold several orders, each with its patient, its numbers and its text: each is a report of its own. Fields
are told by segment and number, such as OBR-18.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from worker.report_language.errors import NotAReportError, ReportTooLargeError
from worker.report_language.formats.hl7_message import Delimiters, Message, Segment, begins_as_message, nth
from worker.report_language.formats.links import ReportLinks
from worker.report_language.formats.markup import plain
from worker.report_language.formats.report_file import ReportFile
from worker.report_language.formats.report_format import ReportFormat

ACCESSION_FIELDS = ("OBR-18", "OBR-3", "ORC-3", "OBR-2")
"""Where systems put the accession number, the surest first: IHE RAD TF 4.1 has it in OBR-18, many RIS in OBR-3."""

MOST_ORDERS = 100  # of a message; reports on several orders have a few, and each may become a report of its own
_LINE_BREAKS = dict.fromkeys((".br", ".sp", "X0A", "X0D", "X0D0A"), "\n")
_TEXT_TYPES = frozenset({"TX", "FT", "ST", ""})  # OBX-2
_RETRACTED = frozenset({"X", "W", "D"})  # HL7 tables 0123 and 0085: cancelled, wrong (patient), deleted
_PRIOR = re.compile(
    r"(55114-3|18834-2)$|comparisons?$|(prior|previous|earlier|old|comparison)[ _-](reports?|stud(y|ies)|exams?|"
    r"examinations?|procedures?|findings?|impressions?|results?|images?|imaging)(?![a-z])",
    re.IGNORECASE,
)
"""How an observation (OBX-3) is named that repeats an earlier report: LOINC "Prior procedure descriptions" and
"Comparison study", or in words."""


@dataclass(frozen=True)
class Order:
    """One order of a message: where it is in it, its patient, its own segments, and the observations of its report."""

    number: int  # from one
    patient: tuple[int, ...]  # the places of MSH, PID and what stands before the order, in the message's segments
    own: tuple[int, ...]  # those of ORC, OBR, ZDS and other segments that are no observation
    observations: tuple[int, ...]  # those of OBX and their notes


def valid_orders(message: Message) -> list[Order]:
    """Returns the orders of a message whose results stand; one without observations has those of its neighbour.

    Some systems send one text under the last of the orders that were reported together.

    Raises:
        NotAReportError: when the message takes its results back (OBR-25 or every OBX-11 says so), or has none.
        ReportTooLargeError: when it has more than MOST_ORDERS orders.
    """
    orders = _orders(message)
    if len(orders) > MOST_ORDERS:
        raise ReportTooLargeError(f"{message.name}: has more than {MOST_ORDERS} orders (OBR); send each report alone")
    if not orders:
        raise NotAReportError(f"{message.name}: holds no order (OBR) and no observation (OBX); send an ORU^R01")
    valid = [order for order in orders if not _is_retracted(message, order)]
    if not valid:
        raise NotAReportError(f"{message.name}: was taken back by its sender (OBR-25 or OBX-11); send the valid one")
    return [order if order.observations else _with_neighbours(valid, place) for place, order in enumerate(valid)]


def _orders(message: Message) -> list[Order]:
    """Reads the orders as the message has them: each begins with ORC, or with OBR where no ORC stands before it."""
    found: list[_OrderBeingRead] = []
    patient: list[int] = []
    for place, segment in enumerate(message.segments):
        name = segment[0]
        if name in ("PID", "PV1", "PD1", "PV2") or not (found or name in ("ORC", "OBR", "OBX", "ZDS", "IPC")):
            if name == "PID":
                patient = [0]  # the next patient of the same message
                if found:
                    found[-1].closed = True
            patient.append(place)
            continue
        if not found or found[-1].closed or name == "ORC" or (name == "OBR" and found[-1].has_obr):
            found.append(_OrderBeingRead(tuple(patient)))
        found[-1].add(place, name)
    said = [one for one in found if one.has_obr or one.seen] or found  # an ORC without anything orders nothing
    return [Order(number, one.patient, tuple(one.own), tuple(one.seen)) for number, one in enumerate(said, 1)]


@dataclass
class _OrderBeingRead:
    """An order while its segments are collected."""

    patient: tuple[int, ...]
    own: list[int] = field(default_factory=list)
    seen: list[int] = field(default_factory=list)
    has_obr: bool = False
    closed: bool = False

    def add(self, place: int, name: str) -> None:
        self.has_obr |= name == "OBR"
        if name == "OBX" or (name == "NTE" and self.seen):
            self.seen.append(place)
        else:
            self.own.append(place)


def _with_neighbours(orders: Sequence[Order], place: int) -> Order:
    """Gives an order without observations those of the patient's next order that has some, or of the one before."""
    mine = orders[place]
    for other in (*orders[place + 1 :], *reversed(orders[:place])):
        if other.observations and other.patient == mine.patient:
            return replace(mine, observations=other.observations)
    return mine


def _is_retracted(message: Message, order: Order) -> bool:
    segments = message.segments
    statuses = {_status(segments[place], 25) for place in order.own if segments[place][0] == "OBR"}
    observed = {_status(segments[place], 11) for place in order.observations if segments[place][0] == "OBX"}
    return bool(statuses & _RETRACTED) or bool(observed and observed <= _RETRACTED)


def _status(segment: Segment, number: int) -> str:
    return nth(segment, number).strip().upper()


def observed_text(message: Message, order: Order) -> str:
    r"""Reads the report text of an order: its text observations (OBX-5) in order (HL7 v2.5.1, 7.4.2).

    An observation that was deleted, or is wrong or cancelled (OBX-11 D, W, X), is left out, and so is one that is named
    a prior report (OBX-3). Each other is a line, and so is each repetition (`~`) and each line break (`\.br\`) in it;
    other escapes become their character. An empty line stands where the observation's name changes, such as from
    FINDINGS to IMPRESSION.
    """
    lines: list[str] = []
    previous = ""
    mark = message.delimiters
    escapes = {"F": mark.field, "S": mark.component, "T": mark.subcomponent, "R": mark.repetition, "E": mark.escape}
    escaped = re.compile(rf"{re.escape(mark.escape)}([^{re.escape(mark.escape)}\s]{{1,6}}){re.escape(mark.escape)}")
    for segment in (message.segments[place] for place in order.observations):
        if (
            segment[0] != "OBX"
            or nth(segment, 2).strip() not in _TEXT_TYPES
            or len(segment) < 6
            or _status(segment, 11) in _RETRACTED
        ):
            continue
        observation = [part.strip() for part in segment[3].split(mark.component)]
        if any(_PRIOR.match(part) for part in observation):
            continue
        title = observation[1] if len(observation) > 1 else ""
        if title != previous and lines:
            lines.append("")
        previous = title
        for part in segment[5].split(mark.repetition):
            lines.append(escaped.sub(lambda found: (escapes | _LINE_BREAKS).get(found[1], " "), part))
    return plain("\n".join(lines))


def order_links(message: Message, order: Order, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> ReportLinks:
    """Reads what links an order to its study.

    `accession_fields` name where the accession number may stand, the surest first: OBR-18 of the message above gives
    ACC0042, OBR-3 FILLER1. The study is ZDS-1.1 (IHE), IPC-3 or the observation 113014 DCM; the patient PID-3.1 of
    every repetition and PID-2.1.
    """
    mark = message.delimiters
    segments = [message.segments[place] for place in (*order.patient, *order.own, *order.observations)]
    accessions = (_first(segments, mark, *_place(name)) for name in accession_fields)
    study = _first(segments, mark, "ZDS", 1) or _first(segments, mark, "IPC", 3) or _observed_study(segments, mark)
    patients = (*_field(segments, mark, "PID", 3), *_field(segments, mark, "PID", 2))
    return ReportLinks.of(study, next(filter(None, accessions), ""), patients)


def orders_as_messages(file: ReportFile, accession_fields: Sequence[str] = ACCESSION_FIELDS) -> list[bytes]:
    """Splits a file into a message for each report, that of one order or of several of one study.

    The file itself is returned where it holds one report.

    Raises:
        NotAReportError: when the file is damaged or takes its results back, or an order of several names no study.
    """
    message = Message.of(file.content, file.name)
    studies = _by_study(message, valid_orders(message), accession_fields)
    if len(studies) == 1:
        return [file.content]
    return [_message_of(message, orders) for orders in studies]


def _message_of(message: Message, orders: Sequence[Order]) -> bytes:
    """Writes a message that holds these orders of one patient alone; observations that they share stand in it once."""
    places = dict.fromkeys(orders[0].patient)
    for order in orders:
        places |= dict.fromkeys((*order.own, *order.observations))
    return "".join(f"{message.lines[place]}\r" for place in places).encode()


def _by_study(message: Message, orders: Sequence[Order], accession_fields: Sequence[str]) -> list[list[Order]]:
    """Puts orders together that name the same study or the same accession number of one patient.

    Of several reports on a study the newest counts: as two reports, the one would replace the other.
    """
    groups: list[tuple[ReportLinks, list[Order]]] = []
    for order in orders:
        links = order_links(message, order, accession_fields)
        if not links.study_uid and not links.accession and len(orders) > 1:
            raise NotAReportError(
                f"{message.name}: its order {order.number} names no study and no accession number; send each with one"
            )
        for known, members in groups:
            same_study = bool(links.study_uid) and links.study_uid == known.study_uid
            same_order = bool(links.accession) and links.accession == known.accession
            if (same_study or (same_order and not (links.study_uid and known.study_uid))) and (
                links.patient_ids == known.patient_ids
            ):
                members.append(order)
                break
        else:
            groups.append((links, [order]))
    return [members for _, members in groups]


def _the_one_report(file: ReportFile, accession_fields: Sequence[str]) -> tuple[Message, list[Order]]:
    message = Message.of(file.content, file.name)
    studies = _by_study(message, valid_orders(message), accession_fields)
    if len(studies) > 1:
        raise NotAReportError(f"{file.name}: holds the reports of {len(studies)} orders; give each by itself")
    return message, studies[0]


def _text(file: ReportFile) -> str:
    message, orders = _the_one_report(file, ACCESSION_FIELDS)
    observations = dict.fromkeys(order.observations for order in orders)  # orders may share theirs
    return "\n\n".join(observed_text(message, replace(orders[0], observations=one)) for one in observations)


def _links(file: ReportFile, accession_fields: Sequence[str]) -> ReportLinks:
    message, orders = _the_one_report(file, accession_fields)
    found = [order_links(message, order, accession_fields) for order in orders]
    return ReportLinks(
        next((one.study_uid for one in found if one.study_uid), ""),
        next((one.accession for one in found if one.accession), ""),
        found[0].patient_ids,
    )


def _place(name: str) -> tuple[str, int]:
    """Splits the name of a field into segment and number: "OBR-18" is ("OBR", 18)."""
    segment, _, number = name.partition("-")
    return segment, int(number)


def _field(segments: Sequence[Segment], mark: Delimiters, name: str, number: int) -> list[str]:
    """Returns the first component of each of the first repetitions of a field, in the first segment of that name."""
    return mark.firsts(nth(next((segment for segment in segments if segment[0] == name), []), number))


def _first(segments: Sequence[Segment], mark: Delimiters, name: str, number: int) -> str:
    return next(iter(_field(segments, mark, name, number)), "")


def _observed_study(segments: Sequence[Segment], mark: Delimiters) -> str:
    """Returns the Study Instance UID sent as an observation named "113014^DICOM Study^DCM"; "" without one."""
    observed = (one for one in segments if one[0] == "OBX" and nth(one, 3).startswith(f"113014{mark.component}"))
    return next((nth(one, 5).split(mark.component, 1)[0] for one in observed), "")


ORU = ReportFormat("HL7 v2 ORU", lambda file: begins_as_message(file.content), _text, _links, orders_as_messages)
