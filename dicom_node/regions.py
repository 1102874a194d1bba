"""Maps free-text prompts to what DICOM calls them: codes, laterality, names, colour.

A prompt is matched as a whole, word by word, after its side is taken off: "left kidney" is the kidney, on the left;
"liver vessel" is not the liver. A prompt that the table lacks gets the generic code Tissue and is marked as not
`coded`: a wrong specific code would be believed. Codes are SNOMED CT from pydicom's dictionary (PS3.16 CID 7150, 7151,
247); names for radiotherapy are those of AAPM TG-263.
"""

import colorsys
import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

LABEL_LENGTH: Final = 64  # characters of Segment Label, VR LO (PS3.5 6.2)

_TISSUE: Final = Code("85756007", "SCT", "Tissue")
_SIDES: Final = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
    "both": Code("51440002", "SCT", "Right and left"),
}
_SIDE_WORDS: Final = {
    "left": "left",
    "lt": "left",
    "right": "right",
    "rt": "right",
    "both": "both",
    "bilateral": "both",
}
# After one of these words, or just before one or "of", a side tells where something else lies, or what is not meant:
# "cyst near the left kidney", "mass left of the liver", "all except the left lung", "lung after right lobectomy".
_RELATIONS: Final = frozenset(
    {
        "near",
        "beside",
        "behind",
        "above",
        "below",
        "under",
        "between",
        "adjacent",
        "next",
        "around",
        "along",
        "from",
        "to",
        "except",
        "excluding",
        "without",
        "not",
        "after",
    }
)
# Beside these words RT is radiotherapy, LT a transplant of the liver, and "left" what remains.
_NO_SIDE_AFTER: Final = {
    **dict.fromkeys(
        ("rt", "lt"), frozenset({"after", "before", "during", "following", "post", "pre", "prior", "since"})
    ),
    "left": frozenset({"remaining", "remains", "remnant", "residual", "what", "is"}),
}
_NO_SIDE_BEFORE: Final = {
    "rt": frozenset(
        {
            *("change", "changes", "dose", "field", "fields", "fibrosis", "necrosis", "plan", "planning"),
            *("couch", "table", "mask", "board", "bolus"),
        }
    ),
    "lt": frozenset({"artery", "donor", "graft", "recipient"}),
}
_SPELLING: Final = {"tumour": "tumor", "oesophagus": "esophagus", "haematoma": "hematoma", "oedema": "edema"}
_SILENT: Final = frozenset(("the", "a", "an", "side", "sided"))

_BOTH: Final = (("both",), ("bilateral",), ("left", "and", "right"), ("right", "and", "left"))

Words = tuple[str, ...]


EmptyMask = Literal["not found", "not known", "not judged"]
"""What an empty mask says: the structure was looked for and is not there; the model was never taught it; or the image
is of another kind than the model was trained on. The latter two say nothing about the patient."""


@dataclass(frozen=True)
class Region:
    """Holds what a prompt names, in the words that SEG (segment), RTSTRUCT (ROI) and SR (finding site) need.

    prompt: the text asked for; for a structure made of others, how it was made.
    label: the prompt, or the name that a protocol gives it; at most 64 characters.
    category, type: Segmented Property Category and Type (PS3.3 C.8.20.2). laterality: None without a side.
    colour: red, green, blue, 0 to 255. site: the structure in which a finding lies.
    tg263: the AAPM TG-263 name with its side, "" where there is none. coded: False when the codes are the generic ones.
    """

    prompt: str
    label: str
    category: Code
    type: Code
    laterality: Code | None
    colour: tuple[int, int, int]
    site: Code | None = None
    tg263: str = ""
    roi_name: str = ""  # in structure sets, where a protocol has one of its own for them
    interpreted_type: str = "ORGAN"  # RT ROI Interpreted Type, PS3.3 C.8.8.8.1
    coded: bool = True
    sentence: str = ""  # the sentence of the radiology report that asked for it
    placeholder: bool = False  # an empty ROI that a person is to draw
    empty_means: EmptyMask = "not found"  # what an empty mask of it says
    by_network: bool = True  # False: found in the image by its values, whatever the model

    @property
    def side(self) -> str:
        """ "left", "right", "both" or "", for names and checks."""
        return next((side for side, code in _SIDES.items() if code is self.laterality), "")


