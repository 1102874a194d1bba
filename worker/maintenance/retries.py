"""Another attempt: how long to wait before the node makes one by itself, and what a person's `jobs retry` starts."""

import random

from dicom_node.store import Store
from worker.errors import UnknownJobError, WorkerError
from worker.ledger import Job, JobState, Ledger
from worker.settings import Settings


class NothingLeftError(WorkerError):
    """Neither the results of a job nor the images it was made of are on disk."""


def backoff(settings: Settings, attempts: int) -> float:
    """Seconds before the next attempt after `attempts` of them: doubles each time up to a limit, half of it at random.

    The random half keeps a hundred jobs that failed together from coming back together.
    """
    longest: float = min(settings.backoff_seconds * 2 ** max(0, attempts - 1), settings.max_backoff_seconds)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def start_again(job_id: str, ledger: Ledger, store: Store) -> Job:
    """Starts a FAILED or CANCELLED job where it stopped; asks again for the promise that a DELIVERED one waits for.

    Where results are lost the segmentation runs again: the same work gives objects with the same UIDs.

    Raises:
        UnknownJobError: when no such job, or nothing of it is to be started: its results would come after newer ones.
        NothingLeftError: when the results are lost and so are the images.
    """
    job = ledger.jobs.get(job_id)
    if job.state is JobState.DELIVERED:
        return ledger.commitments.ask_again(job.id)
    if job.superseded_by:
        raise UnknownJobError(
            f"job {job.id} is superseded by job {job.superseded_by}: its result is out of date, retry that job"
        )
    made = set(job.result.files if job.result else ())
    lost = made - {path.name for path in store.result_paths(job.id)}
    if lost:
        stored = {path.stem for path in store.series_paths(job.series_key)}
        if not stored.issuperset(job.spec.instances):
            raise NothingLeftError(
                f"{', '.join(sorted(lost))} of job {job.id} and images of series {job.series_uid} are not on disk any "
                "more; send the series again and then retry the job"
            )
    return ledger.jobs.retry(job.id, compute=bool(lost))
