"""Another attempt: how long the node waits before it makes one, and what `jobs retry` starts.

The delivery and segmentation workers call `backoff`, the command line `start_again`.
"""

import random

from dicom_node.store import Store
from worker.errors import UnknownJobError, WorkerError
from worker.ledger import Job, JobState, Ledger
from worker.settings import Settings


class NothingLeftError(WorkerError):
    """Neither the results of a job nor the images it was made of are on disk."""


def backoff(settings: Settings, attempts: int) -> float:
    """Returns the seconds to wait before the next attempt, after `attempts` of them.

    The wait doubles each time up to VOXTELL_MAX_BACKOFF_SECONDS, and half of it is random, so that a hundred jobs that
    failed together do not come back together. With the defaults: 5 to 10 s, then 10 to 20 s, at last 15 to 30 minutes.
    """
    longest: float = min(settings.backoff_seconds * 2 ** max(0, attempts - 1), settings.max_backoff_seconds)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def start_again(job_id: str, ledger: Ledger, store: Store) -> Job:
    """Starts a FAILED or CANCELLED job again where it stopped, or asks again for storage commitment of a DELIVERED one.

    Where files of the result are lost the segmentation runs again: the same work gives objects with the same UIDs. The
    job changes in the ledger only; a listener's sweep enqueues it.

    Raises:
        UnknownJobError: when there is no such job, it is in another state, or a newer job supersedes it.
        NothingLeftError: when files of the result are lost and so are images that it was made of.
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
