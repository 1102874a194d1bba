"""Conflicts: instances that came again under a known SOP Instance UID with other content, and lie in quarantine.

The first instance stands, and results are made of it. So a study that was corrected in the PACS and sent again with its
old UIDs changes nothing here, and an operator must learn of it. Where newer wins, the later one stands, and results of
the former may be at a PACS. The store writes the facts beside the files.
"""

import json
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dicom_node.storage.quarantine import LATER
from dicom_node.uids import SeriesKey

_SHOWN: Final = 6  # attributes named in one sentence
_IDENTITY: Final = frozenset(("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "IssuerOfPatientID"))


@dataclass(frozen=True)
class SeriesConflicts:
    """The conflicts of one series.

    files: how many lie in quarantine; images: of how many SOP Instance UIDs; attributes: what differs, often first;
    replaced: whether later ones have taken the place of former ones.
    """

    series: SeriesKey
    files: int
    images: int
    attributes: tuple[str, ...]
    replaced: bool = False

    @property
    def sentence(self) -> str:
        """What happened, and what to do."""
        from dicom_node.images.differences import PLACE  # brings pydicom, which `jobs` does without

        named = ", ".join(self.attributes[:_SHOWN]) or "attributes that are not known"
        more = f" and {len(self.attributes) - _SHOWN} more" if len(self.attributes) > _SHOWN else ""
        start = f"series {self.series.series_uid}: {self.files} file{'s' if self.files > 1 else ''} came again under"
        if self.files > self.images and PLACE.intersection(self.attributes):
            return (
                f"{start} the SOP Instance UID of another image, with other {named}{more}; the first image stands, the "
                "others lie in quarantine; each image needs a UID of its own: correct the sender, send the series again"
            )
        if self.replaced:
            return (
                f"{start} a known SOP Instance UID with other {named}{more}; the later ones stand, the former lie in "
                "quarantine; withdraw results that were made of the former and sent: those of the later replace them"
            )
        about = "the results may stand under the wrong patient: " if _IDENTITY.intersection(self.attributes) else ""
        return (
            f"{start} a known SOP Instance UID with other {named}{more}; the first ones stand, the others lie in "
            f"quarantine; {about}if the later ones are right, withdraw the results, send the study with new UIDs"
        )


def conflicts_in(home: Path, study_uid: str = "") -> list[SeriesConflicts]:
    """Returns the conflicts below `home`, by series, of one study or of all.

    A note of before the node wrote down what differs, or one that cannot be read, counts for no series.
    """
    found: dict[SeriesKey, list[dict[str, str]]] = defaultdict(list)
    for path in sorted((home / "quarantine").glob("*.conflict-*.json")):
        try:
            note = json.loads(path.read_text(encoding="utf-8"))
            series = SeriesKey(str(note["study_uid"]), str(note["series_uid"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if study_uid in ("", series.study_uid):
            found[series].append(note)
    return [_of(series, notes) for series, notes in found.items()]


def _of(series: SeriesKey, notes: list[dict[str, str]]) -> SeriesConflicts:
    counted = Counter(name for note in notes for name in str(note.get("differs", "")).split())
    images = len({note.get("sop_uid") for note in notes})
    replaced = any(note.get("stands") == LATER for note in notes)
    return SeriesConflicts(series, len(notes), images, tuple(name for name, _ in counted.most_common()), replaced)
