"""Asks a PACS what it holds (C-FIND) and has it send studies (C-MOVE), by the study root model of PS3.4 annex C.

Every function but `asking` opens an association for one question and waits for the last response; values come as the
PACS wrote them.

Many PACSs limit how many matches they give, and say it in different ways: Orthanc with the status Cancel, others as out
of resources, some not at all. `Matches.complete` is False where the list is known to be cut.
"""

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, TypeVar

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pynetdicom.association import Association
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.errors import PeerError, PeerRefusedError
from dicom_node.scu.association import DEFAULT_TIMEOUTS, Peer, Timeouts, associated

_PENDING: Final = (0xFF00, 0xFF01)  # a match, PS3.4 table C.4-1
_SUCCESS: Final = 0x0000
_SOME_FAILED: Final = 0xB000  # sub-operations complete, one or more failed, PS3.4 table C.4-2
_UNKNOWN_DESTINATION: Final = 0xA801  # move destination unknown, PS3.4 table C.4-2
_CANCELLED: Final = 0xFE00  # nobody here cancels: the PACS has sent as many matches as it sends (PS3.4 table C.4-1)
_OUT_OF_RESOURCES: Final = 0xA700  # after some matches, a limit of the PACS
_RECOVERABLE: Final = (0xA700, 0xA701, 0xA702, 0x0110, 0x0213)  # out of resources; PS3.7 annex C


@dataclass(frozen=True)
class StudyEntry:
    """A study as a PACS tells of it; empty strings and None where it does not say."""

    study_uid: str
    patient_id: str
    accession_number: str
    date: str  # YYYYMMDD
    time: str  # HHMMSS.FFFFFF, or a beginning of it
    description: str
    modalities: tuple[str, ...]
    instances: int | None


@dataclass(frozen=True)
class SeriesEntry:
    """A series as a PACS tells of it; empty strings and None where it does not say."""

    study_uid: str
    series_uid: str
    modality: str
    description: str
    instances: int | None


Entry = TypeVar("Entry")
Other = TypeVar("Other")


@dataclass(frozen=True)
class Matches(Generic[Entry]):
    """What a PACS listed for one question, in its order."""

    entries: tuple[Entry, ...]
    complete: bool  # False: the PACS has more that match, and did not list them
    status: int  # of its last response, PS3.4 table C.4-1

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def of(self, make: Callable[[Entry], Other]) -> "Matches[Other]":
        """Returns the same list with each entry turned into another kind."""
        return Matches(tuple(map(make, self.entries)), self.complete, self.status)


@dataclass(frozen=True)
class RetrieveReport:
    """How a C-GET or C-MOVE ended: how many instances the PACS sent (with warnings too), and how many not."""

    sent: int
    failed: int


