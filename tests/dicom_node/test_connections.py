"""Connections by the hundred, and connections of peers that do nothing with them."""

import contextlib
import logging
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context
from pynetdicom.transport import AssociationSocket

from dicom_node.errors import PeerError
from dicom_node.scp.access import Limits
from dicom_node.scu.association import Peer, Timeouts, associated, echo
from dicom_node.storage.part10 import IMPLEMENTATION_VERSION_NAME
from dicom_node.upper_layer.server import Server
from tests.support.association_bytes import connect
from tests.support.instances import small_instance
from tests.support.waiting import wait_until

CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]
MANY = 1100  # descriptors; select() knows none above 1023

LISTENING_ABOVE_1023 = f"""
import os, resource, sys
from pathlib import Path
from dicom_node.listener import Listener
from dicom_node.store import Store
resource.setrlimit(resource.RLIMIT_NOFILE, ({MANY} + 100, {MANY} + 100))
taken = [os.dup(0) for _ in range({MANY})]
with Listener(Store(Path(sys.argv[1])), ae_title="VOXTELL", host="127.0.0.1", port=0, on_arrival=print) as listener:
    print(listener.port, flush=True)
    sys.stdin.read()
"""


@pytest.mark.processes
def test_a_listener_with_more_than_a_thousand_open_files_takes_instances(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LISTENING_ABOVE_1023, tmp_path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as process:
        peer = Peer("VOXTELL", "127.0.0.1", int(process.stdout.readline()))
        with associated(peer, CT, calling_ae="SCU", timeouts=Timeouts(association=20)) as association:
            assert association.send_c_store(small_instance()).Status == 0x0000
        process.stdin.close()
        assert "1.2.3.4.1" in process.stdout.read()
    assert len(list(tmp_path.glob("studies/**/*.dcm"))) == 1


ASKING_ABOVE_1023 = f"""
import os, resource, sys
from dicom_node.scu.association import Peer, echo
resource.setrlimit(resource.RLIMIT_NOFILE, ({MANY} + 100, {MANY} + 100))
taken = [os.dup(0) for _ in range({MANY})]
print(echo(Peer("VOXTELL", "127.0.0.1", int(sys.argv[1])), calling_ae="SCU").implementation)
"""


@pytest.mark.processes
def test_a_sender_with_more_than_a_thousand_open_files_is_answered(site):
    with site() as here:
        asked = subprocess.run(
            [sys.executable, "-W", "error", "-c", ASKING_ABOVE_1023, str(here.peer.port)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=60,
        )
    assert (asked.stdout.strip(), asked.stderr) == (IMPLEMENTATION_VERSION_NAME, "")


@pytest.mark.peers
def test_a_peer_that_is_not_there_keeps_no_descriptor(free_port, monkeypatch):
    """pynetdicom leaves such a socket to the garbage collector, which warns; and here all warnings are errors."""
    made = []
    original = AssociationSocket._create_socket
    monkeypatch.setattr(AssociationSocket, "_create_socket", lambda *given: made.append(original(*given)) or made[-1])
    with pytest.raises(PeerError, match="nothing listens there"):
        echo(Peer("PACS", "127.0.0.1", free_port), calling_ae="A")
    assert [connection.fileno() for connection in made] == [-1]


def threads_of_associations() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if "AcceptorThread" in thread.name]


def connected(peer: Peer) -> socket.socket:
    return socket.create_connection((peer.host, peer.port), 20)


def is_refused(connection: socket.socket) -> bool:
    """True when it was closed at once, False when something is waited for."""
    connection.settimeout(0.2)
    try:
        return connection.recv(1) == b""
    except TimeoutError:
        return False


@pytest.mark.peers
def test_connections_without_an_association_have_a_limit(site, caplog):
    """The one too many takes the place of the oldest, which has asked for nothing."""
    limits = Limits(associations=1, connections=10)
    with site(limits=limits) as here, contextlib.ExitStack() as held, caplog.at_level(logging.WARNING):
        silent = [held.enter_context(connected(here.peer)) for _ in range(10)]
        assert not is_refused(silent[-1])
        assert caplog.records == []
        one_too_many = held.enter_context(connected(here.peer))
        wait_until(lambda: is_refused(silent[0]))
        assert [is_refused(connection) for connection in (*silent[1:], one_too_many)] == [False] * 10
        reason = "it asked for no association while others wait for its connection"
        assert closed(caplog) == [("127.0.0.1", reason, False)]
        for connection in silent:
            connection.close()
        one_too_many.close()
        wait_until(lambda: not threads_of_associations())
        assert echo(here.peer, calling_ae="A").peer == here.peer
        assert len(caplog.records) == 1


@pytest.mark.peers
@pytest.mark.parametrize("limits", [Limits(connections=3), Limits(connections_per_address=3)], ids=["all", "address"])
def test_a_connection_too_many_beside_associations_is_refused(site, caplog, limits):
    with site(limits=limits) as here, contextlib.ExitStack() as held, caplog.at_level(logging.WARNING):
        for _ in range(3):
            held.enter_context(associated(here.peer, CT, calling_ae="A"))
        one_too_many = held.enter_context(connected(here.peer))
        wait_until(lambda: is_refused(one_too_many))
        (line,) = caplog.records
        assert (line.getMessage(), line.address, line.open) == ("connection_refused", "127.0.0.1", 3)


@pytest.mark.peers
def test_one_address_takes_the_places_of_no_other(site):
    """Silent connections of one peer, 127.0.0.2, cost neither the connections nor the associations of another."""
    limits = Limits(associations=2, connections=30, connections_per_address=4)
    with site(limits=limits) as here, contextlib.ExitStack() as held:
        first = held.enter_context(connected(here.peer))
        silent = [held.enter_context(connect(here.peer.port, "127.0.0.2")) for _ in range(20)]
        assert [is_refused(connection) for connection in silent[:16]] == [True] * 16
        assert not any(is_refused(connection) for connection in (*silent[16:], first))
        assert echo(here.peer, calling_ae="A").peer == here.peer


@pytest.mark.peers
def test_silent_connections_do_not_shut_the_port(site):
    """108 of them shut it for 30 s when each held a place until its time was over, and counted as an association."""
    with site(limits=Limits(associations=50, connections=108, connections_per_address=40)) as here:
        with contextlib.ExitStack() as held:
            for number in range(150):
                held.enter_context(connect(here.peer.port, f"127.0.0.{2 + number % 5}"))
            assert echo(here.peer, calling_ae="A", timeouts=Timeouts(connect=2, association=2)).peer == here.peer
        wait_until(lambda: not threads_of_associations())


@pytest.mark.peers
def test_a_peer_without_power_is_noticed(site):
    with site() as here, connected(here.peer):
        wait_until(threads_of_associations)
        (association,) = threads_of_associations()
        there = association.dul.socket.socket
        assert there.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        idle, every, times = (
            there.getsockopt(socket.IPPROTO_TCP, option)
            for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        )
        assert idle + every * times == 120


# The beginnings of an A-ASSOCIATE-RQ (PS3.8 section 9.3.2) and of a command in P-DATA-TF (section 9.3.5 and annex E).
HALF_A_REQUEST = struct.pack(">BxLHH", 1, 10000, 1, 0)
HALF_A_FRAGMENT = struct.pack(">BxLLBB", 4, 10000, 9996, 1, 1)


def trickles(connection: socket.socket) -> None:
    """One byte more, as long as somebody takes it."""
    with contextlib.suppress(OSError):
        connection.send(b"\0")


@pytest.mark.peers
def test_a_peer_that_stops_within_its_request_keeps_no_slot(site, caplog):
    with site(limits=Limits(request_seconds=0.3)) as here, connected(here.peer) as connection:
        connection.sendall(HALF_A_REQUEST)
        with caplog.at_level(logging.WARNING):
            assert connection.recv(1) == b""
            wait_until(lambda: not threads_of_associations())
        assert closed(caplog) == [("127.0.0.1", "A PDU did not come to its end in time.", False)]


RESET = "[Errno 104] Connection reset by peer"


def resets(connection: socket.socket) -> None:
    """Ends the connection with RST, as a peer does that died."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def closed(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, bool]]:
    """Peer and reason of each connection that was closed, and whether a traceback came with the line."""
    lines = [record for record in caplog.records if record.getMessage() == "connection_closed"]
    return [(line.peer, line.reason, bool(line.exc_info)) for line in lines]


@pytest.mark.peers
def test_a_peer_that_resets_within_its_request_is_a_line(site, caplog):
    with site() as here, connected(here.peer) as connection, caplog.at_level(logging.WARNING):
        connection.sendall(HALF_A_REQUEST)
        wait_until(threads_of_associations)
        resets(connection)
        wait_until(lambda: not threads_of_associations())
    assert closed(caplog) == [("127.0.0.1", RESET, False)]
    assert len(caplog.records) == 1


@pytest.mark.peers
def test_a_peer_that_resets_within_its_data_is_a_line(site, caplog):
    with site() as here, associated(here.peer, CT, calling_ae="A") as association, caplog.at_level(logging.WARNING):
        assert association.send_c_store(small_instance()).Status == 0x0000
        association.dul.socket.socket.sendall(HALF_A_FRAGMENT)
        resets(association.dul.socket.socket)
        wait_until(lambda: here.ends)
        assert here.ends[0].aborted
    assert ("A at 127.0.0.1", RESET, False) in closed(caplog)  # the client has its own words


@pytest.mark.peers
def test_a_handshake_that_fails_is_a_line(site, caplog):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with caplog.at_level(logging.WARNING), site(tls=context) as here, connected(here.peer) as connection:
        connection.sendall(HALF_A_REQUEST)  # DICOM without TLS
        wait_until(lambda: is_refused(connection))
    (line,) = caplog.records
    assert (line.getMessage(), line.address) == ("connection_failed", "127.0.0.1")
    assert line.problem.startswith("[SSL")
    assert not line.exc_info


@pytest.mark.peers
def test_a_peer_that_trickles_its_request_keeps_no_slot(site):
    with site(limits=Limits(request_seconds=0.3)) as here, connected(here.peer) as connection:
        connection.sendall(HALF_A_REQUEST)
        wait_until(threads_of_associations)
        wait_until(lambda: trickles(connection) or not threads_of_associations())


@pytest.mark.peers
def test_a_peer_that_trickles_its_data_is_ended(site):
    with site(limits=Limits(idle_seconds=0.3)) as here, associated(here.peer, CT, calling_ae="A") as association:
        assert association.send_c_store(small_instance()).Status == 0x0000
        connection = association.dul.socket.socket
        connection.sendall(HALF_A_FRAGMENT)
        wait_until(lambda: trickles(connection) or here.ends)
        assert here.ends[0].aborted


@pytest.mark.peers
def test_stopping_ends_silent_connections_with_a_line_for_each(site, caplog):
    with caplog.at_level(logging.WARNING), contextlib.ExitStack() as held:
        with site() as here:
            silent = [held.enter_context(connected(here.peer)) for _ in range(2)]
            wait_until(lambda: len(threads_of_associations()) == 2)
        assert [connection.recv(1) for connection in silent] == [b"", b""]
    assert closed(caplog) == [("127.0.0.1", "event Evt15 came in state Sta2", False)] * 2
    assert len(caplog.records) == 2


@pytest.mark.peers
def test_an_event_out_of_place_ends_its_association_with_a_line(site, caplog):
    with site() as here, associated(here.peer, CT, calling_ae="A") as association:
        assert association.send_c_store(small_instance()).Status == 0x0000
        (there,) = threads_of_associations()
        there.dul.event_queue.put("Evt18")
        wait_until(lambda: here.ends and not threads_of_associations())
        assert here.ends[0].aborted
        assert not there.dul.is_alive()
    assert closed(caplog) == [("A at 127.0.0.1", "event Evt18 came in state Sta6", False)]
    assert len([record for record in caplog.records if record.name.startswith("dicom_node")]) == 1


@pytest.mark.peers
def test_fifty_peers_connect_at_once_while_the_listener_is_busy(site, monkeypatch):
    is_free = threading.Event()
    take = Server.get_request
    monkeypatch.setattr(Server, "get_request", lambda server: is_free.wait(60) and take(server))
    with site() as here:
        with contextlib.ExitStack() as held:
            held.callback(is_free.set)
            for _ in range(50):
                held.enter_context(connected(here.peer))
            is_free.set()
            wait_until(lambda: len(threads_of_associations()) == 50)
        wait_until(lambda: not threads_of_associations())


@pytest.mark.peers
@pytest.mark.parametrize("tls", [None, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)], ids=["plain", "TLS"])
def test_a_connection_that_is_closed_without_a_byte_is_not_spoken_of(site, tls, caplog):
    with caplog.at_level(logging.INFO), site(tls=tls) as here, connected(here.peer) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert caplog.messages == []


@pytest.mark.peers
def test_what_a_peer_sends_is_acknowledged_at_once(site):
    """Most senders hold a small packet back until the one before is acknowledged; the kernel puts that off by 40 ms."""
    said = []

    def arrived(_arrival):
        (association,) = here.listener._server.active_associations
        said.append(association.dul.socket.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK))

    with site(on_arrival=arrived) as here, associated(here.peer, CT, calling_ae="SCU") as association:
        for number in range(1, 6):
            assert association.send_c_store(small_instance(number)).Status == 0x0000
    assert said == [1] * 5
