"""Masks to objects: what a job leaves in its results folder, and what the ledger keeps of it.

```
results/<job>/seg.dcm           DICOM-SEG, one segment per prompt that was found
              rtstruct.dcm      RT Structure Set, one ROI per prompt that was found
              sr.dcm            TID 1500 report of volumes, intensities and diameters of the segments
              <label>.nii.gz    masks on the network's grid, uint8
              result.json       what was found and what was not; the same facts as in the ledger
```
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import highdicom
import numpy as np
from pydicom import Dataset

from dicom_node import results
from dicom_node.check import check_rtstruct, check_seg
from dicom_node.measures import Extent
from dicom_node.regions import Region
from dicom_node.rtstruct import write_rtstruct
from dicom_node.seg import write_seg
from dicom_node.series import ImageSeries
from dicom_node.sr import write_sr
from dicom_node.volume import to_network, write_nifti
from worker.jobs import Output, Prompt, Work

if TYPE_CHECKING:
    import voxtell


@dataclass(frozen=True)
class Segmented:
    """One series and its masks, in the series' own frames.

    masks: bool (P, slices, rows, columns), P in prompt order, slices as `series` orders them.
    """

    series: ImageSeries
    prompts: tuple[Prompt, ...]
    regions: tuple[Region, ...]
    masks: np.ndarray[Any, np.dtype[np.bool_]]
    extents: tuple[Extent | None, ...]  # where each mask lay on the network's grid; None where nothing was found
    model: "voxtell.ModelInfo"
    seconds: dict[str, float]

    @property
    def volumes_ml(self) -> tuple[float, ...]:
        """The volume of each mask in millilitres; 0.0 where the prompt was looked for and not found."""
        return tuple(extent.volume_ml if extent else 0.0 for extent in self.extents)


def write_outputs(done: Segmented, work: Work, folder: Path) -> dict[str, Any]:
    """Writes the outputs that the work asks for into `folder` and says what was found.

    Returns {"found": [{"label", "prompt", "volume_ml", "sentence"}], "not_found": [label], "files": [name],
    "model": {...}, "seconds": {step: s}, "notes": [sentence]}; all of it goes into the ledger as JSON.
    """
    facts = results.Work(
        algorithm=results.Algorithm(done.model.name, done.model.version, done.model.digest, done.model.notice),
        made=datetime.now().astimezone(),
        protocol=work.protocol,
        protocol_digest=work.protocol_digest,
        software_version=version("voxtell-dicom"),
    )
    files = []
    for name, dataset in _objects(done, work.outputs, facts):
        dataset.save_as(folder / name, enforce_file_format=True)
        files.append(folder / name)
    if "nifti" in work.outputs:
        files += _nifti(done, folder)
    result = {
        "found": [
            {"label": prompt.label, "prompt": prompt.text, "volume_ml": round(ml, 3), "sentence": prompt.sentence}
            for prompt, ml in zip(done.prompts, done.volumes_ml, strict=True)
            if ml
        ],
        "not_found": [prompt.label for prompt, ml in zip(done.prompts, done.volumes_ml, strict=True) if not ml],
        "files": [path.name for path in files],
        "model": {"name": done.model.name, "version": done.model.version, "digest": done.model.digest}
        | {"notice": done.model.notice},
        "seconds": {step: round(seconds, 3) for step, seconds in done.seconds.items()},
        "notes": list(done.series.notes),
    }
    (folder / "result.json").write_text(json.dumps(result, indent=2), encoding="utf-8")
    return result


def _objects(done: Segmented, outputs: tuple[Output, ...], facts: results.Work) -> Iterator[tuple[str, Dataset]]:
    """File name and DICOM object of each output asked for; none of a kind when no prompt was found.

    A report refers to the segments it measures, so it brings the SEG with it. Each object is decoded again and held
    against the place where the network saw the mask.

    Raises:
        ResultError: an object does not lie where its mask lies; the job fails and nothing is sent.
    """
    extents = [extent for extent in done.extents if extent]
    if not extents:
        return
    segmentation = write_seg(done.series, done.masks, done.regions, facts)
    if segmentation.dataset is not None and {"seg", "sr"} & set(outputs):
        check_seg(segmentation.dataset, extents, done.series.volume.spacing)
        yield "seg.dcm", segmentation.dataset
    if "rtstruct" in outputs:
        structures = write_rtstruct(done.series, done.masks, done.regions, facts)
        check_rtstruct(structures, extents, done.series)
        yield "rtstruct.dcm", structures
    if "sr" in outputs and (report := write_sr(done.series, done.masks, segmentation, facts)) is not None:
        yield "sr.dcm", report


def _nifti(done: Segmented, folder: Path) -> list[Path]:
    """One file per mask that is not empty, one mask at a time in memory."""
    paths = []
    for prompt, mask in zip(done.prompts, done.masks, strict=True):
        if not mask.any():
            continue
        paths.append(folder / f"{_file_name(prompt.label)}.nii.gz")
        write_nifti(mask_on_network(done.series, mask), paths[-1])
    return paths


def mask_on_network(series: ImageSeries, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> highdicom.Volume:
    """A mask bool (slices, rows, columns) as uint8 (S, A, R), on the grid that the network saw."""
    return to_network(replace(series, volume=series.volume.with_array(mask.astype(np.uint8))))


def _file_name(label: str) -> str:
    return re.sub(r"[^\w-]+", "_", label).strip("_") or "mask"
