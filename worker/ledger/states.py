"""The states of a job and of a delivery. Each transition is one guarded statement in `worker.ledger`."""

from enum import StrEnum


class SeriesState(StrEnum):
    """Where a received series stands."""

    RECEIVING = "receiving"  # an image arrived; more may come
    FULL = "full"  # proved full and the protocols asked; SETTLED when quiet, asked again if more images came than that
    SETTLED = "settled"  # complete as far as the node can know; the protocols have been asked


class JobState(StrEnum):
    """Where a job stands. One job is one series, one protocol, one list of prompts, one model."""

    QUEUED = "queued"  # waits for a segmentation worker (again, after an error that may pass)
    SEGMENTING = "segmenting"  # one worker has claimed it and renews its lease
    SEGMENTED = "segmented"  # results/<job>/ is complete; the end, if there is no destination
    REVIEW = "review"  # segmented; a person must release it before it is sent (`jobs release`)
    SENDING = "sending"  # at least one destination still waits for it
    DELIVERED = "delivered"  # every destination has taken it
    COMMITTED = "committed"  # and has promised by storage commitment to keep it
    FAILED = "failed"  # the reason says why; `jobs retry` starts it again
    CANCELLED = "cancelled"  # by a person, or because a later image made a new job


class DeliveryState(StrEnum):
    """Where one job's results stand at one destination."""

    PENDING = "pending"  # waits for its next attempt
    SENDING = "sending"  # one worker has claimed it
    DELIVERED = "delivered"  # every object was taken
    COMMITTED = "committed"  # and the destination has promised to keep them
    FAILED = "failed"  # refused for good, or too many attempts


UNFINISHED = (JobState.QUEUED, JobState.SEGMENTING, JobState.REVIEW, JobState.SENDING)
