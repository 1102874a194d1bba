"""What people are told of a job: why it is in its state, what it waits for, and where its results are. Pure functions.

`jobs` and `protocols explain --study` say the same. Times are seconds since 1970-01-01 UTC, and are told in local time.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from worker.ledger import Delivery, DeliveryState, Job, JobState
from worker.result import Result

LONG_SECONDS = 600.0  # a job that no worker claims for this long gets a hint


def sentence_of(job: Job, deliveries: Sequence[Delivery], now: float) -> str:
    """Returns the state of a job and what there is to say of it, in one sentence."""
    said = "; ".join(sentences_of(job, deliveries, now))
    return f"job {job.id} is {job.state}" + (f": {said}" if said else "")


def sentences_of(job: Job, deliveries: Sequence[Delivery], now: float) -> Iterator[str]:
    """Yields what there is to say besides the state, the most important first; nothing where the state says it all."""
    if job.reason and job.state is not JobState.QUEUED:
        yield job.reason
    if job.superseded_by:
        yield f"job {job.superseded_by} replaces it"
    if job.state is JobState.QUEUED:
        yield _queued(job, now)
    elif job.state is JobState.REVIEW:
        yield f"a person must release it: voxtell-dicom jobs release {job.id}"
    elif job.state is JobState.SEGMENTED:
        yield kept_because(job)
    for one in deliveries:
        if not one.state.is_delivered and (not one.reason or one.reason not in job.reason):
            yield _way(one, now)
    if job.state is JobState.DELIVERED:
        asked = [one.destination for one in deliveries if one.transaction_uid and one.state is DeliveryState.DELIVERED]
        if asked:
            yield f"{', '.join(asked)} has not promised yet to keep it"


def kept_because(job: Job) -> str:
    """Returns why results stay in the node: nothing to send, nowhere to send it, or shadow mode."""
    if not (job.result or Result()).objects:
        return f"{_nothing(job.result or Result())}: there is nothing to send"
    if job.spec.shadow:
        return "its protocol is in shadow mode: results are kept, not sent"
    if not job.spec.routes:
        return "it has no destination: results are kept, not sent"
    named = ", ".join(dict.fromkeys(route.to for route in job.spec.routes))
    return f"nothing that it made goes to {named}: results are kept, not sent"


def _nothing(result: Result) -> str:
    """Says what empty masks mean: looked for and not found, not known to the model, or not judged."""
    if result.not_judged:
        return "the image is of another kind than the model was trained on"
    if result.not_known and not result.not_found:
        return "the model knows nothing of what was asked for"
    return "looked for, nothing found"


def _queued(job: Job, now: float) -> str:
    """Says what a queued job waits for."""
    before = f": {job.reason}" if job.reason else ""
    hours = f"it is started between {job.spec.window[0]} and {job.spec.window[1]} only" if job.spec.window else ""
    if job.next_try_at > now:
        if hours and not before:
            return hours
        return f"tried again at {datetime.fromtimestamp(job.next_try_at):%Y-%m-%d %H:%M:%S}{before}"
    minutes = (now - job.next_try_at) / 60
    if minutes * 60 > LONG_SECONDS:
        waits = f"nobody has taken it for {minutes:.0f} minutes: does a segmentation worker run?"
    else:
        waits = f"waits for a segmentation worker{before}"
    return f"{waits}; {hours}" if hours else waits


def _way(delivery: Delivery, now: float) -> str:
    """Says how a delivery stands that has not arrived."""
    said = f"to {delivery.destination}: {delivery.state}" + (f", {delivery.reason}" if delivery.reason else "")
    if delivery.state is DeliveryState.PENDING and delivery.next_try_at > now:
        said += f" (attempt {delivery.attempts + 1} at {datetime.fromtimestamp(delivery.next_try_at):%H:%M:%S})"
    return said
