"""Where the voxels of a NIfTI file lie: its orientation codes, judged, or what the caller says instead."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from nibabel.nifti1 import Nifti1Header
from nibabel.nifti2 import Nifti2Header
from nibabel.orientations import aff2axcodes, axcodes2ornt, inv_ornt_aff, io_orientation

from voxtell.engine import Spacing
from voxtell.errors import FileError

MILLIMETRES: Final = {"meter": 1000.0, "mm": 1.0, "micron": 0.001, "unknown": 1.0}
LEAST_DETERMINANT: Final = 1e-4  # of the affine's unit columns; below, its axes lie in one plane

Affine = npt.NDArray[np.float64]


@dataclass(frozen=True)
class NiftiGrid:
    """Where the voxels of a file lie.

    affine: (4, 4), file indices (i, j, k) to RAS in the file's own unit; unit: "mm", "meter", "micron" or "unknown",
    which counts as millimetres; shape: (I, J, K).
    """

    affine: Affine
    unit: str
    shape: tuple[int, int, int]

    @property
    def affine_mm(self) -> Affine:
        """(4, 4) from file indices (i, j, k) to RAS millimetres."""
        scaled = self.affine.copy()
        scaled[:3] *= MILLIMETRES[self.unit]
        return scaled

    @property
    def orientation(self) -> npt.NDArray[np.float64]:
        """nibabel's orientation (3, 2) that turns file axes into (R, A, S)."""
        return np.asarray(io_orientation(self.affine))

    @property
    def spacing(self) -> Spacing:
        """Millimetres per voxel (S, A, R)."""
        turned = self.affine_mm @ inv_ornt_aff(self.orientation, self.shape)
        r, a, s = (float(size) for size in np.linalg.norm(turned[:3, :3], axis=0))
        return s, a, r


def grid_of(
    path: Path, header: Nifti1Header | Nifti2Header, shape: tuple[int, int, int], orientation: str | None
) -> NiftiGrid:
    """Returns where the voxels of a file lie, by the option, else by its codes.

    Raises:
        FileError: when the orientation is missing, contradicts itself or is degenerate; says what to do.
    """
    affine = np.asarray(_affine(path, header, shape, orientation), np.float64)
    _check_axes(path, affine)
    return NiftiGrid(affine, header.get_xyzt_units()[0], shape)


def _check_axes(path: Path, affine: npt.NDArray[Any]) -> None:
    """Refuses an affine whose three axes do not span a volume."""
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not np.isfinite(affine).all() or not lengths.all():
        raise FileError(f"{path}: its orientation is damaged (an axis without direction or length)")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < LEAST_DETERMINANT:
        raise FileError(f"{path}: its orientation is damaged (its three axes lie in one plane)")


def _affine(
    path: Path, header: Nifti1Header | Nifti2Header, shape: Sequence[int], orientation: str | None
) -> npt.NDArray[Any]:
    """Returns the affine by the option, else by the codes; refuses codes that are missing or contradict each other."""
    forms = {name: form for name in ("sform", "qform") if (form := _form(header, name)) is not None}
    if orientation in ("sform", "qform"):
        if orientation not in forms:
            raise FileError(f"{path} has no {orientation}; it has {' and '.join(forms) or 'no orientation at all'}")
        return forms[orientation]
    if orientation is not None:
        return _by_letters(orientation, header, shape)
    if not forms:
        raise FileError(
            f"{path} says nothing of its orientation (neither sform nor qform code), so left and right are "
            "unknown; say how its axes run (--orientation RAS, LAS, ...)"
        )
    for form in forms.values():
        _check_axes(path, form)
    said = {name: "".join(map(str, aff2axcodes(form))) for name, form in forms.items()}
    if len(set(said.values())) > 1:
        raise FileError(
            f"{path} contradicts itself: its axes run {said['sform']} by the sform and {said['qform']} by "
            "the qform; say which is right (--orientation sform or --orientation qform)"
        )
    return next(iter(forms.values()))  # the sform before the qform


def _form(header: Nifti1Header | Nifti2Header, name: str) -> npt.NDArray[Any] | None:
    """Returns the affine of the sform or qform; None where its code is 0."""
    form, _code = header.get_sform(coded=True) if name == "sform" else header.get_qform(coded=True)
    return None if form is None else np.asarray(form)


def _by_letters(letters: str, header: Nifti1Header | Nifti2Header, shape: Sequence[int]) -> npt.NDArray[Any]:
    """Makes an affine: spacing by pixdim, axes by letters such as RAS, the middle of the volume at the origin."""
    axes = axcodes2ornt(letters.upper()) if len(letters) == 3 and set(letters.upper()) <= set("RLAPSI") else None
    if axes is None or len({int(row) for row, _ in axes}) != 3:
        raise FileError(f"orientation {letters!r} is neither sform, qform nor three letters such as RAS or LPS")
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, ((row, sign), size) in enumerate(zip(axes, header.get_zooms(), strict=False)):
        affine[int(row), axis] = sign * abs(float(size))
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine
