"""What writing results costs, beside highdicom's own way to the same Segmentation.

    python bench/outputs.py time            # 10 segments on 100 slices of 512 x 512: ours and highdicom's, in turns
    python bench/outputs.py memory          # 30 segments on 400 slices of 512 x 512: the peak of this process

Times are CPU seconds of this process, so that other work on the machine counts little; the ratio is of one run. Memory
is the peak resident set over what was there before the masks came: series, packed masks and all objects.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import highdicom
import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.sr.codedict import codes

from dicom_node.masks.packed import Masks, PackedMask
from dicom_node.objects.preview import write_preview
from dicom_node.objects.provenance import Algorithm, Provenance
from dicom_node.objects.rtstruct import write_rtstruct
from dicom_node.objects.seg import write_seg
from dicom_node.objects.sr import write_sr
from dicom_node.regions import region_for
from dicom_node.series import ImageSeries, read_series
from dicom_node.synthesis import ct_series

PROVENANCE = Provenance(Algorithm("bench", "1", "sha256:" + "0" * 64), made=datetime(2026, 1, 1))
ROWS = 512
TURNS = 3


def balls(count: int, slices: int) -> Iterator[NDArray[np.bool_]]:
    """Masks bool (slices, rows, columns): ellipsoids through half of the slices, some of which overlap."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        middle = rng.uniform(0.3, 0.7, 3)
        z, y, x = (
            ((np.arange(size) / size - at) / 0.25) ** 2 for size, at in zip((slices, ROWS, ROWS), middle, strict=True)
        )
        yield z[:, None, None] + y[:, None] + x < 1


def timed(task: Callable[[], object]) -> float:
    """CPU seconds."""
    started = time.process_time()
    task()
    return time.process_time() - started


def by_highdicom(headers: list[Dataset], masks: NDArray[np.bool_]) -> highdicom.seg.Segmentation:
    """The same Segmentation by highdicom's constructor."""
    algorithm = highdicom.AlgorithmIdentificationSequence("bench", codes.DCM.ArtificialIntelligence, "1")
    descriptions = [
        highdicom.seg.SegmentDescription(
            number,
            f"thing {number}",
            codes.SCT.Tissue,
            codes.SCT.Tissue,
            "AUTOMATIC",
            algorithm,
            f"2.25.{number}",
            "thing",
        )
        for number in range(1, len(masks) + 1)
    ]
    return highdicom.seg.Segmentation(
        headers,
        np.ascontiguousarray(np.moveaxis(masks, 0, -1)).astype(np.uint8),
        "BINARY",
        descriptions,
        "2.25.1",
        1,
        "2.25.2",
        1,
        "bench",
        "bench",
        "1",
        "1",
    )


def compare_times(folder: Path, count: int = 10, slices: int = 100) -> None:
    """Ours and highdicom's in turns; the best of each."""
    series, paths = made(folder, slices)
    headers = sorted((dcmread(path) for path in paths), key=lambda one: float(one.ImagePositionPatient[2]))
    masks = np.stack(list(balls(count, slices)))
    regions = [region_for(f"thing {number}") for number in range(count)]
    ours, theirs = [], []
    for _ in range(TURNS):
        ours.append(timed(lambda: write_seg(series, masks, regions, PROVENANCE)))
        theirs.append(timed(lambda: by_highdicom(headers, masks)))
    print(f"{count} segments on {slices} slices of {ROWS} x {ROWS}, CPU seconds, best of {TURNS}:")
    print(f"  write_seg {min(ours):.2f}, highdicom {min(theirs):.2f}: ratio {min(ours) / min(theirs):.2f}")


def measure_memory(folder: Path, count: int = 30, slices: int = 400) -> None:
    """Packs the masks as they come and writes every object; prints the peak after each step."""
    series, _ = made(folder, slices)
    regions = [region_for(f"thing {number}") for number in range(count)]
    before = peak_gb()
    print(f"{count} segments on {slices} slices of {ROWS} x {ROWS}; {before:.2f} GB before, with the series")
    started = time.process_time()

    def step(what: str) -> None:
        print(f"  {what:<12} {time.process_time() - started:6.1f} s CPU, peak {peak_gb():.2f} GB")

    masks = Masks(PackedMask.of(mask) for mask in balls(count, slices))
    step("packed")
    segmentation = write_seg(series, masks, regions, PROVENANCE)
    assert segmentation.dataset is not None
    segmentation.dataset.save_as(folder / "seg.dcm", enforce_file_format=True)
    step("SEG")
    write_sr(series, masks, segmentation, PROVENANCE)
    del segmentation
    step("SR")
    write_rtstruct(series, masks, regions, PROVENANCE).save_as(folder / "rtstruct.dcm", enforce_file_format=True)
    step("RTSTRUCT")
    write_preview(series, masks, regions, PROVENANCE)
    step("preview")


def made(folder: Path, slices: int) -> tuple[ImageSeries, list[Path]]:
    """A CT of that many slices."""
    paths = ct_series(np.zeros((slices, ROWS, ROWS), np.float32), (1.0, 0.8, 0.8), folder / "ct")
    return read_series(paths), paths


def peak_gb() -> float:
    """Peak resident memory of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        {"time": compare_times, "memory": measure_memory}[sys.argv[1]](Path(scratch))
