"""The states of an archive run, of the parts of its listing and of its studies, and how a study can end."""

from enum import StrEnum


class RunState(StrEnum):
    """The state of an archive run."""

    PLANNED = "planned"  # its studies may be listed; nothing is fetched
    LISTING = "listing"  # its studies are listed, and fetched meanwhile
    RUNNING = "running"  # all are listed
    PAUSED = "paused"  # by a person, or because of what the reason says
    DONE = "done"  # each study has its outcome
    CANCELLED = "cancelled"

    @property
    def is_at_work(self) -> bool:
        """Whether its studies may be fetched."""
        return self in (RunState.LISTING, RunState.RUNNING)

    @property
    def is_unfinished(self) -> bool:
        """Whether it may be cancelled."""
        return self not in (RunState.DONE, RunState.CANCELLED)


class WindowState(StrEnum):
    """The state of a window: a part of a listing, from one date and time to another."""

    TODO = "todo"
    DONE = "done"  # all its studies are entries
    SPLIT = "split"  # the PACS cut its list; narrower windows stand for it
    FAILED = "failed"  # the PACS cuts the list of the narrowest window, too


class EntryState(StrEnum):
    """The state of one study of a run."""

    LISTED = "listed"  # is to be fetched (again, after a problem that may pass)
    FETCHING = "fetching"  # one fetcher holds it and renews its lease
    FETCHED = "fetched"  # its images are in the store; the protocols are asked when its series are settled
    WAITING = "waiting"  # its jobs are at work
    DONE = "done"  # it has its outcome

    @property
    def is_open(self) -> bool:
        """Whether it has images on the disk, or will soon, and no outcome yet."""
        return self in (EntryState.FETCHING, EntryState.FETCHED, EntryState.WAITING)


class StudyOutcome(StrEnum):
    """How a study of a run ended: exactly one of these, written together with the state DONE."""

    SEGMENTED = "segmented"
    NOTHING_FOUND = "nothing-found"  # segmented, and every mask is empty
    NOT_TAKEN = "not-taken"  # by any protocol; the reason says why, for each
    NO_VOLUME = "no-volume"  # none of its series is a regular volume that can be read
    REVIEW = "review"  # its results wait for a person; the job goes on without the run
    SEGMENT_FAILED = "segment-failed"
    DELIVER_FAILED = "deliver-failed"
    FETCH_FAILED = "fetch-failed"
    INCOMPLETE = "incomplete"  # fewer images came than the source counts, in every attempt
    ALREADY_DONE = "already-done"  # every job that would be made has its results
    NOT_FOUND = "not-found"  # a study or accession number of a list that the source does not know
    EXCLUDED = "excluded"  # by the filters of the run
    CANCELLED = "cancelled"  # by a person
    SUPERSEDED = "superseded"  # its jobs gave way to jobs that are none of the run's
