"""python -m tests.viewers [--folder build/viewers] [--only TEXT]: results of every combination of outputs in OHIF."""

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path

from dicom_node.objects.kinds import KINDS, with_brought
from dicom_node.scu.c_store import send
from tests.support.peers import Orthanc, orthanc, orthanc_plugin
from tests.viewers.looking import NOT_SHOWN, Seen, look, look_at_report
from tests.viewers.ohif import Ohif, ohif
from tests.viewers.studies import ct, enhanced_mr, oblique_mr, odd_ct, study

DATA = Path(os.environ.get("VOXTELL_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
IMAGES: dict[str, Callable[[Path], list[Path]]] = {
    "CT": ct,
    "oblique MR": oblique_mr,
    "enhanced MR": enhanced_mr(DATA / "mr_enhanced" / "siemens_anat_8frames" / "dicom"),
    "CT, odd frames": odd_ct,
}
# Orthanc 1.10 refuses single frames that end within a byte, and OHIF cannot cut them out of the whole object.
NOT_LOADED = {("CT, odd frames", ("seg",), False)}
OVERLAYS = {"rtstruct": "RTSTRUCT", "seg": "SEG"}
COLUMNS = ("image", "outputs", "SEG opens on", "RTSTRUCT opens on", "seen")


def combinations_of_outputs() -> list[tuple[str, ...]]:
    """Every set of outputs that differs in what is written, and has something to lay over an image."""
    outputs = tuple(dict.fromkeys(kind.output for kind in KINDS.values()))
    chosen = [with_brought(frozenset(some)) for size in range(1, 5) for some in combinations(outputs, size)]
    sets = dict.fromkeys(frozenset(one) for one in chosen if OVERLAYS.keys() & one)
    return [tuple(output for output in outputs if output in one) for one in sets]


def main() -> int:
    """Prints one row for each image and combination; exit code 1 if any is not right."""
    parser = argparse.ArgumentParser(prog="make viewers", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("build/viewers"), help="where the pictures go")
    parser.add_argument("--only", default="", help="rows that hold this text alone")
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    wrong = 0
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory() as work, _opened(Path(work)) as (pacs, viewer):
        for image, outputs, label_map in _cases():
            name = f"{image} | {', '.join(outputs)}{' as label map' if label_map else ''}"
            if options.only not in name:
                continue
            place = Path(work) / name.replace(" | ", "-").replace(", ", "-").replace(" ", "-")
            seen = _seen(pacs, viewer, image, outputs, label_map, place, options.folder / place.name)
            faults = [fault for one in seen.values() for fault in one.faults]
            wrong += faults != ([NOT_SHOWN] if (image, outputs, label_map) in NOT_LOADED else [])
            opened = [seen[one].opened_on if one in seen else "-" for one in ("SEG", "RTSTRUCT")]
            print(f"| {name} | {' | '.join(opened)} | {'; '.join(faults) or 'right'} |", flush=True)  # noqa: T201
    print(f"pictures: {options.folder}", flush=True)  # noqa: T201
    return 1 if wrong else 0


def _cases() -> Iterator[tuple[str, tuple[str, ...], bool]]:
    """Yields image, outputs, and whether in the form of a label map."""
    for image in IMAGES:
        odd = image == "CT, odd frames"
        yield from (
            (image, outputs, False) for outputs in ([("seg",), ("rtstruct",)] if odd else combinations_of_outputs())
        )
        yield image, ("seg",), True


def _seen(
    pacs: Orthanc, viewer: Ohif, image: str, outputs: tuple[str, ...], label_map: bool, work: Path, pictures: Path
) -> dict[str, Seen]:
    """Sends a study to the PACS, looks at it, and removes it again."""
    shown = study(IMAGES[image](work / "images"), outputs, work / "results", label_map=label_map)
    send([*shown.images, *shown.results], pacs.peer, calling_ae="VOXTELL")
    seen = {}
    with viewer.study(shown.series.study_uid, 1 + len(shown.results)) as page:
        for output, modality in OVERLAYS.items():
            if output in outputs:
                seen[modality] = look(page, shown, modality, pictures)
        if "sr" in outputs:
            seen["SR"] = Seen(faults=look_at_report(page, shown, pictures))
    for one in pacs.get("/studies"):
        pacs.put(f"/studies/{one}", None, "DELETE")
    return seen


@contextlib.contextmanager
def _opened(work: Path) -> Iterator[tuple[Orthanc, Ohif]]:
    """An Orthanc that takes label maps too, and OHIF before it."""
    plugins = [orthanc_plugin("OrthancDicomWeb")]
    with (
        orthanc(work / "orthanc", Plugins=plugins, UnknownSopClassAccepted=True) as pacs,
        ohif(pacs.http) as viewer,
    ):
        yield pacs, viewer


if __name__ == "__main__":
    sys.exit(main())
