"""Who may open an association: each test comes as the wrong peer, and is rejected at the association."""

import contextlib
import logging
import socket
import threading

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.errors import ListenerError, PeerError, PeerRefusedError
from dicom_node.listener import Listener
from dicom_node.scp.access import Access, Limits
from dicom_node.scu.association import Peer, Timeouts, associated, echo
from tests.support.association_bytes import connect
from tests.support.instances import small_instance
from tests.support.peers import storescu
from tests.support.waiting import wait_until

pytestmark = pytest.mark.peers

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


def test_a_wrong_called_ae_title_is_rejected(site):
    with site(access=Access(called_ae_must_match=True)) as here:
        wrong = Peer("SOMEBODY", here.peer.host, here.peer.port)
        with pytest.raises(PeerRefusedError, match="it is not called SOMEBODY: check the peer's AE title"):
            echo(wrong, calling_ae="CT1")
        assert echo(here.peer, calling_ae="CT1").peer == here.peer


def test_an_unknown_calling_ae_title_is_rejected(site):
    with site(access=Access(calling_aes=("CT1", "PACS"))) as here:
        with pytest.raises(PeerRefusedError, match="enter CT2 in its list of AE titles"):
            echo(here.peer, calling_ae="CT2")
        assert echo(here.peer, calling_ae="PACS").peer == here.peer


@pytest.mark.parametrize("networks", [("10.0.0.0/8",), ("127.0.0.2", "::1")])
def test_an_unknown_address_is_closed_at_once(site, networks, caplog):
    with site(access=Access(networks=networks)) as here:
        with (
            caplog.at_level(logging.WARNING),
            pytest.raises(PeerError, match="check that this is a DICOM port, and that it allows"),
        ):
            echo(here.peer, calling_ae="CT1")
        line, *_ = [record for record in caplog.records if record.getMessage() == "association_refused"]
        assert line.address == "127.0.0.1"
        assert line.reason == "the address is not in the list"
        assert here.ends == []


def test_an_unknown_address_takes_nothing_of_the_node(site):
    """Neither a thread nor a place among the connections, however many it opens."""
    limits = Limits(associations=1, connections=2, connections_per_address=2)
    with site(access=Access(networks=("127.0.0.1",)), limits=limits) as here, contextlib.ExitStack() as held:
        refused = [held.enter_context(connect(here.peer.port, "127.0.0.2")) for _ in range(20)]
        assert [connection.recv(1) for connection in refused] == [b""] * 20
        assert not [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]
        assert len(here.listener._server.admission) == 0
        assert echo(here.peer, calling_ae="CT1").peer == here.peer


def test_a_known_network_may_talk(site):
    with site(access=Access(networks=("127.0.0.0/8",))) as here:
        assert echo(here.peer, calling_ae="CT1").peer == here.peer


def test_dcmtk_understands_the_rejection(site, ct_paths):
    with site(access=Access(calling_aes=("CT1",))) as here:
        refused = storescu(here.peer, ct_paths[0], calling_ae="STRANGER")
        assert refused.returncode != 0
        assert "Calling AE Title Not Recognized" in refused.stderr
        assert here.arrivals == []


def test_one_association_too_many_is_rejected_until_another_ends(site):
    with site(limits=Limits(associations=2)) as here:
        with associated(here.peer, CT, calling_ae="A"), associated(here.peer, CT, calling_ae="B"):
            with pytest.raises(PeerError, match="limit of associations") as caught:
                echo(here.peer, calling_ae="C")
            assert caught.value.retry == "later"
        wait_until(lambda: len(here.ends) == 2)
        wait_until(lambda: not [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name])
        assert echo(here.peer, calling_ae="C").peer == here.peer


def test_the_limit_of_the_pdu_is_told_to_the_peer(site):
    with site(limits=Limits(pdu_bytes=32768)) as here:
        assert echo(here.peer, calling_ae="A").pdu_bytes == 32768


def test_a_silent_association_is_ended(site):
    with site(limits=Limits(idle_seconds=0.3)) as here, associated(here.peer, CT, calling_ae="A") as association:
        association.send_c_store(small_instance())
        wait_until(lambda: here.ends)
        assert here.ends[0].aborted


def test_a_connection_that_never_asks_for_an_association_is_closed(site):
    with (
        site(limits=Limits(request_seconds=0.3)) as here,
        socket.create_connection((here.peer.host, here.peer.port), 20) as connection,
    ):
        assert connection.recv(100) in (b"", b"\x07\x00\x00\x00\x00\x04\x00\x00\x02\x00")  # closed, or A-ABORT first


def test_words_that_are_no_dicom_do_not_disturb_others(site):
    with site() as here:
        with socket.create_connection((here.peer.host, here.peer.port), 20) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
            while connection.recv(1000):
                pass
        assert echo(here.peer, calling_ae="A").peer == here.peer


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"access": Access(networks=("10.0.0.0/33",))}, "10.0.0.0/33"),
        ({"ae_title": "A TITLE FAR TOO LONG"}, "ae_title"),
        ({"ae_title": ""}, "ae_title"),
        ({"access": Access(calling_aes=("A TITLE FAR TOO LONG",))}, "require_calling_aet"),
    ],
)
def test_settings_that_make_no_sense_stop_the_start(tmp_path, settings, words):
    options = {"ae_title": "VOXTELL", "host": "127.0.0.1", "port": 0, "on_arrival": print, **settings}
    with pytest.raises(ListenerError, match=words) as caught:
        Listener(None, **options)
    assert caught.value.retry == "usage"


def test_a_host_that_is_not_ours_stops_the_start(tmp_path):
    listener = Listener(None, ae_title="VOXTELL", host="192.0.2.1", port=11112, on_arrival=print)
    with pytest.raises(ListenerError, match=r"Port 11112 on 192.0.2.1 cannot be listened on .Cannot assign"):
        listener.start()


@pytest.mark.parametrize(
    ("host", "words"), [("127.0.0.1", "nothing listens there; check host and port"), ("nowhere.invalid", "is unknown")]
)
def test_a_peer_that_is_not_there_is_named(free_port, host, words):
    with pytest.raises(PeerError, match=rf"PACS@{host}:{free_port} cannot be reached: .*{words}") as caught:
        echo(Peer("PACS", host, free_port), calling_ae="A")
    assert caught.value.retry == "later"


def test_a_port_without_dicom_is_said():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        peer = Peer("PACS", "127.0.0.1", mute.getsockname()[1])
        with pytest.raises(PeerError, match=r"did not answer the association request within 0\.3 s; check that"):
            echo(peer, calling_ae="A", timeouts=Timeouts(association=0.3))
