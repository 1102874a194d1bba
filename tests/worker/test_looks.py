"""Headers are read by a child with limits; a series that ends it counts as unreadable, and the node goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydicom.config import WARN
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
)
from pydicom.valuerep import validate_value
from pynetdicom import AE, _config
from structlog.testing import capture_logs

from dicom_node.origin import Origin
from dicom_node.scu.association import Peer, echo
from dicom_node.uids import SeriesKey
from tests.support import attacks
from tests.support.listening import QUIET, IntakeSite
from tests.support.peers import running, wait_for_peer
from tests.support.ports import LOOPBACK, free_port
from worker.cli.doctor import _ledger
from worker.cli.ledger import look_again
from worker.errors import WorkerError
from worker.explain.history import history_of
from worker.ledger import Ledger, SeriesState
from worker.queue.embedded_server import running_queue
from worker.selection.child import Child, LookError
from worker.selection.looks import MOST_ENDINGS, MOST_LOOKS

pytestmark = pytest.mark.processes

MB = 2**20
LIVER = "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\n"


@pytest.fixture
def child():
    made = Child(256 * MB, 60.0)
    yield made
    made.close()


def test_a_process_that_ends_leaves_no_child_behind():
    """Also where the child only just started, and does not listen to its socket yet."""
    script = (
        "from worker.selection.child import child; made = child(2**28, 60.0); made.start(); print(made._running[0].pid)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, text=True, timeout=60)
    assert not psutil.pid_exists(int(done.stdout))


def test_the_child_answers_and_raises_as_the_function_does(child):
    assert child.ask(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        child.ask(divmod, 7, 0)
    assert child.ask(os.getpid) == child.ask(os.getpid) != os.getpid()


def test_the_child_says_nothing_of_the_values_that_it_reads(capfd, child):
    """pydicom warns, and quotes what it does not like, which may be a patient's name."""
    child.ask(validate_value, "UI", "DOE^JANE", WARN)
    assert "DOE" not in capfd.readouterr().err


def test_too_much_memory_is_an_error_and_the_next_question_gets_an_answer(child):
    first = child.ask(os.getpid)
    with pytest.raises(LookError, match=f"more than {256 * MB} bytes of memory"):
        child.ask(bytes, 300 * MB)
    assert len(child.ask(bytes, 64 * MB)) == 64 * MB
    assert child.ask(os.getpid) != first


def test_a_child_that_dies_is_replaced(child):
    first = child.ask(os.getpid)
    with pytest.raises(LookError, match="died"):
        child.ask(os.kill, first, signal.SIGKILL)
    os.kill(second := child.ask(os.getpid), signal.SIGKILL)
    child._running[0].wait(30)
    assert child.ask(os.getpid) not in (first, second)


def test_an_answer_that_takes_too_long_is_not_waited_for():
    child = Child(256 * MB, 1.0)
    child.start()
    with pytest.raises(LookError, match="more than 1 s"):
        child.ask(time.sleep, 60)
    child.close()


# -- a series


@pytest.fixture
def node(tmp_path):
    home = tmp_path / "home"
    (home / "protocols").mkdir(parents=True)
    (home / "protocols" / "liver.yaml").write_text(LIVER)
    made = IntakeSite(home)
    with running_queue(made.settings):
        yield made
        made.close()


class Deadly:
    """In place of the child process: every look at a series dies; counts them."""

    def __init__(self) -> None:
        self.asked = 0

    def ask(self, *_: object) -> object:
        self.asked += 1
        raise LookError("the process that read its headers died (exit code -9)")


def test_a_series_that_ends_its_reader_counts_as_unreadable_and_is_looked_at_again_when_a_person_asks(
    node, images, monkeypatch, capsys
):
    node.receives(*images, ago=QUIET + 1)
    alive, node.intake._looks._child = node.intake._looks._child, (deadly := Deadly())
    with capture_logs() as logs:
        for _ in range(MOST_LOOKS + 3):
            assert node.tick() == []
    assert deadly.asked == MOST_LOOKS
    assert [line["event"] for line in logs] == ["series_not_looked_at"] * (MOST_LOOKS - 1) + ["series_unreadable"]
    (series,) = node.ledger.series.unreadable()
    assert (series.state, node.ledger.series.unsettled()) == (SeriesState.UNREADABLE, [])

    story = history_of(series.study_uid, node.ledger, node.store, node.settings, [])
    assert (
        "it cannot be read: 3 looks at it did not come to their end: the process that read" in story.series[0].sentence
    )
    with pytest.raises(WorkerError, match="1 series cannot be read"):
        _ledger(node.settings)

    monkeypatch.setenv("VOXTELL_HOME", str(node.settings.home))
    look_again(series.study_uid)
    assert capsys.readouterr().out == f"1 series of study {series.study_uid} will be looked at again\n"
    with pytest.raises(WorkerError, match="no series of study"):
        look_again(series.study_uid)
    node.intake._looks._child = alive
    node.lag = -QUIET - 1
    monkeypatch.setattr(time, "time", lambda real=time.time: real() + QUIET + 1)
    (job,) = node.tick()
    assert len(job.spec.instances) == len(images)
    assert node.ledger.series.of_study(series.study_uid)[0].looks == 0


