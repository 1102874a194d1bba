"""Checks of a protocol's structures, beyond what the type of each field says. Pure functions.

Names must differ, a structure that another one refers to must be there, and codes, TG-263 names and ROI types must be
such that a receiver can use them. The first problem is raised with the place of its field, so that `yaml_file` can name
the line.
"""

import re
from collections.abc import Iterator, Sequence
from graphlib import CycleError, TopologicalSorter

from voxtell.prompt_checks import problem_of
from worker.job_spec import Derived, Prompt
from worker.protocols.snomed import is_concept_id

FieldPath = tuple[int | str, ...]
"""The path to a field of a protocol, such as ("prompts", 2, "tg263")."""

ROI_TYPES = frozenset(
    (
        *("EXTERNAL", "PTV", "CTV", "GTV", "TREATED_VOLUME", "IRRAD_VOLUME", "OAR", "BOLUS", "AVOIDANCE", "ORGAN"),
        *("MARKER", "REGISTRATION", "ISOCENTER", "CONTRAST_AGENT", "CAVITY", "BRACHY_CHANNEL", "BRACHY_ACCESSORY"),
        *("BRACHY_SRC_APP", "BRACHY_CHNL_SHLD", "SUPPORT", "FIXATION", "DOSE_REGION", "CONTROL", "DOSE_MEASUREMENT"),
    )
)
"""Defined terms of RT ROI Interpreted Type, PS3.3 C.8.8.8.1."""

_TG263 = re.compile(r"[A-Za-z_][A-Za-z0-9_~^+\-!]{0,15}")


class PlacedError(ValueError):
    """A problem that spans fields; `place` is the field to look at. It reaches people as a ProtocolError."""

    retry = "usage"

    def __init__(self, place: FieldPath, message: str) -> None:
        super().__init__(message)
        self.place = place


def check_structures(prompts: Sequence[Prompt], derived: Sequence[Derived]) -> None:
    """Checks the structures of one protocol.

    Raises:
        PlacedError: when one is not as it must be: the first problem, of fields, then of names, then of references.
    """
    for i, prompt in enumerate(prompts):
        _check_words(prompt, ("prompts", i))
        _check_marks(prompt, ("prompts", i))
    for i, structure in enumerate(derived):
        _check_operands(structure, ("derived", i))
        _check_marks(structure, ("derived", i))
    _check_names(prompts, derived)
    _check_references(prompts, derived)


def _check_words(prompt: Prompt, place: FieldPath) -> None:
    """Checks that a prompt has a text that names a structure, no sentence of a report, and a range as volume."""
    if not prompt.text.strip():
        raise PlacedError((*place, "text"), "a prompt is empty; say what to segment")
    if problem := problem_of(prompt.text):
        raise PlacedError((*place, "text"), f"the prompt '{prompt.text}' {problem}")
    if prompt.sentence is not None:
        raise PlacedError((*place, "sentence"), "the sentence comes from a report, a protocol has none; remove it")
    limits = prompt.expect.volume_ml
    if limits is not None and not 0 <= limits[0] < limits[1]:
        raise PlacedError((*place, "expect", "volume_ml"), "give the least and the most in ml, such as [900, 2500]")


def _check_operands(structure: Derived, place: FieldPath) -> None:
    """Checks that a derived structure starts from a union, or is `empty` or `body` and made of nothing."""
    made_of = structure.union + structure.intersect + structure.subtract
    if structure.body and (made_of or structure.margin_mm or structure.empty):
        raise PlacedError(
            (*place, "body"),
            "the body is found in the image and made of nothing else; remove body, or what stands beside it",
        )
    if structure.body:
        return
    if structure.empty and (made_of or structure.margin_mm):
        raise PlacedError(
            (*place, "empty"), "an empty structure is made of nothing; remove empty or what it is made of"
        )
    if not structure.empty and not structure.union:
        raise PlacedError(
            place,
            f"'{structure.name}' needs a union to start from, of one structure or more; or empty: true, or body: true",
        )


