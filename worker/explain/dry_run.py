"""What the protocols say to a folder of images, or to what a PACS lists: asked now, and nothing else happens.

Of a listed series only what a PACS can tell is known: what is the same for all images of the series. A condition on
anything else stays open, it is never guessed.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.uid import (
    EnhancedCTImageStorage,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
)

from dicom_node.scu.association import Peer
from dicom_node.scu.query import find_headers
from worker.protocols import Answer, Candidate, Finding, Protocol, inactive
from worker.protocols.attributes import keyword_of
from worker.selection.choose import Verdict, choose
from worker.selection.study_volumes import studies_in
from worker.settings import Settings

MULTI_FRAME = frozenset(
    (
        *(EnhancedCTImageStorage, EnhancedMRImageStorage, EnhancedMRColorImageStorage, EnhancedPETImageStorage),
        *(LegacyConvertedEnhancedCTImageStorage, LegacyConvertedEnhancedMRImageStorage),
        LegacyConvertedEnhancedPETImageStorage,
    )
)
"""Where a study has one of these, the number of instances of a series says little of how many images it has."""

COUNT = "NumberOfSeriesRelatedInstances"

STUDY_ATTRIBUTES = frozenset(
    (
        *("StudyInstanceUID", "StudyDate", "StudyTime", "StudyDescription", "StudyID", "AccessionNumber"),
        *("ReferringPhysicianName", "PatientID", "IssuerOfPatientID", "PatientName", "PatientSex", "PatientBirthDate"),
    )
)
"""What is the same for all images of a study, so that a PACS can tell it (PS3.3 C.7.1.1 and C.7.2.1)."""

SERIES_ATTRIBUTES = frozenset(
    (
        *("Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription", "SeriesDate", "SeriesTime"),
        *("BodyPartExamined", "ProtocolName", "PatientPosition", "Laterality", "OperatorsName"),
        *("PerformedProcedureStepDescription", "RequestAttributesSequence", "FrameOfReferenceUID"),
        *("Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName", "InstitutionalDepartmentName"),
        *("DeviceSerialNumber", "SoftwareVersions"),
    )
)
"""What is the same for all images of a series (PS3.3 C.7.3.1, C.7.4.1 and C.7.5.1)."""


@dataclass(frozen=True)
class Explained:
    """What one protocol says to one series (or to one of its volumes)."""

    study_uid: str
    series_uid: str
    description: str
    images: int | None
    protocol: str
    taken: Answer  # None: it cannot be known yet
    conditions: tuple[Finding, ...]


# -- a folder


def of_folder(folder: Path, protocols: Sequence[Protocol], settings: Settings) -> list[Explained]:
    """Every volume of every study below a folder, asked by every protocol.

    Raises:
        FolderError: the folder cannot be read or holds no DICOM file.
    """
    answers = []
    for volumes in studies_in(folder):
        verdicts = [choose(protocol, volumes, inactive=inactive(protocol, settings)) for protocol in protocols]
        for i, volume in enumerate(volumes):
            for protocol, said in zip(protocols, verdicts, strict=True):
                facts = (volume.study_uid, volume.series_uid, volume.label, len(volume.files))
                taken = None if _open(said[i]) else said[i].taken
                answers.append(Explained(*facts, protocol.name, *_and_a_report(protocol, taken, said[i].findings)))
    return answers


def _open(verdict: Verdict) -> bool:
    """Whether only what cannot be known of a folder, such as who sent it, keeps the protocol from taking the volume."""
    answers = [finding.holds for finding in verdict.findings if finding.level == 0]
    return not verdict.taken and None in answers and False not in answers


def _and_a_report(protocol: Protocol, taken: Answer, findings: Sequence[Finding]) -> tuple[Answer, tuple[Finding, ...]]:
    """A protocol that has nothing to do without the study's report may take what satisfies it otherwise."""
    if taken and protocol.report.use and (protocol.report.required or not protocol.prompts):
        return None, (*findings, Finding("a report of the study with findings", "", None))
    return taken, tuple(findings)


# -- what a PACS lists


def of_pacs(
    peer: Peer, keys: Mapping[str, str], protocols: Sequence[Protocol], settings: Settings
) -> Iterator[list[Explained]]:
    """The answers on each study of a PACS that matches `keys` (by keyword), in its order; nothing is retrieved.

    Raises:
        PeerError, PeerRefusedError: the PACS does not answer, or refuses.
    """
    asked = {keyword_of(name) for protocol in protocols for name in protocol.match.names()}
    study_keys = dict.fromkeys(
        sorted(asked & STUDY_ATTRIBUTES | {"StudyDate", "StudyDescription", "SOPClassesInStudy"}), ""
    ) | dict(keys)
    series = sorted(asked & SERIES_ATTRIBUTES | {"Modality", "SeriesNumber", "SeriesDescription", COUNT})
    listed = list(find_headers(peer, study_keys, series=series, calling_ae=settings.ae_title))
    every = (header for study, found in listed for header in (study, *found))
    told = {element.keyword for header in every for element in header if not element.is_empty}
    for study, found in listed:
        candidates = [_listed(study, one, told) for one in sorted(found, key=_place)]
        yield _of_listed(candidates, protocols, settings)


def _of_listed(candidates: Sequence[Candidate], protocols: Sequence[Protocol], settings: Settings) -> list[Explained]:
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
            answers.append(Explained(*facts, protocol.name, *_and_a_report(protocol, taken, findings)))
    return answers


def _listed(study: Dataset, series: Dataset, told: Collection[str]) -> Candidate:
    """A series as far as a PACS tells.

    An attribute that it does not keep it leaves out (PS3.4 C.2.2.1.3), though some return it empty. So an empty one is
    absent from the images if the PACS told a value of it elsewhere in the list; else nothing is known of it.
    """
    header = Dataset()
    for source in (study, series):
        header.update({element.tag: element for element in source})
    only = {element.keyword for element in header if element.keyword in told} & (STUDY_ATTRIBUTES | SERIES_ATTRIBUTES)
    count = header.get(COUNT)
    classes = _each(header.get("SOPClassesInStudy"))
    single = bool(classes) and not any(uid in MULTI_FRAME for uid in classes)
    images = None if count is None else int(count)
    return Candidate([header], only=only, instances=images if single else None, at_least=images)


def _each(value: Any) -> list[Any]:
    return [] if value is None else list(value) if isinstance(value, MultiValue) else [value]


def _judged(protocol: Protocol, candidate: Candidate, settings: Settings) -> tuple[Answer, list[Finding]]:
    taken, findings = protocol.match.judge(candidate)
    if why := inactive(protocol, settings):
        return False, [*findings, Finding("an active protocol", f"not: {why}", False)]
    return taken, findings


def _place(series: Dataset) -> tuple[float, str]:
    number = series.get("SeriesNumber")
    return (float("inf") if number is None else float(number), str(series.SeriesInstanceUID))


def _words(header: Dataset) -> str:
    number = f"series {header.get('SeriesNumber')}" if header.get("SeriesNumber") is not None else "series"
    return f"{number} ({header.get('SeriesDescription') or header.get('Modality') or '?'})"