def test_a_look_that_ends_the_listener_is_counted_before_it_is_taken(node, images):
    """Every start of a listener would look at the same series again."""

    node.receives(*images, ago=QUIET + 1)
    (series,) = node.ledger.series.unsettled()
    for _ in range(MOST_ENDINGS):
        node.ledger.series.look_begins(series.series_key)
        node.restart()
    with capture_logs() as logs:
        assert node.tick() == []
        assert node.tick() == []
    assert [line["event"] for line in logs] == ["series_unreadable"]


def test_a_series_of_which_no_file_can_be_read_says_so(node, tmp_path):
    path = attacks.written(
        tmp_path / "1.2.3.4.5.dcm",
        attacks.deflate_bomb("1.2.3.4.5", 64 * MB),
        attacks.DEFLATED,
    )
    uids = {"study_uid": attacks.STUDY, "series_uid": attacks.SERIES}
    node.store.put(path.read_bytes(), **uids, sop_uid="1.2.3.4.5")
    node.lag = QUIET + 1
    key = SeriesKey(attacks.STUDY, attacks.SERIES)
    node.ledger.series.image_arrived(key, Origin("A", "B", "127.0.0.1"))
    node.lag = 0.0
    assert node.tick() == []
    (decision,) = node.ledger.series.decisions_on(attacks.STUDY)
    assert not decision.taken
    assert "none of its 1 files can be read: 1.2.3.4.5.dcm is not read: inflated it has more than" in decision.reason


# -- a listener under attack

LIMIT = 2 * 1024 * MB  # of its address space, and of its child's


def memory(pid: int) -> int:
    """The most memory that a process ever had, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def send(peer: Peer, path: Path, syntax: str) -> int:
    """C-STOREs the data set of a file as it is, whatever it holds; returns the status."""
    ae = AE("ATTACKER")
    ae.add_requested_context(CTImageStorage, syntax)
    association = ae.associate(peer.host, peer.port, ae_title=peer.ae_title)
    assert association.is_established
    status = association.send_c_store(path)
    association.release()
    return int(status.Status)


@pytest.mark.filterwarnings("ignore")
def test_a_listener_in_two_gigabytes_stays_up_and_flat_under_bombs(tmp_path, monkeypatch):
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)
    home, peer = tmp_path / "home", Peer("VOXTELL", LOOPBACK, free_port())
    (home / "protocols").mkdir(parents=True)
    (home / "protocols" / "liver.yaml").write_text(LIVER)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {
        "VOXTELL_HOME": str(home),
        "VOXTELL_PORT": str(peer.port),
        "VOXTELL_QUIET_SECONDS": "1",
        "VOXTELL_TICK_SECONDS": "0.2",
        "VOXTELL_MIN_FREE_BYTES": "0",
    }
    listen = "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv.pop(1)),) * 2)\n"
    command = [sys.executable, "-c", listen + "from worker.__main__ import main; main()", str(LIMIT), "listen"]
    bombs = {
        "1.2.3.4.1": (attacks.deflate_bomb("1.2.3.4.1", 128 * MB), DeflatedExplicitVRLittleEndian),
        "1.2.3.4.2": (attacks.data_set("1.2.3.4.2", behind=attacks.empty_items(MB)), ExplicitVRLittleEndian),
        "1.2.3.4.3": (attacks.data_set("1.2.3.4.3", before=attacks.endless_items(MB)), ExplicitVRLittleEndian),
        "1.2.3.4.4": (
            attacks.data_set("1.2.3.4.4", before=attacks.element(0x00104000, b"UT", b"", 0xFFFFFFF0)),
            ExplicitVRLittleEndian,
        ),
    }
    late = attacks.element(0x7FE10010, b"UN", bytes(8))  # other content, under the same UID
    again = {
        "1.2.3.5.1": (attacks.j2k_bomb(2**16 - 1), JPEG2000Lossless),
        "1.2.3.5.2": (attacks.rle_bomb(MB), RLELossless),
    }
    ledger, answered = None, 0
    for log in (home / "first.log", home / "second.log"):
        with log.open("wb") as lines, running(command, env=environment, stdout=lines, stderr=lines) as listener:
            wait_for_peer(peer, listener)
            began = memory(listener.pid)
            statuses = [
                send(peer, attacks.written(tmp_path / f"{uid}.dcm", content, syntax), syntax)
                for uid, (content, syntax) in bombs.items()
            ]
            assert statuses == [0x0000, 0x0000, 0xC000, 0xC000]
            for uid, (content, syntax) in again.items():
                for more in (b"", late):
                    bomb = attacks.data_set(uid, behind=content, series="1.2.3.5") + more
                    assert send(peer, attacks.written(tmp_path / f"{uid}.dcm", bomb, syntax), syntax) == 0x0000
            ledger = ledger or Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
            deadline = time.monotonic() + 120
            while unsettled := ledger.series.unsettled():
                echo(peer, calling_ae="ATTACKER")
                looked_at = {one.series_uid for one in unsettled if one.looks}
                answered += bool(looked_at & {one.series_uid for one in ledger.series.unsettled() if one.looks})
                assert time.monotonic() < deadline, log.read_text()
            assert memory(listener.pid) - began < 128 * MB
            assert listener.poll() is None
            listener.terminate()
            assert listener.wait(30) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
    assert answered, "it answers while a series is being looked at"
    assert len(list((home / "quarantine").glob("*.conflict-*.dcm"))) == len(again)
    (decision,) = (one for one in ledger.series.decisions_on(attacks.STUDY) if one.series_uid == attacks.SERIES)
    assert "cannot be read" in decision.reason or "can be read" in decision.reason
    ledger.close()
