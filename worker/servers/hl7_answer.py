"""Acknowledgements of HL7 v2 messages (HL7 v2.5.1, chapter 2.9), with the reason where a message is not taken."""

import time
import uuid
from typing import Final

from worker.report_language.formats.hl7_message import Message

ACCEPTED: Final = "AA"  # HL7 table 0008: it is stored
ERROR: Final = "AE"  # send it again
REJECTED: Final = "AR"  # never send this again

WRONG_TYPE: Final = "200^Unsupported message type^HL70357"
OTHER: Final = "207^Application internal error^HL70357"
_LONGEST: Final = 200  # characters of a field of the sender's that is repeated


def answer(message: Message, code: str, reason: str = "", *, cause: str = OTHER) -> str:
    """Writes the acknowledgement of a message in its own delimiters; `reason` goes into MSA-3 and ERR-8.

    What the sender left out of its header, such as MSH-11 and MSH-12, is filled in.
    """
    mark = message.delimiters
    sender = [message.header(number)[:_LONGEST] for number in (3, 4, 5, 6)]
    trigger = message.header(9).split(mark.component)[1:2]
    header = [
        "MSH",
        f"{mark.component}{mark.repetition}{mark.escape}{mark.subcomponent}",
        *sender[2:],
        *sender[:2],
        time.strftime("%Y%m%d%H%M%S"),
        "",
        mark.component.join(("ACK", *trigger))[:_LONGEST],
        uuid.uuid4().hex[:20],
        message.header(11)[:_LONGEST] or "P",
        message.header(12)[:_LONGEST] or "2.5.1",
    ]
    control_id = message.header(10)[:_LONGEST]
    said = mark.escaped(reason)
    segments = [header, ["MSA", code, control_id, *([said] if said else [])]]
    if code != ACCEPTED:
        segments.append(["ERR", "", "", cause.replace("^", mark.component), "E", "", "", "", said])
    return "".join(f"{mark.field.join(segment)}\r" for segment in segments)
