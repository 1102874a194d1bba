"""A dry run: what the protocols would say to a folder of images, or to the studies that a PACS lists.

Nothing is stored, retrieved or enqueued. Of a series that a PACS lists only those attributes are known that are the
same for all its images. A condition on any other attribute stays open (`None`); it is never guessed.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from dicom_node.modalities import may_hold_many
from dicom_node.scu.association import Peer
from dicom_node.scu.query import find_headers
from worker.explain.explained import ExplainedSeries, ExplainedStudy, ProtocolAnswer, summary_of
from worker.findings import Answer, Finding, VolumeFindings, reason_of
from worker.ledger import StudyFacts
from worker.protocols import Candidate, Protocol, inactive
from worker.protocols.attributes import keyword_of
from worker.selection.choose import Verdict, choose
from worker.selection.select import study_facts
from worker.selection.study_volumes import Unread, files_in, studies_of
from worker.settings import Settings

COUNT = "NumberOfSeriesRelatedInstances"

SHOWN = frozenset(("PatientID", "PatientName", "AccessionNumber", "StudyDate", "StudyDescription"))
"""Attributes by which people know a study."""

_NAMED = 5  # files that are left out and named one by one

STUDY_ATTRIBUTES = frozenset(
    (
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "PatientID", "IssuerOfPatientID", "PatientName", "PatientSex", "PatientBirthDate"),
    )
)
"""Attributes with one value for all images of a study, so that a PACS can tell it (PS3.3 C.7.1.1 and C.7.2.1)."""

SERIES_ATTRIBUTES = frozenset(
    (
        *("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
        *("BodyPartExamined", "ProtocolName", "PatientPosition", "Laterality", "OperatorsName"),
        *("PerformedProcedureStepDescription", "RequestAttributesSequence", "FrameOfReferenceUID"),
        *("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "InstitutionalDepartmentName"),
        *("DeviceSerialNumber", "SoftwareVersions"),
    )
)
"""Attributes with one value for all images of a series (PS3.3 C.7.3.1, C.7.4.1 and C.7.5.1)."""


@dataclass(frozen=True)
class Explained:
    """What one protocol says to one series, or to one of its volumes.

    `images` is the number of its files, or of the instances that a PACS lists; None where the PACS does not say.
    """

    study_uid: str
    series_uid: str
    description: str
    images: int | None
    protocol: str
    taken: Answer  # None: it cannot be known yet
    conditions: tuple[Finding, ...]
    volume: str = ""  # which volume of the series; "" for the only one
    about: StudyFacts = field(default_factory=StudyFacts)


def studies(answers: Iterable[Explained], unread: Sequence[Unread] = ()) -> list[ExplainedStudy]:
    """Gathers the answers by study, series and protocol, in their order; `unread` files are named among the hints."""
    found: dict[str, dict[str, dict[str, list[Explained]]]] = {}
    for one in answers:
        found.setdefault(one.study_uid, {}).setdefault(one.series_uid, {}).setdefault(one.protocol, []).append(one)
    gathered = [_study(study_uid, list(series.values())) for study_uid, series in found.items()]
    if gathered and unread:
        named = [f"{one.problem}; it is left out" for one in unread[:_NAMED]]
        named += [f"{len(unread) - _NAMED} more files are left out"] if len(unread) > _NAMED else []
        gathered[0] = replace(gathered[0], hints=(*gathered[0].hints, *named))
    return gathered


def _study(study_uid: str, series: Sequence[Mapping[str, Sequence[Explained]]]) -> ExplainedStudy:
    """Tells one study by its series, each with the answers of each protocol on its volumes."""
    told = tuple(_series(protocols) for protocols in series)
    first = next(iter(series[0].values()))[0]
    return ExplainedStudy(study_uid, first.about, summary_of(told), told)


def _series(protocols: Mapping[str, Sequence[Explained]]) -> ExplainedSeries:
    """Tells one series: what each protocol says to its volumes."""
    decisions = tuple(_decision(name, said) for name, said in protocols.items())
    said = next(iter(protocols.values()))
    first, counts = said[0], [one.images for one in said]
    images = None if None in counts else sum(one for one in counts if one is not None)
    label = first.description.removesuffix(f", {first.volume}") if first.volume else first.description
    return ExplainedSeries(first.study_uid, first.series_uid, label, images, decisions)


def _decision(protocol: str, said: Sequence[Explained]) -> ProtocolAnswer:
    """Sums up what a protocol says to the volumes of a series: it takes the series when it takes one of them."""
    answers = [one.taken for one in said]
    taken = True if True in answers else None if None in answers else False
    volumes = tuple(VolumeFindings(one.volume, one.conditions) for one in said)
    return ProtocolAnswer(protocol, taken, volumes, reason_of(volumes))


# -- a folder


def of_folder(folder: Path, protocols: Sequence[Protocol], settings: Settings) -> list[Explained]:
    """Asks every protocol about every volume of every study below a folder; one answer per volume and protocol.

    Raises:
        FolderError: when the folder cannot be read or holds no DICOM file.
        UnreadableError: when the disk does not give a file.
    """
    return explain_folder(folder, protocols, settings)[0]


def explain_folder(
    folder: Path, protocols: Sequence[Protocol], settings: Settings
) -> tuple[list[Explained], list[Unread]]:
    """Answers as `of_folder` does, and names the files that are no instance of a series.

    Raises:
        FolderError: when the folder cannot be read or holds no DICOM file.
        UnreadableError: when the disk does not give a file.
    """
    answers = []
    found, unread = files_in(folder, settings.character_set or "")
    for volumes in studies_of(found):
        verdicts = [choose(protocol, volumes, inactive=inactive(protocol, settings)) for protocol in protocols]
        for i, volume in enumerate(volumes):
            for protocol, said in zip(protocols, verdicts, strict=True):
                facts = (volume.study_uid, volume.series_uid, volume.label, len(volume.files))
                taken = None if _open(said[i]) else said[i].taken
                judged = and_a_report(protocol, taken, said[i].findings)
                answers.append(Explained(*facts, protocol.name, *judged, volume.name, study_facts(volume)))
    return answers, unread


def _open(verdict: Verdict) -> bool:
    """Whether the answer depends only on what a folder cannot tell, such as which AE title sent the images."""
    answers = [finding.holds for finding in verdict.findings if finding.level == 0]
    return not verdict.taken and None in answers and False not in answers


def and_a_report(protocol: Protocol, taken: Answer, findings: Sequence[Finding]) -> tuple[Answer, tuple[Finding, ...]]:
    """Leaves the answer open (None) where all else is satisfied and the study's report would decide."""
    if taken and protocol.report.use and (protocol.report.required or not protocol.prompts):
        return None, (*findings, Finding("a report of the study with findings", "", None))
    return taken, tuple(findings)


