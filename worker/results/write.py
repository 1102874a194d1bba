"""Writes the results folder of a job: DICOM objects, masks as NIfTI, and `result.json`.

```
results/<job>/seg.dcm           DICOM-SEG, one segment per structure that was found
              seg-labelmap.dcm  the same as a label map, where a destination asks for it and no segments overlap
              rtstruct.dcm      RT Structure Set, one ROI per structure that was found or is to be drawn
              sr.dcm            TID 1500 report of volumes, intensities and diameters of the segments
              sr-labelmap.dcm   the same report on the segments of the label map
              preview.dcm       a picture of three planes with the contours burned in
              <label>.nii.gz    masks on the network's grid, uint8
              result.json       what was found and what was not; the same facts as in the ledger
```
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any, Final

import highdicom
import numpy as np

from dicom_node.masks.measures import Extent
from dicom_node.masks.packed import Masks
from dicom_node.objects.kinds import KINDS, OutputKind
from dicom_node.objects.provenance import Algorithm, ObjectReference, Provenance, Review
from dicom_node.objects.result_set import ResultSet
from dicom_node.objects.rtstruct import SET_LABEL
from dicom_node.regions import EmptyMask
from dicom_node.series import ImageSeries
from dicom_node.volume import to_network, write_nifti
from voxtell.engine import ModelInfo
from worker.job_spec import JobSpec, Output
from worker.result import Found, ModelUsed, Result, ResultObject
from worker.results.structures import Structure

_NAME_BYTES: Final = 200  # of UTF-8; file systems take 255, with the number and the ending


@dataclass(frozen=True)
class Segmented:
    """One series and its finished masks, on the series' own frames.

    masks: bool (P, slices, rows, columns), in the order of `structures`, slices as `series` orders them.
    seconds: by step of the pipeline.
    """

    series: ImageSeries
    structures: tuple[Structure, ...]
    masks: Masks
    model: ModelInfo
    seconds: dict[str, float]
    review: tuple[Review, ...] = ()  # why a person should look at it


def write_outputs(
    done: Segmented,
    spec: JobSpec,
    folder: Path,
    *,
    label_map: bool = False,
    name_length: int = 64,
    predecessors: Sequence[ObjectReference] = (),
) -> Result:
    """Writes the outputs that the job asks for into `folder`; returns the result, which is there as `result.json`, too.

    The folder must exist; in the node it is an unpublished one of the store. A derived structure has in the result how
    it was made as its prompt; one that a person is to draw is in none of the lists.

    Args:
        label_map: whether a destination wants label maps.
        name_length: the largest number of characters of a name in a structure set.
        predecessors: the objects of the result that this one replaces.
    """
    outputs, refused = _outputs(spec, done.series)
    regions, extents = [one.region for one in done.structures], [one.extent for one in done.structures]
    result_set = ResultSet(
        done.series,
        done.masks,
        regions,
        _provenance(done, spec, predecessors),
        outputs,
        label_map=label_map,
        holes=spec.holes,
        set_label=spec.structure_set_label or SET_LABEL,
        name_length=name_length,
    )
    objects = []
    for name, dataset in result_set.written(extents):
        dataset.save_as(folder / name, enforce_file_format=True)
        objects.append(_listed(KINDS[name], result_set.references[name]))
    asked = [one for one in done.structures if one.asked]
    empty = [one for one in asked if not one.extent]
    model = done.model
    result = Result(
        found=tuple(_found(one, one.extent) for one in asked if one.extent),
        not_found=_labels(empty, "not found"),
        not_known=_labels(empty, "not known"),
        not_judged=_labels(empty, "not judged"),
        objects=tuple(objects),
        nifti=tuple(path.name for path in _nifti(done, folder)) if "nifti" in spec.outputs else (),
        review=tuple(reason.sentence for reason in done.review),
        model=ModelUsed(
            name=model.name, version=model.version, digest=model.digest, notice=model.notice, identity=model.identity
        ),
        seconds={step: round(seconds, 3) for step, seconds in done.seconds.items()},
        notes=(*done.series.notes, *result_set.notes, *refused),
    )
    (folder / "result.json").write_text(json.dumps(result.json_facts(), indent=2), encoding="utf-8")
    return result


def _outputs(spec: JobSpec, series: ImageSeries) -> tuple[tuple[Output, ...], list[str]]:
    """Returns the outputs to make, and a note where the protocol refuses one for this series."""
    if spec.tilted_rtstruct or not series.is_tilted or "rtstruct" not in spec.outputs:
        return spec.outputs, []
    refused = (
        f"there is no RTSTRUCT: the gantry is tilted by {series.tilt_degrees:.1f} degrees, and the protocol refuses it"
    )
    return tuple(output for output in spec.outputs if output != "rtstruct"), [refused]


def _labels(empty: Sequence[Structure], meaning: EmptyMask) -> tuple[str, ...]:
    """Returns the names of the empty structures with this meaning."""
    return tuple(one.label for one in empty if one.region.empty_means == meaning)


def _provenance(done: Segmented, spec: JobSpec, predecessors: Sequence[ObjectReference]) -> Provenance:
    """Returns what every object says of its making."""
    return Provenance(
        algorithm=Algorithm(
            done.model.name, done.model.version, done.model.digest, done.model.notice, done.model.identity
        ),
        made=datetime.now().astimezone(),
        protocol=spec.protocol,
        protocol_digest=spec.protocol_digest,
        software_version=version("voxtell-dicom"),
        review=done.review,
        revision=spec.revision,
        predecessors=tuple(predecessors),
    )


def _listed(kind: OutputKind, one: ObjectReference) -> ResultObject:
    """Returns an object that was written as the result lists it."""
    return ResultObject(
        kind=kind.output,
        form=kind.form,
        file=kind.file,
        sop_class_uid=one.sop_class_uid,
        sop_uid=one.sop_uid,
        series_uid=one.series_uid,
    )


def references_to(result: Result) -> tuple[ObjectReference, ...]:
    """Returns references to the objects of a result whose UIDs are known, for the result that replaces it."""
    return tuple(ObjectReference(one.sop_class_uid, one.sop_uid, one.series_uid) for one in result.named_objects())


def _found(one: Structure, extent: Extent) -> Found:
    """Returns a structure that was found as the result lists it, with its volume in ml."""
    sentence = getattr(one.made, "sentence", None)
    return Found(label=one.label, prompt=one.region.prompt, volume_ml=round(extent.volume_ml, 3), sentence=sentence)


def _nifti(done: Segmented, folder: Path) -> list[Path]:
    """Writes one NIfTI file per mask that is not empty; only one mask at a time is unpacked."""
    paths = []
    names = _file_names([one.label for one in done.structures])
    for name, packed in zip(names, done.masks.packed, strict=True):
        if len(packed.held):
            paths.append(folder / f"{name}.nii.gz")
            write_nifti(mask_on_network(done.series, packed.mask()), paths[-1])
    return paths


def mask_on_network(series: ImageSeries, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> highdicom.Volume:
    """Returns a mask bool (slices, rows, columns) as uint8 (S, A, R), on the grid that the network saw."""
    return to_network(replace(series, volume=series.volume.with_array(mask.astype(np.uint8))))


def _file_names(labels: Sequence[str]) -> list[str]:
    """Makes a file name for each label, without ending: "Lung, left" becomes "Lung_left".

    No two are alike even without regard to case, and each is short enough for any file system.
    """
    names: list[str] = []
    taken: set[str] = set()
    for label in labels:
        stem = re.sub(r"[^\w-]+", "_", label).strip("_").encode()[:_NAME_BYTES].decode(errors="ignore") or "mask"
        numbered = (stem if turn == 1 else f"{stem}_{turn}" for turn in count(1))
        names.append(next(name for name in numbered if name.casefold() not in taken))
        taken.add(names[-1].casefold())
    return names
