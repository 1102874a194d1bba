"""Archive runs in the ledger, told as stories: on SQLite and on PostgreSQL alike, with a clock that stands still."""

import sqlite3
from contextlib import closing

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tests.support.examples import examples
from tests.support.ledger_stories import LEASE, Clock, work
from worker.errors import UnknownRunError
from worker.ledger import Ledger
from worker.ledger.archive_states import EntryState, RunState, StudyOutcome, WindowState
from worker.ledger.records import Entry, Run
from worker.ledger.runs import Span

YEAR = Span("20200101000000", "20201231235959")
HALVES = [Span("20200101000000", "20200630235959"), Span("20200701000000", "20201231235959")]
FOLDER = {"folder": ["/archive"]}


def studies(*uids: str) -> list[dict[str, object]]:
    return [{"study_uid": uid, "study_date": "20200101", "images_expected": 3} for uid in uids]


def begun(ledger: Ledger, *uids: str) -> Run:
    """A run at work with these studies."""
    run = ledger.runs.add("lungs", FOLDER)
    assert ledger.runs.start(run)
    ledger.entries.add(run, studies(*uids))
    assert ledger.runs.listed(run)
    return ledger.runs.get("lungs")


def state_of(ledger: Ledger, run: Run, uid: str = "1.2") -> tuple[EntryState, StudyOutcome | None, int]:
    entry = ledger.entries.get(run.id, uid)
    return entry.state, entry.outcome, entry.attempts


def test_a_study_goes_from_the_list_to_its_one_outcome_and_the_run_ends_with_the_last(ledger, clock):
    run = begun(ledger, "1.2", "1.3")
    assert ledger.entries.due(run, 10) == ["1.2", "1.3"]
    entry = ledger.entries.claim(run.id, "1.2", LEASE)
    assert ledger.entries.claim(run.id, "1.2", LEASE) is None, "one fetcher has it"
    assert ledger.entries.fetched(entry, images=3, size=300, seconds=1.5)
    open_now = ledger.entries.open_studies(run)
    assert (open_now.count, open_now.bytes) == (1, 300)
    assert ledger.entries.jobs_made(entry)
    stale, waiting = entry, ledger.entries.get(run.id, "1.2")
    assert ledger.entries.end(waiting, StudyOutcome.SEGMENTED, detail={"jobs": ["a"]})
    assert not ledger.entries.end(stale, StudyOutcome.FETCH_FAILED), "it has its outcome"
    assert not ledger.entries.end(waiting, StudyOutcome.REVIEW)
    assert state_of(ledger, run) == (EntryState.DONE, StudyOutcome.SEGMENTED, 1)
    assert not ledger.runs.end(run), "a study has none"
    assert ledger.entries.end(ledger.entries.get(run.id, "1.3"), StudyOutcome.EXCLUDED)
    assert ledger.runs.end(run)
    assert ledger.runs.get("lungs").state is RunState.DONE
    done = EntryState.DONE
    assert ledger.entries.counts(run) == {(done, StudyOutcome.SEGMENTED): 1, (done, StudyOutcome.EXCLUDED): 1}


def test_a_source_that_is_away_is_no_failure_of_a_study(ledger, clock):
    run = begun(ledger, "1.2")
    for _ in range(5):
        entry = ledger.entries.claim(run.id, "1.2", LEASE)
        assert ledger.entries.postpone(entry, "the PACS does not answer", 60, counts=False)
        assert ledger.entries.claim(run.id, "1.2", LEASE) is None, "not yet"
        clock.passes(60)
    assert state_of(ledger, run) == (EntryState.LISTED, None, 0)
    entry = ledger.entries.claim(run.id, "1.2", LEASE)
    assert ledger.entries.postpone(entry, "refused", 0)
    assert state_of(ledger, run) == (EntryState.LISTED, None, 1)


def test_a_fetcher_that_fell_silent_can_change_nothing_any_more(ledger, clock):
    run = begun(ledger, "1.2")
    silent = ledger.entries.claim(run.id, "1.2", LEASE)
    clock.passes(LEASE + 1)
    assert ledger.entries.free_lost_leases(2) == []
    other = ledger.entries.claim(run.id, "1.2", LEASE)
    assert not ledger.entries.fetched(silent, images=3, size=3, seconds=1)
    assert not ledger.entries.renew(silent, LEASE)
    assert not ledger.entries.end(silent, StudyOutcome.FETCH_FAILED)
    assert ledger.entries.renew(other, LEASE)
    clock.passes(LEASE + 1)
    (ended,) = ledger.entries.free_lost_leases(2)
    assert (ended.outcome, ended.reason) == (StudyOutcome.FETCH_FAILED, "the fetcher died or fell silent")


