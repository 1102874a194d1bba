"""Windows over a volume and their blending, one slab of rows at a time.

Windows run along the first axis from low to high. As soon as all windows that touch a row have been added, the row is
finished and handed out; the sums of `patch` rows are all that is ever held, not those of the volume.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import groupby, product

import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import Tensor

from voxtell.model.plans import Triple

STEP = 0.5  # of the patch, between neighbouring windows
GAUSSIAN_PEAK = 10  # as nnU-Net scales it


def window_starts(shape: Triple, patch: Triple) -> list[Triple]:
    """First voxel of every window, evenly spread at steps of at most half a patch; the first axis runs slowest."""
    s, a, r = compute_steps_for_sliding_window(shape, patch, STEP)
    return list(product(s, a, r))


@lru_cache(maxsize=2)
def window_weights(patch: Triple) -> Tensor:
    """The Gaussian (s, a, r) by which a window's logits count: sigma an eighth of the patch, nowhere zero.

    Its values are those of half precision, as in nnU-Net: near the corners they decide which window counts.
    """
    half: Tensor = compute_gaussian(
        patch, value_scaling_factor=GAUSSIAN_PEAK, dtype=torch.float16, device=torch.device("cpu")
    )
    return half.float()


def slab_bytes(shape: Triple, patch: Triple) -> int:
    """Memory that `blend` holds for the sums of each prompt, and once more for their weights, in bytes."""
    return 4 * patch[0] * shape[1] * shape[2]


def blend(
    shape: Triple,
    patch: Triple,
    prompts: int,
    predict: Callable[[Triple], Iterable[Tensor] | None],
    device: torch.device,
) -> Iterator[tuple[slice, Tensor]]:
    """Run `predict` on every window and yield the blended logits row by row.

    predict: first voxel of a window -> for each prompt in turn its logits (s, a, r) of patch size, or (1, 1, 1) where
    one logit stands for all of the window, on any device; or None for a window that takes no part.
    Yields (rows, logits float32 (P, rows, A, R)) on `device`, in order and without gaps; -inf where no window took
    part. The tensor is only valid until the next step.
    """
    weights = window_weights(patch).to(device)
    sums = torch.zeros((prompts, patch[0], *shape[1:]), device=device)
    total = torch.zeros((patch[0], *shape[1:]), device=device)
    slabs = [
        (first, list(starts)) for first, starts in groupby(window_starts(shape, patch), key=lambda start: start[0])
    ]
    ends = [first for first, _ in slabs[1:]] + [shape[0]]
    gaps = False
    for (first, starts), end in zip(slabs, ends, strict=True):
        for start in starts:
            area = (slice(None), *(slice(at, at + size) for at, size in zip(start[1:], patch[1:], strict=True)))
            found = predict(start)
            gaps |= found is None
            if found is not None:
                total[area] += weights
                for p, logits in enumerate(found):
                    sums[p][area].addcmul_(logits.to(device, torch.float32), weights)
        done = end - first
        for of_prompt in sums:
            of_prompt[:done] /= total[:done]
            if gaps:
                of_prompt[:done].masked_fill_(total[:done] == 0, -torch.inf)
        yield slice(first, end), sums[:, :done]
        for held in (total, *sums):
            held[: patch[0] - done] = held[done:].clone()
            held[patch[0] - done :] = 0
