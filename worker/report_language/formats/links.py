"""What links a report to its study, whatever format the report has."""

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_OID = "urn:oid:"


@dataclass(frozen=True, slots=True)
class ReportLinks:
    """What a report says about the study it belongs to; empty where it says nothing."""

    study_uid: str = ""
    accession: str = ""  # normalised
    patient_ids: frozenset[str] = frozenset()  # normalised

    @classmethod
    def of(cls, study_uid: str = "", accession: str = "", patient_ids: Iterable[str] = ()) -> "ReportLinks":
        """Makes the links from values as the report wrote them: `of("urn:oid:1.2.3", " a-0042 ", ["0815"])`."""
        patients = frozenset(found for one in patient_ids if (found := normalised(one)))
        return cls(study_uid.strip().removeprefix(_OID), normalised(accession), patients)

    def contradicts(self, patient_id: str) -> bool:
        """Whether the report names patients and this one is not among them."""
        mine = normalised(patient_id)
        return bool(mine and self.patient_ids and mine not in self.patient_ids)


def normalised(number: str) -> str:
    """Makes accession numbers and patient IDs comparable that systems write differently.

    No blanks and invisible characters, capitals, no leading zeros: " a-0042 " is "A-0042", "000123" is "123".
    """
    kept = (char for char in unicodedata.normalize("NFKC", number) if unicodedata.category(char)[0] not in "ZC")
    return "".join(kept).upper().lstrip("0")
