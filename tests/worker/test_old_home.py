"""A home of an earlier version works with today's code: `old_home/make.py` says how it was made.

Its jobs stay the jobs that they were, its results are read, sent and replaced, and messages that lay on its queue when
the node was stopped for the upgrade still reach a task.
"""

import json
import sqlite3
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import yaml

from dicom_node.listener import Listener
from dicom_node.scp.access import Access
from dicom_node.store import Store
from tests.support.twins import ThresholdSegmenter
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.protocols import Protocol
from worker.queue.broker import celery_app
from worker.queue.embedded_server import running_queue, socket_path
from worker.result import Result
from worker.results.write import write_outputs
from worker.settings import Settings, load
from worker.steps import delivery, segmentation
from worker.steps.delivery import DeliveryWorker
from worker.steps.pipeline import segment
from worker.steps.segmentation import SegmentationWorker

OLD = Path(__file__).with_name("old_home")
EXPECTED = json.loads((OLD / "expected.json").read_text(encoding="utf-8"))
STORIES: dict[str, str] = EXPECTED["jobs"]
STATES = {
    "queued": JobState.QUEUED,
    "segmenting": JobState.SEGMENTING,
    "failed": JobState.FAILED,
    "cancelled": JobState.CANCELLED,
    "segmented": JobState.SEGMENTED,
    "rich": JobState.SENDING,
    "review": JobState.REVIEW,
    "delivered": JobState.DELIVERED,
    "committed": JobState.COMMITTED,
    "half sent": JobState.SENDING,
    "stood in for": JobState.SENDING,
    "shadow": JobState.SEGMENTED,
    "superseded": JobState.DELIVERED,
    "superseding": JobState.SENDING,
    "cancelled for more images": JobState.CANCELLED,
    "with more images": JobState.QUEUED,
    "EchoTime=5": JobState.CANCELLED,
    "EchoTime=90": JobState.QUEUED,
}
WITH_RESULTS = [
    *("segmented", "rich", "review", "delivered", "committed", "half sent", "stood in for", "shadow"),
    *("superseded", "superseding"),
]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home, unpacked."""
    folder = tmp_path / "home"
    with tarfile.open(OLD / "home.tar.gz") as packed:
        packed.extractall(folder, filter="data")
    connection = sqlite3.connect(folder / "ledger.sqlite")
    connection.executescript((OLD / "ledger.sql").read_text(encoding="utf-8"))
    connection.close()
    return folder


@pytest.fixture
def settings(home: Path, monkeypatch: pytest.MonkeyPatch, free_port: int) -> Settings:
    for name in ("VOXTELL_MODEL", "VOXTELL_HOME", "VOXTELL_DESTINATIONS"):
        monkeypatch.delenv(name, raising=False)
    peers = [
        {"name": name, "ae_title": "PACS", "host": "127.0.0.1", "port": free_port}
        for name in ("pacs", "planning", "archive")
    ]
    return load(home=home, destinations=peers, backoff_seconds=0.001)


@pytest.fixture
def ledger(home: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    yield ledger
    ledger.close()


def job_of(ledger: Ledger, story: str) -> Job:
    return ledger.jobs.get(STORIES[story])


def segmented_again(job: Job, store: Store, folder: Path) -> Result:
    """What today's code writes for the job; the same engine, the same images."""
    paths = {path.stem: path for path in store.series_paths(job.series_key)}
    spec = job.spec
    done = segment(
        [paths[uid] for uid in spec.instances],
        spec.prompts,
        ThresholdSegmenter(),  # type: ignore[arg-type]
        derived=spec.derived,
        volume=spec.volume,
        straighten=bool(spec.engine.resample_tilt),
    )
    folder.mkdir()
    return write_outputs(done, spec, folder)


def test_every_job_is_there_in_its_state_with_its_work(ledger: Ledger) -> None:
    assert {job.id: job.state for job in ledger.jobs.find()} == {
        STORIES[story]: state for story, state in STATES.items()
    }
    rich = job_of(ledger, "rich").spec
    assert (rich.prompts[0].finish.min_volume_ml, rich.engine.exact, rich.holes) == (0.01, True, "xor")
    assert job_of(ledger, "superseded").superseded_by == STORIES["superseding"]
    assert job_of(ledger, "EchoTime=5").superseded_by == STORIES["EchoTime=90"]
    assert len(ledger.series.unsettled()) == 2  # one that still arrives, and one that a report opened again


def test_a_protocol_has_the_digest_that_old_results_carry(ledger: Ledger) -> None:
    protocol = Protocol(**yaml.safe_load((OLD / "protocol.yaml").read_text(encoding="utf-8")))
    assert protocol.digest == EXPECTED["protocol"]
    assert {job.spec.protocol_digest for job in ledger.jobs.find()} == {protocol.digest}


