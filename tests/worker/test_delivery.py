"""Results on their way to a PACS: taken, not there, refused, unknown."""

import errno
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian
from pynetdicom import AE, evt
from pynetdicom.presentation import AllStoragePresentationContexts, build_context

from dicom_node.scp.arrivals import Arrival
from dicom_node.scu import c_store
from dicom_node.scu.association import Peer, Timeouts
from dicom_node.scu.c_store import SendOutcome, send
from dicom_node.store import Store
from tests.support.delivering import pacs, segmented
from tests.support.peers import orthanc, orthanc_plugin
from tests.support.ports import free_port as free_tcp_port
from worker import stopping
from worker.errors import SettingsError
from worker.job_spec import Priority, Route
from worker.ledger import DeliveryState, Job, JobState
from worker.queue.broker import DELIVER_QUEUE, list_of
from worker.queue.embedded_server import running_queue
from worker.queue.messages import DELIVER_TASK
from worker.result import Result
from worker.settings import load
from worker.steps import delivery
from worker.steps.delivery import DeliveryWorker

KILLED = """
import os, signal, sys
from dicom_node.scu import c_store
from worker.steps import delivery
c_store.send = lambda *_paths, **_options: os.kill(os.getpid(), signal.SIGKILL)
delivery.run(sys.argv[1], "pacs")
"""

