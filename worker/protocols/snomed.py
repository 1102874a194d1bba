"""SNOMED CT concept ids in protocols: whether a text can be one, and whether DICOM's own tables have it.

`structure_checks` refuses a code that cannot be one; `protocols check` notes one that is not in the tables (PS3.16
annex D), since nobody can check here that it means the structure.
"""

from collections.abc import Mapping
from functools import cache

from pydicom.sr._concepts_dict import concepts

_TURN = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)
"""Verhoeff's permutation, applied once more for each place from the right."""


def is_concept_id(code: str) -> bool:
    """Whether the text can be a concept id: 6 to 18 digits, the last a Verhoeff check digit that shows a slip."""
    if not (code.isascii() and code.isdigit() and 6 <= len(code) <= 18):
        return False
    check, turned = 0, list(range(10))
    for digit in reversed(code):
        check = _dihedral(check, turned[int(digit)])
        turned = [_TURN[digit] for digit in turned]
    return check == 0 or is_known(code)  # DICOM has one code, 115347700, whose check digit is wrong


def is_known(code: str) -> bool:
    """Whether the concept is in the subset that DICOM uses, as pydicom has it, so that its meaning is known."""
    return code in meanings()


@cache
def meanings() -> dict[str, str]:
    """Returns the meaning of each concept id in pydicom's copy of DICOM's tables; the shortest where it has several."""
    table: Mapping[str, Mapping[str, tuple[str, object]]] = concepts["SCT"]  # type: ignore[assignment]
    known = [(code, meaning) for keyword in sorted(table) for code, (meaning, _) in table[keyword].items()]
    return dict(sorted(known, key=lambda one: -len(one[1])))


def _dihedral(one: int, other: int) -> int:
    """Multiplies in the symmetry group of the pentagon: turns are 0 to 4, reflections 5 to 9."""
    if one < 5:
        return (one + other) % 5 if other < 5 else 5 + (one + other) % 5
    return 5 + (one - other) % 5 if other < 5 else (one - other) % 5
