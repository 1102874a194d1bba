"""Puts masks of trained models in place of contours that nobody drew: self-training ("pseudo-labels", Lee 2013).

Planners contour what a plan needs, so most cases lack some structures. A model trained on the other cases has an
opinion about these; taken as contours, its masks let every case teach every structure. And a contour with which trained
models hardly agree teaches noise.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from voxtell.engine import Engine
from voxtell.nifti import read_image, write_mask
from voxtell.predict import FileJob, output_files
from voxtell.training.dataset import Case, read_dataset
from voxtell.training.measure import read_contours
from voxtell.training.scores import dice


def complete(
    data: Path, models: Sequence[Engine], out: Path, say: Callable[[str], object] = lambda _: None, doubt: float = 0.0
) -> Path:
    """Writes the masks that most models agree on as NIfTI files into `out`, and a completed data set file beside them.

    Only training cases are completed, and only with structures that they do not list. What is known to be absent stays
    absent, and an empty mask is not taken as a contour. The new entries carry `"drawn_by": "model"`, so that they can
    be told from a planner's. A killed run continues at the first case without its files.

    Args:
        data: the data set file.
        models: of several, the majority decides per voxel.
        out: folder for masks and `dataset.json`.
        say: is told the progress.
        doubt: Dice; a contour that agrees less with the models' mask is left out as if nobody had drawn it, because it
            lies beside its organ or holds another one too. 0 keeps all.

    Returns:
        The data set file `out/dataset.json`: what `data` lists, completed.

    Raises:
        DatasetError: when `data` is not usable.
        FileError: when a volume cannot be read.
    """
    known, raw = read_dataset(data), json.loads(data.read_text())
    out.mkdir(parents=True, exist_ok=True)
    for case, entry in zip(known.cases, raw["cases"], strict=True):
        entry["image"] = str(case.image.resolve())
        for contour, drawn in zip(entry["contours"].values(), case.contours.values(), strict=True):
            if drawn is not None:
                contour["file"] = str(drawn.file.resolve())
        if case.split == "train":
            missing = tuple(structure for structure in known.structures if structure not in case.contours)
            left_out = _doubtful(case, models, out, doubt) if doubt else {}
            entry["contours"] = {name: file for name, file in entry["contours"].items() if name not in left_out}
            entry["contours"] |= _drawn(case.image, missing, models, out)
            say(f"{case.name}: {len(entry['contours'])} of {len(known.structures)} structures" + _listed(left_out))
    path = out / "dataset.json"
    path.write_text(json.dumps(raw, indent=1))
    return path


def _doubtful(case: Case, models: Sequence[Engine], out: Path, doubt: float) -> dict[str, float]:
    """Returns the contours of a case that agree less with the models than `doubt`, with their Dice."""
    contours = read_contours(case)
    paths = _voted(case.image, tuple(contours), models, out)
    agree = {name: dice(read_image(path).array > 0, contours[name]) for name, path in paths.items()}
    return {name: agreement for name, agreement in agree.items() if agreement < doubt}


def _listed(left_out: Mapping[str, float]) -> str:
    """Returns the text about contours that were left out."""
    return "".join(f"; {name} left out (Dice {agreement:.2f})" for name, agreement in left_out.items())


def _drawn(image: Path, structures: tuple[str, ...], models: Sequence[Engine], out: Path) -> dict[str, Any]:
    """Returns an entry of the data set for each structure that the models find."""
    return {
        structure: {"file": str(path.resolve()), "drawn_by": "model"}
        for structure, path in _voted(image, structures, models, out).items()
        if read_image(path).array.any()
    }


def _voted(image: Path, structures: tuple[str, ...], models: Sequence[Engine], out: Path) -> dict[str, Path]:
    """Returns the files of the majority's masks by structure; writes those that are missing, including empty masks."""
    paths = output_files(FileJob(image, structures), out, save_combined=False)
    if structures and not all(path.exists() for path in paths):
        scan = read_image(image)
        masks = np.stack([model(scan.array, structures, spacing=scan.spacing) for model in models])
        for path, votes in zip(paths, masks.sum(axis=0), strict=True):
            write_mask(path, 2 * votes > len(models), scan)
    return dict(zip(structures, paths, strict=True))
