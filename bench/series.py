"""How long a series takes to read, and how much memory, beside SimpleITK: 1000 slices of 512 x 512, in one run.

    python -m bench.series [--slices 1000] [--rounds 3] [--folder DIR]

Each reading is a process of its own; rounds are interleaved and the table gives medians, so that other work on the
machine meets both readers alike. "ours" is `dicom_node.series.read_series`: headers of all slices, checks, values in
float32. SimpleITK's series reader gets the files in order from its own GDCM and reads them as float32, because that is
what the network takes; "with a copy" adds the NumPy array that most programs make of it, "stored type" leaves the
16-bit integers of the files, which need half the memory and say nothing about float32. Memory is the peak of the
process less what its imports took. Processor time is the column to trust on a machine that does other work.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil

from dicom_node.synthesis import write_slices

SIZE = 512
TIME_LIMIT, MEMORY_LIMIT = 2.5, 1.5
"""What reading may take, as multiples of SimpleITK."""


def ours(folder: Path) -> object:
    """A series as the node reads it."""
    from dicom_node.series import read_series

    return lambda: read_series(sorted(folder.iterdir()))


def simpleitk(folder: Path) -> Callable[[], object]:
    """An image in float32."""
    import SimpleITK as sitk

    def read() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        reader.SetOutputPixelType(sitk.sitkFloat32)
        return reader.Execute()

    return read


def simpleitk_stored(folder: Path) -> Callable[[], object]:
    """An image in the type that holds the stored values: half the size, and nothing that a network takes."""
    import SimpleITK as sitk

    def read() -> object:
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        return reader.Execute()

    return read


def simpleitk_copied(folder: Path) -> Callable[[], object]:
    """The same as a NumPy array."""
    import SimpleITK as sitk

    read = simpleitk(folder)
    return lambda: sitk.GetArrayFromImage(read())


READERS = {
    "ours": ours,
    "SimpleITK": simpleitk,
    "SimpleITK with a copy": simpleitk_copied,
    "SimpleITK, stored type": simpleitk_stored,
}


def measure(reader: str, folder: Path) -> dict[str, float]:
    """In this process: seconds, processor seconds and MiB of one reading."""
    read = READERS[reader](folder)
    before = psutil.Process().memory_info().rss
    cpu, start = time.process_time(), time.perf_counter()
    kept = read()
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    del kept
    return {"seconds": seconds, "cpu": cpu, "mib": (peak_bytes() - before) / 2**20}


def peak_bytes() -> int:
    """The most memory that this process has held: VmHWM, as ru_maxrss also counts the parent before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def series(folder: Path, slices: int) -> Path:
    """An axial CT of noise over a ramp."""
    noise = np.random.default_rng(0)
    image = noise.normal(0, 30, (1, SIZE, SIZE)).astype(np.float32) + np.linspace(-900, 900, slices)[:, None, None]
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]] * (0.8, 0.8, 1.0, 1.0)
    write_slices(image, affine, folder / "series")
    return folder / "series"


def main() -> None:
    """Prints the table, and whether the limits hold."""
    parser = argparse.ArgumentParser(description="Reading speed and memory beside SimpleITK.")
    parser.add_argument("--slices", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files go; default a temporary folder")
    parser.add_argument("--reader", choices=READERS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.reader:
        print(json.dumps(measure(asked.reader, asked.folder)))
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        folder = series(Path(temporary), asked.slices)
        found: dict[str, list[dict[str, float]]] = {reader: [] for reader in READERS}
        for _ in range(asked.rounds):
            for reader in READERS:
                command = [sys.executable, "-m", "bench.series", "--reader", reader, "--folder", str(folder)]
                found[reader].append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    table = {
        reader: {what: statistics.median(one[what] for one in rounds) for what in rounds[0]}
        for reader, rounds in found.items()
    }
    print(f"{asked.slices} slices of {SIZE} x {SIZE}, medians of {asked.rounds}")
    print(f"{'':24}{'seconds':>10}{'processor':>12}{'MiB':>10}")
    for reader, row in table.items():
        print(f"{reader:24}{row['seconds']:10.2f}{row['cpu']:12.2f}{row['mib']:10.0f}")
    mine, theirs = table["ours"], table["SimpleITK"]
    print(
        f"ours against SimpleITK: {mine['seconds'] / theirs['seconds']:.2f} times the time (limit {TIME_LIMIT}), "
        f"{mine['cpu'] / theirs['cpu']:.2f} times the processor time, "
        f"{mine['mib'] / theirs['mib']:.2f} times the memory (limit {MEMORY_LIMIT})"
    )


if __name__ == "__main__":
    main()
