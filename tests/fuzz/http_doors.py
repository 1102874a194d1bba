"""HTTP requests byte by byte: STOW-RS bodies, and reports (HL7, FHIR, plain text, DICOM SR)."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.storage.part10 import file_start
from tests.fuzz.door import Case, FindingError, exchange
from tests.fuzz.instances import OUT_OF_RESOURCES, SEGMENTED_EVERY, SPOILS, own_values, small_series, sop_uid_of
from tests.fuzz.mllp import WORDS
from tests.fuzz.mutations import mutated, mutated_json
from tests.support.association_bytes import CT
from tests.support.reports import ORU, document
from tests.support.web import BOUNDARY, body

TOKEN: Final = "not a secret"

_HEADERS: Final = (
    b"Content-Length: 99999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Content-Length: 1\r\nContent-Length: 2\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\nConnection: upgrade\r\n",
    b"Host: [::1\r\n",
    b"X: " + b"y" * 20_000 + b"\r\n",
    b"X: y\r\n" * 500,
    b"X : y\r\n",
    b" folded\r\n",
    b"X: \x1b[2J\xff\r\n",
    b"\0: \0\r\n",
)
_MARKS: Final = (b"\r\n\r\n", b"\r\n", b"--" + BOUNDARY.encode(), b"--" + BOUNDARY.encode() + b"--", b"Content-Type: ")
_PATHS: Final = ("/", "/studies/1.2.3", "/studies/../../etc", "/studies/" + "9" * 3000, "/%00", "/studies?x=%zz", "*")


def http_request(
    path: str, content: bytes, *, kind: str, more: bytes = b"", token: str = TOKEN, length: int | None = None
) -> bytes:
    """A POST as it goes over the line, after which the server closes the connection."""
    head = f"POST {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: {kind}\r\nContent-Length: {len(content) if length is None else length}\r\n"
    return head.encode("utf-8", "surrogatepass") + more + b"\r\n" + content


def odd_request(chance: random.Random, path: str, content: bytes, kind: str) -> bytes:
    """A request with its body; one in four has something wrong outside the body too."""
    if chance.random() < 0.75:
        return http_request(path, content, kind=kind)
    whole = http_request(
        chance.choice((path, path, *_PATHS)),
        content,
        kind=kind,
        more=chance.choice((b"", *_HEADERS)),
        token=chance.choice((TOKEN, TOKEN, TOKEN, "wrong", "", "x" * 9000)),
        length=chance.choice((None, None, 0, len(content) // 2, len(content) + 10, 10**12)),
    )
    head = whole.find(b"\r\n\r\n")
    match chance.randrange(4):
        case 0:
            return mutated(chance, whole, words=(*_HEADERS, *_MARKS), near=head)
        case 1:
            return whole[: chance.randrange(len(whole))]
        case 2:
            chunks = b"".join(
                f"{chance.choice((len(part), 0xFFFFFFFF)):x}\r\n".encode() + part + b"\r\n"
                for part in (content[at : at + 500] for at in range(0, len(content), 500))
            )
            return whole[:head].replace(b"Content-Length", b"X-Length") + (
                b"\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
            )
    return whole


def status_of(case: Case, received: bytes, taken: Sequence[str]) -> str:
    """The status of the first answer. Raises FindingError for a server's error, and where a stranger was served."""
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    status = received[9:12].decode("ascii", "replace") if received.startswith(b"HTTP/1.") else ""
    if case.stranger and status not in ("", "400", "403"):
        raise FindingError(f"an address that may not connect was answered {status}")
    if status.startswith("5"):
        raise FindingError(f"it was answered {received[:300]!r}")
    if case.sound and status not in taken:
        raise FindingError(f"a sound request was answered by {received[:300]!r}")
    return status or ("stranger closed" if case.stranger else "closed")


