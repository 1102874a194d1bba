"""Approximations: off unless asked for, said in the result, and each leaves out the work that it says."""

from collections.abc import Iterator
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from voxtell.errors import ModelError
from voxtell.inference import preprocess, runner, tiling
from voxtell.inference.shortcuts import EXACT, Shortcuts
from voxtell.model.network import VoxTell
from voxtell.model.plans import InputPlans, Plans
from voxtell.segmenter import Segmenter

PROMPTS = ["liver", "spleen", "aorta"]
Image = npt.NDArray[np.float32]


def segmenter_with(network: VoxTell, text: object, **shortcuts: object) -> Segmenter:
    return Segmenter(network, text, "sha256:test", shortcuts=Shortcuts(**shortcuts))  # type: ignore[arg-type]


def operations(segmenter: Segmenter, image: Image) -> tuple[npt.NDArray[np.bool_], int]:
    """Masks, and the floating-point operations that they took."""
    with FlopCounterMode(display=False) as counter:
        masks = segmenter(image, PROMPTS)
    return masks, counter.get_total_flops()


def test_all_are_off_by_default_and_results_say_which_are_on(tiny_network: VoxTell, text) -> None:
    assert Segmenter(tiny_network, text, "sha256:test").info.digest == "sha256:test"
    assert str(EXACT) == ""
    some = segmenter_with(tiny_network, text, early_exit=2.0, skip_below=-400, resample=True)
    assert some.info.digest == "sha256:test early-exit=2 skip-below=-400 resample"


def test_a_margin_is_not_negative() -> None:
    with pytest.raises(ModelError, match="early_exit is -1"):
        Shortcuts(early_exit=-1)
    with pytest.raises(ModelError, match="coarse_first is nan"):
        Shortcuts(coarse_first=float("nan"))


@pytest.mark.parametrize("name", ["early_exit", "coarse_first"])
def test_with_a_wide_margin_nothing_changes(tiny_network: VoxTell, text, image: Image, name: str) -> None:
    exact = segmenter_with(tiny_network, text).logits(image, PROMPTS)
    np.testing.assert_array_equal(segmenter_with(tiny_network, text, **{name: 1e9}).logits(image, PROMPTS), exact)


def test_progress_counts_the_coarse_pass(tiny_network: VoxTell, text, image: Image) -> None:
    seen: list[float] = []
    segmenter_with(tiny_network, text, coarse_first=1.0)(image, PROMPTS, progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-3] < 1.0 == seen[-1]


@pytest.mark.long
def test_a_prompt_that_coarse_heads_deny_is_not_decoded_further(tiny_network: VoxTell, text, image: Image) -> None:
    exact, all_operations = operations(segmenter_with(tiny_network, text), image)
    with torch.no_grad():
        for head in tiny_network.decoder.seg_layers:
            head.bias -= 100
    masks, fewer = operations(segmenter_with(tiny_network, text, early_exit=1.0), image)
    assert exact.any()
    assert not masks.any()
    assert fewer < 0.9 * all_operations


@pytest.mark.long
def test_windows_of_air_are_not_run_and_hold_no_mask(tiny_network: VoxTell, text, image: Image) -> None:
    scan = np.concatenate([image, np.full((40, 14, 40), -1000, np.float32)])
    segmenter = segmenter_with(tiny_network, text, skip_below=-500)
    masks, fewer = operations(segmenter, scan)
    exact, all_operations = operations(segmenter_with(tiny_network, text), scan)
    assert fewer < 0.8 * all_operations
    assert np.all(segmenter.logits(scan, PROMPTS)[:, -16:] == -np.inf)
    np.testing.assert_array_equal(masks[:, :14], exact[:, :14])  # only windows with body reach these rows


def test_padding_is_no_body(tiny_plans: Plans) -> None:
    scan = np.full((5, 5, 5), -1000, np.float32)
    scan[2, 2, 2] = 60
    for air, body in ((-500, True), (60, False)):
        field = preprocess.prepare(scan, tiny_plans, air=air)
        assert field is not None
        assert field.volume.shape == tiny_plans.patch_size
        assert field.has_body((0, 0, 0), tiny_plans.patch_size) == body


@pytest.mark.long
def test_fine_windows_run_only_where_the_coarse_pass_found_something(
    tiny_network: VoxTell, text, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network that finds the second prompt everywhere at half the resolution, and no other anywhere."""
    image = np.random.default_rng(0).normal(100, 20, (64, 32, 60)).astype(np.float32)
    wanted: list[list[bool]] = []
    whole = runner.Runner._window

    def window(self, volume, start, embeddings, asked, steps) -> Iterator[torch.Tensor]:
        if volume.shape[0] < 64:
            return iter([torch.full((16, 16, 24), found) for found in (-9.0, 1.0, -9.0)])
        wanted.append(asked)
        return whole(self, volume, start, embeddings, asked, steps)

    monkeypatch.setattr(runner.Runner, "_window", window)
    masks = segmenter_with(tiny_network, text, coarse_first=4.0)(image, PROMPTS)
    assert wanted == [[False, True, False]] * len(tiling.window_starts(image.shape, (16, 16, 24)))
    assert masks[1].any()
    assert not masks[[0, 2]].any()


def test_a_coarse_voxel_touches_the_windows_that_hold_one_of_its_fine_voxels() -> None:
    plans, size = Plans(patch_size=(32, 32, 32)), (41, 20, 39)
    field = preprocess.prepare(np.ones(size, np.float32), plans)
    assert field is not None
    half = preprocess.halved(field, plans.patch_size)
    assert half.crop_shape == (21, 10, 20)
    for at in product((0, 9, 15, 16, 20), (0, 9), (0, 15, 16, 19)):
        near = np.zeros((1, *half.crop_shape), bool)
        near[(0, *at)] = True
        fine = np.zeros(size, bool)
        fine[tuple(slice(2 * i, 2 * i + 2) for i in at)] = True
        padded = np.zeros(field.volume.shape, bool)
        padded[field.inside] = fine
        for start in tiling.window_starts(tuple(field.volume.shape), plans.patch_size):
            window = padded[tuple(slice(first, first + 32) for first in start)]
            assert runner._touched(near, field, start, plans.patch_size) == [window.any()]


def test_unusual_spacing_is_resampled_for_weights_that_take_every_spacing(tiny_network: VoxTell, text, image) -> None:
    segmenter = segmenter_with(tiny_network, text, resample=True)
    assert segmenter.plans.input.spacing == (1.5, 1.5, 1.5)
    exact = segmenter_with(tiny_network, text)(image, PROMPTS)
    np.testing.assert_array_equal(segmenter(image, PROMPTS, spacing=(3.0, 0.5, 1.5)), exact)
    masks = segmenter(image, PROMPTS, spacing=(6.0, 1.0, 1.0))
    assert masks.shape == exact.shape
    assert 0 < np.mean(masks != exact) < 0.5


def test_a_models_own_spacing_stands() -> None:
    own = InputPlans(spacing=(2.5, 4.0, 4.0), spacing_min=(1.0, 3.0, 3.0), spacing_max=(4.0, 5.0, 5.0))
    assert Shortcuts(resample=True).applied_to(own) is own
