"""Reads what to train on: a JSON file of volumes, their contours, and the words for the contoured structures.

    {
      "name": "openkbp", "licence": "MIT", "source": "https://github.com/ababier/open-kbp",
      "structures": {"right parotid": {"prompts": ["right parotid gland", "parotid_r"]}},
      "negatives": ["left knee"],
      "cases": [{"case": "pt_1", "split": "train", "image": "pt_1_ct.nii.gz",
                 "contours": {"right parotid": {"file": "pt_1_oar.nii.gz", "value": 3}, "larynx": null}}]
    }

File names are relative to the JSON file. `value` picks one value of a label map; without it every non-zero voxel
counts. A structure that a case does not list is unlabelled: nothing is learnt about it there. `null` says that it was
looked for and is not in the image. A structure without `prompts` takes them from the built-in vocabulary, or its name
alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from voxtell.errors import VoxTellError

SPLITS = ("train", "validation")


class DatasetError(VoxTellError):
    """The data set file is not usable."""


@dataclass(frozen=True)
class Contour:
    """Points to one structure of one case: the voxels of `file` that equal `value`, or all non-zero ones."""

    file: Path
    value: int | None = None


@dataclass(frozen=True)
class Case:
    """Describes one volume; `contours` maps a structure to its contour, or to None where it is known to be absent."""

    name: str
    split: str
    image: Path
    contours: dict[str, Contour | None]


@dataclass(frozen=True)
class Dataset:
    """Holds volumes, contours and the words for them. structures: name -> prompts, () for the built-in ones."""

    name: str
    licence: str
    source: str
    structures: dict[str, tuple[str, ...]]
    negatives: tuple[str, ...]
    cases: tuple[Case, ...]


def read_dataset(path: Path) -> Dataset:
    """Reads and checks the JSON file described above. Images are not opened.

    Raises:
        DatasetError: when the file is not JSON, a key is missing, a split is unknown or a file does not exist.
    """
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"{path} cannot be read as JSON ({error}); see voxtell/training/dataset.py for the format"
        ) from None
    try:
        structures = {name: tuple(entry.get("prompts", ())) for name, entry in raw["structures"].items()}
        cases = tuple(_case(entry, path.parent, structures) for entry in raw["cases"])
    except (KeyError, AttributeError, TypeError) as error:
        raise DatasetError(f"{path}: {error!r} is missing or of the wrong kind; compare it with the format") from None
    return Dataset(
        name=raw.get("name", path.stem),
        licence=raw.get("licence", "unknown"),
        source=raw.get("source", "unknown"),
        structures=structures,
        negatives=tuple(raw.get("negatives", ())),
        cases=cases,
    )


def _case(raw: dict[str, Any], folder: Path, structures: dict[str, tuple[str, ...]]) -> Case:
    """Returns one checked case; `structures` are those that the file lists."""
    name, split = raw["case"], raw.get("split", "train")
    if split not in SPLITS:
        raise DatasetError(f"case {name}: split is {split!r}, but must be one of {', '.join(SPLITS)}")
    unknown = sorted(set(raw["contours"]) - set(structures))
    if unknown:
        raise DatasetError(f"case {name}: {', '.join(unknown)} is contoured but not listed under `structures`")
    contours = {
        structure: None if entry is None else Contour(folder / entry["file"], entry.get("value"))
        for structure, entry in raw["contours"].items()
    }
    image = folder / raw["image"]
    missing = [p for p in (image, *(c.file for c in contours.values() if c)) if not p.is_file()]
    if missing:
        raise DatasetError(f"case {name}: {missing[0]} does not exist; correct its path or leave the case out")
    return Case(name, split, image, contours)


OPENKBP_STRUCTURES = {
    "Brainstem": "brainstem",
    "SpinalCord": "spinal cord",
    "RightParotid": "right parotid",
    "LeftParotid": "left parotid",
    "Esophagus": "esophagus",
    "Larynx": "larynx",
    "Mandible": "mandible",
}
MIN_COVERAGE = 0.9
"""Share of a contour that must lie in the scanned slices: one that lies outside teaches the network to contour air."""


def openkbp(folder: Path) -> dict[str, Any]:
    """Returns a data set in the format above for a folder of OpenKBP volumes.

    The folder holds `index.json` and, per case, `<case>_ct.nii.gz` and `<case>_oar.nii.gz`. Left out are contours that
    mostly lie outside the scanned slices, and the cord contours that `index.json` flags as oversized.
    """
    index = json.loads((folder / "index.json").read_text())
    value_of = {name: int(value) for value, name in index["labels"].items()}
    cases = []
    for entry in index["cases"]:
        oversized = any(flag.startswith("spinal_cord_label_oversized") for flag in entry["flags"])
        usable = [
            structure
            for structure in entry["oar_voxels"]
            if entry["oar_ct_coverage"][structure] >= MIN_COVERAGE and not (structure == "SpinalCord" and oversized)
        ]
        cases.append(
            {
                "case": entry["case"],
                "split": entry["case"].split("_")[0],
                "image": str((folder / f"{entry['case']}_ct.nii.gz").resolve()),
                "contours": {
                    OPENKBP_STRUCTURES[structure]: {
                        "file": str((folder / f"{entry['case']}_oar.nii.gz").resolve()),
                        "value": value_of[structure],
                    }
                    for structure in usable
                },
            }
        )
    return {
        "name": "OpenKBP",
        "licence": "MIT",
        "source": "https://github.com/ababier/open-kbp",
        "structures": {name: {} for name in OPENKBP_STRUCTURES.values()},
        "negatives": [],
        "cases": cases,
    }
