"""Storage commitment of results: asked, promised, refused, unanswered. Told in the ledger, and with real peers."""

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from pynetdicom import evt

from dicom_node.commitment import CommitmentReport, StorageCommitment
from dicom_node.listener import Listener
from dicom_node.scu.association import Peer, Timeouts
from dicom_node.store import Store
from dicom_node.synthesis import Subject, ct_series
from tests.support.ledger_stories import LEASE, Clock, deliver, sending
from tests.support.peers import orthanc
from tests.support.ports import LOOPBACK, free_port
from tests.support.site import Site
from worker.errors import UnknownJobError
from worker.job_spec import JobSpec, Prompt, Route
from worker.ledger import Delivery, DeliveryState, Job, JobState, Ledger
from worker.maintenance import storage_commitment
from worker.maintenance.storage_commitment import CommitmentRequests
from worker.result import Result
from worker.steps import delivery
from worker.steps.delivery import DeliveryWorker

WAIT = 100.0


def delivered(ledger: Ledger, *destinations: str) -> Job:
    """A job whose destinations have taken the results; all of them will be asked for a promise."""
    job = sending(ledger, *destinations)
    for name in destinations:
        claim = ledger.deliveries.claim(job.id, name, LEASE)
        assert claim is not None
        ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    return ledger.jobs.get(job.id)


def ask(ledger: Ledger, job: Job, name: str, uid: str) -> Delivery:
    asked = ledger.commitments.claim(job.id, name, uid, WAIT)
    assert asked is not None
    return asked


# -- in the ledger


def test_a_job_is_committed_when_every_destination_has_promised(ledger):
    job = delivered(ledger, "pacs", "vna")
    assert job.state is JobState.DELIVERED
    assert sorted(ledger.commitments.due()) == [(job.id, "pacs"), (job.id, "vna")]
    for number, name in enumerate(("pacs", "vna")):
        assert ledger.jobs.get(job.id).state is JobState.DELIVERED
        assert ledger.commitments.committed(ask(ledger, job, name, f"2.25.1{number}"))
    assert ledger.jobs.get(job.id).state is JobState.COMMITTED
    assert ledger.commitments.due() == []


def test_a_job_with_a_destination_that_does_not_do_commitment_stays_delivered(ledger):
    job = sending(ledger, "pacs", "viewer")
    claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
    ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    assert ledger.commitments.committed(
        ask(ledger, job, "pacs", "2.25.2")
    )  # the promise comes before the other delivery
    assert deliver(ledger, job, "viewer", DeliveryState.DELIVERED) is JobState.DELIVERED
    assert {line.state for line in ledger.deliveries.of_job(job.id)} == {
        DeliveryState.COMMITTED,
        DeliveryState.DELIVERED,
    }


def test_a_question_is_asked_again_after_twice_the_wait_and_only_the_last_answer_counts(ledger, clock):
    job = delivered(ledger, "pacs")
    first = ask(ledger, job, "pacs", "2.25.11")
    assert (first.attempts, ledger.commitments.asked_with("2.25.11")) == (1, first)
    assert ledger.commitments.claim(job.id, "pacs", "2.25.12", WAIT) is None
    clock.passes(WAIT)
    second = ask(ledger, job, "pacs", "2.25.12")
    assert second.next_try_at == clock.now + 2 * WAIT
    assert ledger.commitments.asked_with("2.25.11") is None
    assert not ledger.commitments.committed(first)
    assert ledger.commitments.committed(second)
    assert not ledger.commitments.committed(second)
    assert ledger.jobs.get(job.id).state is JobState.COMMITTED


def test_what_is_not_committed_is_sent_again_and_fails_when_that_does_not_help(ledger, clock):
    job = delivered(ledger, "pacs")
    assert ledger.commitments.not_committed(ask(ledger, job, "pacs", "2.25.11"), "has no room", WAIT, max_deliveries=3)
    assert ledger.jobs.get(job.id).state is JobState.SENDING
    assert ledger.deliveries.due() == []
    clock.passes(WAIT)
    assert ledger.deliveries.due() == [(job.id, "pacs")]
    claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1") is JobState.DELIVERED
    assert ledger.commitments.not_committed(ask(ledger, job, "pacs", "2.25.12"), "has no room", WAIT, max_deliveries=3)
    assert (ledger.jobs.get(job.id).state, ledger.jobs.get(job.id).reason) == (JobState.FAILED, "pacs: has no room")


def test_a_question_that_nobody_answers_ends_with_a_reason_and_is_asked_again_by_hand(ledger, clock):
    job = delivered(ledger, "pacs")
    for number in (1, 2):
        assert ledger.commitments.give_up(2) == []
        ask(ledger, job, "pacs", f"2.25.1{number}")
        clock.passes(2 * WAIT)
    (line,) = ledger.commitments.give_up(2)
    assert line.state is DeliveryState.DELIVERED
    assert ledger.commitments.give_up(2) == ledger.commitments.due() == []
    assert "never answered the question for storage commitment" in ledger.jobs.get(job.id).reason
    assert ledger.commitments.committed(line)  # an answer is welcome at any time
    with pytest.raises(UnknownJobError, match="waits for no storage commitment"):
        ledger.commitments.ask_again(job.id)