def test_images_that_went_missing_are_fetched_again(ledger):
    run = begun(ledger, "1.2")
    entry = ledger.entries.claim(run.id, "1.2", LEASE)
    ledger.entries.fetched(entry, images=3, size=3, seconds=1)
    assert ledger.entries.fetch_again(entry, "its images are not in the store any more")
    assert ledger.entries.due(run, 10) == ["1.2"]


def test_a_paused_run_fetches_nothing_and_goes_on_where_it_was(ledger):
    run = begun(ledger, "1.2", "1.3")
    held = ledger.entries.claim(run.id, "1.2", LEASE)
    assert ledger.runs.pause(run, "the PACS refuses: unknown move destination")
    assert ledger.entries.claim(run.id, "1.3", LEASE) is None
    assert ledger.entries.fetched(held, images=3, size=3, seconds=1), "what is under way goes on"
    assert ledger.runs.at_work() == []
    assert ledger.runs.resume(run)
    assert ledger.runs.listed(run)
    assert ledger.entries.claim(run.id, "1.3", LEASE)


def test_a_cancelled_run_ends_what_is_only_listed(ledger):
    run = begun(ledger, "1.2", "1.3")
    held = ledger.entries.claim(run.id, "1.2", LEASE)
    assert ledger.runs.cancel(run)
    assert not ledger.runs.cancel(run)
    assert state_of(ledger, run, "1.3") == (EntryState.DONE, StudyOutcome.CANCELLED, 0)
    assert ledger.entries.fetched(held, images=3, size=3, seconds=1)
    assert ledger.entries.retry(run, list(StudyOutcome)) == 0, "a cancelled run stays so"


def test_a_retry_lists_the_failed_again_and_leaves_other_outcomes(ledger):
    run = begun(ledger, "1.2", "1.3")
    for uid, outcome in (("1.2", StudyOutcome.FETCH_FAILED), ("1.3", StudyOutcome.SEGMENTED)):
        ledger.entries.end(ledger.entries.get(run.id, uid), outcome)
    assert ledger.runs.end(run)
    assert ledger.entries.retry(run, [StudyOutcome.FETCH_FAILED]) == 1
    assert ledger.runs.get("lungs").state is RunState.RUNNING
    assert state_of(ledger, run) == (EntryState.LISTED, None, 0)
    assert state_of(ledger, run, "1.3") == (EntryState.DONE, StudyOutcome.SEGMENTED, 0)


def test_a_run_is_fetched_by_the_host_of_its_store_alone(ledger, ledger_url, clock):
    here = Ledger(ledger_url, clock, store_id="here")
    there = Ledger(ledger_url, clock, store_id="there")
    run = begun(here, "1.2")
    assert there.runs.at_work() == []
    assert there.entries.claim(run.id, "1.2", LEASE) is None
    assert here.runs.at_work() == [run]
    assert here.entries.claim(run.id, "1.2", LEASE)
    here.close()
    there.close()


def test_a_run_that_is_forgotten_leaves_jobs_alone(ledger):
    ledger.jobs.add(work())
    run = begun(ledger, "1.2.3")
    assert not ledger.runs.forget(run), "it is at work"
    ledger.runs.cancel(run)
    assert ledger.runs.forget(run)
    assert ledger.runs.find() == []
    assert ledger.entries.of_run(run) == []
    assert ledger.jobs.get(work().job_id)


def test_a_name_is_given_once_and_an_unknown_one_is_told(ledger):
    ledger.runs.add("lungs", FOLDER)
    with pytest.raises(UnknownRunError, match="there is a run 'lungs' already"):
        ledger.runs.add("lungs", FOLDER)
    with pytest.raises(UnknownRunError, match="no run 'livers' in the ledger"):
        ledger.runs.get("livers")


def test_a_list_that_the_pacs_cut_is_asked_for_in_halves_and_no_study_is_listed_twice(ledger, clock):
    run = ledger.runs.add("lungs", {"pacs": "PACS"}, windows=[YEAR])
    ledger.runs.start(run)
    window = ledger.runs.next_window(run)
    assert ledger.runs.window_later(window, "the PACS does not answer", 60)
    assert ledger.runs.next_window(run) is None
    clock.passes(60)
    window = ledger.runs.next_window(run)
    assert window.attempts == 1
    assert ledger.runs.split(window, HALVES)
    assert not ledger.runs.window_done(window, studies("9.9")), "it was split"
    first = ledger.runs.next_window(run)
    assert (first.lo, first.state) == (HALVES[0].lo, WindowState.TODO)
    assert ledger.runs.window_done(first, studies("1.2", "1.3"))
    assert not ledger.runs.window_done(first, studies("1.4")), "by another process meanwhile"
    assert not ledger.runs.listed(run), "a window is left"
    claimed = ledger.entries.claim(run.id, "1.3", LEASE)
    assert claimed, "listing and fetching overlap"
    assert ledger.runs.window_done(ledger.runs.next_window(run), studies("1.3", "1.5"))
    assert ledger.entries.get(run.id, "1.3").state is EntryState.FETCHING, "an entry stays as it is"
    assert ledger.runs.listed(run)
    assert [entry.study_uid for entry in ledger.entries.of_run(run)] == ["1.2", "1.3", "1.5"]


