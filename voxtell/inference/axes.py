"""Says what may be wrong with the axes of an image in which nothing was found: their order, or the spacing.

Callers of other libraries have images as (x, y, z) or (z, y, x) with other directions; the network then sees a body in
no position that it knows, and answers with empty masks and no error.
"""

from collections.abc import Sequence

RIGHT_ORDER = "axes are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to the patient's right"
CHECK = f"Check the image: {RIGHT_ORDER}; voxtell.read gives a NIfTI file so."
"""What to say where nothing speaks against the axes, and known structures are not found all the same."""


def axes_doubt(shape: Sequence[int], spacing: Sequence[float] | None, own: Sequence[float] | None) -> str:
    """Returns one sentence on what speaks against the axes; "" when nothing does.

    Args:
        shape: of the image.
        spacing: mm per voxel that the caller gave; None for none.
        own: the spacing of the model's training, which counts where none was given; None for a model that resamples
            nothing.
    """
    if shape[0] == shape[1] != shape[2] or (spacing is not None and spacing[0] == spacing[1] != spacing[2]):
        return f"The slices seem to lie along the last axis, as in (x, y, z); {RIGHT_ORDER}."
    if spacing is None and own is not None:
        voxel = " x ".join(f"{side:g}" for side in own)
        return f"No spacing was given, so a voxel counted as {voxel} mm; give it in mm. Check too: {RIGHT_ORDER}."
    return ""
