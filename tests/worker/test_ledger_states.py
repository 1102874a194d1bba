"""Whatever happens in whatever order: the ledger keeps its promises (a stateful property test over SQLite).

The model knows one thing more than the ledger: every claim that was ever made, so that workers and senders which lost
their lease can come back at any time and try to write.
"""

from dataclasses import dataclass

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.support.examples import examples
from tests.support.ledger_stories import Clock, work
from worker.errors import UnknownJobError
from worker.job_spec import Route
from worker.ledger import Delivery, DeliveryState, Job, JobState, Ledger
from worker.result import Result

LEASE, WAIT = 60.0, 30.0
MAX_ATTEMPTS = 2
MAX_DELIVERIES = 1000  # more than a run of the machine makes
PATIENCE = 4  # how often people meddle in one run: else the search does little but cancel and retry
RESULT = Result.model_validate({"files": ["a.dcm"], "found": []})
UNFINISHED = (JobState.QUEUED, JobState.SEGMENTING, JobState.SENDING)
ROUTES: dict[int, tuple[Route, ...]] = {  # by number of images
    1: (Route(to="pacs"), Route(to="archive")),
    2: (),
    3: (Route(to="pacs", fallback="archive"),),
}
PROMISES = "pacs"  # the destination that is asked for storage commitment


@dataclass
class Hold:
    """Who may write to a job or a delivery, and until when nobody may take it from them."""

    claim: Job | Delivery
    until: float


