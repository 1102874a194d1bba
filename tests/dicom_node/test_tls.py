"""TLS: who has no place in it is kept out, by our own client and by DCMTK's."""

import socket
import ssl

import pytest

from dicom_node.errors import PeerError, TlsError
from dicom_node.scu.association import Peer, echo
from dicom_node.scu.c_store import send
from dicom_node.tls import client_context, server_context
from tests.support.certificates import Authority
from tests.support.peers import storescu

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ours"), "authority")


@pytest.fixture(scope="module")
def node(ours):
    return ours.issue("node")


@pytest.fixture(scope="module")
def client(ours):
    return ours.issue("client")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    """A certificate that another authority signed."""
    return Authority(tmp_path_factory.mktemp("theirs"), "others").issue("stranger")


@pytest.fixture
def secured(site, ours, node):
    """A listener that asks for certificates."""
    with site(tls=server_context(*node, client_authorities=ours.certificate)) as here:
        yield here


def with_tls(peer: Peer, context: ssl.SSLContext) -> Peer:
    return Peer(peer.ae_title, peer.host, peer.port, tls=context)


def test_a_peer_with_a_certificate_sends(secured, ours, client, ct_paths):
    peer = with_tls(secured.peer, client_context(ours.certificate, certificate=client[0], key=client[1]))
    assert echo(peer, calling_ae="CT1").peer == peer
    assert {outcome.result for outcome in send(ct_paths[:3], peer, calling_ae="CT1")} == {"ok"}
    assert len(secured.arrivals) == 3


def test_dcmtk_with_a_certificate_sends_and_without_is_rejected(secured, ours, client, ct_paths):
    trust = ["--add-cert-file", str(ours.certificate)]
    assert storescu(secured.peer, ct_paths[0], options=["+tls", str(client[1]), str(client[0]), *trust]).returncode == 0
    assert len(secured.arrivals) == 1
    assert storescu(secured.peer, ct_paths[1], options=["--anonymous-tls", *trust]).returncode != 0
    assert storescu(secured.peer, ct_paths[1]).returncode != 0
    assert len(secured.arrivals) == 1


def test_a_plain_peer_is_rejected(secured):
    with pytest.raises(PeerError, match="it expects TLS; set TLS for this peer"):
        echo(secured.peer, calling_ae="CT1")


def test_a_peer_without_a_certificate_is_rejected(secured, ours):
    with pytest.raises(PeerError, match="or a certificate"):
        echo(with_tls(secured.peer, client_context(ours.certificate)), calling_ae="CT1")


def test_a_peer_with_a_strangers_certificate_is_rejected(secured, ours, stranger):
    context = client_context(ours.certificate, certificate=stranger[0], key=stranger[1])
    with pytest.raises(PeerError, match="or a certificate"):
        echo(with_tls(secured.peer, context), calling_ae="CT1")


def test_certificates_of_peers_are_optional(site, ours, node):
    with site(tls=server_context(*node)) as here:
        assert echo(with_tls(here.peer, client_context(ours.certificate)), calling_ae="CT1").seconds > 0


def test_we_do_not_talk_to_a_peer_that_we_cannot_trust(site, node, stranger):
    with (
        site(tls=server_context(*node)) as here,
        pytest.raises(PeerError, match="signed by an authority that this node does not trust"),
    ):
        echo(with_tls(here.peer, client_context(stranger[0])), calling_ae="CT1")


def test_old_protocols_are_refused(secured, ours, client):
    context = client_context(ours.certificate, certificate=client[0], key=client[1])
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    with socket.create_connection((secured.peer.host, secured.peer.port), 20) as connection:
        # The start of a ClientHello of TLS 1.1 (RFC 4346): record 22, version 3.2, one suite.
        hello = b"\x03\x02" + bytes(32) + b"\x00" + b"\x00\x02\x00\x2f" + b"\x01\x00"
        handshake = b"\x01" + len(hello).to_bytes(3, "big") + hello
        connection.sendall(b"\x16\x03\x01" + len(handshake).to_bytes(2, "big") + handshake)
        answer = connection.recv(100)
    assert answer[:1] == b"\x15"  # an alert
    assert answer[5:7] == b"\x02\x46"  # fatal, protocol_version


def test_a_silent_peer_does_not_hold_up_others(secured, ours, client):
    peer = with_tls(secured.peer, client_context(ours.certificate, certificate=client[0], key=client[1]))
    with socket.create_connection((secured.peer.host, secured.peer.port), 20):
        assert echo(peer, calling_ae="CT1").seconds < 20


def test_files_that_cannot_be_used_are_named(tmp_path, node, stranger):
    with pytest.raises(TlsError, match=r"gone.pem .*No such file") as caught:
        server_context(tmp_path / "gone.pem", node[1])
    assert caught.value.retry == "usage"
    with pytest.raises(TlsError, match="KEY_VALUES_MISMATCH"):
        server_context(node[0], stranger[1])
    (tmp_path / "empty.pem").write_text("")
    with pytest.raises(TlsError, match=r"authorities in .*empty.pem"):
        client_context(tmp_path / "empty.pem")
