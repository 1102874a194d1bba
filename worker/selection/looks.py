"""Looks at the headers of series, each one counted in the ledger before it is taken.

A series whose headers end whoever reads them, or take too much time or memory, would do so again at every tick and
after every start. After a few looks without an end the series counts as unreadable, and a person may have it looked at
again.
"""

from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from dicom_node.uids import SeriesKey
from worker.ledger import Ledger
from worker.logs import get_logger
from worker.selection.child import Child, LookError, child
from worker.settings import Settings

log = get_logger(__name__)

Asked = ParamSpec("Asked")
Answer = TypeVar("Answer")

MOST_LOOKS: Final = 3
"""Looks in a row at one series that ended the child, or took too much of its time."""
MOST_ENDINGS: Final = 10
"""Looks in a row during which the listener itself ended. The child bears what a series can do, so this is the last line
of defence; the number weighs two harms. A series that takes the listener with it costs a start each time: before the
child bore the looks, deflated objects in a container of 2 GB ended it every 28 s, so ten such ends are five minutes in
which it comes and goes. Something else that ends it over and over, such as a kill by hand or a disk that fails, meets
the series that is first in turn at each start; a listener that ends within 5 s of its start counts ten in a minute, and
that series then needs a person (`ledger look-again`), though nothing of it is lost. Three, as for the child, would be
less than a few restarts in a row."""


class Looks:
    """Has a child process look at series. Used by the intake thread alone."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self._child: Child = child(settings.look_memory_bytes, settings.look_seconds)
        self._ledger = ledger

    def start(self) -> None:
        """Starts the child process before the first look."""
        self._child.start()

    def at(
        self, key: SeriesKey, function: Callable[Asked, Answer], *arguments: Asked.args, **named: Asked.kwargs
    ) -> Answer:
        """Returns what a function of `worker.selection.answers` says of a series.

        Raises:
            LookError: when the look did not come to its end; the series may count as unreadable now.
            UnreadableError: when the disk does not give an image just now.
            LedgerError: when the database does not answer.
        """
        looks = self._ledger.series.look_begins(key)
        if looks > MOST_ENDINGS:
            raise self._unreadable(key, looks - 1, "each time the listener itself came to an end")
        ended = True
        try:
            return self._child.ask(function, *arguments, **named)
        except LookError as error:
            ended = False
            if looks >= MOST_LOOKS:
                raise self._unreadable(key, looks, str(error)) from error
            log.warning("series_not_looked_at", study=key.study_uid, series=key.series_uid, problem=str(error))
            raise
        finally:
            if ended:
                self._ledger.series.look_ended(key)

    def _unreadable(self, key: SeriesKey, looks: int, why: str) -> LookError:
        reason = f"{looks} looks at it did not come to their end: {why}"
        if self._ledger.series.mark_unreadable(key, reason):
            log.error("series_unreadable", study=key.study_uid, series=key.series_uid, reason=reason)
        return LookError(reason)
