"""Every port can listen on IPv6: at `::` for IPv4 too, whose peers keep the addresses by which they are known."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from fastapi import APIRouter, Request

from dicom_node.listener import Listener
from dicom_node.scp.access import Access
from dicom_node.scp.arrivals import Arrival
from dicom_node.scu.association import Peer, echo
from dicom_node.scu.c_store import send
from dicom_node.store import Store
from tests.support.instances import small_instance
from tests.support.reports import LUNG, head, order, text
from worker.cli.peers import peer_named
from worker.servers.http import serving
from worker.servers.http_guard import HttpLimits
from worker.servers.mllp import ReportReceiver
from worker.settings import Settings


def has_ipv6() -> bool:
    """Whether this machine has ::1; containers may lack it."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


pytestmark = [
    pytest.mark.peers,
    pytest.mark.skipif(not (has_ipv6() or os.environ.get("CI")), reason="this machine has no ::1"),
]

BOTH = [("::", "::1", "::1"), ("::", "127.0.0.1", "127.0.0.1"), ("::1", "::1", "::1")]
"""Where the node listens, where the peer connects to, and the address by which the node knows the peer."""


@pytest.fixture
def running() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(("host", "peer", "known_as"), BOTH)
def test_images_come_in(running: ExitStack, tmp_path: Path, host: str, peer: str, known_as: str) -> None:
    arrivals: list[Arrival] = []
    access = Access(networks=(known_as,))
    store = Store(tmp_path / "home")
    listener = Listener(store, ae_title="VOXTELL", host=host, port=0, on_arrival=arrivals.append, access=access)
    node = Peer("VOXTELL", peer, running.enter_context(listener).port)
    small_instance(1).save_as(tmp_path / "1.dcm", enforce_file_format=True)
    assert echo(peer_named(str(node), Settings(home=tmp_path)), calling_ae="CT").peer == node
    send([tmp_path / "1.dcm"], node, calling_ae="CT")
    assert [arrival.origin.address for arrival in arrivals] == [known_as]


@pytest.mark.parametrize(("host", "peer", "known_as"), BOTH)
def test_http_is_served(running: ExitStack, tmp_path: Path, host: str, peer: str, known_as: str) -> None:
    router = APIRouter()

    @router.get("/who")
    def who(request: Request) -> str:
        return request.client.host if request.client else ""

    settings = Settings(home=tmp_path, host=host, allowed_addresses=(known_as,))
    serves = serving({"who": router}, settings, port=0, token="secret", limits=HttpLimits())
    port = running.enter_context(serves)
    at = f"[{peer}]" if ":" in peer else peer
    answer = requests.get(f"http://{at}:{port}/who", headers={"Authorization": "Bearer secret"}, timeout=20)
    assert (answer.status_code, answer.json()) == (200, known_as)


@pytest.mark.parametrize(("host", "peer", "known_as"), BOTH)
def test_reports_come_in(running: ExitStack, host: str, peer: str, known_as: str) -> None:
    taken: list[bytes] = []
    receiver = ReportReceiver(taken.append, host=host, port=0, access=Access(networks=(known_as,)))
    port = running.enter_context(receiver).port
    line = running.enter_context(socket.create_connection((peer, port), 20))
    line.sendall(b"\x0b" + (head("C1") + order("A1", text(LUNG))).encode() + b"\x1c\r")
    assert b"MSA|AA|C1" in line.recv(65536)
    assert len(taken) == 1


@pytest.mark.parametrize("host", ["::", "::1"])
def test_a_port_that_is_taken_is_one_sentence(running: ExitStack, tmp_path: Path, host: str) -> None:
    taken = running.enter_context(socket.create_server(("::1", 0), family=socket.AF_INET6))
    settings = Settings(home=tmp_path, host=host)
    port = taken.getsockname()[1]
    with pytest.raises(Exception, match=rf"^Port {port} on {host} cannot be listened on \(Address already in use\)"):
        running.enter_context(serving({}, settings, port=port, token="secret", limits=HttpLimits()))
    listener = Listener(Store(tmp_path), ae_title="VOXTELL", host=host, port=port, on_arrival=print)
    with pytest.raises(Exception, match=rf"^Port {port} on {host} cannot be listened on \(Address already in use\)"):
        listener.start()
