"""Array in, masks out: free-text-prompted 3-D segmentation networks. Importing this package loads no torch.

engine = voxtell.load()                                  # the bundled model; or the directory of another
image = voxtell.read("ct.nii.gz")                        # array float32 (S, A, R), spacing in mm (S, A, R)
masks = engine(image.array, ["brainstem", "mandible"], spacing=image.spacing)   # bool (P, S, A, R)
voxtell.write("brainstem.nii.gz", masks[0], image)       # on the grid of the file

Axes are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to the patient's right. P is the number of prompts.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import voxtell.inference.openmp  # noqa: F401 (first: every import of torch comes after it)
from voxtell.engine import BUNDLED_MODEL, Ask, Box, Engine, ModelInfo, Point, Precision, recognise
from voxtell.errors import (
    CancelledError,
    FetchError,
    FileError,
    ImageError,
    ImageWarning,
    ModelError,
    NumbersError,
    OutOfMemoryError,
    PromptError,
    VoxTellError,
)
from voxtell.inference.shortcuts import EXACT, Shortcuts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from voxtell.nifti import NiftiImage
    from voxtell.segmenter import Segmenter

__all__ = [
    "Ask",
    "Box",
    "CancelledError",
    "Engine",
    "FetchError",
    "FileError",
    "ImageError",
    "ImageWarning",
    "ModelError",
    "ModelInfo",
    "NiftiImage",
    "NumbersError",
    "OutOfMemoryError",
    "Point",
    "PromptError",
    "Segmenter",
    "Shortcuts",
    "VoxTellError",
    "load",
    "read",
    "write",
]


def load(
    model: str | Path | None = None,
    device: str = "cpu",
    bank: str | Path | None = None,
    *,
    use_bank: bool = True,
    precision: Precision = "auto",
    shortcuts: Shortcuts = EXACT,
    compiled: bool = False,
) -> Engine:
    """Returns the model of a directory, or the bundled one, loaded by its own engine and ready on a device.

    Args:
        model: model directory; None for the bundled model.
        device: "cpu", "cuda", "cuda:1", or "auto", the first GPU if there is one.
        bank: .npz of embeddings that is asked before the text model; None takes the one beside the weights, if any.
        use_bank: False uses no bank at all.
        precision: "auto" is float16 on CUDA and float32 elsewhere; the digest names it unless it is float32.
        shortcuts: approximations, none by default.
        compiled: let torch compile the encoder, which takes minutes at the first window.

    Raises:
        ModelError: when a file is missing or damaged, no engine knows the layout, the engine lacks an option that is
            set, the device is not there, or there is no C compiler for `compiled`.
        OutOfMemoryError: when the device has too little free memory now.
    """
    directory = BUNDLED_MODEL if model is None else Path(model)
    layout = recognise(directory)
    usual = {"precision": "auto", "compile_encoder": False, **vars(EXACT)}
    asked = {"precision": precision, "compile_encoder": compiled, **vars(shortcuts)}
    chosen = {name: value for name, value in asked.items() if value != usual[name]}
    if beyond := chosen.keys() - layout.options.__dataclass_fields__.keys():
        raise ModelError(f"{directory}: its engine, {layout.engine}, has no {', '.join(sorted(beyond))}; leave it out")
    found = None if bank is None else Path(bank)
    return layout.load(directory, device, found, use_bank=use_bank, options=layout.options(**chosen))


def read(path: str | Path, *, orientation: str | None = None, nan: float | None = None) -> "NiftiImage":
    """Reads a NIfTI file as an engine takes it: `array` float32 (S, A, R), `spacing` mm per voxel (S, A, R).

    Args:
        path: a .nii or .nii.gz file with one 3-D volume.
        orientation: "sform" or "qform" where the two contradict each other; directions of the file's axes, such as
            "RAS", where it has neither.
        nan: the value that replaces NaN.

    Raises:
        FileError: when the file is missing, damaged, or could be read in two ways; says what to do.
    """
    from voxtell.nifti import ReadAs, read_image

    return read_image(Path(path), ReadAs(orientation, nan))


def write(path: str | Path, mask: "npt.NDArray[np.bool_ | np.integer]", image: "NiftiImage") -> None:
    """Writes a mask or label map (S, A, R) of an image that `read` returned, on the grid of its file.

    Raises:
        FileError: when the mask is on another grid than the image, or the name does not end in .nii or .nii.gz.
    """
    from voxtell.nifti import write_mask

    write_mask(Path(path), mask, image)


def __getattr__(name: str) -> object:
    """Returns the classes whose modules load torch or nibabel when they are first asked for (PEP 562)."""
    if name == "Segmenter":
        from voxtell.segmenter import Segmenter

        return Segmenter
    if name == "NiftiImage":
        from voxtell.nifti import NiftiImage

        return NiftiImage
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
