"""Lists all studies of a PACS by windows, however few matches the PACS gives at a time.

A window asks for the studies of some days, of some time within one day, or of Patient IDs that begin alike. `step` asks
one window and returns its studies, or the smaller windows to ask instead where the PACS cut its list. What is still to
be asked is the caller's to keep, so a listing can be interrupted and taken up anywhere. Windows overlap rather than
leave a gap, so a study may be listed twice.

Three facts of C-FIND decide how windows are split (PS3.4 section C.2.2.2):
- A range matches no study without that attribute. So studies without date, and within a day that was cut those without
  time, have windows of their own.
- No key asks for an empty attribute. Such windows ask without it, sort the answer, and are split by Patient ID: about a
  hundred questions a character. So a PACS that cuts its lists cannot be made to tell surely of studies that lack a date
  (or, on a day that was cut, a time) and have no Patient ID either, or one that goes on with `_`, `%` or a character
  beyond ASCII: these are asked for where one of them was listed.
- No key asks for "any other modality". So a split by modality leaves a rest as large as before, and is none.
"""

import re
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final, Protocol

from dicom_node.scu.query import Matches, StudyEntry

SUSPICIOUS: Final = (100, 200, 250, 500, 1000, 2000)
"""Numbers of matches at which PACSs are known to cut without saying so (see `hidden_limit`)."""

_DAY: Final = re.compile(r"\d{8}")
_TIME: Final = re.compile(r"\d{6}(\.\d{1,6})?")
_SECONDS: Final = "%Y%m%d%H%M%S"
_MIDNIGHT, _LAST_SECOND = "000000", "235959"
_LONGEST_ID: Final = 64  # characters of a Patient ID (LO, PS3.5 section 6.2)
_WILDCARDS: Final = "*?\\"
_SQL_WILDCARDS: Final = "%_"  # Orthanc 1.10 compares with every ID where they stand in a key, and cuts what it finds
_CHARACTERS: Final = [chr(code) for code in range(0x20, 0x7F) if chr(code) not in _WILDCARDS + _SQL_WILDCARDS]


class AsksForStudies(Protocol):
    """Asks a PACS for studies, as `dicom_node.scu.query.asking` yields it."""

    def __call__(
        self, *, dates: str, times: str, modality: str, patient_id: str, accession_number: str, limit: int | None
    ) -> Matches[StudyEntry]:
        """Returns the studies that match every key that is not empty."""


@dataclass(frozen=True)
class Window:
    """A question to a PACS: its studies from the second `lo` to the second `hi`, with further keys.

    `lo` and `hi` are YYYYMMDDHHMMSS, of whole days where they are of several; empty for studies without date.
    """

    lo: str
    hi: str
    patient_id: str = ""  # with a * at the end: those that begin so
    modality: str = ""
    accession_number: str = ""
    untimed: bool = False  # the studies of the day that have no time

    @property
    def keys(self) -> dict[str, Any]:
        """The keys beside the time, without those left at their default: `Window(lo, hi, **keys)` is this one again."""
        others = {name: value for name, value in vars(self).items() if name not in ("lo", "hi")}
        return {name: value for name, value in others.items() if value}

    def __str__(self) -> str:
        """Says for people what is asked for."""
        if not self.lo:
            when = "no date"
        elif self.untimed:
            when = f"{_day(self.lo):%Y-%m-%d} without time"
        else:
            first, last = (str(datetime.strptime(second, _SECONDS)) for second in (self.lo, self.hi))
            when = first if first == last else f"{first} to {last}"
        which = f"Patient ID {self.patient_id}" if self.patient_id else ""
        return ", ".join(filter(None, (when, which, self.modality, self.accession_number)))


@dataclass(frozen=True)
class Done:
    """All studies of a window. `matches` is the number that the PACS listed, of which some may be another window's."""

    studies: tuple[StudyEntry, ...]
    matches: int


@dataclass(frozen=True)
class Split:
    """The windows that ask together for all that a window asked for."""

    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Failed:
    """A window that was cut and cannot be split: a sentence for people, and the studies that were listed."""

    reason: str
    studies: tuple[StudyEntry, ...] = ()


def all_studies(first: date, last: date, *, modality: str = "") -> tuple[Window, ...]:
    """Returns the windows to begin with: the days from `first` to `last`, and the studies without date."""
    return (studies_between(first, last, modality=modality), Window("", "", modality=modality))


def studies_between(first: date, last: date, *, modality: str = "") -> Window:
    """Returns the window to begin with for studies dated from `first` to `last`, both included."""
    return Window(f"{first:%Y%m%d}{_MIDNIGHT}", f"{last:%Y%m%d}{_LAST_SECOND}", modality=modality)


def step(window: Window, ask: AsksForStudies, *, limit: int | None = None) -> Done | Split | Failed:
    """Asks one window; returns its studies, or what to ask instead where the PACS cut its list.

    `limit` is the number of matches from which on a list counts as cut although the PACS does not say so.

    Raises:
        PeerError: when the PACS does not answer or is short of resources. The window stands as before; for a PACS that
            refuses long lists for want of resources every time, see `smaller`.
        PeerRefusedError: when the PACS refuses the question.
    """
    found = ask(**_question(window), limit=limit)
    if found.complete:
        return Done(tuple(entry for entry in found if _belongs(entry, window)), len(found))
    if _ignores_patient_id(window, found):
        return Failed(
            f"the PACS cuts its list at {len(found)} and does not match by Patient ID: {window}", found.entries
        )
    if not found and window.patient_id:
        return Failed(f"the PACS cuts its list before it comes to what matches: {window}")
    less = _by_patient(window, found) if _ignores_time(window, found) else smaller(window, found)
    if not less.windows:
        return Failed(f"the PACS cuts its list at {len(found)} and cannot be asked for less: {window}", found.entries)
    return less


