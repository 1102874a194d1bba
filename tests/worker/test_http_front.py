"""The HTTP front, over real sockets: each of its guards fires, and is told in the log."""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import requests
from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse, StreamingResponse
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from structlog.testing import capture_logs

from dicom_node.errors import ListenerError
from tests.support.certificates import Authority
from tests.support.waiting import wait_until
from worker.servers.http import serving
from worker.servers.http_guard import HttpLimits
from worker.settings import Settings

pytestmark = pytest.mark.peers

TOKEN = {"Authorization": "Bearer secret"}
USUAL = HttpLimits()
HEAD = "POST /length HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\n"


class Here:
    """A front that runs, and its log."""

    def __init__(self, port: int, told: list[Any], release: threading.Event, scheme: str) -> None:
        self.port, self.told, self.release = port, told, release
        self.url = f"{scheme}://127.0.0.1:{port}"

    def post(
        self, path: str = "/length", content: Any = b"abc", headers: Any = TOKEN, **more: Any
    ) -> requests.Response:
        return requests.post(self.url + path, data=content, headers=headers, timeout=20, **more)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def lines(self, event: str) -> list[Any]:
        return [line for line in self.told if line["event"] == event]

    def line(self, event: str) -> Any:
        """The one line of this event, as soon as it is written."""
        wait_until(lambda: self.lines(event))
        (line,) = self.lines(event)
        return line


Front = Callable[..., AbstractContextManager[Here]]


@pytest.fixture
def front(tmp_path: Path) -> Front:
    """`with front(limits, setting=...) as here:` serves a few routes on a free port."""

    @contextlib.contextmanager
    def run(limits: HttpLimits = USUAL, **settings: Any) -> Iterator[Here]:
        release = threading.Event()
        scheme = "https" if "tls_certificate" in settings else "http"
        routes = {"test": router(release), "mounted": mounted}
        with (
            capture_logs() as told,
            serving(routes, Settings(home=tmp_path, **settings), port=0, token="secret", limits=limits) as port,
        ):
            try:
                yield Here(port, told, release, scheme)
            finally:
                release.set()

    return run


def router(release: threading.Event) -> APIRouter:
    routes = APIRouter()

    @routes.post("/length")
    async def length(request: Request) -> PlainTextResponse:
        return PlainTextResponse(str(len(await request.body())))

    @routes.post("/waits/{name}")
    def waits(name: str) -> PlainTextResponse:
        release.wait(20)
        return PlainTextResponse(name)

    @routes.post("/number")
    def number(count: int) -> int:
        return count

    @routes.post("/fails")
    def fails() -> None:
        raise RuntimeError("something unforeseen")

    @routes.post("/refuses")
    def refuses() -> None:
        raise HTTPException(409, "the study is being removed; send it again later")

    @routes.post("/much")
    def much() -> StreamingResponse:
        return StreamingResponse(b"x" * 65536 for _ in range(1000))

    return routes


