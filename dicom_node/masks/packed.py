"""Stores masks of one series at one bit per voxel, without empty slices: thirty organs in the space of one.

The bits of a plane are those of a BINARY Segmentation's frame (PS3.5 8.1.1), so that packing once serves both.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import ResultError

Mask = NDArray[np.bool_]  # (slices, rows, columns)
Bounds = tuple[slice, slice, slice]


@dataclass(frozen=True, eq=False)
class PackedMask:
    """Holds one mask.

    held: the slices that hold a voxel, ascending. bits: uint8 (held, bytes), the first pixel in the lowest bit.
    """

    shape: tuple[int, int, int]
    held: NDArray[np.intp]
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, mask: Mask) -> "PackedMask":
        """Packs a mask bool (slices, rows, columns).

        Raises:
            ResultError: when it is not bool or does not have three axes.
        """
        if mask.dtype != np.bool_ or mask.ndim != 3:
            raise ResultError(f"a mask is {mask.dtype} {mask.shape}; it must be bool (slices, rows, columns)")
        held = np.flatnonzero([plane.any() for plane in mask])  # per plane, any() stops at its first voxel
        size = mask.shape[1] * mask.shape[2]
        bits = np.empty((len(held), -(-size // 8)), dtype=np.uint8)
        for row, place in zip(bits, held, strict=True):
            row[:] = np.packbits(mask[place].ravel(), bitorder="little")
        return cls((mask.shape[0], mask.shape[1], mask.shape[2]), held, bits)

    def without(self, slices: Collection[int]) -> "PackedMask":
        """Returns the mask with these slices empty."""
        kept = np.array([place not in slices for place in self.held.tolist()], dtype=bool)
        return PackedMask(self.shape, self.held[kept], self.bits[kept])

    def planes(self) -> Iterator[tuple[int, NDArray[np.bool_]]]:
        """Yields each slice that holds a voxel, with its plane bool (rows, columns)."""
        _, rows, columns = self.shape
        for place, row in zip(self.held.tolist(), self.bits, strict=True):
            yield place, np.unpackbits(row, count=rows * columns, bitorder="little").view(bool).reshape(rows, columns)

    def mask(self) -> Mask:
        """Returns the mask unpacked, bool (slices, rows, columns), as an array of its own."""
        done = np.zeros(self.shape, dtype=bool)
        for place, plane in self.planes():
            done[place] = plane
        return done


class Masks(Sequence[Mask]):
    """Holds packed masks of one shape. Each is unpacked when it is asked for, as an array that belongs to the caller.

    Raises:
        ResultError: when the shapes differ.
    """

    def __init__(self, packed: Iterable[PackedMask]) -> None:
        self.packed = tuple(packed)
        if len({one.shape for one in self.packed}) > 1:
            raise ResultError("the masks of one series have different shapes")

    @classmethod
    def of(cls, masks: "Masks | NDArray[np.bool_]") -> "Masks":
        """Packs an array bool (P, slices, rows, columns), one mask at a time; packed masks are returned as they are."""
        return masks if isinstance(masks, Masks) else cls(map(PackedMask.of, masks))

    def without(self, slices: Collection[int]) -> "Masks":
        """Returns the masks with these slices empty."""
        return Masks(one.without(slices) for one in self.packed) if slices else self

    @property
    def shape(self) -> tuple[int, ...]:
        """(P, slices, rows, columns); (0,) without masks."""
        return (len(self.packed), *(self.packed[0].shape if self.packed else ()))

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> Mask: ...
    @overload
    def __getitem__(self, index: slice) -> "Masks": ...
    def __getitem__(self, index: int | slice) -> "Mask | Masks":
        return Masks(self.packed[index]) if isinstance(index, slice) else self.packed[index].mask()


def bounding_box(mask: Mask) -> Bounds | None:
    """Returns the smallest box (slices, rows, columns) that holds the mask, or None when it is empty."""
    slices = np.flatnonzero(mask.any(axis=(1, 2)))
    if not len(slices):
        return None
    plane = np.asarray(mask[slices[0] : slices[-1] + 1].any(axis=0))
    rows, columns = np.flatnonzero(plane.any(axis=1)), np.flatnonzero(plane.any(axis=0))
    first, last = zip(*((int(held[0]), int(held[-1])) for held in (slices, rows, columns)), strict=True)
    return slice(first[0], last[0] + 1), slice(first[1], last[1] + 1), slice(first[2], last[2] + 1)