def smaller(window: Window, found: Matches[StudyEntry] | None = None) -> Split:
    """Splits a window: by days, then by the time within a day, then by Patient ID; no windows where that is at its end.

    `found` is the list that was cut, whose Patient IDs show which characters other than ASCII begin one.
    """
    if window.lo[:8] != window.hi[:8]:
        return Split(_halves_of_days(window))
    if window.lo and not window.untimed and not window.patient_id and window.lo != window.hi:
        return Split(_halves_of_day(window))
    return _by_patient(window, found)


def hidden_limit(window: Window, done: Done, ask: AsksForStudies) -> int | None:
    """Asks a window that is done once more in smaller ones; returns the limit of a PACS that had cut it silently.

    To be asked of windows with one of the SUSPICIOUS numbers of matches, and of some others. None: nothing was missing.
    A part with as many matches as the whole proves nothing and is asked in smaller ones again.

    Raises:
        PeerError: when the PACS does not answer or is short of resources.
        PeerRefusedError: when the PACS refuses the question.
    """
    known = {entry.study_uid for entry in done.studies}
    todo = [*smaller(window).windows]
    while todo:
        part = todo.pop()
        found = ask(**_question(part), limit=None)
        if any(entry.study_uid not in known for entry in found if _belongs(entry, window)):
            return done.matches
        if len(found) >= done.matches and not part.untimed:
            todo += smaller(part).windows
    return None


def _question(window: Window) -> dict[str, str]:
    """Returns the keys of a window.

    A range of times begins one second early and ends with the last fraction of its last second: PACSs compare times as
    texts, and 0959 lies between 095859 and 095900 then.
    """
    dates = times = ""
    if window.lo[:8] == window.hi[:8]:
        dates = window.lo[:8]
        if not window.untimed and (window.lo[8:], window.hi[8:]) != (_MIDNIGHT, _LAST_SECOND) and window.lo:
            times = f"{_early(window)}-{window.hi[8:]}.999999"
    else:
        dates = f"{window.lo[:8]}-{window.hi[:8]}"
    return {
        "dates": dates,
        "times": times,
        "modality": window.modality,
        "patient_id": window.patient_id,
        "accession_number": window.accession_number,
    }


def _early(window: Window) -> str:
    """Returns the time of day one second before the window begins, or midnight."""
    begin = datetime.strptime(window.lo, _SECONDS)
    return window.lo[8:] if window.lo[8:] == _MIDNIGHT else f"{begin - timedelta(seconds=1):%H%M%S}"


def _belongs(entry: StudyEntry, window: Window) -> bool:
    """Whether a study is one of the window's; only what cannot be asked for by a key is looked at."""
    if not window.lo:
        return not _DAY.fullmatch(entry.date)
    return not window.untimed or not _TIME.fullmatch(entry.time)


def _ignores_time(window: Window, found: Matches[StudyEntry]) -> bool:
    """Whether the PACS listed a study of another time than it was asked for, or of none."""
    earliest, _, latest = _question(window)["times"].partition("-")
    return bool(latest) and any(not earliest <= entry.time <= latest for entry in found.entries)


def _ignores_patient_id(window: Window, found: Matches[StudyEntry]) -> bool:
    """Whether the PACS listed a study of another Patient ID than asked for; upper and lower case are one for many."""
    start = window.patient_id.rstrip("*").casefold()
    return any(not entry.patient_id.casefold().startswith(start) for entry in found.entries)


def _halves_of_days(window: Window) -> tuple[Window, ...]:
    first, last = _day(window.lo), _day(window.hi)
    middle = first + (last - first) // 2
    return (
        replace(window, hi=f"{middle:%Y%m%d}{_LAST_SECOND}"),
        replace(window, lo=f"{middle + timedelta(days=1):%Y%m%d}{_MIDNIGHT}"),
    )


def _halves_of_day(window: Window) -> tuple[Window, ...]:
    """Splits the time within one day; a whole day leaves its studies without time as a window of their own."""
    first, last = (datetime.strptime(second, _SECONDS) for second in (window.lo, window.hi))
    middle = first + timedelta(seconds=(last - first) // timedelta(seconds=2))
    halves = (
        replace(window, hi=f"{middle:{_SECONDS}}"),
        replace(window, lo=f"{middle + timedelta(seconds=1):{_SECONDS}}"),
    )
    whole = (window.lo[8:], window.hi[8:]) == (_MIDNIGHT, _LAST_SECOND)
    return (*halves, replace(window, untimed=True)) if whole else halves


def _by_patient(window: Window, found: Matches[StudyEntry] | None) -> Split:
    """Splits by the next character of the Patient ID; no windows for a Patient ID that is known as a whole."""
    if window.patient_id and not window.patient_id.endswith("*"):
        return Split(())
    start = window.patient_id.rstrip("*")
    seen = [entry.patient_id[len(start) :] for entry in found.entries] if found else []
    others = {rest[0] for rest in seen if rest} - {*_CHARACTERS, *_WILDCARDS}
    letters = [*_CHARACTERS, *sorted(others)] if len(start) < _LONGEST_ID else []
    longer = [replace(window, patient_id=f"{start}{letter}*") for letter in letters if (start + letter).strip()]
    exact = [replace(window, patient_id=start)] if start else []
    return Split((*exact, *longer))


def _day(second: str) -> date:
    return datetime.strptime(second[:8], "%Y%m%d").date()
