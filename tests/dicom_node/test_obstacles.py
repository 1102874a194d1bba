"""Peers that refuse an association in every way: each has a sentence of its own, which says what to check."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import Peer, Timeouts, echo
from dicom_node.tls import client_context
from tests.support.certificates import Authority
from tests.support.ports import LOOPBACK, free_port

pytestmark = pytest.mark.peers

QUICK = Timeouts(connect=2.0, association=0.5, response=2.0)


@contextmanager
def answering(talk: Callable[[socket.socket], object], tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    """A port on which `talk` has each connection; what is open at the end is closed."""
    taken: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                taken.append(server.accept()[0])
                threading.Thread(target=one, args=(taken[-1],), daemon=True).start()

    def one(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if tls is None:
                talk(connection)
                return
            with tls.wrap_socket(connection, server_side=True) as wrapped:
                talk(wrapped)

    with socket.create_server((LOOPBACK, 0)) as server:
        accepting = threading.Thread(target=serve, daemon=True)
        accepting.start()
        yield Peer("PACS", LOOPBACK, server.getsockname()[1])
        server.shutdown(socket.SHUT_RDWR)
        accepting.join()
    for connection in taken:
        connection.close()


def says(content: bytes) -> Callable[[socket.socket], None]:
    """Reads the association request, answers with these bytes, and closes."""

    def talk(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # what is left unread would take the answer back
            pass
        connection.close()

    return talk


@contextmanager
def pacs(*classes: str, tls: ssl.SSLContext | None = None, **settings: object) -> Iterator[Peer]:
    """A real SCP."""
    ae = AE("PACS")
    for sop_class in classes or (Verification,):
        ae.add_supported_context(sop_class)
    handlers = settings.pop("handlers", [])
    for name, value in settings.items():
        setattr(ae, name, value)
    server = ae.start_server((LOOPBACK, 0), block=False, evt_handlers=handlers, ssl_context=tls)
    try:
        yield Peer("PACS", LOOPBACK, server.server_address[1])
    finally:
        server.shutdown()


def refusal(peer: Peer) -> str:
    with pytest.raises((PeerError, PeerRefusedError)) as raised:
        echo(peer, calling_ae="VOXTELL", timeouts=QUICK)
    sentence = str(raised.value)
    assert sentence.startswith(f"PACS@{peer.host}:{peer.port} ")
    assert sentence.count("\n") == 0
    return sentence


ABORT = bytes.fromhex("07000000000400000202")
TALKS = {
    "an abort": (says(ABORT), "aborted the association request (it did not expect this message); check its log"),
    "an abort by its user": (says(ABORT[:-2] + b"\0\0"), "aborted the association request; check its log"),
    "a web server": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "answered as a web server (HTTP) does; check the port"),
    "an SSH server": (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "answered with what is no DICOM; check the port"),
    "an alert of TLS": (says(bytes.fromhex("15030100020246")), "answered in TLS; set TLS for this peer"),
    "a peer that closes at once": (lambda connection: connection.close(), "closed it without an answer; check that"),
    "a peer that closes when asked": (says(b""), "closed it without an answer; check that this is a DICOM port"),
    "a silent peer": (
        lambda _: None,
        "did not answer the association request within 0.5 s; check that this is a DICOM",
    ),
}


@pytest.mark.parametrize(("talk", "sentence"), TALKS.values(), ids=TALKS)
def test_what_answers_there_is_said(talk: Callable[[socket.socket], None], sentence: str) -> None:
    with answering(talk) as peer:
        assert f"took the connection of VOXTELL, but {sentence}" in refusal(peer)


def test_nobody_and_unknown_names_are_told_apart() -> None:
    assert "cannot be reached: nothing listens there" in refusal(Peer("PACS", LOOPBACK, free_port()))
    assert "the host name pacs.invalid is unknown" in refusal(Peer("PACS", "pacs.invalid", 104))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"require_called_aet": True, "ae_title": "OTHER"}, "it is not called PACS: check the peer's AE title"),
        ({"require_calling_aet": ["SOMEBODY"]}, "it does not know our AE title VOXTELL"),
        ({"handlers": [(evt.EVT_C_ECHO, lambda _: 0x0122)]}, "answered the C-ECHO with status 0x0122"),
    ],
    ids=["another AE title", "an unknown AE title", "a status"],
)
def test_what_a_pacs_refuses_is_said(settings: dict[str, object], sentence: str) -> None:
    with pacs(**settings) as peer:
        assert sentence in refusal(peer)


def test_a_busy_peer_is_one_for_later() -> None:
    with answering(says(bytes.fromhex("03000000000400020302"))) as peer, pytest.raises(PeerError, match="its limit of"):
        echo(peer, calling_ae="VOXTELL", timeouts=QUICK)


def test_a_peer_without_verification_is_said() -> None:
    with pacs(CTImageStorage) as peer:
        assert "accepted the association of VOXTELL but nothing of it: Verification SOP Class" in refusal(peer)


# -- TLS


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ours"), "authority")


def server(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


def with_tls(peer: Peer, ours: Authority) -> Peer:
    return Peer(peer.ae_title, peer.host, peer.port, client_context(ours.certificate))


def test_a_plain_request_to_a_port_with_tls_is_said(ours: Authority) -> None:
    with pacs(tls=server(*ours.issue("good"))) as peer:
        assert "closed it without an answer: it expects TLS; set TLS for this peer" in refusal(peer)
        assert echo(with_tls(peer, ours), calling_ae="VOXTELL").peer.port == peer.port


def test_each_certificate_that_is_not_accepted_has_its_sentence(ours: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "stranger")
    certificates = {
        "its certificate has expired; have it renewed": ours.issue_for("old", "20200101", "20200201"),
        "its certificate is not valid yet; check the clocks": ours.issue_for("new", "20480101", "20490201"),
        "is for another name than 127.0.0.1; use the name in it": ours.issue("name", at="DNS:pacs.example"),
        "is self-signed, and not among the authorities": (stranger.certificate, stranger.key),
        "is signed by an authority that this node does not trust": stranger.issue("theirs"),
    }
    for sentence, files in certificates.items():
        with pacs(tls=server(*files)) as peer:
            assert sentence in refusal(with_tls(peer, ours))


TLS_TALKS = {
    "a plain PACS": (says(ABORT), "what answers there is not TLS; leave TLS out for this peer, or check the port"),
    "a web server": (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "what answers there is not TLS"),
    "a peer that closes": (says(b""), "it closes the connection during the TLS handshake; check that this port"),
    "a silent peer": (lambda _: None, "no answer to the TLS handshake within 2 s; check that this port expects TLS"),
}


@pytest.mark.parametrize(("talk", "sentence"), TLS_TALKS.values(), ids=TLS_TALKS)
def test_tls_to_what_has_none_is_said(ours: Authority, talk: Callable[[socket.socket], None], sentence: str) -> None:
    with answering(talk) as peer:
        assert f"cannot be reached: {sentence}" in refusal(with_tls(peer, ours))


def test_a_peer_that_wants_to_know_this_node_is_said(ours: Authority) -> None:
    asking = server(*ours.issue("asking"))
    asking.load_verify_locations(ours.certificate)
    asking.verify_mode = ssl.CERT_REQUIRED
    with answering(lambda connection: connection.recv(1), asking) as peer:
        sentence = refusal(with_tls(peer, ours))
    assert "certificate of this node" in sentence or "it asks for a certificate" in sentence
