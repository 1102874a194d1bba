"""A claim is renewed while its work goes on, also past a ledger that does not answer for a moment."""

import threading
import time

import pytest

from worker.errors import LedgerError
from worker.maintenance.leases import RENEWALS, kept

LEASE_SECONDS = 0.3


class Answers:
    """A renewal that gives these answers in turn, then the last of them for ever."""

    def __init__(self, *answers: bool | Exception) -> None:
        self._answers = list(answers)
        self.asked = 0
        self.enough = threading.Event()

    def __call__(self) -> bool:
        answer = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        if self.asked > RENEWALS * 2:
            self.enough.set()
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.long
@pytest.mark.parametrize("failure", [LedgerError(), RuntimeError("no error of a ledger")])
def test_a_ledger_that_fails_once_is_asked_again(failure: Exception) -> None:
    renew = Answers(failure, True)
    with kept(renew, LEASE_SECONDS) as lost:
        assert renew.enough.wait(30)
        assert not lost.is_set()


@pytest.mark.parametrize("failure", [LedgerError(), RuntimeError("no error of a ledger")])
def test_a_lease_that_ran_out_while_the_ledger_did_not_answer_is_lost(failure: Exception) -> None:
    started = time.monotonic()
    with kept(Answers(failure), LEASE_SECONDS) as lost:
        assert lost.wait(30)
    assert time.monotonic() - started >= LEASE_SECONDS


def test_a_claim_that_was_taken_back_is_lost_at_once() -> None:
    renew = Answers(True, False)
    with kept(renew, LEASE_SECONDS) as lost:
        assert lost.wait(30)
    assert renew.asked == 2