# -- what a PACS lists


def of_pacs(
    peer: Peer,
    keys: Mapping[str, str],
    protocols: Sequence[Protocol],
    settings: Settings,
    on_cut: Callable[[str], object],
) -> Iterator[list[Explained]]:
    """Yields the answers for each study that a PACS lists for `keys`, study by study, in the order of the PACS.

    `on_cut` is called with a sentence where the PACS cut its list.

    `keys` are matching keys of C-FIND by keyword, such as {"StudyDate": "20260101-"} (PS3.4 C.2.2.2). Nothing is
    retrieved; the attributes that the protocols ask for are requested as return keys.

    Raises:
        PeerError: when the PACS does not answer.
        PeerRefusedError: when it refuses the association or the query.
    """
    asked = {keyword_of(name) for protocol in protocols for name in protocol.match.names()}
    study_keys = dict.fromkeys(sorted(asked & STUDY_ATTRIBUTES | SHOWN | {"SOPClassesInStudy"}), "") | dict(keys)
    series = sorted(asked & SERIES_ATTRIBUTES | {"Modality", "SeriesNumber", "SeriesDescription", COUNT})
    asked_as = settings.ae_title
    listed = list(find_headers(peer, study_keys, series=series, calling_ae=asked_as, on_cut=on_cut))
    every = (header for study, found in listed for header in (study, *found))
    told = {element.keyword for header in every for element in header if not element.is_empty}
    for study, found in listed:
        candidates = [_listed(study, one, told) for one in sorted(found, key=_place)]
        yield _of_listed(candidates, protocols, settings)