def region_for(prompt: str) -> Region:
    """Returns the region that a prompt names. Any text has one; nothing is guessed from parts of words.

    >>> cyst = region_for("cyst in the left kidney")
    >>> cyst.type.meaning, cyst.site.meaning, cyst.side
    ('Cyst', 'Kidney', 'left')
    >>> region_for("left kidney").tg263, region_for("liver vessel").coded
    ('Kidney_L', False)
    """
    words = _words(prompt)
    return replace(_match(words) or _unknown(words), prompt=prompt, label=label_of(prompt))


def without_side(prompt: str) -> str:
    """Returns the words of a prompt without the side that they give it: "left hand" becomes "hand"."""
    words = _words(prompt)
    return " ".join(word for word in words if not (_side(words) and word in _SIDE_WORDS))


def _words(text: str) -> Words:
    """Returns the words in lower case, in American spelling, without articles."""
    words = re.sub(r"[\W_]+", " ", text.casefold()).split()
    return tuple(_SPELLING.get(word, word) for word in words if word not in _SILENT)


def label_of(prompt: str) -> str:
    """Returns the prompt as a value of VR LO: one printable line of at most 64 bytes (PS3.5 6.2)."""
    return shortened(one_line(prompt) or "unnamed", LABEL_LENGTH)


def shortened(text: str, limit: int) -> str:
    """Returns the text in at most `limit` bytes of UTF-8, ending with three points if it was cut.

    VRs count characters, but some receivers count bytes.
    """
    encoded = text.encode()
    return text if len(encoded) <= limit else encoded[: limit - 3].decode(errors="ignore").rstrip() + "..."


def one_line(text: str) -> str:
    """Returns a text as any text VR can hold it: printable, on one line, without backslash."""
    printable = (character if character.isprintable() else " " for character in text.replace("\\", "/"))
    return " ".join("".join(printable).split())


def asked_by(region: Region) -> str:
    """Returns the prompt, and the sentence of the report that asked for it, if any."""
    prompt = f"Prompt: {one_line(region.prompt)}"
    return f"{prompt} Report: {one_line(region.sentence)}" if region.sentence else prompt


def _match(words: Words) -> Region | None:
    """Returns the region of these words from the table: as they stand, as a finding, or after taking off a side."""
    structures, _ = _tables()
    if found := structures.get(words) or _finding(words):
        return found
    side = _side(words)
    found = _finding(tuple(word for word in words if word not in _SIDE_WORDS)) if side else None
    return replace(found, laterality=_SIDES[side]) if found else None


def _finding(words: Words) -> Region | None:
    """Returns the region of "cyst", "cyst in the left kidney", "left kidney cyst"; None for words that say more."""
    _, findings = _tables()
    if words in findings:
        return findings[words]
    for split, word in enumerate(words):
        if word in ("of", "in") and words[:split] in findings and (site := _match(words[split + 1 :])):
            return _located(findings[words[:split]], site)
        if split and words[split:] in findings and (site := _match(words[:split])):
            return _located(findings[words[split:]], site)
    return None


def _located(finding: Region, site: Region) -> Region:
    """Returns a finding placed in the structure `site`; it takes over the side."""
    return replace(finding, site=site.type if site.coded else None, laterality=site.laterality)


def _unknown(words: Words) -> Region:
    """Returns the generic region for words that the table lacks; its colour depends on the words alone."""
    hue = hashlib.sha256(" ".join(words).encode()).digest()[0] / 256
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.6, 0.9))
    return Region(
        prompt="",
        label="",
        category=_TISSUE,
        type=_TISSUE,
        laterality=_SIDES.get(_side(words)),
        colour=(red, green, blue),
        interpreted_type="",
        coded=False,
    )