@pytest.mark.parametrize("story", STORIES)
def test_the_same_work_is_the_job_that_it_was(ledger: Ledger, story: str) -> None:
    before = ledger.jobs.find()
    spec = job_of(ledger, story).spec
    assert ledger.jobs.id_of(spec) == STORIES[story]
    assert ledger.jobs.id_of(spec) != spec.job_id  # ids are made of other facts by now
    assert not ledger.jobs.add(spec)
    assert ledger.jobs.find() == before


@pytest.mark.parametrize("story", WITH_RESULTS)
def test_results_are_read_and_their_files_lie_in_the_store(ledger: Ledger, home: Path, story: str) -> None:
    job = job_of(ledger, story)
    assert job.result.found[0].label in ("above 300", "Bone")
    assert job.result.not_found == ("nothing",)
    files = {path.name for path in Store(home).result_paths(job.id)}
    assert {one.file for one in job.result.objects} <= files


@pytest.mark.long
@pytest.mark.parametrize("story", WITH_RESULTS)
def test_facts_of_then_give_the_uids_of_then(ledger: Ledger, home: Path, tmp_path: Path, story: str) -> None:
    job = job_of(ledger, story)
    assert segmented_again(job, Store(home), tmp_path / "again").objects == job.result.objects


@pytest.mark.peers
def test_messages_that_lay_on_the_queue_reach_their_tasks(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks themselves run, on the arguments of the message: one segments, one sends, one asks."""
    lists: dict[str, list[str]] = json.loads((OLD / "messages.json").read_text(encoding="utf-8"))
    with running_queue(settings, ours=True):
        app = celery_app(settings)
        with redis.Redis(unix_socket_path=str(socket_path(settings.home))) as client:
            for name, messages in lists.items():
                client.rpush(name, *messages)
        desk, sender = SegmentationWorker(settings), DeliveryWorker(settings)
        desk.engine = ThresholdSegmenter()  # type: ignore[assignment]
        asked: list[tuple[str, str]] = []
        monkeypatch.setattr(sender.commitments, "ask", lambda *pair: asked.append(pair))
        monkeypatch.setattr(SegmentationWorker, "_mine", desk)
        monkeypatch.setattr(DeliveryWorker, "_mine", sender)
        with pacs(settings, home := settings.home.parent / "pacs"), app.connection_for_read() as connection:
            for queue in ("segment", *["deliver"] * 2):
                message = connection.default_channel.basic_get(queue)
                args, _, _ = message.payload
                app.tasks[message.headers["task"]](*args)
        assert {task.name for task in (segmentation.run, delivery.run, delivery.ask)} <= app.tasks.keys()
        assert desk.ledger.jobs.get(STORIES["queued"]).state is JobState.SENDING
        assert state_at(desk.ledger, "rich", "pacs") is DeliveryState.DELIVERED
        assert asked == [(STORIES["delivered"], "pacs")]
        sent = {path.stem for path in home.rglob("*.dcm")}
        assert sent == {one.sop_uid for one in desk.ledger.jobs.get(STORIES["rich"]).result.objects}
        desk.ledger.close()
        sender.ledger.close()


@pytest.mark.peers
def test_deliveries_go_on_where_they_were(settings: Settings) -> None:
    sender = DeliveryWorker(settings)
    with running_queue(settings, ours=True), pacs(settings, folder := settings.home.parent / "pacs"):
        while due := sender.ledger.deliveries.due():
            for job_id, destination in due:
                sender.attempt(sender.ledger.deliveries.claim(job_id, destination, 60))  # type: ignore[arg-type]
    arrived = {path.stem for path in folder.rglob("*.dcm")}
    jobs = {story: job_of(sender.ledger, story) for story in WITH_RESULTS}
    for story in ("rich", "half sent", "superseding"):
        assert jobs[story].state is JobState.DELIVERED
    assert jobs["stood in for"].state is JobState.DELIVERED
    taken_before = {one.sop_uid for one in jobs["half sent"].result.objects if one.file == "seg.dcm"}
    expected = {
        one.sop_uid
        for story in ("rich", "half sent", "stood in for", "superseding")
        for one in jobs[story].result.objects
    }
    assert arrived == expected - taken_before  # nothing is sent twice, and nothing that was not to be sent
    sender.ledger.close()


def pacs(settings: Settings, folder: Path) -> Listener:
    port = settings.destinations[0].port
    assert port is not None
    return Listener(
        Store(folder),
        ae_title="PACS",
        host="127.0.0.1",
        port=port,
        on_arrival=lambda _arrival: None,
        access=Access(),
    )


def state_at(ledger: Ledger, story: str, destination: str) -> DeliveryState:
    return next(one.state for one in ledger.deliveries.of_job(STORIES[story]) if one.destination == destination)
