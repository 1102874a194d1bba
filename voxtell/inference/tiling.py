"""Places windows over a volume and blends their logits, one slab of rows at a time.

Windows run along the first axis from low to high. As soon as all windows that touch a row have been added, the row is
finished and handed out. So the sums of only `patch[0]` rows are held, not those of the whole volume. Window grid and
Gaussian weights are those of nnU-Net (Isensee et al. 2021). Axes are (S, A, R): superior, anterior, right.
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
    """Returns the first voxel (S, A, R) of every window, spread evenly at steps of at most half a patch.

    The first axis runs slowest, which `blend` relies on. shape: the padded volume, nowhere smaller than `patch`.
    """
    s, a, r = compute_steps_for_sliding_window(shape, patch, STEP)
    return list(product(s, a, r))


@lru_cache(maxsize=2)
def window_weights(patch: Triple) -> Tensor:
    """Returns the weights float32 (s, a, r) of a window's logits: a Gaussian of sigma patch / 8, nowhere zero.

    The values are rounded to half precision, as in nnU-Net: near the corners that rounding decides which window counts.
    """
    half: Tensor = compute_gaussian(
        patch, value_scaling_factor=GAUSSIAN_PEAK, dtype=torch.float16, device=torch.device("cpu")
    )
    return half.float()


def slab_bytes(shape: Triple, patch: Triple) -> int:
    """Returns the bytes that `blend` holds for the sums of each prompt; the weights take the same once more."""
    return 4 * patch[0] * shape[1] * shape[2]


def blend(
    shape: Triple,
    patch: Triple,
    prompts: int,
    predict: Callable[[Triple], Iterable[Tensor] | None],
    device: torch.device,
) -> Iterator[tuple[slice, Tensor]]:
    """Runs `predict` on every window and yields the blended logits row by row.

    Args:
        shape: the padded volume (S, A, R); patch: the window size.
        prompts: number P of prompts.
        predict: takes the first voxel of a window and returns the logits of each prompt in turn, (s, a, r) of patch
            size or (1, 1, 1) where one value stands for the whole window, on any device; None leaves the window out.
        device: where the sums are held.

    Yields:
        (rows, logits): the slice of rows, and float32 (P, rows, A, R) on `device`, in order and without gaps; -inf
        where no window took part. The tensor is valid only until the next step.
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
