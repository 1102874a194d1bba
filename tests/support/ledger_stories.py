"""Beginnings of stories about the ledger: a clock that stands still, and jobs that have come as far as is needed."""

from worker.job_spec import JobSpec, Prompt, Route
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.result import Result

LEASE = 60.0
RESULT = Result.model_validate({"files": ["a.dcm"], "found": []})


class Clock:
    """Seconds since 1970 that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


def work(
    *, series: str = "1.2.3.4", images: int = 3, protocol: str = "liver", destinations: tuple[str, ...] = ()
) -> JobSpec:
    """The work on the first `images` images of a series."""
    return JobSpec.of(
        study_uid="1.2.3",
        series_uid=series,
        instances=[f"{series}.{number}" for number in range(images)],
        protocol=protocol,
        protocol_digest="0" * 16,
        prompts=(Prompt(text="liver"),),
        model=None,
        routes=tuple(Route(to=name) for name in destinations),
    )


def claimed(ledger: Ledger, **facts) -> Job:
    """A new job that one worker holds."""
    task = work(**facts)
    assert ledger.jobs.add(task)
    job = ledger.jobs.claim(task.job_id, LEASE)
    assert job is not None
    return job


def sending(ledger: Ledger, *destinations: str) -> Job:
    """A job whose results wait for their destinations."""
    job = claimed(ledger, destinations=destinations)
    assert ledger.jobs.segmented(job, RESULT)
    return ledger.jobs.get(job.id)


def deliver(ledger: Ledger, job: Job, destination: str, state: DeliveryState, reason: str = "") -> JobState:
    delivery = ledger.deliveries.claim(job.id, destination, LEASE)
    assert delivery is not None
    return ledger.deliveries.end(delivery, state, reason)
