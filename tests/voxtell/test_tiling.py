"""Blending slab by slab: the same numbers, bit for bit, as with sums as large as the volume."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.support.examples import examples
from voxtell.inference import tiling
from voxtell.inference.assembly import Rows
from voxtell.inference.preprocess import Field, resize
from voxtell.model.plans import Plans

PATCHES = st.tuples(*[st.sampled_from((4, 6, 8))] * 3)
GROWTH = st.tuples(*[st.integers(0, 15)] * 3)


def noise(prompts: int, start: tuple[int, ...], patch: tuple[int, ...]) -> torch.Tensor:
    """Logits of one window that nobody else has."""
    seed = sum(at * step for at, step in zip(start, (1, 100, 10000), strict=True))
    return torch.randn(prompts, *patch, generator=torch.Generator().manual_seed(seed))


def blended_at_once(shape, patch, prompts: int, left_out=frozenset()) -> torch.Tensor:
    """Sums and weights of all windows over the whole volume, then one division."""
    weights = tiling.window_weights(patch)
    sums, total = torch.zeros(prompts, *shape), torch.zeros(shape)
    for start in tiling.window_starts(shape, patch):
        if start not in left_out:
            area = tuple(slice(at, at + size) for at, size in zip(start, patch, strict=True))
            for of_prompt, logits in zip(sums, noise(prompts, start, patch), strict=True):
                of_prompt[area].addcmul_(logits, weights)
            total[area] += weights
    return torch.where(total > 0, sums / total, -torch.inf)


@given(patch=PATCHES, growth=GROWTH, prompts=st.integers(1, 3), every=st.integers(2, 6))
@examples(60)
def test_slabs_give_what_whole_sums_give(patch, growth, prompts: int, every: int) -> None:
    shape = tuple(size + more for size, more in zip(patch, growth, strict=True))
    starts = tiling.window_starts(shape, patch)
    for left_out in (frozenset(), frozenset(starts[1::every])):
        blended, next_row = torch.empty(prompts, *shape), 0
        for rows, logits in tiling.blend(
            shape,
            patch,
            prompts,
            lambda start, left_out=left_out: None if start in left_out else noise(prompts, start, patch),
            torch.device("cpu"),
        ):
            assert rows.start == next_row
            blended[:, rows] = logits
            next_row = rows.stop
        assert next_row == shape[0]
        torch.testing.assert_close(blended, blended_at_once(shape, patch, prompts, left_out), rtol=0, atol=0)


def test_one_logit_may_stand_for_a_window() -> None:
    once = tiling.blend((4, 4, 4), (4, 4, 4), 1, lambda _: [torch.full((1, 1, 1), -3.0)], torch.device("cpu"))
    _, blended = next(iter(once))
    torch.testing.assert_close(blended, torch.full((1, 4, 4, 4), -3.0))


def test_the_sums_of_a_large_volume_are_those_of_one_slab() -> None:
    assert tiling.slab_bytes((600, 512, 512), Plans().patch_size) == 4 * 192 * 512 * 512


@given(
    coarse=st.tuples(*[st.integers(1, 20)] * 3),
    fine=st.tuples(*[st.integers(1, 40)] * 3),
    cuts=st.sets(st.integers(1, 19)),
    padding=st.integers(0, 2),
)
@examples(60)
def test_rows_come_back_to_the_callers_grid_as_if_all_were_resampled_at_once(coarse, fine, cuts, padding: int) -> None:
    volume = torch.randn(2, *coarse, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(volume, [padding] * 6)
    inside = tuple(slice(padding, padding + size) for size in coarse)
    field = Field(padded[0], inside, tuple(slice(0, size) for size in fine), resampled=True)
    out = torch.full((2, *fine), torch.nan).numpy()
    rows = Rows(field, out, lambda logits: logits)
    edges = [0, *sorted(cut for cut in cuts if cut < padded.shape[1]), padded.shape[1]]
    for first, end in pairwise(edges):
        rows.take(slice(first, end), padded[:, first:end])
    expected = torch.stack([resize(of_prompt, fine) for of_prompt in volume])
    torch.testing.assert_close(torch.from_numpy(out), expected, rtol=0, atol=2e-5)