class Stow:
    """STOW-RS requests: heads, parts and files with something wrong."""

    name = "STOW-RS"
    is_port = True

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._series = small_series(folder)

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """A request with a series, or what is left of one."""
        kind = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
        spoil = None if sound else chance.choice((*SPOILS, None, None))
        files = []
        for index, image in enumerate(self._series):
            own = own_values(number, index, segmented=number % SEGMENTED_EVERY == 2, way=2)
            syntax, is_spoilt = ExplicitVRLittleEndian, spoil and chance.random() < 0.5
            content = spoil(chance, image, own, syntax) if is_spoilt else image.encoded(syntax, own)
            sop_uid = sop_uid_of(number, index, way=2)
            start = file_start(sop_class_uid=CT.decode(), sop_uid=sop_uid, transfer_syntax=syntax)
            start = mutated(chance, start, words=_MARKS) if spoil and chance.random() < 0.3 else start
            files.append(start + content)
        content = body(*files)
        if sound:
            return http_request("/studies", content, kind=kind)
        if chance.random() < 0.3:
            content = mutated(chance, content, words=_MARKS, near=chance.choice((100, None)))
        if chance.random() < 0.1:
            boundary = chance.choice(("", '"', "x" * 71, "x" * 5000, "\u00e4", BOUNDARY + " ", "--"))
            kind = chance.choice((f"multipart/related; boundary={boundary}", "text/plain", "multipart/related", ";;;="))
        return odd_request(chance, "/studies", content, kind)

    def send(self, case: Case) -> str:
        """Says with which status it was answered."""
        received = exchange(case, self._port, is_answered=lambda _: False)
        if f'"Value": [{OUT_OF_RESOURCES}]'.encode() in received:
            raise FindingError("an image is to be sent again, without end: 0xA700, and the disk is not full")
        return status_of(case, received, ("200",))


FHIR: Final[dict[str, Any]] = {
    "resourceType": "Bundle",
    "entry": [
        {
            "resource": {
                "resourceType": "DiagnosticReport",
                "status": "final",
                "identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"}],
                "subject": {"identifier": {"value": "P1"}},
                "imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}],
                "text": {"div": "<div><p>Cyst in the <b>left</b> kidney &amp; liver.</p></div>"},
                "presentedForm": [{"contentType": "text/html", "data": "PHA+Tm9kdWxlPC9wPg=="}],
                "conclusion": "Nodule in the right upper lobe.",
                "contained": [{"resourceType": "Patient", "identifier": [{"value": "P1"}]}],
            }
        },
        {"resource": {"resourceType": "Patient", "identifier": [{"value": "P1"}]}},
    ],
}
_LINKS: Final = ("?study=1.2.3", "?accession=A1", "", "?study=" + "9" * 300, "?study=%00&accession=%ff", "?study=../x")


class Reports:
    """Reports over HTTP, of each format."""

    name = "reports"
    is_port = True

    def __init__(self, port: int) -> None:
        self._port = port

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """A request with a report that is spoilt."""
        if sound:
            return http_request(f"/reports?study=1.2.{number}", json.dumps(FHIR).encode(), kind="application/json")
        path = "/reports" + chance.choice(_LINKS)
        match chance.randrange(5):
            case 0 | 1:
                return odd_request(chance, path, mutated_json(chance, FHIR), "application/fhir+json")
            case 2:
                return odd_request(chance, path, mutated(chance, ORU.encode(), words=WORDS), "x-application/hl7-v2+er7")
            case 3:
                content = document(StudyInstanceUID="1.2.3", AccessionNumber="A1")
                return odd_request(chance, path, mutated(chance, content), "application/dicom")
        words = chance.choice(
            (b"FINDINGS: 8 mm nodule in the right upper lobe.\n", b"no ", b"(", b"left ", b"\xf0\x9f")
        )
        return odd_request(chance, path, mutated(chance, words * chance.choice((1, 40, 4000))), "text/plain")

    def send(self, case: Case) -> str:
        """Says with which status it was answered."""
        return status_of(case, exchange(case, self._port, is_answered=lambda _: False), ("201",))