ANY_CONTEXT = [
    build_context(context.abstract_syntax, [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
    for context in AllStoragePresentationContexts
]


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Iterator[DeliveryWorker]:
    monkeypatch.delenv("VOXTELL_DESTINATIONS", raising=False)
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port}
    sender = DeliveryWorker(load(home=tmp_path / "home", destinations=[peer], backoff_seconds=0.001, max_deliveries=3))
    monkeypatch.setattr(DeliveryWorker, "_mine", sender)
    yield sender
    sender.ledger.close()


@pytest.mark.peers
def test_every_object_arrives_and_the_job_is_delivered(sender: DeliveryWorker, tmp_path: Path, free_port: int) -> None:
    job = segmented(sender, "pacs")
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
    assert len(list(Store(tmp_path / "pacs").walk())) == 2


@pytest.mark.peers
def test_a_message_that_comes_twice_sends_once(sender: DeliveryWorker, tmp_path: Path, free_port: int) -> None:
    job = segmented(sender, "pacs")
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    delivery.run(job.id, "pacs")
    (line,) = sender.ledger.deliveries.of_job(job.id)
    assert (line.state, line.attempts) == (DeliveryState.DELIVERED, 1)


@pytest.mark.peers
def test_a_pacs_that_is_down_is_tried_again_until_it_is_up(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    job = segmented(sender, "pacs")
    delivery.run(job.id, "pacs")
    (line,) = sender.ledger.deliveries.of_job(job.id)
    assert line.state is DeliveryState.PENDING
    assert "nothing listens there" in line.reason
    with pacs(tmp_path / "pacs", free_port):
        while sender.ledger.jobs.get(job.id).state is JobState.SENDING:
            delivery.run(job.id, "pacs")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED


@pytest.mark.peers
def test_a_pacs_that_stays_down_fails_the_job_and_a_retry_delivers_it(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    job = segmented(sender, "pacs")
    while sender.ledger.jobs.get(job.id).state is JobState.SENDING:
        delivery.run(job.id, "pacs")
    failed = sender.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert failed.reason.startswith("pacs: PACS@127.0.0.1")
    sender.ledger.jobs.retry(job.id)
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED


@pytest.mark.peers
def test_results_that_are_gone_are_never_called_delivered(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    job = segmented(sender, "pacs")
    (sender.store.home / "results" / job.id / "0002.dcm").unlink()
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    failed = sender.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert "0002.dcm" in failed.reason
    assert list(Store(tmp_path / "pacs").walk()) == []


@pytest.mark.peers
def test_a_pacs_that_does_not_know_us_is_final(sender: DeliveryWorker, tmp_path: Path, free_port: int) -> None:
    job = segmented(sender, "pacs")
    with pacs(tmp_path / "pacs", free_port, knows=("SOMEBODY",)):
        delivery.run(job.id, "pacs")
    failed = sender.ledger.jobs.get(job.id)
    assert failed.state is JobState.FAILED
    assert "enter VOXTELL in its list of AE titles" in failed.reason


@pytest.mark.peers
def test_a_destination_that_is_down_holds_its_own_results_only(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    job = segmented(sender, "planning", "pacs")
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "planning")
        delivery.run(job.id, "pacs")
    states = {line.destination: line.state for line in sender.ledger.deliveries.of_job(job.id)}
    assert states["pacs"] is DeliveryState.DELIVERED
    assert len(list(Store(tmp_path / "pacs").walk())) == 2
    while sender.ledger.jobs.get(job.id).state is JobState.SENDING:
        delivery.run(job.id, "planning")
    assert "destination 'planning' is not in VOXTELL_DESTINATIONS" in sender.ledger.jobs.get(job.id).reason


@pytest.mark.peers
def test_of_many_results_for_a_pacs_that_is_down_one_finds_out(sender: DeliveryWorker) -> None:
    first = segmented(sender, "pacs")
    second = another(sender, first)
    sender.settings = sender.settings.model_copy(update={"backoff_seconds": 60.0})
    delivery.run(first.id, "pacs")
    delivery.run(second, "pacs")
    assert sender.ledger.deliveries.of_job(second)[0].attempts == 0
    assert sender.ledger.deliveries.due() == []


def another(sender: DeliveryWorker, first: Job) -> str:
    """The id of a job on another series whose results wait for the same destinations."""
    work = first.spec.model_copy(update={"series_uid": "1.2.3.5"})
    sender.ledger.jobs.add(work)
    job = sender.ledger.jobs.claim(work.job_id, 60)
    assert job is not None
    sender.ledger.jobs.segmented(job, Result.model_validate({"files": ["0001.dcm"]}))
    return work.job_id


@pytest.mark.peers
def test_of_many_results_for_a_pacs_that_hangs_one_finds_out(
    sender: DeliveryWorker, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = segmented(sender, "pacs")
    second = another(sender, first)
    sender.settings = sender.settings.model_copy(update={"backoff_seconds": 60.0})
    monkeypatch.setattr(c_store, "send", partial(send, timeouts=Timeouts(response=0.3)))
    over = threading.Event()
    with pacs(tmp_path / "pacs", free_port, on_arrival=lambda _arrival: over.wait(30)):
        delivery.run(first.id, "pacs")
        delivery.run(second, "pacs")
        over.set()
    assert "did not answer" in sender.ledger.deliveries.of_job(first.id)[0].reason
    assert sender.ledger.deliveries.of_job(second)[0].attempts == 0
    assert sender.ledger.deliveries.due() == []


@pytest.mark.peers
def test_a_pacs_that_hangs_takes_one_process_and_not_the_others(sender: DeliveryWorker, tmp_path: Path) -> None:
    """Two processes: while one waits for the PACS that hangs, the other delivers to the PACS that does not."""
    ports = {"hangs": free_tcp_port(), "pacs": free_tcp_port()}
    peers = [{"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": port} for name, port in ports.items()]
    sender.settings = load(home=sender.settings.home, destinations=peers)
    first = segmented(sender, "hangs", "pacs")
    second = another(sender, first)
    reached, over = threading.Event(), threading.Event()

    def hang(_arrival: Arrival) -> None:
        reached.set()
        over.wait(30)

    hanging = pacs(tmp_path / "hangs", ports["hangs"], on_arrival=hang)
    with running_queue(sender.settings), hanging, pacs(tmp_path / "pacs", ports["pacs"]):
        other = threading.Thread(target=delivery.run, args=(first.id, "hangs"))
        other.start()
        assert reached.wait(30)
        delivery.run(second, "hangs")
        delivery.ask(second, "hangs")
        assert sender.ledger.deliveries.of_job(second)[0].attempts == 0
        delivery.run(first.id, "pacs")
        over.set()
        other.join()
        enqueued = waiting_messages(sender)
    assert {line.state for line in sender.ledger.deliveries.of_job(first.id)} == {DeliveryState.DELIVERED}
    assert sorted(enqueued) == [(DELIVER_TASK, second, "hangs"), (DELIVER_TASK, second, "pacs")]


def waiting_messages(sender: DeliveryWorker) -> set[tuple[str, ...]]:
    return sender.broker._waiting(list_of(DELIVER_QUEUE, Priority.ROUTINE))


@pytest.mark.peers
def test_what_the_pacs_has_from_an_attempt_whose_end_was_not_noted_is_delivered(sender: DeliveryWorker) -> None:
    """The sender was killed between the last answer and the ledger's line; the PACS takes no object twice."""
    held: set[str] = set()

    def store(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        known = uid in held
        held.add(uid)
        return 0x0111 if known else 0x0000

    contexts = AllStoragePresentationContexts
    server = AE("PACS").start_server(
        ("127.0.0.1", 0), block=False, contexts=contexts, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        port = server.server_address[1]
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port}
        sender.settings = load(home=sender.settings.home, destinations=[peer])
        job = segmented(sender, Route(to="pacs", fallback="archive"))
        send(sender.store.result_paths(job.id), Peer("PACS", "127.0.0.1", port), calling_ae="VOXTELL")
        with structlog.testing.capture_logs() as lines:
            delivery.run(job.id, "pacs")
    finally:
        server.shutdown()
    assert len(held) == 2
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
    assert [line.destination for line in sender.ledger.deliveries.of_job(job.id)] == ["pacs"]
    assert ["It was stored before" in line.get("message", "") for line in lines].count(True) == 2


@pytest.mark.peers
@pytest.mark.parametrize("syntax", ["explicit", "deflated"])
def test_what_a_pacs_took_is_not_sent_again_for_what_it_refused(sender: DeliveryWorker, syntax: str) -> None:
    """Out of resources for the second object, until it has room; then that one alone goes again."""
    came: list[str] = []

    def store(event: evt.Event) -> int:
        came.append(str(event.request.AffectedSOPInstanceUID))
        return 0xA700 if len(came) in (2, 3) else 0x0000

    server = AE("PACS").start_server(
        ("127.0.0.1", 0), block=False, contexts=ANY_CONTEXT, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        site = {"destinations": [peer | {"transfer_syntax": syntax}], "backoff_seconds": 0.001}
        sender.settings = load(home=sender.settings.home, max_deliveries=2, **site)
        job = segmented(sender, "pacs")
        delivery.run(job.id, "pacs")
        (waiting,) = sender.ledger.deliveries.of_job(job.id)
        assert waiting.state is DeliveryState.PENDING
        assert waiting.reason.endswith(" 1 of 2 objects are there.")
        time.sleep(0.01)  # its backoff
        delivery.run(job.id, "pacs")
        assert sender.ledger.jobs.get(job.id).state is JobState.FAILED
        sender.ledger.jobs.retry(job.id)
        delivery.run(job.id, "pacs")
    finally:
        server.shutdown()
    first, *others = came
    assert others == [others[0]] * 3 != [first] * 3
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED


@pytest.mark.peers
def test_an_object_refused_for_good_does_not_end_the_others(sender: DeliveryWorker) -> None:
    """0xA900 for the first object is final, 0xA700 for the second is not: it is tried again and arrives."""
    came: list[str] = []

    def store(event: evt.Event) -> int:
        uid = str(event.request.AffectedSOPInstanceUID)
        came.append(uid)
        return 0xA900 if uid == came[0] else 0xA700 if came.count(uid) == 1 else 0x0000

    server = AE("PACS").start_server(
        ("127.0.0.1", 0), block=False, contexts=ANY_CONTEXT, evt_handlers=[(evt.EVT_C_STORE, store)]
    )
    try:
        peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
        sender.settings = load(home=sender.settings.home, destinations=[peer], backoff_seconds=0.001, max_deliveries=3)
        job = segmented(sender, "pacs")
        delivery.run(job.id, "pacs")
        (waiting,) = sender.ledger.deliveries.of_job(job.id)
        assert waiting.state is DeliveryState.PENDING
        time.sleep(0.01)  # its backoff
        delivery.run(job.id, "pacs")
    finally:
        server.shutdown()
    (ended,) = sender.ledger.deliveries.of_job(job.id)
    assert ended.state is DeliveryState.FAILED, "the first one is refused for good"
    assert len(ended.taken) == 1
    assert "1 of 2 objects are there" in ended.reason


@pytest.mark.peers
def test_a_sender_that_is_stopped_ends_with_the_object_at_hand_and_the_attempt_does_not_count(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    job = segmented(sender, "pacs")
    with pacs(tmp_path / "pacs", free_port, on_arrival=lambda _arrival: stopping.stop_within(0)):
        delivery.run(job.id, "pacs")
        (waiting,) = sender.ledger.deliveries.of_job(job.id)
        assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
        assert len(waiting.taken) == 1
        assert sender.ledger.deliveries.due() == [(job.id, "pacs")]
        stopping.go_on()
        delivery.run(job.id, "pacs")
    stopping.go_on()
    (ended,) = sender.ledger.deliveries.of_job(job.id)
    assert (ended.state, ended.attempts) == (DeliveryState.DELIVERED, 1)
    assert len(list(Store(tmp_path / "pacs").walk())) == 2


@pytest.mark.peers
def test_the_fallback_gets_the_objects_that_a_destination_refuses(
    sender: DeliveryWorker, tmp_path: Path, free_port: int
) -> None:
    strict = {"name": "strict", "ae_title": "PACS", "host": "127.0.0.1", "port": 1}
    sender.settings = load(
        home=sender.settings.home, destinations=[*sender.settings.destinations, strict], max_deliveries=1
    )
    job = segmented(sender, Route(to="strict", fallback="pacs"))
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "strict")
        assert sender.ledger.deliveries.due() == [(job.id, "pacs")]
        delivery.run(job.id, "pacs")
    ended = sender.ledger.jobs.get(job.id)
    assert ended.state is JobState.DELIVERED
    assert ended.reason.startswith("delivered to pacs instead of strict: PACS@127.0.0.1:1 cannot be reached")
    assert len(list(Store(tmp_path / "pacs").walk())) == 2


@pytest.mark.peers
def test_a_delivery_that_takes_longer_than_its_lease_is_not_made_twice(
    sender: DeliveryWorker, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    destinations = sender.settings.destinations
    sender.settings = load(home=sender.settings.home, destinations=destinations, delivery_lease_seconds=0.3)
    job = segmented(sender, "pacs")
    lost = []

    def slow(*arguments: object, **options: object) -> list[SendOutcome]:
        time.sleep(0.9)
        lost.extend(sender.ledger.deliveries.free_lost_leases(1))
        return send(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(c_store, "send", slow)
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    assert lost == []
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED


# -- in another transfer syntax


def asking_for(syntax: str, port: int) -> dict[str, object]:
    return {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": port, "transfer_syntax": syntax}


def left_in(home: Path) -> list[Path]:
    return [path for path in (home / "incoming").rglob("*") if path.is_file()]


@pytest.mark.peers
@pytest.mark.parametrize("syntax", ["explicit", "deflated"])
def test_a_node_that_writes_nowhere_but_in_its_home_delivers(
    sender: DeliveryWorker, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch, syntax: str
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "read-only" / "tmp"))
    sender.settings = load(home=sender.settings.home, destinations=[asking_for(syntax, free_port)])
    job = segmented(sender, "pacs")
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
    assert left_in(sender.settings.home) == []


@pytest.mark.peers
def test_objects_that_are_sent_as_they_lie_need_no_room(
    sender: DeliveryWorker, tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = segmented(sender, "pacs")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pacs(tmp_path / "pacs", free_port), monkeypatch.context() as patched:
        patched.setattr(sender.store, "scratch", full)
        delivery.run(job.id, "pacs")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED


@pytest.mark.processes
def test_the_copies_of_a_process_that_was_killed_go_at_the_next_start(sender: DeliveryWorker, tmp_path: Path) -> None:
    home, job = sender.settings.home, segmented(sender, "pacs")
    (tmp_path / "tmp").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(home), "TMPDIR": str(tmp_path / "tmp")}
    environment["VOXTELL_DESTINATIONS"] = json.dumps([asking_for("deflated", 1)])
    killed = subprocess.run([sys.executable, "-c", KILLED, job.id], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert list((tmp_path / "tmp").iterdir()) == []
    assert [path.name for path in sorted(left_in(home))] == ["0001.dcm", "0002.dcm"]
    Store(home)
    assert left_in(home) == []


# -- by STOW-RS


@pytest.mark.peers
def test_results_go_to_a_dicomweb_service(sender: DeliveryWorker, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    with orthanc(tmp_path / "orthanc", Plugins=[orthanc_plugin("OrthancDicomWeb")]) as web:
        destination = {"name": "pacs", "url": f"{web.http}/dicom-web", "token_file": str(token)}
        sender.settings = load(home=sender.settings.home, destinations=[destination])
        job = segmented(sender, "pacs")
        delivery.run(job.id, "pacs")
        assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
        assert len(web.sop_uids()) == 2


def test_a_token_that_cannot_be_read_fails_the_delivery_and_names_the_file(
    sender: DeliveryWorker, tmp_path: Path
) -> None:
    destination = {"name": "pacs", "url": "https://pacs.example/dicom-web", "token_file": str(tmp_path / "none")}
    sender.settings = load(home=sender.settings.home, destinations=[destination])
    job = segmented(sender, "pacs")
    delivery.run(job.id, "pacs")
    assert f"{tmp_path / 'none'} cannot be read" in sender.ledger.jobs.get(job.id).reason


@pytest.mark.parametrize(
    ("destination", "words"),
    [
        ({}, "by ae_title and host, or else by url"),
        ({"ae_title": "A"}, "by ae_title and host, or else by url"),
        ({"ae_title": "A", "host": "h", "url": "https://h"}, "by ae_title and host, or else by url"),
        ({"url": "https://h", "commitment": True}, "commitment is for .* ae_title and host; this one .* url: leave"),
        ({"ae_title": "A", "host": "h", "user": "u"}, "user is for .* by url; this one .* ae_title and host: leave"),
        ({"url": "https://h", "tls": True}, "tls is for a destination"),
        ({"url": "https://h", "user": "u", "token_file": "t"}, "not both"),
        ({"url": "ftp://h"}, "destinations"),
    ],
)
def test_a_destination_is_reached_in_one_way(destination: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError, match=f"(?i){words}"):
        load(destinations=[destination])