def test_a_person_may_have_it_asked_again(ledger, clock):
    job = delivered(ledger, "pacs")
    ledger.commitments.not_asked(ask(ledger, job, "pacs", "2.25.11"), "it refused the association")
    clock.passes(WAIT)
    ledger.commitments.give_up(1)
    assert ledger.jobs.get(job.id).reason == "it refused the association"
    assert ledger.commitments.ask_again(job.id).reason == ""
    assert ledger.commitments.due() == [(job.id, "pacs")]


def test_of_many_questions_for_a_destination_that_is_down_one_finds_out(ledger, clock):
    job = delivered(ledger, "pacs", "vna")
    ledger.commitments.hold("pacs", WAIT)
    assert ledger.commitments.due() == [(job.id, "vna")]
    assert ledger.commitments.claim(job.id, "pacs", "2.25.11", WAIT) is None
    ledger.deliveries.hold("vna", WAIT)
    assert ledger.commitments.due() == []
    clock.passes(WAIT)
    assert len(ledger.commitments.due()) == 2


# -- with peers


class CommitmentSite(Site):
    """A node's sender and its listener on one ledger, and the clock by which it waits."""

    def __init__(self, home: Path, destination: Peer) -> None:
        peer = {"name": "pacs", "ae_title": destination.ae_title, "host": LOOPBACK, "port": destination.port}
        self.clock = Clock()
        super().__init__(
            home, clock=self.clock, destinations=[peer | {"commitment": True}], commitment_wait_seconds=WAIT
        )
        self.sender = DeliveryWorker(self.settings)
        self.sender.ledger = self.ledger
        self.commitments = self.sender.commitments = CommitmentRequests(self.settings, self.ledger, self.sender.store)

    def listener(self, port: int) -> Listener:
        service = StorageCommitment(self.sender.store, ae_title="VOXTELL", on_report=self.commitments.reported)
        return Listener(
            self.sender.store,
            ae_title="VOXTELL",
            host=LOOPBACK,
            port=port,
            on_arrival=lambda _arrival: None,
            services=[service],
        )

    def segmented(self, series: str = "1.2.3.4") -> Job:
        """A job whose results, two objects, lie in the store."""
        task = JobSpec.of(
            study_uid="1.2.3",
            series_uid=series,
            instances=[f"{series}.1"],
            protocol="test",
            protocol_digest="d",
            prompts=(Prompt(text="liver"),),
            model=None,
            routes=(Route(to="pacs"),),
        )
        self.ledger.jobs.add(task)
        job = self.ledger.jobs.claim(task.job_id, LEASE)
        assert job is not None
        with self.sender.store.results(job.id) as folder:
            ct_series(np.zeros((2, 8, 8)), (1.0, 1.0, 1.0), folder, subject=Subject(accession_number=series))
        self.ledger.jobs.segmented(job, Result.model_validate({"files": ["0001.dcm", "0002.dcm"]}))
        return job

    def until(self, job: Job, holds: Callable[[Delivery], bool]) -> None:
        deadline = time.monotonic() + 30
        while not holds(self.ledger.deliveries.of_job(job.id)[0]):
            assert time.monotonic() < deadline, self.ledger.deliveries.of_job(job.id)
            time.sleep(0.05)


@pytest.fixture
def site_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Peer], CommitmentSite]]:
    monkeypatch.delenv("VOXTELL_DESTINATIONS", raising=False)
    sites: list[CommitmentSite] = []

    def make(peer: Peer) -> CommitmentSite:
        sites.append(CommitmentSite(tmp_path / "home", peer))
        monkeypatch.setattr(DeliveryWorker, "_mine", sites[-1].sender)
        return sites[-1]

    yield make
    for site in sites:
        site.ledger.close()


@pytest.mark.peers
def test_orthanc_promises_on_a_new_association_and_again_after_it_lost_what_it_had(site_of, tmp_path):
    """It is asked once before it knows the way back, so that the first answer never comes."""
    with orthanc(tmp_path / "orthanc") as pacs:
        site = site_of(pacs.peer)
        job = site.segmented()
        port = free_port()
        with site.listener(port):
            delivery.run(job.id, "pacs")
            assert site.ledger.jobs.get(job.id).state is JobState.DELIVERED
            pacs.add_modality(Peer("VOXTELL", LOOPBACK, port))
            for instance in pacs.get("/instances"):
                pacs.put(f"/instances/{instance}", None, "DELETE")
            site.clock.passes(WAIT)
            delivery.ask(job.id, "pacs")
            site.until(job, lambda line: line.state is DeliveryState.PENDING)
            (line,) = site.ledger.deliveries.of_job(job.id)
            assert "does not commit itself to 2 of them" in line.reason
            assert "(0x0112)" in line.reason
            site.clock.passes(WAIT)
            delivery.run(job.id, "pacs")
            site.until(job, lambda line: line.state is DeliveryState.COMMITTED)
        assert site.ledger.jobs.get(job.id).state is JobState.COMMITTED
        assert len(pacs.sop_uids()) == 2