async def mounted(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that knows nothing of the front."""
    length, more = 0, True
    while more:
        message = await receive()
        length, more = length + len(message["body"]), message["more_body"]
    await PlainTextResponse(f"mounted {length}")(scope, receive, send)


def answered(line: socket.socket) -> tuple[int, dict[str, Any]]:
    """Status and JSON of the answer, read until the server closes."""
    answer = b""
    while part := line.recv(65536):
        answer += part
    head, _, content = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return int(head.split()[1]), json.loads(content)


def chunks(size: int, count: int) -> Iterator[bytes]:
    """A body whose length nobody announces."""
    for _ in range(count):
        yield b"a" * size


# -- what is answered


def test_routers_and_applications_answer_behind_one_front(front: Front) -> None:
    with front() as here:
        assert here.post().text == "3"
        assert here.post("/mounted/anything").text == "mounted 3"
        assert here.post("/waits/me", content=b"", headers=None).status_code == 401
        here.release.set()
        assert here.post("/waits/me").text == "me"
        wait_until(lambda: len(here.lines("http_request_answered")) == 3)
        lines = here.lines("http_request_answered")
        assert [line["route"] for line in lines] == ["/length", "/mounted", "/waits/{name}"]
        assert [(line["status"], line["received_bytes"]) for line in lines] == [(200, 3), (200, 3), (200, 0)]
        assert here.line("http_listening")["routes"] == ["test", "mounted"]


@pytest.mark.parametrize(
    ("path", "status", "title", "sentence"),
    [
        ("/refuses", 409, "Conflict", "the study is being removed; send it again later"),
        ("/nothing", 404, "Not Found", "nothing at this address"),
        ("/number?count=many", 422, None, "query.count: Input should be a valid integer"),
    ],
)
def test_errors_are_problem_details(front: Front, path: str, status: int, title: str | None, sentence: str) -> None:
    with front() as here:
        answer = here.post(path)
        assert answer.headers["Content-Type"] == "application/problem+json"
        problem = answer.json()
        assert (answer.status_code, problem["status"], problem["type"]) == (status, status, "about:blank")
        assert problem["title"] == (title or problem["title"])
        assert sentence in problem["detail"]
        assert here.line("http_request_refused")["status"] == status


def test_another_method_is_refused_and_the_right_one_named(front: Front) -> None:
    with front() as here:
        answer = requests.get(here.url + "/length", headers=TOKEN, timeout=20)
        assert (answer.status_code, answer.headers["Allow"]) == (405, "POST")
        assert "does not take the request's method" in answer.json()["detail"]


def test_an_unforeseen_error_is_answered_without_its_words_and_logged_with_them(front: Front) -> None:
    with front() as here:
        answer = here.post("/fails")
        assert (answer.status_code, answer.json()["title"]) == (500, "Internal Server Error")
        assert "unforeseen" not in answer.text
        line = here.line("http_request_failed")
        assert (line["status"], str(line["exc_info"]), line["log_level"]) == (500, "something unforeseen", "error")
        assert here.post().text == "3"


def test_neither_path_nor_query_reach_a_log(front: Front, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, "urllib3")  # the sender of this test
    with front() as here:
        here.release.set()
        here.post("/waits/DOE?patient=JANE")
        here.post("/DOE?patient=JANE")
        wait_until(lambda: here.lines("http_request_refused"))
        for word in ("DOE", "JANE", "secret"):
            assert word not in caplog.text + str(here.told)


# -- who may ask


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer secret2"},
        {"Authorization": "Bearer secre"},
        {"Authorization": "Bearer"},
        {"Authorization": "secret"},
        {"Authorization": "Basic secret"},
    ],
)
def test_without_the_token_no_route_is_reached(front: Front, headers: dict[str, str]) -> None:
    with front() as here:
        for path in ("/length", "/mounted/", "/nothing"):
            answer = here.post(path, headers=headers)
            assert (answer.status_code, answer.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert "send Authorization: Bearer TOKEN" in answer.json()["detail"]
        assert here.post(headers={"Authorization": "bearer secret"}).text == "3"


def test_an_address_that_is_not_allowed_is_refused_whatever_it_says_of_itself(front: Front) -> None:
    with front(allowed_addresses=("10.1.0.0/16",)) as here:
        for headers in (TOKEN, {**TOKEN, "X-Forwarded-For": "10.1.2.3", "Forwarded": "for=10.1.2.3"}, {}):
            answer = here.post(headers=headers)
            assert answer.status_code == 403
            assert "VOXTELL_ALLOWED_ADDRESSES" in answer.json()["detail"]
        wait_until(lambda: [line["address"] for line in here.lines("http_request_refused")] == ["127.0.0.1"] * 3)
    with front(allowed_addresses=("10.1.0.0/16", "127.0.0.0/8")) as here:
        assert here.post().text == "3"


def test_an_allowed_address_that_is_none_is_named(front: Front) -> None:
    with (
        pytest.raises(ValidationError, match=r"allowed_addresses.0\n.*is neither an IP address nor a network"),
        front(allowed_addresses=("10.1.",)),
    ):
        pytest.fail("it started")


def test_with_a_certificate_only_tls_is_spoken(front: Front, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("node")
    with front(tls_certificate=certificate, tls_key=key) as here:
        assert here.post(verify=str(authority.certificate)).text == "3"
        with here.connect() as plain:
            plain.sendall(HEAD.encode() + b"\r\n")
            with contextlib.suppress(ConnectionError):
                assert b"HTTP" not in plain.recv(1000)


# -- how much


@pytest.mark.parametrize("path", ["/length", "/mounted/"])
def test_a_body_that_is_too_large_is_refused_announced_or_not(front: Front, path: str) -> None:
    with front(HttpLimits(body_bytes=1000)) as here:
        assert here.post(path, b"a" * 1000).status_code == 200
        for content in (b"a" * 1001, chunks(500, 3)):
            answer = here.post(path, content)
            assert answer.status_code == 413
            assert "longer than 1000 bytes" in answer.json()["detail"]


def test_what_is_announced_too_large_is_refused_before_it_is_sent(front: Front) -> None:
    with front(HttpLimits(body_bytes=1000, header_seconds=0.5)) as here, here.connect() as line:
        line.sendall(f"{HEAD}Content-Length: 5000\r\n\r\n".encode())
        assert b"413" in line.recv(65536)


@pytest.mark.parametrize("what", [b"\x16\x03\x01 no HTTP at all\r\n\r\n", HEAD.encode() + b"X: " + b"a" * 20000])
def test_what_is_no_http_or_has_too_long_a_header_is_refused(front: Front, what: bytes) -> None:
    with front(HttpLimits(header_bytes=4096)) as here, here.connect() as line:
        line.sendall(what)
        status, problem = answered(line)
        assert status == problem["status"] == 400
        assert "at most 4096 bytes of header" in problem["detail"]
        assert here.line("http_connection_closed")["reason"] == problem["detail"]


def test_more_requests_than_the_limit_are_refused_and_may_come_again(front: Front) -> None:
    with front(HttpLimits(requests=2)) as here:
        waiting = [threading.Thread(target=here.post, args=("/waits/x",)) for _ in range(2)]
        for thread in waiting:
            thread.start()
        wait_until(lambda: here.post().status_code == 503)
        answer = here.post()
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "2 requests are being answered" in answer.json()["detail"]
        wait_until(lambda: 503 in {line["status"] for line in here.lines("http_request_refused")})
        here.release.set()
        for thread in waiting:
            thread.join()
        assert here.post().text == "3"


def test_more_connections_than_the_limit_are_refused(front: Front) -> None:
    limits = HttpLimits(requests=4, connections=2)
    with front(limits) as here, contextlib.ExitStack() as open_lines:
        asking = [open_lines.enter_context(here.connect()) for _ in range(limits.connections)]
        for line in asking:
            line.sendall(f"{HEAD}Expect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode())
            assert b"100" in line.recv(65536), "its route waits for the body"
        assert _refused(here)
        with here.connect() as line:
            status, problem = answered(line)
            assert (status, problem["detail"]) == (503, f"{limits.connections} connections are open; try again later")
        for line in asking:
            line.sendall(b"abc")
            assert b"200 OK" in line.recv(65536)
        open_lines.close()
        wait_until(lambda: not _refused(here))
        assert here.post().text == "3"


def _refused(here: Here) -> bool:
    try:
        return here.post().status_code == 503
    except requests.ConnectionError:
        return True


@pytest.mark.parametrize("sent", [b"", b"POST /length HT", HEAD.encode()])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.2"])
def test_connections_that_ask_nothing_shut_out_nobody(front: Front, sent: bytes, address: str) -> None:
    """Idle ones and half headers, more than the port has places, from one's own address or another."""
    with front(HttpLimits(requests=2, connections=8)) as here, contextlib.ExitStack() as lines:
        for _ in range(100):
            line = socket.create_connection(("127.0.0.1", here.port), 20, source_address=(address, 0))
            lines.enter_context(line).sendall(sent)
        for _ in range(3):
            assert here.post().text == "3"
        told = {(line["address"], line["reason"]) for line in here.lines("door_connection_closed")}
        assert told == {(address, "it asked nothing and gave its place to a newer connection")}


def test_addresses_that_are_not_allowed_shut_out_nobody(front: Front) -> None:
    with front(HttpLimits(requests=2, connections=8), allowed_addresses=("127.0.0.1",)) as here:
        with contextlib.ExitStack() as lines:
            for _ in range(50):
                line = socket.create_connection(("127.0.0.1", here.port), 20, source_address=("127.0.0.2", 0))
                lines.enter_context(line)
            assert here.post().text == "3"
        with socket.create_connection(("127.0.0.1", here.port), 20, source_address=("127.0.0.2", 0)) as stranger:
            stranger.sendall(HEAD.encode() + b"Content-Length: 3\r\n\r\nabc")
            status, problem = answered(stranger)
        assert status == 403
        assert "VOXTELL_ALLOWED_ADDRESSES" in problem["detail"]


def test_one_address_leaves_room_for_the_others(front: Front) -> None:
    settings = {"max_connections_per_address": 3}
    with front(HttpLimits(requests=2, connections=8), **settings) as here, contextlib.ExitStack() as lines:
        kept = socket.create_connection(("127.0.0.1", here.port), 20, source_address=("127.0.0.2", 0))
        lines.enter_context(kept).sendall(b"POST /length HT")
        for _ in range(50):
            lines.enter_context(here.connect())
        assert here.post().text == "3"
        kept.sendall(b"TP/1.1\r\nHost: x\r\nAuthorization: Bearer secret\r\nContent-Length: 3\r\n\r\nabc")
        assert b"200 OK" in kept.recv(65536)


def test_handshakes_that_do_not_come_shut_out_nobody(front: Front, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("node")
    secure = {"tls_certificate": certificate, "tls_key": key}
    with front(HttpLimits(requests=2, connections=8), **secure) as here, contextlib.ExitStack() as lines:
        for _ in range(60):
            lines.enter_context(here.connect())
        assert here.post(verify=str(authority.certificate)).text == "3"


def test_a_request_that_is_answered_is_never_the_one_that_goes(front: Front) -> None:
    with front(HttpLimits(requests=4, connections=4)) as here, contextlib.ExitStack() as lines:
        answers: list[str] = []
        asked = threading.Thread(target=lambda: answers.append(here.post("/waits/x").text))
        asked.start()
        time.sleep(0.5)
        for _ in range(30):
            lines.enter_context(here.connect())
        here.release.set()
        asked.join()
        assert answers == ["x"]


@pytest.mark.parametrize("size", [30_000, 120_000])
def test_a_long_header_is_refused_in_one_read_too(front: Front, size: int) -> None:
    with front(HttpLimits(header_bytes=4096)) as here, here.connect() as line:
        line.sendall(HEAD.encode() + b"X: " + b"a" * size + b"\r\nContent-Length: 3\r\n\r\nabc")
        status, problem = answered(line)
        assert status == 400
        assert "at most 4096 bytes of header" in problem["detail"]


def test_a_length_of_thousands_of_digits_is_refused(front: Front) -> None:
    with front(HttpLimits(body_bytes=1000)) as here, here.connect() as line:
        line.sendall(f"{HEAD}Content-Length: {'9' * 5000}\r\n\r\nabc".encode())
        assert answered(line)[0] in (400, 413)


# -- how long


@pytest.mark.parametrize("sent", [b"", b"POST /length HT", HEAD.encode()])
def test_a_request_whose_header_does_not_come_is_given_up(front: Front, sent: bytes) -> None:
    with front(HttpLimits(header_seconds=0.3)) as here, here.connect() as line:
        line.sendall(sent)
        status, problem = answered(line)
        assert (status, problem["detail"]) == (408, "no request came within 0.3 s; send it again")
        assert here.line("http_connection_closed")["address"] == "127.0.0.1"


def is_cut_off_at_one_byte_more(line: socket.socket) -> bool:
    """Whether the other end has closed the connection, which a peer that trickles sees when it sends on."""
    try:
        line.sendall(b"P")
    except ConnectionError:
        return True
    return False


def test_a_header_that_trickles_gains_no_time(front: Front) -> None:
    with front(HttpLimits(header_seconds=0.5)) as here, here.connect() as line:
        wait_until(lambda: is_cut_off_at_one_byte_more(line))


def test_a_body_that_stops_is_given_up_and_one_that_goes_on_is_not(front: Front) -> None:
    with front(HttpLimits(idle_seconds=0.5, header_seconds=0.5)) as here:
        with here.connect() as line:
            line.sendall(f"{HEAD}Content-Length: 100\r\n\r\nabc".encode())
            status, problem = answered(line)
            assert (status, problem["detail"]) == (408, "no byte of the body came for 0.5 s; send it again")

        def slowly() -> Iterator[bytes]:
            for _ in range(8):
                time.sleep(0.15)
                yield b"ab"

        assert here.post(content=slowly()).text == "16"


def test_the_rest_of_a_refused_body_is_read_for_a_while_only(front: Front) -> None:
    with front(HttpLimits(header_seconds=0.5)) as here, here.connect() as line:
        line.sendall(b"POST /length HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert b"401" in line.recv(65536)
        wait_until(lambda: is_cut_off_at_one_byte_more(line))


def test_a_client_that_does_not_read_its_answer_is_given_up(front: Front) -> None:
    with front(HttpLimits(idle_seconds=0.5)) as here, here.connect() as line:
        line.sendall(HEAD.replace("/length", "/much").encode() + b"Content-Length: 0\r\n\r\n")
        assert here.line("http_connection_closed")["reason"] == "the answer was not read"


def test_a_client_that_reads_slowly_gets_all_of_its_answer(front: Front) -> None:
    with front(HttpLimits(idle_seconds=1.0)) as here, here.connect() as line:
        line.sendall(HEAD.replace("/length", "/much").encode() + b"Content-Length: 0\r\nConnection: close\r\n\r\n")
        received = 0
        while part := line.recv(2_000_000):
            received += len(part)
            time.sleep(0.02)
        assert received > 65536 * 1000
        assert here.lines("http_connection_closed") == []


def test_an_idle_connection_is_closed_without_a_word(front: Front) -> None:
    with front(HttpLimits(keep_alive_seconds=1)) as here, here.connect() as line:
        line.sendall(f"{HEAD}Content-Length: 3\r\n\r\nabc".encode())
        answer = b""
        while part := line.recv(65536):
            answer += part
        assert answer.count(b"HTTP/1.1") == 1
        assert here.lines("http_connection_closed") == []


@pytest.mark.parametrize("path", ["/length", "/mounted/"])
def test_a_client_that_leaves_before_its_answer_is_no_error_of_the_node(front: Front, path: str) -> None:
    with front() as here:
        with here.connect() as line:
            line.sendall(f"{HEAD.replace('/length', path)}Content-Length: 100\r\n\r\nabc".encode())
            time.sleep(0.1)
        assert here.line("http_request_cut_off")["received_bytes"] == 3
        assert here.lines("http_request_failed") == []


def test_a_body_that_turns_out_not_to_be_http_is_answered_once(front: Front) -> None:
    """A refusal was on its way when the connection answered the body; it met a connection that was over."""
    with front() as here:
        for head in (HEAD, HEAD.replace("secret", "wrong")):
            with here.connect() as line:
                line.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\nno length\r\n".encode())
                status, _ = answered(line)
                assert status in (400, 401)
        wait_until(lambda: len([line for line in here.told if line["event"].startswith("http_request")]) == 2)
        assert here.lines("http_request_failed") == []


# -- start and stop


def test_a_taken_port_is_named_and_a_shared_one_is_shared(front: Front) -> None:
    settings = Settings(home=Path("unused"))
    with front() as here:
        taken = pytest.raises(ListenerError, match=f"Port {here.port} on 127.0.0.1 cannot be listened on")
        with taken, serving({}, settings, port=here.port, token="secret", limits=USUAL):
            pytest.fail("it started")
    with front(share_port=True) as here:
        shared = settings.model_copy(update={"listeners": 2})
        with serving({}, shared, port=here.port, token="secret", limits=USUAL) as other:
            assert other == here.port


def test_a_request_that_does_not_end_does_not_hold_up_the_stop(front: Front) -> None:
    with front() as here:
        line = here.connect()
        line.sendall(f"{HEAD}Content-Length: 100\r\n\r\nabc".encode())
        time.sleep(0.2)
    assert here.line("http_request_cut_off")["received_bytes"] == 3
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("http:")]
    line.close()
