"""The states of a series, a job and a delivery, and what each state means.

A new state is a member and its place in the properties below. Nothing outside this module lists states by hand, except
the one guarded UPDATE of a transition, which names the state that it leaves and the one that it enters.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Final, TypeVar

State = TypeVar("State", bound=StrEnum)


class SeriesState(StrEnum):
    """The state of a received series."""

    RECEIVING = "receiving"  # an image arrived; more may come
    FULL = "full"  # proved complete and asked about; SETTLED when quiet, asked again if more images came than that
    SETTLED = "settled"  # complete as far as the node can know; the protocols have been asked
    UNREADABLE = "unreadable"  # its headers cannot be read within the limits; a person may have it looked at again

    @property
    def is_complete(self) -> bool:
        """Whether the protocols have been asked about the series as a whole."""
        return self in (SeriesState.FULL, SeriesState.SETTLED)

    @property
    def is_unsettled(self) -> bool:
        """Whether an image may be there that no decision has seen."""
        return self in (SeriesState.RECEIVING, SeriesState.FULL)

    @property
    def may_be_read(self) -> bool:
        """Whether its headers are read for a question about its study."""
        return self is not SeriesState.UNREADABLE


class JobState(StrEnum):
    """The state of a job. One job is one volume, one protocol, one list of prompts and one model."""

    QUEUED = "queued"  # waits for a segmentation worker (again, after an error that may pass)
    SEGMENTING = "segmenting"  # one worker has claimed it and renews its lease
    SEGMENTED = "segmented"  # results/<job>/ is complete; the end, if there is no destination
    REVIEW = "review"  # segmented; a person must release it before it is sent (`jobs release`)
    SENDING = "sending"  # at least one destination still waits for it
    DELIVERED = "delivered"  # every destination has taken it
    COMMITTED = "committed"  # and has promised by storage commitment to keep it
    FAILED = "failed"  # the reason says why; `jobs retry` starts it again
    CANCELLED = "cancelled"  # by a person, or superseded: by more images, a better volume or a newer report

    @property
    def is_finished(self) -> bool:
        """Whether nothing more happens to the job, unless a person asks for it or a destination promises to keep it."""
        return not self.is_unfinished

    @property
    def is_unfinished(self) -> bool:
        """Whether a worker or a person still has to do something. Such a job may be cancelled."""
        return self.is_unsent or self is JobState.SENDING

    @property
    def is_unsent(self) -> bool:
        """Whether the job is unfinished and nothing has left the node. A later or better job cancels such a job."""
        return self.awaits_segmentation or self is JobState.REVIEW

    @property
    def awaits_segmentation(self) -> bool:
        """Whether the segmentation is still to be done or under way."""
        return self in (JobState.QUEUED, JobState.SEGMENTING)

    @property
    def may_be_retried(self) -> bool:
        """Whether `jobs retry` starts the job again."""
        return self in (JobState.FAILED, JobState.CANCELLED)

    @property
    def follows_deliveries(self) -> bool:
        """Whether the job's state is what its deliveries make of it."""
        return self in (JobState.SENDING, JobState.DELIVERED)

    @property
    def is_delivered(self) -> bool:
        """Whether every destination has the results."""
        return self in (JobState.DELIVERED, JobState.COMMITTED)

    @property
    def has_succeeded(self) -> bool:
        """Whether the job came to its end with results: all were delivered, or there was no destination."""
        return self.is_delivered or self is JobState.SEGMENTED

    @property
    def has_results(self) -> bool:
        """Whether results of the job were sent, are being sent, or are kept without a destination."""
        return self.has_succeeded or self is JobState.SENDING


class DeliveryState(StrEnum):
    """The state of one job's results at one destination."""

    PENDING = "pending"  # waits for its next attempt
    SENDING = "sending"  # one worker has claimed it
    DELIVERED = "delivered"  # every object was taken
    COMMITTED = "committed"  # and the destination has promised to keep them
    FAILED = "failed"  # refused for good, or too many attempts

    @property
    def is_open(self) -> bool:
        """Whether the results are still to be sent or are being sent."""
        return self in (DeliveryState.PENDING, DeliveryState.SENDING)

    @property
    def is_delivered(self) -> bool:
        """Whether the destination has the results."""
        return self in (DeliveryState.DELIVERED, DeliveryState.COMMITTED)


CANCELLED_BY_A_PERSON: Final = "cancelled"
"""The reason of a job that `jobs cancel` ended: only a person starts it again."""
IMAGES_REPLACED: Final = "its images came again with other content; the protocols are asked about that one"
"""The reason of a job that ended because its images were replaced, before a job on the new content was there. The job
starts again where they come back as they were."""


def those(states: type[State], condition: Callable[[State], bool]) -> list[State]:
    """Returns the states that meet the condition, for a WHERE clause: `those(JobState, lambda s: s.is_unsent)`."""
    return [state for state in states if condition(state)]