def _of_listed(candidates: Sequence[Candidate], protocols: Sequence[Protocol], settings: Settings) -> list[Explained]:
    """Answers on the series of one study. Which of several is the best stays open: ranking needs the images."""
    judged = [[_judged(protocol, candidate, settings) for candidate in candidates] for protocol in protocols]
    answers = []
    for i, candidate in enumerate(candidates):
        header = candidate.headers[0]
        for protocol, said in zip(protocols, judged, strict=True):
            taken, findings = said[i]
            rivals = sum(answer is not False for answer, _ in said)
            if taken and rivals > 1 and protocol.choose.take == "best":
                taken, findings = None, [*findings, Finding(f"the best of {rivals}", "seen in the images only", None)]
            facts = (str(header.StudyInstanceUID), str(header.SeriesInstanceUID), _words(header), candidate.at_least)
            answer = and_a_report(protocol, taken, findings)
            answers.append(Explained(*facts, protocol.name, *answer, about=_about(header)))
    return answers


def _about(header: Dataset) -> StudyFacts:
    """Returns what people know a listed study by, as far as the PACS tells."""
    keywords = ("PatientID", "PatientName", "AccessionNumber", "StudyDate", "StudyDescription")
    return StudyFacts(*(str(header.get(keyword) or "") for keyword in keywords))


def _listed(study: Dataset, series: Dataset, told: Collection[str]) -> Candidate:
    """Describes a series as far as a PACS tells, for the conditions.

    A PACS leaves an attribute out that it does not support (PS3.4 C.2.2.1.3), though some return it empty. So an empty
    attribute counts as absent from the images only if the PACS gave a value of it elsewhere in the list (`told`);
    otherwise nothing is known of it.
    """
    header = Dataset()
    for source in (study, series):
        header.update({element.tag: element for element in source})
    only = {element.keyword for element in header if element.keyword in told} & (STUDY_ATTRIBUTES | SERIES_ATTRIBUTES)
    count = header.get(COUNT)
    classes = _each(header.get("SOPClassesInStudy"))
    single = bool(classes) and not any(map(may_hold_many, classes))
    images = None if count is None else int(count)
    return Candidate([header], only=only, instances=images if single else None, at_least=images)


def _each(value: Any) -> list[Any]:
    """Returns the values of an attribute as a list, whether it has none, one or several."""
    return [] if value is None else list(value) if isinstance(value, MultiValue) else [value]


def _judged(protocol: Protocol, candidate: Candidate, settings: Settings) -> tuple[Answer, list[Finding]]:
    """Returns the answer of a protocol's conditions; False where the protocol is inactive on this node."""
    taken, findings = protocol.match.judge(candidate)
    if why := inactive(protocol, settings):
        return False, [*findings, Finding("an active protocol", f"not: {why}", False)]
    return taken, findings


def _place(series: Dataset) -> tuple[float, str]:
    """Returns the sort key of a listed series: its number, then its UID; those without a number come last."""
    number = series.get("SeriesNumber")
    return (float("inf") if number is None else float(number), str(series.SeriesInstanceUID))


def _words(header: Dataset) -> str:
    """Returns what people call a listed series: "series 3 (T1 axial)"."""
    number = f"series {header.get('SeriesNumber')}" if header.get("SeriesNumber") is not None else "series"
    return f"{number} ({header.get('SeriesDescription') or header.get('Modality') or '?'})"
