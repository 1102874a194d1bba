"""dicom-validator as a judge of objects, with the standard's tables from a wheel, since it would download them else.

The wheel `dicom-standard` has the tables of PS3.3 of spring 2020: attributes with types and sentences, from which
dicom-validator reads conditions and enumerated values. They are brought here into the form that it keeps. Three things
are mended on the way: the macros of an SR's content items get their conditions, which the tables lack; the RT ROI
Observations get their attributes back, which the tables hold under another sequence; and contours may be
CLOSEDPLANAR_XOR, which is younger than the tables. Label maps are younger too, and are not judged.
"""

import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from dicom_validator.spec_reader.condition import ConditionType
from dicom_validator.spec_reader.condition_parser import ConditionParser
from dicom_validator.spec_reader.serializer import DefinitionEncoder
from dicom_validator.validator.dicom_info import DicomInfo
from dicom_validator.validator.error_handler import NullValidationResultHandler
from dicom_validator.validator.iod_validator import IODValidator
from dicom_validator.validator.validation_result import Status
from lxml import html
from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.uid import (
    EnhancedSRStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

JUDGED: Final = (SegmentationStorage, EnhancedSRStorage, RTStructureSetStorage, SecondaryCaptureImageStorage)
_TABLES: Final = Path(sys.prefix) / "standard"
_ENUMERATED: Final = re.compile(r"Enumerated Values(?: for Value (?P<place>\d+))?(?: (?:if|when) (?P<case>.+?))?:$")
_INTEGERS: Final = {"US", "UL", "SS", "SL", "IS"}
_UNTOLD: Final = {"AT", "SQ"}  # representations whose values the validator does not compare

# Which macro a content item includes by its Value Type (PS3.3 Table C.17-5).
_VALUES: Final = {
    "NUM": "numeric-measurement",
    "CODE": "code",
    "COMPOSITE": "composite-object-reference",
    "IMAGE": "image-reference",
    "WAVEFORM": "waveform-reference",
    "SCOORD": "spatial-coordinates",
    "SCOORD3D": "3d-spatial-coordinates",
    "TCOORD": "temporal-coordinates",
    "CONTAINER": "container",
}

Attributes = dict[str, Any]
"""What dicom-validator keeps of a module or an item: by tag its name, type, condition, values and items."""


def violations(dataset: Dataset) -> list[str]:
    """Returns what dicom-validator finds wrong in an object of the classes `JUDGED`, one line each."""
    result = IODValidator(dataset, standard(), error_handler=NullValidationResultHandler()).validate()
    assert result.status in (Status.Passed, Status.Failed), result.status
    return [
        f"{module}: {'.'.join(keyword_for_tag(one) for one in (*(tag.parents or ()), tag.tag))}: {error.code.name}"
        for module, errors in result.module_errors.items()
        for tag, error in sorted(errors.items())
    ]


@cache
def standard() -> DicomInfo:
    """Returns the tables for the classes `JUDGED`, as dicom-validator holds them."""
    dictionary = {
        one["tag"]: {"name": one["name"], "vr": one["valueRepresentation"].split(" or ")[0]}
        for one in _table("attributes")
    }
    conditions = ConditionParser(dictionary)
    titles = {one["id"]: one["ciod"] for one in _table("sops") if one["id"] in JUDGED}
    of_title = {one["name"]: one["id"] for one in _table("ciods")}
    objects = {of_title[title]: uid for uid, title in titles.items()}
    iods = {uid: {"title": title, "modules": {}, "group_macros": {}} for uid, title in titles.items()}
    for table, kind, key in (
        ("ciod_to_modules", "modules", "moduleId"),
        ("ciod_to_fg_macros", "group_macros", "macroId"),
    ):
        for row in _table(table):
            if uid := objects.get(row["ciodId"]):
                use = {"ref": row[key], "use": row["usage"]}
                if row["conditionalStatement"]:
                    use["cond"] = conditions.parse(row["conditionalStatement"])
                iods[uid][kind][row[key]] = use
    needed = {use["ref"] for one in iods.values() for kind in ("modules", "group_macros") for use in one[kind].values()}
    reader = _Reader(dictionary, conditions)
    macros = reader.read("macro_to_attributes", "macroId", needed | {*_VALUES.values()})
    modules = reader.read("module_to_attributes", "moduleId", needed)
    for tag in ("(5200,9229)", "(5200,9230)"):  # the functional groups are looked up by the kind of object
        modules["multi-frame-functional-groups"][tag]["items"] = {"include": [{"ref": "FuncGroup"}]}
    _mend_observations(modules["rt-roi-observations"])
    contour = modules["roi-contour"]["(3006,0039)"]["items"]["(3006,0040)"]["items"]
    contour["(3006,0042)"]["enums"][0]["val"].append("CLOSEDPLANAR_XOR")  # PS3.3 C.8.8.6.3
    modules["sr-document-content"] = _content_item(modules["sr-document-content"], macros)
    plain = json.loads(json.dumps({"iods": iods, "modules": macros | modules}, cls=DefinitionEncoder))
    return DicomInfo(dictionary, plain["iods"], plain["modules"])


class _Reader:
    """Reads rows of attributes, each with the path of tags that leads to it."""

    def __init__(self, dictionary: dict[str, dict[str, str]], conditions: ConditionParser) -> None:
        self._dictionary, self._conditions = dictionary, conditions

    def read(self, table: str, key: str, names: set[str]) -> dict[str, Attributes]:
        """Returns the modules or macros of those names."""
        read: dict[str, Attributes] = {name: {} for name in names}
        for row in _table(table):
            if row[key] in names:
                _, *above, tag = (_tag(step) for step in row["path"].split(":"))
                here = read[row[key]]
                for step in above:
                    here = here.setdefault(step, {"name": step, "type": "3"}).setdefault("items", {})
                here[tag] = self._attribute(row, tag) | (
                    {"items": here[tag]["items"]} if "items" in here.get(tag, {}) else {}
                )
        return {name: attributes for name, attributes in read.items() if attributes}

    def _attribute(self, row: dict[str, str], tag: str) -> Attributes:
        """Returns name and type, and what the sentences say of conditions and values."""
        told = html.fromstring(f"<div>{row['description']}</div>")
        known = self._dictionary.get(tag, {"name": tag, "vr": ""})
        attribute: Attributes = {"name": known["name"], "type": "3" if row["type"] == "None" else row["type"]}
        if attribute["type"] in ("1C", "2C", "3"):
            condition = self._conditions.parse(_words(told))
            if condition.type != ConditionType.UserDefined:
                attribute["cond"] = condition
        if known["vr"] not in _UNTOLD and (values := list(self._enumerated(told, known["vr"] in _INTEGERS))):
            attribute["enums"] = values
        return attribute

    def _enumerated(self, told: html.HtmlElement, integers: bool) -> Iterator[dict[str, Any]]:
        """Yields the lists of enumerated values, with the place or the case that each is for."""
        for terms in told.iter("dl"):
            heading = _ENUMERATED.match(_words(terms.getparent().find("p")))
            if not heading:
                continue
            words = [_words(term) for term in terms.findall("dt")]
            values = {
                "val": [int(one.removesuffix("H"), 16 if one.endswith("H") else 10) for one in words]
                if integers
                else words
            }
            if heading["place"]:
                values["index"] = int(heading["place"])
            if heading["case"]:
                values["cond"] = self._conditions.parse(f"Required if {heading['case']}")
            yield values


def _content_item(item: Attributes, macros: dict[str, Attributes]) -> Attributes:
    """Returns the content item with its macros by Value Type, and items like itself below it."""
    of_values = {tag for name in _VALUES.values() for tag in macros[name]}
    made = {tag: attribute for tag, attribute in item.items() if tag not in of_values}
    made["include"] = [
        {"ref": name, "cond": {"type": "MN", "tag": "(0040,A040)", "index": 0, "op": "=", "values": [value]}}
        for value, name in _VALUES.items()
    ]
    below = {
        tag: attribute
        for tag, attribute in item["(0040,A730)"]["items"].items()
        if tag in ("(0040,A010)", "(0040,DB73)")
    }
    made["(0040,A730)"]["items"] = below | {"include": [{"ref": "sr-document-content"}]}
    return made


def _mend_observations(module: Attributes) -> None:
    """Moves the attributes after Anatomic Region Sequence into the item of the observation, where they belong."""
    astray = module.pop("(0008,2228)")["items"]
    module["(3006,0080)"]["items"] |= {tag: one for tag, one in astray.items() if not tag.startswith("(0008,")}


def _tag(step: str) -> str:
    """Returns a step of a path as a tag; groups that repeat have an x in both."""
    return f"({step[:4]},{step[4:]})".upper().replace("X", "x")


def _words(element: html.HtmlElement | None) -> str:
    """Returns the text of an element on one line."""
    return "" if element is None else " ".join(element.text_content().split())


def _table(name: str) -> list[dict[str, Any]]:
    """Returns one of the tables."""
    return json.loads((_TABLES / f"{name}.json").read_text(encoding="utf-8"))