def _side(words: Words) -> str:
    """Returns the side that the words give to what they name; "" without one, or if it is something else's."""
    places = [index for index, word in enumerate(words) if word in _SIDE_WORDS and _tells_a_side(words, index)]
    sides = {_SIDE_WORDS[words[index]] for index in places}
    if len(sides) != 1 or _RELATIONS & set(words[: places[-1]]):
        return ""
    following = words[places[-1] + 1 : places[-1] + 2]
    return "" if _RELATIONS & set(following) or "of" in following else sides.pop()


def _tells_a_side(words: Words, place: int) -> bool:
    """Whether the word there tells a side: not in "post-RT fibrosis", "LT artery", "remnant liver left"."""
    word, following = words[place], words[place + 1 : place + 2]
    before = words[place - 1 : place] if len(word) == len("rt") else () if following else words[:place]
    return not (_NO_SIDE_AFTER.get(word, set()) & set(before) or _NO_SIDE_BEFORE.get(word, set()) & set(following))


@cache
def _tables() -> tuple[dict[Words, Region], dict[Words, Region]]:
    """Returns the structures and the findings of regions.toml under every name they go by."""
    text = files("dicom_node").joinpath("regions.toml").read_text(encoding="utf-8")
    table = tomllib.loads(text)
    structures: dict[Words, Region] = {}
    for name, entry in table["structures"].items():
        region = _region(entry, "AnatomicalStructure", entry.get("type", "ORGAN"))
        for alias in (name, *entry.get("also", ())):
            structures[_words(alias)] = region
            if entry.get("paired"):
                structures |= _sided(alias, entry, region)
    findings: dict[Words, Region] = {}
    for name, entry in table["findings"].items():
        region = _region(entry, "MorphologicallyAbnormalStructure", "")
        findings |= {_words(alias): region for alias in (name, *entry.get("also", ()))}
    return structures, findings


def _region(entry: dict[str, Any], category: str, interpreted_type: str) -> Region:
    """Returns the region of an entry of regions.toml, without prompt and label."""
    red, green, blue = entry["colour"]
    known = "code" in entry
    return Region(
        prompt="",
        label="",
        category=getattr(codes.SCT, entry.get("category", category)) if known else _TISSUE,
        type=getattr(codes.SCT, entry["code"]) if known else _TISSUE,
        laterality=_SIDES.get(entry.get("side", "")),
        colour=(red, green, blue),
        tg263=entry.get("tg263", ""),
        interpreted_type=interpreted_type,
        coded=known,
    )


def _shade(colour: tuple[int, int, int], side: str) -> tuple[int, int, int]:
    """Returns the colour of one side of a paired structure: lighter on the left, darker on the right."""
    red, green, blue = (part + (255 - part) // 2 if side == "left" else part * 3 // 4 for part in colour)
    return red, green, blue


def _sided(name: str, entry: dict[str, Any], region: Region) -> Iterator[tuple[Words, Region]]:
    """Yields every way to name one side of a paired structure or both."""
    one, many = _words(name), _words(entry.get("plural", name + "s"))
    tg263 = region.tg263
    for side, letter in (("left", "l"), ("right", "r")):
        region_there = replace(
            region,
            laterality=_SIDES[side],
            tg263=tg263 and f"{tg263}_{letter.upper()}",
            colour=_shade(region.colour, side),
        )
        for word in (side, side[0] + "t", letter):
            yield (word, *one), region_there
            yield (*one, word), region_there
    both = replace(region, laterality=_SIDES["both"], tg263=entry.get("tg263_both", ""))
    for names in (many, *(((*words, *noun)) for words in _BOTH for noun in (one, many))):
        yield names, both