def _check_marks(structure: Prompt | Derived, place: FieldPath) -> None:
    """Checks that a receiver can use TG-263 name, ROI type, colour and code."""
    if structure.tg263 is not None and not _TG263.fullmatch(structure.tg263):
        raise PlacedError(
            (*place, "tg263"),
            f"'{structure.tg263}' is no TG-263 name: at most 16 letters, digits and _ ~ ^ + - !, such as Kidney_L",
        )
    if structure.roi_type is not None and structure.roi_type not in ROI_TYPES:
        raise PlacedError(
            (*place, "roi_type"), f"'{structure.roi_type}' is not one of {', '.join(sorted(ROI_TYPES))} (PS3.3 C.8.8.8)"
        )
    if structure.colour is not None and not all(0 <= part <= 255 for part in structure.colour):
        raise PlacedError((*place, "colour"), "red, green and blue are from 0 to 255")
    code = structure.code if isinstance(structure, Prompt) else None
    if code is not None and not is_concept_id(code):
        raise PlacedError(
            (*place, "code"), f"'{code}' is no SNOMED CT concept id (6 to 18 digits, the last a check digit): a slip?"
        )


def _check_names(prompts: Sequence[Prompt], derived: Sequence[Derived]) -> None:
    """Checks that no two structures have the same name, or the same TG-263 name."""
    seen: set[str] = set()
    for name, place in _names(prompts, derived):
        if name in seen:
            raise PlacedError(place, f"two structures have the same name, '{name}'; results tell them apart by it")
        seen.add(name)
    shown: set[str] = set()
    marks: list[tuple[str | None, FieldPath]] = [(one.tg263, ("prompts", i, "tg263")) for i, one in enumerate(prompts)]
    marks += [(one.tg263, ("derived", i, "tg263")) for i, one in enumerate(derived)]
    for mark, place in marks:
        if mark is not None and mark.casefold() in shown:  # TG-263: names differ also without regard to case
            raise PlacedError(place, f"another structure has the TG-263 name '{mark}'")
        shown.add((mark or "").casefold())


def _names(prompts: Sequence[Prompt], derived: Sequence[Derived]) -> Iterator[tuple[str, FieldPath]]:
    """Yields the name of each structure with the field that gives it."""
    for i, prompt in enumerate(prompts):
        yield prompt.label, ("prompts", i, "name" if prompt.name else "text")
    for i, structure in enumerate(derived):
        yield structure.name, ("derived", i, "name")


def _check_references(prompts: Sequence[Prompt], derived: Sequence[Derived]) -> None:
    """Checks that every name that is referred to is a structure, and that nothing is made of itself.

    `left_of` and `right_of` compare finished masks, so they may refer to each other.
    """
    names = [name for name, _ in _names(prompts, derived)]
    made_of: dict[str, list[str]] = {name: [] for name in names}
    for owner, name, place in _references(prompts, derived):
        if name not in made_of:
            known = ", ".join(names)
            raise PlacedError(place, f"the protocol has no structure named '{name}'; it has {known}")
        if name == owner:
            raise PlacedError(place, f"'{name}' refers to itself")
        if place[-1] not in ("left_of", "right_of"):
            made_of[owner].append(name)
    try:
        TopologicalSorter(made_of).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))
        place = next(place for owner, name, place in _references(prompts, derived) if [owner, name] == circle[:2])
        raise PlacedError(place, f"goes round in a circle: {' needs '.join(circle)}") from None


def _references(prompts: Sequence[Prompt], derived: Sequence[Derived]) -> Iterator[tuple[str, str, FieldPath]]:
    """Yields each reference: the structure that refers, the name it refers to, and the field."""
    for i, prompt in enumerate(prompts):
        if prompt.finish.crop_to:
            yield prompt.label, prompt.finish.crop_to, ("prompts", i, "finish", "crop_to")
        for side in ("left_of", "right_of"):
            if name := getattr(prompt.expect, side):
                yield prompt.label, name, ("prompts", i, "expect", side)
    for i, structure in enumerate(derived):
        for operation in ("union", "intersect", "subtract"):
            for j, name in enumerate(getattr(structure, operation)):
                yield structure.name, name, ("derived", i, operation, j)
