"""STOW-RS out: to Orthanc, and to a service that answers whatever the standard allows and more."""

import email
import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import Timeouts
from dicom_node.scu.stow import WebPeer, send_to_web
from tests.support.certificates import Authority
from tests.support.instances import small_instance
from tests.support.peers import orthanc, orthanc_plugin
from tests.support.ports import LOOPBACK

pytestmark = pytest.mark.peers

DICOM_JSON = "application/dicom+json"


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "1.dcm", tmp_path / "2.dcm"]
    for number, path in enumerate(made, 1):
        small_instance(number).save_as(path, enforce_file_format=True)
    return made


@pytest.fixture
def uids(paths: list[Path]) -> list[str]:
    return [str(dcmread(path).SOPInstanceUID) for path in paths]


class Service:
    """What a service got, and what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.content: Any = None
        self.type = DICOM_JSON
        self.location: str | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.parts: list[bytes] = []
        self.url = ""

    def says(self, status: int, *, stored: dict[str, int] | None = None, failed: dict[str, int] | None = None) -> None:
        """Answer with these instances and their warning or failure reasons (PS3.18 table 10.5.3-2)."""
        self.status, self.content = status, {}
        for tag, reason_tag, named in (("00081199", "00081196", stored), ("00081198", "00081197", failed)):
            items = [
                {"00081155": {"vr": "UI", "Value": [uid]}}
                | ({reason_tag: {"vr": "US", "Value": [code]}} if code else {})
                for uid, code in (named or {}).items()
            ]
            if items:
                self.content[tag] = {"vr": "SQ", "Value": items}


@contextmanager
def serving(service: Service, tls: tuple[Path, Path] | None = None) -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            message = email.message_from_bytes(f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body)
            service.parts = [part.get_payload(decode=True) for part in message.get_payload()]
            service.requests.append((self.path, dict(self.headers)))
            content = json.dumps(service.content).encode() if service.content is not None else b""
            self.send_response(service.status)
            self.send_header("Content-Type", service.type)
            self.send_header("Content-Length", str(len(content)))
            if service.location:
                self.send_header("Location", service.location)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_words: object) -> None:
            """Silence."""

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    server.handle_error = lambda *_connection: None  # type: ignore[method-assign] # a client that breaks off
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    service.url = f"{'https' if tls else 'http'}://{LOOPBACK}:{server.server_port}/dicom-web"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def service() -> Iterator[Service]:
    with serving(Service()) as running:
        yield running


# -- what is sent


def test_orthanc_stores_what_it_is_sent(paths, uids, tmp_path):
    with orthanc(tmp_path / "orthanc", Plugins=[orthanc_plugin("OrthancDicomWeb")]) as pacs:
        for _ in range(2):  # the same again is stored, as the same
            outcomes = send_to_web(paths, WebPeer(f"{pacs.http}/dicom-web"))
            assert [(outcome.path, outcome.sop_uid, outcome.result) for outcome in outcomes] == [
                (path, uid, "ok") for path, uid in zip(paths, uids, strict=True)
            ]
        assert pacs.sop_uids() == set(uids)
        assert pacs.file(uids[0])[128:132] == b"DICM"


def test_files_go_out_byte_for_byte_as_one_message(service, paths, uids):
    service.says(200, stored=dict.fromkeys(uids, 0))
    send_to_web(paths, WebPeer(service.url + "/"))
    ((path, headers),) = service.requests
    assert path == "/dicom-web/studies"
    assert headers["Accept"] == DICOM_JSON
    assert service.parts == [path.read_bytes() for path in paths]


def test_the_token_or_the_password_is_sent_and_nothing_without_them(service, paths):
    for peer in (
        WebPeer(service.url),
        WebPeer(service.url, token="t0ken"),
        WebPeer(service.url, user="u", password="p"),
    ):
        send_to_web(paths, peer)
        assert "t0ken" not in str(peer)
    sent = [headers.get("Authorization") for _, headers in service.requests]
    assert sent == [None, "Bearer t0ken", "Basic dTpw"]


# -- what it answers


def test_every_instance_has_its_own_status(service, paths, uids):
    service.says(202, stored={uids[0]: 0xB000}, failed={uids[1]: 0xA900})
    warned, failed = send_to_web(paths, WebPeer(service.url))
    assert (warned.result, warned.status, warned.retry) == ("warning", 0xB000, None)
    assert (failed.result, failed.status, failed.retry) == ("failed", 0xA900, "final")
    assert failed.message.startswith(f"{service.url} answered 0xA900 to {uids[1]}")


def test_a_conflict_is_read_too_and_says_what_may_pass(service, paths, uids):
    service.type = DICOM_JSON + "; charset=utf-8"
    service.says(409, failed={uids[0]: 0xA700, uids[1]: 0xC122})
    assert [outcome.retry for outcome in send_to_web(paths, WebPeer(service.url))] == ["later", "final"]


@pytest.mark.parametrize("status", [200, 202, 409])
@pytest.mark.parametrize("reason", [0x0111, 45070])
def test_an_instance_that_was_stored_before_is_stored(service, paths, uids, status, reason):
    """45070 is how Azure Health Data Services say it, 0x0111 what PS3.7 annex C has for it."""
    service.says(status, failed=dict.fromkeys(uids, reason))
    outcomes = send_to_web(paths, WebPeer(service.url))
    assert [(one.result, one.status, one.retry) for one in outcomes] == [("warning", reason, None)] * 2
    assert all("It was stored before." in one.message for one in outcomes)


@pytest.mark.parametrize("reason", [0xB000, 0xB00F, 0x0107])
def test_an_instance_that_is_named_as_failed_is_never_called_stored(service, paths, uids, reason):
    service.says(202, stored={uids[0]: 0}, failed={uids[1]: reason})
    stored, failed = send_to_web(paths, WebPeer(service.url))
    assert (stored.result, failed.result, failed.status, failed.retry) == ("ok", "failed", reason, "final")


@pytest.mark.parametrize("content", [None, {}, [], {"00081199": {"vr": "SQ", "Value": [{}]}}])
def test_an_answer_that_says_nothing_is_success_only_if_all_is_stored(service, paths, content):
    service.content = content
    assert {outcome.result for outcome in send_to_web(paths, WebPeer(service.url))} == {"ok"}
    service.status = 202
    assert {(outcome.result, outcome.retry) for outcome in send_to_web(paths, WebPeer(service.url))} == {
        ("failed", "later")
    }


def test_an_instance_that_is_not_named_is_not_stored(service, paths, uids):
    service.says(200, stored={uids[0]: 0})
    stored, forgotten = send_to_web(paths, WebPeer(service.url))
    assert stored.result == "ok"
    assert (forgotten.retry, "did not say what became of" in forgotten.message) == ("later", True)


@pytest.mark.parametrize(
    ("status", "error", "words"),
    [
        (401, PeerError, "check its token or password"),
        (403, PeerError, "check its token or password"),
        (429, PeerError, "try again later"),
        (503, PeerError, "try again later"),
        (404, PeerRefusedError, "check that its URL is that of a DICOMweb service"),
        (301, PeerRefusedError, "Moved Permanently to https://elsewhere/; set that address"),
    ],
)
def test_a_request_that_is_refused_says_whether_to_try_again_and_what_to_check(service, paths, status, error, words):
    service.status, service.location = status, "https://elsewhere/"
    with pytest.raises(error, match=words) as raised:
        send_to_web(paths, WebPeer(service.url))
    assert str(raised.value).startswith(f"{service.url} answered {status}")
    assert len(service.requests) == 1


def test_a_service_that_is_not_there_is_one_sentence(paths, free_port):
    with pytest.raises(PeerError, match=r"does not answer \(.*Connection refused.*\); check the URL") as raised:
        send_to_web(paths, WebPeer(f"http://{LOOPBACK}:{free_port}/dicom-web"), timeouts=Timeouts(connect=2.0))
    assert "\n" not in str(raised.value)


# -- TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


def test_a_certificate_that_the_authority_signed_is_taken_and_no_other(
    authority: Authority, paths: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Authority(tmp_path_factory.mktemp("stranger"), "stranger")
    with serving(Service(), tls=authority.issue("web")) as service:
        assert [one.result for one in send_to_web(paths, WebPeer(service.url, authorities=authority.certificate))] == [
            "ok",
            "ok",
        ]
        for untrusting in (stranger.certificate, None):
            with pytest.raises(PeerError, match="TLS fails"):
                send_to_web(paths, WebPeer(service.url, token="secret", authorities=untrusting))
        assert all("Authorization" not in headers for _, headers in service.requests)