def test_a_window_that_cannot_be_split_fails_and_the_run_goes_on(ledger):
    run = ledger.runs.add("lungs", {"pacs": "PACS"}, windows=HALVES)
    ledger.runs.start(run)
    assert ledger.runs.window_failed(ledger.runs.next_window(run), "the PACS cuts its list at 100")
    assert ledger.runs.next_window(run).lo == HALVES[1].lo


def test_a_study_without_an_outcome_is_no_done_entry_in_the_table_itself(tmp_path, clock):
    """As another program sees it: state and outcome are written in one UPDATE."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock)
    run = begun(ledger, "1.2")
    ledger.entries.end(ledger.entries.get(run.id, "1.2"), StudyOutcome.NOT_FOUND)
    with closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as other:
        assert other.execute("SELECT state, outcome FROM entries").fetchall() == [("done", "not-found")]
    ledger.close()


class RunMachine(RuleBasedStateMachine):
    """Fetchers that hold old claims, a leader and people, at work on one run of three studies."""

    UIDS = ("1.1", "1.2", "1.3")

    def __init__(self):
        super().__init__()
        self.clock = Clock()
        self.ledger = Ledger("sqlite://", self.clock)
        self.run = begun(self.ledger, *self.UIDS)
        self.seen: list[Entry] = []  # every record that anybody has ever read
        self.ended: dict[str, StudyOutcome] = {}

    def teardown(self):
        self.ledger.close()

    @rule(uid=st.sampled_from(UIDS))
    def claim(self, uid):
        if entry := self.ledger.entries.claim(self.run.id, uid, LEASE):
            assert uid not in self.ended
            self.seen.append(entry)

    @rule(uid=st.sampled_from(UIDS))
    def read(self, uid):
        self.seen.append(self.ledger.entries.get(self.run.id, uid))

    @rule(data=st.data(), step=st.sampled_from(["postpone", "fetched", "jobs_made", "fetch_again", "renew"]))
    def write(self, data, step):
        if self.seen:
            entry = data.draw(st.sampled_from(self.seen))
            entries = self.ledger.entries
            changed = {
                "postpone": lambda: entries.postpone(entry, "later", 5),
                "fetched": lambda: entries.fetched(entry, images=1, size=1, seconds=1),
                "jobs_made": lambda: entries.jobs_made(entry),
                "fetch_again": lambda: entries.fetch_again(entry, "gone"),
                "renew": lambda: entries.renew(entry, LEASE),
            }[step]()
            assert not (changed and entry.study_uid in self.ended), "an ended study is changed by a retry alone"

    @rule(data=st.data(), outcome=st.sampled_from(StudyOutcome))
    def end(self, data, outcome):
        if self.seen:
            entry = data.draw(st.sampled_from(self.seen))
            if entry.state is not EntryState.DONE and self.ledger.entries.end(entry, outcome):
                assert entry.study_uid not in self.ended, "an outcome is written once"
                self.ended[entry.study_uid] = outcome

    @rule(outcome=st.sampled_from(StudyOutcome))
    def retry(self, outcome):
        again = [uid for uid, ended in self.ended.items() if ended is outcome]
        assert self.ledger.entries.retry(self.run, [outcome]) == len(again)
        for uid in again:
            del self.ended[uid]

    @rule(seconds=st.sampled_from([1.0, 30.0, LEASE + 1]))
    def time_passes(self, seconds):
        self.clock.passes(seconds)

    @rule()
    def sweep(self):
        for entry in self.ledger.entries.free_lost_leases(2):
            assert entry.study_uid not in self.ended
            self.ended[entry.study_uid] = entry.outcome

    @invariant()
    def each_study_is_there_once_and_has_an_outcome_exactly_when_it_is_done(self):
        found = {entry.study_uid: entry for entry in self.ledger.entries.of_run(self.run)}
        assert set(found) == set(self.UIDS)
        for uid, entry in found.items():
            assert (entry.state is EntryState.DONE) == (entry.outcome is not None) == (uid in self.ended)
            assert entry.outcome is self.ended.get(uid)
        assert self.ledger.runs.end(self.ledger.runs.get("lungs")) is False or len(self.ended) == len(self.UIDS)


TestRuns = RunMachine.TestCase
TestRuns.pytestmark = pytest.mark.long
TestRuns.settings = examples(20, stateful_step_count=40)