@contextlib.contextmanager
def asking(
    peer: Peer, *, calling_ae: str, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> Iterator[Callable[..., Matches[StudyEntry]]]:
    """Yields a function that asks for studies as `find_studies` does, any number of times on one association.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the query.
    """
    model = StudyRootQueryRetrieveInformationModelFind
    with associated(peer, [build_context(model)], calling_ae=calling_ae, timeouts=timeouts) as association:
        yield functools.partial(_studies, association, peer, calling_ae)


def find_studies(
    peer: Peer,
    *,
    calling_ae: str,
    dates: str = "",
    times: str = "",
    modality: str = "",
    patient_id: str = "",
    accession_number: str = "",
    limit: int | None = None,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Matches[StudyEntry]:
    """Returns the studies of a PACS that match every key given; an empty key matches all.

    `dates` is a day or a range (20250101-20250131, PS3.4 section C.2.2.2.5), `times` a range of times of day; the other
    keys may have the wildcards `*` and `?` (section C.2.2.2.4). A list of `limit` studies or more is taken for cut,
    whatever the PACS says: some cut theirs in silence.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the query. Both name the peer and what it said.
    """
    with asking(peer, calling_ae=calling_ae, timeouts=timeouts) as ask:
        return ask(
            dates=dates,
            times=times,
            modality=modality,
            patient_id=patient_id,
            accession_number=accession_number,
            limit=limit,
        )


def find_series(
    peer: Peer, study_uid: str, *, calling_ae: str, timeouts: Timeouts = DEFAULT_TIMEOUTS
) -> Matches[SeriesEntry]:
    """Returns the series of one study of a PACS.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the query.
    """
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = study_uid
    for keyword in ("SeriesInstanceUID", "Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"):
        setattr(keys, keyword, "")
    return _find(peer, keys, calling_ae, timeouts).of(
        lambda match: SeriesEntry(
            study_uid=study_uid,
            series_uid=_text(match, "SeriesInstanceUID"),
            modality=_text(match, "Modality"),
            description=_text(match, "SeriesDescription"),
            instances=_number(match, "NumberOfSeriesRelatedInstances"),
        )
    )


def find_headers(
    peer: Peer,
    study: Mapping[str, str],
    *,
    series: Iterable[str] = (),
    calling_ae: str,
    on_cut: Callable[[str], object],
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Iterator[tuple[Dataset, list[Dataset]]]:
    """Yields each study that matches, with its series, as data sets of the attributes that were asked for.

    `study` maps keywords to keys, "" for one that is only to be returned; `series` are the keywords to be returned of
    each series. What a PACS does not keep it leaves out or empty (PS3.4 section C.4.1.1.3). `on_cut` is called with a
    sentence for people where the PACS cuts a list. One association stays open until the last study was yielded or the
    iterator is closed.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses the association or the query.
    """
    study_keys, series_keys = Dataset(), Dataset()
    study_keys.QueryRetrieveLevel, series_keys.QueryRetrieveLevel = "STUDY", "SERIES"
    for keyword, value in {"StudyInstanceUID": "", **study}.items():
        setattr(study_keys, keyword, value)
    for keyword in ("SeriesInstanceUID", *series):
        setattr(series_keys, keyword, None)
    model = StudyRootQueryRetrieveInformationModelFind
    with associated(peer, [build_context(model)], calling_ae=calling_ae, timeouts=timeouts) as association:
        studies = _matches(association, peer, study_keys, calling_ae)
        if not studies.complete:
            on_cut(
                f"{peer} cut its list after {len(studies)} studies: there are more that match; ask for fewer at a time."
            )
        for found in studies:
            series_keys.StudyInstanceUID = found.StudyInstanceUID
            its_series = _matches(association, peer, series_keys, calling_ae)
            if not its_series.complete:
                on_cut(f"{peer} cut its list after {len(its_series)} series of study {found.StudyInstanceUID}.")
            yield found, list(its_series)


def move_study(
    peer: Peer,
    study_uid: str,
    *,
    to_ae: str,
    calling_ae: str,
    series: Sequence[str] = (),
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> RetrieveReport:
    """Has `peer` send a study, or those of its series that are named, to the AE title `to_ae`, which it must know.

    Returns when it has sent everything. `timeouts.response` is the time that may pass between two of its responses, of
    which it need not send one for each instance.

    Raises:
        PeerError: when the peer does not answer, ends the association or is short of resources.
        PeerRefusedError: when the peer refuses, as when it does not know `to_ae` (status 0xA801).
    """
    model = StudyRootQueryRetrieveInformationModelMove
    responses: list[Dataset] = []
    with associated(peer, [build_context(model)], calling_ae=calling_ae, timeouts=timeouts) as association:
        for keys in retrieve_keys(study_uid, series):
            responses += [response for response, _ in association.send_c_move(keys, to_ae, model)][-1:]
            if responses[-1].get("Status") == _UNKNOWN_DESTINATION:
                raise PeerRefusedError(
                    f"{peer} does not know {to_ae} to send images to (status 0xA801); enter this node there under "
                    f"{to_ae}, with its address and port."
                )
    return retrieve_report(responses, f"{peer} was asked by {calling_ae} to send {study_uid} to {to_ae}")


def retrieve_keys(study_uid: str, series: Sequence[str]) -> Iterator[Dataset]:
    """Yields the identifiers that ask for a study as a whole, or for each of the series named (PS3.4 C.4.2.2.1)."""
    for series_uid in series or ("",):
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES" if series_uid else "STUDY"
        keys.StudyInstanceUID = study_uid
        if series_uid:
            keys.SeriesInstanceUID = series_uid
        yield keys


def retrieve_report(responses: Sequence[Dataset], asked: str) -> RetrieveReport:
    """Sums up the last responses to C-GET or C-MOVE; `asked` begins the sentence of an error.

    Raises:
        PeerError: when a response is missing or says that the peer is short of resources.
        PeerRefusedError: when a response has another failure status.
    """
    sent = failed = 0
    for response in responses:
        _check(response, asked, (_SUCCESS, _SOME_FAILED))
        sent += _count(response, "Completed") + _count(response, "Warning")
        failed += _count(response, "Failed")
    return RetrieveReport(sent, failed)


def _count(response: Dataset, kind: str) -> int:
    return int(response.get(f"NumberOf{kind}Suboperations") or 0)


def _studies(
    association: Association,
    peer: Peer,
    calling_ae: str,
    *,
    dates: str = "",
    times: str = "",
    modality: str = "",
    patient_id: str = "",
    accession_number: str = "",
    limit: int | None = None,
) -> Matches[StudyEntry]:
    keys = Dataset()
    keys.QueryRetrieveLevel = "STUDY"
    keys.StudyDate = dates
    keys.StudyTime = times
    keys.ModalitiesInStudy = modality
    keys.PatientID = patient_id
    keys.AccessionNumber = accession_number
    for keyword in ("StudyInstanceUID", "StudyDescription", "NumberOfStudyRelatedInstances"):
        setattr(keys, keyword, "")
    found = _matches(association, peer, keys, calling_ae).of(study_entry)
    return replace(found, complete=False) if limit is not None and len(found) >= limit else found


def _find(peer: Peer, keys: Dataset, calling_ae: str, timeouts: Timeouts) -> Matches[Dataset]:
    model = StudyRootQueryRetrieveInformationModelFind
    with associated(peer, [build_context(model)], calling_ae=calling_ae, timeouts=timeouts) as association:
        return _matches(association, peer, keys, calling_ae)


def _matches(association: Association, peer: Peer, keys: Dataset, calling_ae: str) -> Matches[Dataset]:
    responses = list(association.send_c_find(keys, StudyRootQueryRetrieveInformationModelFind))
    last = responses[-1][0]
    found = tuple(match for response, match in responses if response.get("Status") in _PENDING and match is not None)
    cut = (_CANCELLED, _OUT_OF_RESOURCES) if found else (_CANCELLED,)
    _check(last, f"{peer} was asked by {calling_ae} what it holds", (_SUCCESS, *cut))
    return Matches(found, complete=last.Status == _SUCCESS, status=int(last.Status))


def study_entry(match: Dataset) -> StudyEntry:
    """Returns what a match at the study level tells, by C-FIND or QIDO-RS."""
    return StudyEntry(
        study_uid=_text(match, "StudyInstanceUID"),
        patient_id=_text(match, "PatientID"),
        accession_number=_text(match, "AccessionNumber"),
        date=_text(match, "StudyDate"),
        time=_text(match, "StudyTime"),
        description=_text(match, "StudyDescription"),
        modalities=_texts(match, "ModalitiesInStudy"),
        instances=_number(match, "NumberOfStudyRelatedInstances"),
    )


def _check(response: Dataset, what: str, good: Iterable[int]) -> None:
    if "Status" not in response:
        raise PeerError(f"{what} but ended the association; check that it allows this AE title to ask.")
    if response.Status not in good:
        comment = f" ({response.ErrorComment})" if response.get("ErrorComment") else ""
        kind = PeerError if response.Status in _RECOVERABLE else PeerRefusedError
        raise kind(f"{what} but answered 0x{response.Status:04X}{comment}.")


def _text(match: Dataset, keyword: str) -> str:
    value: Any = match.get(keyword)
    return "" if value is None else str(value)


def _texts(match: Dataset, keyword: str) -> tuple[str, ...]:
    value: Any = match.get(keyword)
    if isinstance(value, MultiValue):
        return tuple(str(item) for item in value)
    return (str(value),) if value else ()


def _number(match: Dataset, keyword: str) -> int | None:
    text = _text(match, keyword)
    return int(text) if text else None
