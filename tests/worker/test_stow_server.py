"""STOW-RS in, with dicomweb-client as the sender: what it is told is durable is durable."""

import json
import socket
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from requests import HTTPError, Session

from dicom_node.listener import Listener
from dicom_node.origin import Origin
from dicom_node.scp.sessions import Sessions
from dicom_node.scu.association import Peer
from dicom_node.store import Outcome, Store
from tests.support.instances import data_set, send_data_sets, small_instance
from tests.support.waiting import wait_until
from tests.support.web import BOUNDARY, body, part10
from worker.servers.http import serving
from worker.servers.http_guard import HttpLimits
from worker.servers.stow import stow_routes
from worker.settings import Settings

pytestmark = pytest.mark.peers

TOKEN = "secret"


class Web:
    """A STOW-RS server on a store, and what it told."""

    def __init__(self, port: int, store: Store, sessions: Sessions, arrivals: list, ends: list) -> None:
        self.url, self.port = f"http://127.0.0.1:{port}", port
        self.store, self.sessions, self.arrivals, self.ends = store, sessions, arrivals, ends

    def client(self, token: str = TOKEN) -> DICOMwebClient:
        session = Session()
        session.headers["Authorization"] = f"Bearer {token}"
        return DICOMwebClient(self.url, session=session)

    def posts(self, body: bytes, path: str = "/studies", kind: str | None = None, token: str = TOKEN) -> tuple:
        """Status and JSON of a request as it is."""
        request = urllib.request.Request(self.url + path, body, method="POST")
        request.add_header("Content-Type", kind or f'multipart/related; type="application/dicom"; boundary={BOUNDARY}')
        request.add_header("Authorization", f"Bearer {token}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def quarantined(self) -> list:
        return sorted((self.store.home / "quarantine").glob("*.dcm"))


@pytest.fixture
def web(tmp_path):
    """`with web(allowed_addresses=...) as here:` serves on a free port."""

    @contextmanager
    def run(allowed_addresses: tuple[str, ...] = (), required_bytes: int = 0, on_arrival=None):
        store, arrivals, ends = Store(tmp_path / "home"), [], []
        sessions = Sessions(store, on_arrival=on_arrival or arrivals.append, on_end=ends.append, shared=False)
        settings = Settings(home=store.home, allowed_addresses=allowed_addresses)
        routes = {"stow": stow_routes(store, sessions, ae_title="VOXTELL", required_bytes=required_bytes)}
        with serving(routes, settings, port=0, token=TOKEN, limits=HttpLimits(requests=20)) as port:
            yield Web(port, store, sessions, arrivals, ends)

    return run


def value(item: dict, tag: str):
    return item[tag]["Value"][0]


def test_dicomweb_client_stores_a_real_ct(web, ct_paths):
    with web() as here:
        answer = here.client().store_instances([dcmread(path) for path in ct_paths])
        assert len(answer.ReferencedSOPSequence) == 41
        assert "FailedSOPSequence" not in answer
        assert [arrival.outcome for arrival in here.arrivals] == [Outcome.NEW] * 41
        for arrival in here.arrivals:
            assert arrival.path.is_file()
        first = here.arrivals[0]
        assert first.origin == Origin("STOW-RS", "VOXTELL", "127.0.0.1")
        (end,) = here.ends
        assert end.series == {first.key}
        assert not end.aborted
        stored = {stored.sop_uid: dcmread(stored.path) for stored in here.store.walk()}
        for path in ct_paths:
            sent = dcmread(path)
            assert stored[sent.SOPInstanceUID] == sent


def test_an_instance_that_came_by_c_store_is_the_same_by_stow(web):
    """Both ways write the same file meta information of their own."""
    with web() as here:
        with Listener(here.store, ae_title="VOXTELL", host="127.0.0.1", port=0, on_arrival=lambda _: None) as listener:
            send_data_sets(Peer("VOXTELL", "127.0.0.1", listener.port), small_instance())
        here.posts(body(part10(small_instance())))
        assert [arrival.outcome for arrival in here.arrivals] == [Outcome.SAME]


def test_the_file_is_byte_for_byte_what_was_posted_behind_its_meta_information(web):
    sent = part10(small_instance())
    with web() as here:
        status, answer = here.posts(body(sent))
        assert status == 200
        item = value(answer, "00081199")
        assert value(item, "00081155") == "1.2.3.4.1"
        assert data_set(here.arrivals[0].path.read_bytes()) == data_set(sent)


def test_each_instance_gets_its_own_answer(web):
    whole = part10(small_instance(2))
    cut = whole[: len(whole) - len(data_set(whole)) + 30]  # within its UIDs
    with web() as here:
        status, answer = here.posts(body(part10(small_instance(1)), cut, b"no DICOM at all", part10(small_instance(3))))
        assert status == 202
        assert [value(item, "00081155") for item in answer["00081199"]["Value"]] == ["1.2.3.4.1", "1.2.3.4.3"]
        (failed,) = answer["00081198"]["Value"]
        assert (value(failed, "00081155"), value(failed, "00081197")) == ("1.2.3.4.2", 0xC000)
        (unknown,) = answer["0008119A"]["Value"]
        assert value(unknown, "00081197") == 0xC000
        assert len(here.quarantined()) == 2
        assert any(path.read_bytes().endswith(b"no DICOM at all") for path in here.quarantined())


def test_an_instance_of_another_study_than_the_address_names_is_refused_and_quarantined(web):
    with web() as here:
        status, answer = here.posts(body(part10(small_instance())), "/studies/1.2.999")
        assert (status, value(value(answer, "00081198"), "00081197")) == (409, 0xA900)
        assert list(here.store.walk()) == []
        assert len(here.quarantined()) == 1
        assert here.posts(body(part10(small_instance())), "/studies/1.2.3")[0] == 200


def test_a_full_disk_is_said(web):
    with web(required_bytes=2**62) as here:
        status, answer = here.posts(body(part10(small_instance())))
        assert (status, value(value(answer, "00081198"), "00081197")) == (409, 0xA700)
        assert list(here.store.walk()) == []


def test_what_the_ledger_cannot_note_is_not_acknowledged_but_stays(web):
    def broken(_arrival) -> None:
        raise RuntimeError("no ledger")

    with web(on_arrival=broken) as here:
        status, answer = here.posts(body(part10(small_instance())))
        assert (status, value(value(answer, "00081198"), "00081197")) == (409, 0xA700)
        assert len(list(here.store.walk())) == 1


def test_who_may_not_send(web):
    with web() as here:
        with pytest.raises(HTTPError, match="401"):
            here.client("wrong").store_instances([small_instance()])
        assert here.posts(body(part10(small_instance())), token="")[0] == 401
        assert list(here.store.walk()) == []
    with web(allowed_addresses=("10.0.0.0/8",)) as here:
        assert here.posts(body(part10(small_instance())))[0] == 403
        assert list(here.store.walk()) == []


@pytest.mark.parametrize(
    ("path", "kind", "content", "status"),
    [
        ("/studies", "application/dicom", b"x", 415),
        ("/studies", "multipart/related", b"x", 415),
        ("/studies", 'multipart/related; type="application/dicom+json"; boundary=x', b"x", 415),
        ("/studies", None, b"no boundary anywhere", 400),
        ("/studies/1.2.x", None, body(b"x"), 400),
    ],
)
def test_a_request_of_another_kind_is_refused(web, path, kind, content, status):
    with web() as here:
        found, answer = here.posts(content, path, kind)
        assert found == status
        assert answer["detail"]
        assert (answer["status"], answer["type"]) == (status, "about:blank")


def test_a_request_that_breaks_off_keeps_what_had_come_and_is_an_aborted_association(web):
    content = body(part10(small_instance(1)), part10(small_instance(2)))
    with web() as here:
        with socket.create_connection(("127.0.0.1", here.port)) as line:
            head = (
                f"POST /studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
                f"Content-Type: multipart/related; type=application/dicom; boundary={BOUNDARY}\r\n"
                f"Content-Length: {len(content)}\r\n\r\n"
            )
            line.sendall(head.encode() + content[:-100])
            wait_until(lambda: here.arrivals)
            assert here.sessions.open_series() == {("1.2.3", "1.2.3.4")}
        wait_until(lambda: here.ends)
        assert here.ends[0].aborted
        wait_until(lambda: here.sessions.open_series() == set())
        assert [stored.sop_uid for stored in here.store.walk()] == ["1.2.3.4.1"]
        assert not [path for path in (here.store.home / "incoming").rglob("*") if path.is_file()]