@pytest.mark.peers
def test_nobody_waits_for_a_peer_that_has_promised_on_an_association_of_its_own(site_of, tmp_path, monkeypatch):
    waited = []
    question = storage_commitment.request_commitment

    def asked(*arguments, wait_seconds, **options):
        waited.append(wait_seconds)
        return question(*arguments, wait_seconds=wait_seconds, **options)

    monkeypatch.setattr(storage_commitment, "request_commitment", asked)
    port = free_port()
    with orthanc(tmp_path / "orthanc") as pacs:
        site = site_of(pacs.peer)
        pacs.add_modality(Peer("VOXTELL", LOOPBACK, port))
        with site.listener(port):
            for series in ("1.2.3.4", "1.2.3.5"):
                job = site.segmented(series)
                delivery.run(job.id, "pacs")
                site.until(job, lambda line: line.state is DeliveryState.COMMITTED)
    assert waited == [storage_commitment.SAME_ASSOCIATION_SECONDS, 0.0]


@pytest.mark.peers
def test_a_peer_may_promise_on_the_association_of_the_question(site_of, tmp_path):
    archive = Store(tmp_path / "archive")
    settings = {"ae_title": "ARCHIVE", "host": LOOPBACK, "port": 0, "on_arrival": lambda _arrival: None}
    with Listener(archive, services=[StorageCommitment(archive, ae_title="ARCHIVE")], **settings) as listener:
        site = site_of(Peer("ARCHIVE", LOOPBACK, listener.port))
        job = site.segmented()
        delivery.run(job.id, "pacs")
    assert site.ledger.jobs.get(job.id).state is JobState.COMMITTED


@pytest.mark.peers
def test_a_peer_that_hangs_when_asked_is_not_asked_about_every_result(site_of, tmp_path, monkeypatch):
    over = threading.Event()

    class Hanging(StorageCommitment):
        def handlers(self):
            return [(evt.EVT_N_ACTION, lambda _event: over.wait(30) and (0x0110, None))]

    impatient = partial(storage_commitment.request_commitment, timeouts=Timeouts(response=0.3))
    monkeypatch.setattr(storage_commitment, "request_commitment", impatient)
    archive = Store(tmp_path / "archive")
    settings = {"ae_title": "ARCHIVE", "host": LOOPBACK, "port": 0, "on_arrival": lambda _arrival: None}
    with Listener(archive, services=[Hanging(archive, ae_title="ARCHIVE")], **settings) as listener:
        site = site_of(Peer("ARCHIVE", LOOPBACK, listener.port))
        first, second = site.segmented("1.2.3.4"), site.segmented("1.2.3.5")
        for job in (first, second):
            delivery.run(job.id, "pacs")
        over.set()
    lines = [site.ledger.deliveries.of_job(job.id)[0] for job in (first, second)]
    assert [(line.state, line.attempts) for line in lines] == [
        (DeliveryState.DELIVERED, 1),
        (DeliveryState.DELIVERED, 0),
    ]
    assert "but did not answer" in lines[0].reason
    assert site.ledger.commitments.due() == []
    site.clock.passes(WAIT)
    assert len(site.ledger.commitments.due()) == 2


@pytest.mark.peers
def test_a_peer_that_does_no_commitment_is_named_and_the_job_stays_delivered(site_of, tmp_path):
    settings = {"ae_title": "SIMPLE", "host": LOOPBACK, "port": 0, "on_arrival": lambda _arrival: None}
    with Listener(Store(tmp_path / "simple"), **settings) as listener:
        site = site_of(Peer("SIMPLE", LOOPBACK, listener.port))
        job = site.segmented()
        delivery.run(job.id, "pacs")
    (line,) = site.ledger.deliveries.of_job(job.id)
    assert (line.state, line.attempts) == (DeliveryState.DELIVERED, 1)
    assert "accepted the association of VOXTELL but nothing of it: Storage Commitment Push Model" in line.reason


@pytest.mark.peers
def test_a_report_that_promises_less_than_was_asked_for_is_a_refusal(site_of, tmp_path):
    site = site_of(Peer("NOBODY", LOOPBACK, 1))
    job = site.segmented()
    claim = site.ledger.deliveries.claim(job.id, "pacs", LEASE)
    site.ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    asked = ask(site.ledger, job, "pacs", "2.25.2")
    site.commitments.reported(CommitmentReport("2.25.99", frozenset(), {}))
    assert site.ledger.deliveries.of_job(job.id) == [asked]
    site.commitments.reported(CommitmentReport("2.25.2", frozenset(), {}))
    (line,) = site.ledger.deliveries.of_job(job.id)
    assert (line.state, line.transaction_uid) == (DeliveryState.PENDING, None)
    assert "(no word about it)" in line.reason