class LedgerMachine(RuleBasedStateMachine):
    """Workers, senders, people and a sweep at work on one ledger; up to three jobs on one series."""

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.ledger = Ledger("sqlite://", self.clock)
        self.jobs: list[str] = []
        self.attempts: dict[str, int] = {}  # since the last retry
        self.holders: dict[str, Hold] = {}
        self.senders: dict[tuple[str, str], Hold] = {}
        self.job_claims: list[Job] = []  # every one that was ever made
        self.delivery_claims: list[Delivery] = []
        self.questions: list[Delivery] = []
        self.patience = PATIENCE

    def teardown(self):
        self.ledger.close()

    # -- what happens

    @precondition(lambda self: len(self.jobs) < len(ROUTES))
    @rule()
    def later_images_settle(self):
        images = len(self.jobs) + 1
        task = work(images=images).model_copy(update={"routes": ROUTES[images]})
        before = self.ledger.jobs.find()
        assert self.ledger.jobs.add(task)
        assert not self.ledger.jobs.add(task)
        for job in before:
            without_results = job.state in (JobState.QUEUED, JobState.SEGMENTING)
            if without_results and job.superseded_by is None:
                assert self.ledger.jobs.get(job.id).state is JobState.CANCELLED
                self.holders.pop(job.id, None)
        self.jobs.append(task.job_id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), then=st.sampled_from(["works", "segmented", "dies", "postpone", "fail"]))
    def worker_claims(self, data, then):
        job_id = data.draw(_rather(self.ledger.jobs.due(), self.jobs))
        due = job_id in self.ledger.jobs.due()
        job = self.ledger.jobs.claim(job_id, LEASE)
        assert (job is not None) is due
        if job is None:
            return
        self.attempts[job_id] = self.attempts.get(job_id, 0) + 1
        assert job.attempts == self.attempts[job_id]
        assert job_id not in self.holders
        self.holders[job_id] = Hold(job, self.clock.now + LEASE)
        self.job_claims.append(job)
        if then == "dies":
            self.time_passes_and_the_sweep_comes(LEASE + 1)
        elif then != "works":
            self._worker_writes(job, then)

    @precondition(lambda self: self.job_claims)
    @rule(data=st.data(), what=st.sampled_from(["renew", "segmented", "postpone", "fail"]))
    def worker_writes(self, data, what):
        claims = [hold.claim for hold in self.holders.values()]
        self._worker_writes(data.draw(_rather(claims, self.job_claims)), what)

    def _worker_writes(self, claim, what):
        hold = self.holders.get(claim.id)
        held = hold is not None and hold.claim is claim
        before = self._facts(claim.id)
        wrote = {
            "renew": lambda: self.ledger.jobs.renew(claim, LEASE),
            "segmented": lambda: self.ledger.jobs.segmented(claim, RESULT),
            "postpone": lambda: self.ledger.jobs.postpone(claim, "no memory", WAIT),
            "fail": lambda: self.ledger.jobs.fail(claim, "no volume"),
        }[what]()
        assert wrote is held
        if not held:
            assert self._facts(claim.id) == before
        elif what == "renew":
            hold.until = self.clock.now + LEASE
        else:
            del self.holders[claim.id]

    @precondition(lambda self: self.ledger.deliveries.due() or self.senders)
    @rule(data=st.data(), then=st.sampled_from(["works", "delivered", "failed", "postpone"]))
    def sender_claims(self, data, then):
        due = self.ledger.deliveries.due()
        job_id, destination = data.draw(_rather(due, list(self.senders)))
        delivery = self.ledger.deliveries.claim(job_id, destination, LEASE)
        assert (delivery is not None) is ((job_id, destination) in due)
        if delivery is not None:
            assert (job_id, destination) not in self.senders
            self.senders[job_id, destination] = Hold(delivery, self.clock.now + LEASE)
            self.delivery_claims.append(delivery)
            if then != "works":
                self._sender_writes(delivery, then)

    @precondition(lambda self: self.delivery_claims)
    @rule(data=st.data(), what=st.sampled_from(["renew", "postpone", "delivered", "failed"]))
    def sender_writes(self, data, what):
        claims = [hold.claim for hold in self.senders.values()]
        self._sender_writes(data.draw(_rather(claims, self.delivery_claims)), what)

    def _sender_writes(self, claim, what):
        key = (claim.job_id, claim.destination)
        hold = self.senders.get(key)
        held = hold is not None and hold.claim is claim
        before = self._facts(claim.job_id)
        if what == "renew":
            assert self.ledger.deliveries.renew(claim, LEASE) is held
        elif what == "postpone":
            assert self.ledger.deliveries.postpone(claim, "does not answer", WAIT) is held
        else:
            uid = "2.25.1" if what == "delivered" and claim.destination == PROMISES else None
            self.ledger.deliveries.end(claim, DeliveryState(what), "refused", transaction_uid=uid)
        if not held:
            assert self._facts(claim.job_id) == before
        elif what == "renew":
            hold.until = self.clock.now + LEASE
        else:
            del self.senders[key]

    @precondition(lambda self: self.ledger.commitments.due())
    @rule(data=st.data(), then=st.sampled_from(["silence", "committed", "not committed"]))
    def a_destination_is_asked(self, data, then):
        job_id, destination = data.draw(st.sampled_from(self.ledger.commitments.due()))
        assert destination == PROMISES
        asked = self.ledger.commitments.claim(job_id, destination, f"2.25.{len(self.questions) + 10}", WAIT)
        assert self.ledger.commitments.claim(job_id, destination, "2.25.9", WAIT) is None
        self.questions.append(asked)
        if then != "silence":
            self._answers(asked, then)

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), what=st.sampled_from(["committed", "not committed"]))
    def an_answer_comes(self, data, what):
        self._answers(data.draw(st.sampled_from(self.questions)), what)

    def _answers(self, asked, what):
        before = self._facts(asked.job_id)
        awaited = self.ledger.commitments.asked_with(asked.transaction_uid) is not None
        assert not awaited or asked == self.ledger.commitments.asked_with(asked.transaction_uid)
        if what == "committed":
            took = self.ledger.commitments.committed(asked)
        else:
            took = self.ledger.commitments.not_committed(asked, "no room", WAIT, MAX_DELIVERIES)
        assert took is awaited
        if not took:
            assert self._facts(asked.job_id) == before

    @precondition(lambda self: self.holders or self.senders)
    @rule(seconds=st.sampled_from([WAIT, LEASE + 1]))
    def time_passes_and_the_sweep_comes(self, seconds):
        self.clock.passes(seconds)
        lost = [job_id for job_id, hold in self.holders.items() if hold.until < self.clock.now]
        failed = {job.id for job in self.ledger.jobs.free_lost_leases(MAX_ATTEMPTS)}
        assert self.ledger.deliveries.free_lost_leases(MAX_DELIVERIES) == []
        assert failed == {job_id for job_id in lost if self.attempts[job_id] >= MAX_ATTEMPTS}
        for job_id in lost:
            del self.holders[job_id]
            assert self.ledger.jobs.get(job_id).state is (JobState.FAILED if job_id in failed else JobState.QUEUED)
        self.senders = {key: hold for key, hold in self.senders.items() if hold.until >= self.clock.now}

    @precondition(lambda self: self.patience and self._ids(*UNFINISHED))
    @rule(data=st.data(), starts_again=st.booleans())
    def person_cancels(self, data, starts_again):
        self.patience -= 1
        job_id = data.draw(st.sampled_from(self._ids(*UNFINISHED)))
        with pytest.raises(UnknownJobError):
            self.ledger.jobs.retry(job_id)
        assert self.ledger.jobs.cancel(job_id).state is JobState.CANCELLED
        self.holders.pop(job_id, None)
        if starts_again:
            self._retry(job_id)

    @precondition(lambda self: self.patience and self._ids(JobState.FAILED, JobState.CANCELLED))
    @rule(data=st.data())
    def person_retries(self, data):
        self.patience -= 1
        job_id = data.draw(st.sampled_from(self._ids(JobState.FAILED, JobState.CANCELLED)))
        with pytest.raises(UnknownJobError):
            self.ledger.jobs.cancel(job_id)
        self._retry(job_id)

    def _retry(self, job_id):
        assert self.ledger.jobs.retry(job_id).attempts == 0
        self.attempts[job_id] = 0

    # -- what holds always

    @invariant()
    def jobs_agree_with_their_deliveries(self):
        for job in self.ledger.jobs.find():
            states = {delivery.state for delivery in self.ledger.deliveries.of_job(job.id)}
            if job.state is JobState.SENDING:
                assert states & {DeliveryState.PENDING, DeliveryState.SENDING}
            if job.state is JobState.DELIVERED:
                assert states - {DeliveryState.FAILED} <= {DeliveryState.DELIVERED, DeliveryState.COMMITTED}
                assert DeliveryState.DELIVERED in states
                assert DeliveryState.FAILED not in states or "instead of" in job.reason
            if job.state is JobState.COMMITTED:
                assert states == {DeliveryState.COMMITTED}
            if job.state in (JobState.QUEUED, JobState.SEGMENTING):
                assert not states

    @invariant()
    def a_job_is_held_by_the_one_who_claimed_it_last(self):
        assert {job.id for job in self.ledger.jobs.find(JobState.SEGMENTING)} == set(self.holders)

    @invariant()
    def what_failed_or_was_cancelled_says_why(self):
        for job in self.ledger.jobs.find():
            assert job.reason or job.state not in (JobState.FAILED, JobState.CANCELLED)

    def _ids(self, *states):
        return sorted(job.id for job in self.ledger.jobs.find() if job.state in states)

    def _facts(self, job_id):
        return self.ledger.jobs.get(job_id), self.ledger.deliveries.of_job(job_id)


def _rather(preferred, others):
    """One of the first, if there are any, about as often as one of the others."""
    rest = st.sampled_from(others) if others else st.nothing()
    return (st.sampled_from(preferred) if preferred else st.nothing()) | rest


TestLedgerStates = LedgerMachine.TestCase
TestLedgerStates.pytestmark = pytest.mark.long
TestLedgerStates.settings = examples(20, stateful_step_count=40)
