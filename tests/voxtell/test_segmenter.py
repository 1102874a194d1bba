"""Array in, masks out: what a caller gets, in which order, and what he is told when his input is off."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from voxtell.engine import Precision
from voxtell.errors import CancelledError, ImageError, ModelError, NumbersError, OutOfMemoryError, PromptError
from voxtell.inference import assembly, memory, runner, tiling
from voxtell.inference.preprocess import foreground_box, normalize, prepare
from voxtell.model.network import VoxTell
from voxtell.model.plans import InputPlans, Plans
from voxtell.segmenter import Segmenter, load

Image = npt.NDArray[np.float32]


def with_input(network: VoxTell, text: object, plans: InputPlans) -> Segmenter:
    """The same weights with another preprocessing."""
    network.plans = dataclasses.replace(network.plans, input=plans)
    return Segmenter(network, text, "sha256:test")  # type: ignore[arg-type]


def blended_at_once(network: VoxTell, volume: torch.Tensor, embeddings: torch.Tensor) -> torch.Tensor:
    """The definition of blending: all windows into sums as large as the volume, then one division."""
    patch = network.plans.patch_size
    weights = tiling.window_weights(patch)
    sums = torch.zeros(len(embeddings), *volume.shape)
    total = torch.zeros(volume.shape)
    for s, a, r in tiling.window_starts(tuple(volume.shape), patch):
        area = (slice(s, s + patch[0]), slice(a, a + patch[1]), slice(r, r + patch[2]))
        with torch.no_grad():
            logits = network(volume[area][None, None], embeddings[None])[0][0]
        sums[(slice(None), *area)] += logits * weights
        total[area] += weights
    return sums / total


def test_logits_are_those_of_all_windows_blended_at_once(
    segmenter: Segmenter, tiny_network: VoxTell, text, image: Image
) -> None:
    prompts = ["liver", "left kidney"]
    logits = segmenter.logits(image, prompts)
    crop = image[3:28, 1:13, 2:37]
    padded = np.pad(normalize(crop, InputPlans()), ((0, 0), (2, 2), (0, 0)))
    expected = blended_at_once(tiny_network, torch.from_numpy(padded), text.embed(prompts))[:, :, 2:14].numpy()
    np.testing.assert_allclose(logits[:, 3:28, 1:13, 2:37], expected, rtol=0, atol=2e-5 * np.abs(expected).max())
    outside = np.ones(image.shape, bool)
    outside[3:28, 1:13, 2:37] = False
    assert np.all(logits[:, outside] == -np.inf)


def test_masks_are_the_positive_logits(segmenter: Segmenter, image: Image) -> None:
    masks, logits = segmenter(image, ["liver", "spleen"]), segmenter.logits(image, ["liver", "spleen"])
    assert masks.dtype == np.bool_
    assert masks.shape == (2, *image.shape)
    assert 0 < masks.mean() < 1
    np.testing.assert_array_equal(masks, logits > 0)


def test_prompts_keep_their_order_and_repeated_ones_are_computed_once(segmenter, text, image: Image) -> None:
    together = segmenter(image, ["spleen", "Liver", "spleen", "liver"])
    assert sorted(text.asked) == ["liver", "spleen"]
    for mask, prompt in zip(together, ["spleen", "liver", "spleen", "liver"], strict=True):
        assert np.mean(mask == segmenter(image, [prompt])[0]) > 0.999  # but for rounding where a logit is zero


def test_a_prompt_is_embedded_once_for_many_images(segmenter, text, image: Image) -> None:
    segmenter(image, ["liver"])
    segmenter(image * 2, ["Liver", "spleen"])
    assert text.asked == ["liver", "spleen"]


def test_passes_of_few_prompts_change_nothing(segmenter: Segmenter, image: Image, monkeypatch) -> None:
    prompts = ["liver", "spleen", "aorta", "left kidney", "spine"]
    at_once = segmenter.logits(image, prompts)
    slab = tiling.slab_bytes((25, 16, 35), (16, 16, 24))
    window = memory.features_bytes(segmenter.plans, 4)
    results = len(prompts) * 25 * 12 * 35 * 4
    monkeypatch.setattr(memory, "free_bytes", lambda device: (3.5 * slab + window + results) / memory.SHARE)
    np.testing.assert_allclose(segmenter.logits(image, prompts), at_once, rtol=0, atol=1e-5)


def test_progress_rises_to_one(segmenter: Segmenter, image: Image) -> None:
    seen: list[float] = []
    segmenter(image, ["liver", "spleen"], progress=seen.append)
    assert len(seen) > 4
    assert seen == sorted(seen)
    assert seen[-1] == 1.0


def test_cancelling_stops_before_the_next_window(segmenter: Segmenter, image: Image) -> None:
    seen: list[float] = []
    with pytest.raises(CancelledError):
        segmenter(image, ["liver"], progress=seen.append, cancelled=lambda: len(seen) >= 2)
    assert len(seen) == 2


def test_an_image_without_foreground_gives_empty_masks(segmenter: Segmenter) -> None:
    masks = segmenter(np.zeros((20, 30, 30), np.float32), ["liver"])
    assert masks.shape == (1, 20, 30, 30)
    assert not masks.any()


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda image: image[0], "2 axes"),
        (lambda image: image[:0], "empty"),
        (lambda image: image.astype(complex), "complex128"),
        (lambda image: np.where(image > 150, np.nan, image), "not finite"),
    ],
)
def test_a_wrong_image_is_refused_in_one_sentence(
    segmenter: Segmenter, image: Image, spoil: Callable[[Image], Image], sentence: str
) -> None:
    with pytest.raises(ImageError, match=sentence):
        segmenter(spoil(image), ["liver"])


@pytest.mark.parametrize(
    ("prompts", "sentence"),
    [("liver", "list of texts"), ([], "no prompt"), (["liver", " "], "prompt 2 of 2 is empty"), ([3], "not a text")],
)
def test_wrong_prompts_are_refused_in_one_sentence(segmenter, image: Image, prompts: object, sentence: str) -> None:
    with pytest.raises(PromptError, match=sentence):
        segmenter(image, prompts)


def test_spacing_must_be_three_positive_millimetres(segmenter: Segmenter, image: Image) -> None:
    with pytest.raises(ImageError, match="three positive millimetres"):
        segmenter(image, ["liver"], spacing=(1.0, 0.0, 1.0))


def test_a_model_without_training_spacing_never_resamples(segmenter: Segmenter, image: Image) -> None:
    np.testing.assert_array_equal(segmenter(image, ["liver"], spacing=(9.0, 9.0, 9.0)), segmenter(image, ["liver"]))


def test_unusual_spacing_is_resampled_and_masks_come_back(tiny_network: VoxTell, text, image: Image) -> None:
    """An image at half the training spacing, blocks of 2 x 2 x 2 voxels alike, is segmented like the coarse one."""
    plans = InputPlans(spacing=(2.0, 2.0, 2.0), spacing_min=(1.5, 1.5, 1.5), spacing_max=(3.0, 3.0, 3.0))
    segmenter = with_input(tiny_network, text, plans)
    coarse = segmenter(image, ["liver"], spacing=(2.5, 2.0, 1.5))
    np.testing.assert_array_equal(coarse, segmenter(image, ["liver"]))
    fine_image = image.repeat(2, 0).repeat(2, 1).repeat(2, 2)
    fine = segmenter(fine_image, ["liver"], spacing=(1.0, 1.0, 1.0))
    assert fine.shape == (1, *fine_image.shape)
    expected = coarse[0].repeat(2, 0).repeat(2, 1).repeat(2, 2)
    assert np.mean(fine[0] == expected) > 0.8


def test_hounsfield_models_clip_scale_and_crop_to_the_body(image: Image) -> None:
    plans = InputPlans(normalization="ct", lower=-1000, upper=1000, mean=50, std=100, foreground_above=-500)
    volume = np.array([-2000.0, 50.0, 3000.0], np.float32).reshape(1, 1, 3)
    np.testing.assert_allclose(normalize(volume, plans).ravel(), [-10.5, 0.0, 9.5])
    scan = np.where(image > 0, image, -1000)
    assert foreground_box(scan, plans.foreground_above) == (slice(3, 28), slice(1, 13), slice(2, 37))


@pytest.mark.parametrize(("precision", "share"), [("bfloat16", 0.1), ("float16", 0.02)])
def test_half_precision_is_near_float32_and_named_in_the_digest(
    tiny_network: VoxTell, text, image: Image, precision: Precision, share: float
) -> None:
    exact, rough = (Segmenter(tiny_network, text, "sha256:test", precision=p) for p in ("float32", precision))
    wanted, found = (segmenter.logits(image, ["liver"]) for segmenter in (exact, rough))
    inside = np.isfinite(wanted)
    assert 0 < np.abs(wanted[inside] - found[inside]).max() < share * np.abs(wanted[inside]).max()
    assert (exact.info.digest, rough.info.digest) == ("sha256:test", f"sha256:test {precision}")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_an_error_and_no_empty_mask(
    tiny_network: VoxTell, text, image: Image, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    segmenter = Segmenter(tiny_network, text, "sha256:test")
    decode = tiny_network.decoder.forward

    def overflown(*arguments: Any) -> list[torch.Tensor]:
        (logits,) = decode(*arguments)
        logits[..., 3, 3, 3] = value
        return [logits]

    monkeypatch.setattr(tiny_network.decoder, "forward", overflown)
    with pytest.raises(NumbersError, match="set precision to float32"):
        segmenter(image, ["liver"])


@pytest.mark.long
def test_a_model_that_does_not_fit_on_its_device_is_worth_trying_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(VoxTell, "to", full)
    with pytest.raises(OutOfMemoryError) as caught:
        load()
    assert caught.value.retry == "later"


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ModelError, match="install gcc"):
        load(compiled=True)


@pytest.mark.long
def test_on_another_device_than_the_cpu_everything_is_made_there(
    tiny_network: VoxTell, text, image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device: it has shapes and no numbers, and what is of two devices does not add. No GPU is needed."""
    seen: list[torch.device] = []

    def brought_home(logits: torch.Tensor) -> torch.Tensor:
        seen.append(logits.device)
        return torch.ones(logits.shape, dtype=torch.bool)

    monkeypatch.setattr(runner.torch, "autocast", lambda *_arguments: contextlib.nullcontext())  # knows no meta
    monkeypatch.setattr(assembly, "_are_numbers", lambda _logits: True)
    field = prepare(image, tiny_network.plans, None)
    assert field is not None
    masks = np.zeros((2, *field.crop_shape), np.bool_)
    on_meta = runner.Runner(tiny_network.to("meta"))
    on_meta.fill(field, text.embed(["liver", "spleen"]), masks, brought_home, lambda _part: None, lambda: False)
    assert masks.all()
    assert {device.type for device in seen} == {"meta"}


