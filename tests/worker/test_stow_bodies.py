"""Bodies of STOW-RS requests as real clients send them: each is stored, or refused with a status and a sentence."""

import gzip
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from dicom_node.scp.sessions import Sessions
from dicom_node.store import Store
from tests.support.instances import small_instance
from tests.support.web import part10
from worker.servers.http import serving
from worker.servers.http_guard import HttpLimits
from worker.servers.stow import stow_routes
from worker.settings import Settings

pytestmark = pytest.mark.peers

TOKEN = "secret"
RELATED = 'multipart/related; type="application/dicom"; boundary="edge"'


def dicom(number: int = 1) -> bytes:
    return part10(small_instance(number))


def body(
    *files: bytes, edge: str = "edge", line_end: bytes = b"\r\n", head: bytes = b"Content-Type: application/dicom"
) -> bytes:
    parts = [b"--" + edge.encode() + line_end + head + line_end * 2 + file + line_end for file in files]
    return b"".join(parts) + b"--" + edge.encode() + b"--\r\n"


@dataclass(frozen=True)
class Case:
    """A request, the status of its answer, and how many instances it says are stored, failed, and not understood."""

    content: bytes
    status: int
    counts: tuple[int, int, int] | None = None
    kind: str = RELATED
    headers: str = ""
    path: str = "/studies"
    chunked: bool = False
    says: str = ""


ONE = body(dicom())
STORED = (1, 0, 0)
CASES = {
    "type and boundary quoted": Case(ONE, 200, STORED),
    "type not quoted": Case(
        body(dicom(), edge="-----------------------f0"),
        200,
        STORED,
        kind="multipart/related; type=application/dicom; boundary=-----------------------f0",
    ),
    "type in single quotes": Case(ONE, 200, STORED, kind="multipart/related; type='application/dicom'; boundary=edge"),
    "no type": Case(ONE, 200, STORED, kind="multipart/related; boundary=edge"),
    "capitals": Case(ONE, 200, STORED, kind='Multipart/Related; Type="Application/DICOM"; Boundary=edge'),
    "chunked": Case(ONE, 200, STORED, chunked=True),
    "a line end first": Case(b"\r\n" + ONE, 200, STORED),
    "a preamble": Case(b"This is a multi-part message in MIME format.\r\n" + ONE, 200, STORED),
    "an epilogue": Case(ONE + b"epilogue\r\n", 200, STORED),
    "no line end at the end": Case(ONE.removesuffix(b"\r\n"), 200, STORED),
    "LF for CR LF": Case(body(dicom(), line_end=b"\n"), 400, says="the body is no multipart message"),
    "blanks behind the boundary": Case(
        ONE.replace(b"--edge\r\n", b"--edge  \r\n"), 400, says="the body is no multipart message"
    ),
    "cut within the second file": Case(body(dicom(1), dicom(2))[:-100], 202, (1, 0, 1)),
    "a part without header": Case(b"--edge\r\n\r\n" + dicom() + b"\r\n--edge--\r\n", 200, STORED),
    "many headers of a part": Case(
        body(
            dicom(),
            head=b"Content-Type: application/dicom; transfer-syntax=1.2.840.10008.1.2.1\r\nContent-Length: 700\r\n"
            b"MIME-Version: 1.0\r\nContent-Location: /a/b",
        ),
        200,
        STORED,
    ),
    "a character set": Case(ONE, 200, STORED, kind=RELATED + "; charset=utf-8"),
    "start first": Case(
        ONE, 200, STORED, kind='multipart/related; start="<1>"; boundary=edge; type="application/dicom"'
    ),
    "a part that is no DICOM": Case(body(dicom(1), b"%PDF-1.4 no dicom", dicom(2)), 202, (2, 0, 1)),
    "an empty part": Case(body(b"", dicom()), 202, (1, 0, 1)),
    "no part": Case(b"--edge--\r\n", 400, says="no DICOM file"),
    "no body": Case(b"", 400),
    "cut within a file": Case(ONE[:400], 400),
    "no last boundary": Case(ONE.removesuffix(b"--edge--\r\n"), 400),
    "another boundary": Case(ONE, 400, kind="multipart/related; type=application/dicom; boundary=other"),
    "gzip": Case(gzip.compress(ONE), 415, headers="Content-Encoding: gzip\r\n"),
    "a form of a browser": Case(ONE, 415, kind="multipart/form-data; boundary=edge", says="send multipart/related"),
    "one file": Case(dicom(), 415, kind="application/dicom", says="send multipart/related"),
    "DICOM JSON": Case(
        body(b"[]", head=b"Content-Type: application/dicom+json"),
        415,
        kind='multipart/related; type="application/dicom+json"; boundary=edge',
        says="application/dicom+json is not taken here",
    ),
    "another study than the address": Case(ONE, 409, (0, 1, 0), path="/studies/1.2.999"),
    "a slash behind the address": Case(ONE, 200, STORED, path="/studies/"),
    "another address": Case(ONE, 404, path="/dicom-web/studies", says="nothing at this address"),
    "an answer as XML": Case(ONE, 200, STORED, headers="Accept: application/dicom+xml\r\n"),
    "100-continue": Case(ONE, 200, STORED, headers="Expect: 100-continue\r\n"),
    "a boundary that is no ASCII": Case(ONE, 415, kind="multipart/related; boundary*=utf-8''%e2%82%ac"),
    "meta information of no VR": Case(body(dicom().replace(b"\2\0\2\0UI", b"\2\0\2\0U\0")), 409, (0, 0, 1)),
    "a boundary of 5000 characters": Case(ONE, 415, kind=f"multipart/related; boundary={'b' * 5000}"),
}


@contextmanager
def serving_studies(home: Path) -> Iterator[tuple[int, Store]]:
    """STOW-RS on a free port, and the store behind it."""
    store = Store(home)
    sessions = Sessions(store, on_arrival=lambda _: None, on_end=None, shared=False)
    routes = {"stow": stow_routes(store, sessions, ae_title="VOXTELL", required_bytes=0)}
    with serving(routes, Settings(home=home), port=0, token=TOKEN, limits=HttpLimits()) as port:
        yield port, store


def post(port: int, case: Case) -> tuple[int, dict]:
    head = (
        f"POST {case.path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: {case.kind}\r\n"
        f"Connection: close\r\n{case.headers}"
    )
    if case.chunked:
        pieces = [case.content[start : start + 100] for start in range(0, len(case.content), 100)]
        content = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
        head += "Transfer-Encoding: chunked\r\n\r\n"
    else:
        content = case.content
        head += f"Content-Length: {len(content)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=20) as line:
        line.sendall(head.encode() + content)
        received = b""
        with suppress(ConnectionError):
            while part := line.recv(65536):
                received += part
    received = received.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").removeprefix(b"HTTP/1.1 100 \r\n\r\n")
    answer_head, _, answer = received.partition(b"\r\n\r\n")
    return int(answer_head.split()[1]), json.loads(answer)


@pytest.mark.parametrize("name", CASES)
def test_every_body_is_stored_or_refused_with_a_sentence(tmp_path: Path, name: str) -> None:
    case = CASES[name]
    with serving_studies(tmp_path) as (port, store):
        status, answer = post(port, case)
        stored = len(list(store.walk()))
    assert status == case.status, answer
    if case.counts is None:
        assert stored == 0
        assert case.says in answer["detail"]
        assert len(answer["detail"]) > 20
    else:
        tags = ("00081199", "00081198", "0008119A")
        assert tuple(len(answer.get(tag, {}).get("Value", ())) for tag in tags) == case.counts
        assert stored == case.counts[0]