def test_too_little_memory_is_said_and_worth_trying_again(segmenter: Segmenter, image: Image, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(runner.Runner, "_window", fail)
    with pytest.raises(OutOfMemoryError, match="too little free memory") as raised:
        segmenter(image, ["liver"])
    assert raised.value.retry == "later"


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        MemoryError("Unable to allocate 6 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:129] . DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_prompts_that_are_too_many_together_are_halved(segmenter, image: Image, monkeypatch, error: Exception) -> None:
    prompts = ["liver", "spleen", "aorta", "left kidney", "spine"]
    at_once, tried = segmenter(image, prompts), []
    whole = runner.Runner._pass

    def scarce(self, field, half, embeddings, *rest) -> None:
        tried.append(len(embeddings))
        if len(embeddings) > 2:
            raise error
        whole(self, field, half, embeddings, *rest)

    monkeypatch.setattr(runner.Runner, "_pass", scarce)
    assert np.mean(segmenter(image, prompts) == at_once) > 0.9999  # but for rounding where a logit is zero
    assert tried == [5, 3, 2, 2, 1]


def test_an_error_that_is_not_about_memory_is_not_taken_for_one(segmenter, image: Image, monkeypatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(runner.Runner, "_window", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        segmenter(image, ["liver"])


def test_repeated_prompts_take_no_more_memory_than_their_masks(segmenter, image: Image) -> None:
    prompts = ["spleen", "liver", "spleen", "aorta", "liver", "liver"]
    masks, apart = segmenter(image, prompts), segmenter(image, ["spleen", "liver", "aorta"])
    assert masks.base is None  # no view of a larger array
    for mask, unique in zip(masks, (0, 1, 0, 2, 1, 1), strict=True):
        np.testing.assert_array_equal(mask, apart[unique])


def test_a_text_encoder_of_another_width_is_refused(tiny_network: VoxTell, text) -> None:
    text.dim = 11
    with pytest.raises(ModelError, match="11 numbers per prompt, the network takes 10"):
        Segmenter(tiny_network, text, "sha256:test")


def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="is no device"):
        runner.pick_device("gpu7")
    with pytest.raises(ModelError, match="not there"):
        runner.pick_device("cuda:99")


def test_windows_are_evenly_spread_and_cover_the_volume() -> None:
    starts = tiling.window_starts((25, 16, 35), (16, 16, 24))
    assert starts == [(s, 0, r) for s in (0, 4, 9) for r in (0, 11)] or starts == [
        (s, 0, r) for s in (0, 9) for r in (0, 11)
    ]
    covered = np.zeros((25, 16, 35), bool)
    for s, a, r in starts:
        covered[s : s + 16, a : a + 16, r : r + 24] = True
    assert covered.all()


def test_window_weights_are_positive_and_peak_in_the_middle(tiny_plans: Plans) -> None:
    weights = tiling.window_weights(tiny_plans.patch_size)
    assert float(weights.min()) > 0
    assert float(weights[8, 8, 12]) == float(weights.max()) == tiling.GAUSSIAN_PEAK
