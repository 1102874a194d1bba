"""SegVol: the numbers of a small seeded network, and what its second look does with boxes, points and padding.

`data/segvol_small.npz` holds what this code computed when a full comparison (`make parity`) had found it equal to
upstream; weights and image are drawn again from its seed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from scripts.parity.seeded import seeded_weights
from voxtell.errors import ImageError, ModelError, PromptError
from voxtell.segvol import zoom
from voxtell.segvol.network import SegVol, network_of
from voxtell.segvol.preprocess import prepare
from voxtell.segvol.prompt_encoder import IGNORED, INSIDE, OUTSIDE, WindowPrompt
from voxtell.segvol.sizes import SegVolSizes

FROZEN = Path(__file__).parent / "data" / "segvol_small.npz"
SEED = 7
SIZES = SegVolSizes(
    window=(16, 64, 64),
    width=48,
    image_layers=1,
    image_heads=4,
    image_hidden=64,
    decoder_hidden=64,
    text_width=32,
    text_layers=1,
    text_hidden=32,
    vocabulary=60,
)


@pytest.fixture(scope="module", autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def network() -> SegVol:
    return network_of(seeded_weights(SegVol(SIZES).state_dict(), SEED), SIZES)


def a_volume(shape: tuple[int, int, int] = (22, 70, 90)) -> np.ndarray:
    """Bright noise with a margin of air."""
    volume = np.full(shape, -1000, np.float32)
    inner = tuple(slice(2, size - 2) for size in shape)
    volume[inner] = np.random.default_rng(SEED).normal(0, 100, volume[inner].shape).round()
    return volume


def prompts(network: SegVol) -> dict[str, WindowPrompt]:
    text = network.text_encoder(torch.tensor([58, 3, 14, 15, 59]))
    points = torch.tensor([[3, 20, 30], [8, 40, 40], [10, 2, 5]])
    return {
        "text": WindowPrompt(text),
        "text and box": WindowPrompt(text, box=torch.tensor([2, 10, 12, 9, 50, 40])),
        "box": WindowPrompt(box=torch.tensor([2, 10, 12, 9, 50, 40])),
        "points": WindowPrompt(points=points, labels=torch.tensor([INSIDE, INSIDE, OUTSIDE])),
    }


def looks(network: SegVol) -> dict[str, zoom.ZoomResult]:
    prepared = prepare(a_volume(), SIZES.window)
    image, whole = torch.from_numpy(prepared.image), torch.from_numpy(prepared.zoomed)
    return {
        name: zoom.segment(network, image, whole, prompt, zoom.drawn(torch.Generator().manual_seed(SEED)))
        for name, prompt in prompts(network).items()
    }


@pytest.mark.long
def test_the_two_looks_equal_the_kept_ones(network: SegVol) -> None:
    frozen = np.load(FROZEN)
    for name, found in looks(network).items():
        kept = frozen[name]
        assert found.region == tuple(frozen[f"{name} region"])
        assert found.windows == frozen[f"{name} windows"] > 1
        np.testing.assert_allclose(found.logits[::3, ::7, ::7], kept, rtol=0, atol=2e-5 * np.ptp(kept))
        assert found.mask.any()


def test_a_prompt_without_anything_found_ends_after_the_first_look(network: SegVol) -> None:
    weights = dict(network.state_dict())
    key = "mask_decoder.output_upscaling.3"
    weights[f"{key}.weight"] = torch.zeros_like(weights[f"{key}.weight"])
    weights[f"{key}.bias"] = torch.zeros_like(weights[f"{key}.bias"])
    blank = network_of(weights, SIZES)
    whole = torch.rand(SIZES.window)
    found = zoom.segment(blank, whole, whole, prompts(network)["text"], zoom.drawn(torch.Generator()))
    assert not found.mask.any()
    assert found.region is None
    assert found.windows == 0


def test_a_box_and_points_together_are_refused(network: SegVol) -> None:
    both = WindowPrompt(box=torch.tensor([0, 0, 0, 3, 3, 3]), points=torch.zeros(1, 3), labels=torch.ones(1))
    whole = torch.rand(SIZES.window)
    with pytest.raises(PromptError, match="a box and points; this model takes one"):
        zoom.segment(network, whole, whole, both, zoom.drawn(torch.Generator()))


def test_points_are_drawn_among_those_in_the_window_and_filled_up() -> None:
    draw = zoom.drawn(torch.Generator().manual_seed(SEED))
    voxels = torch.tensor([[1, 2, 3], [4, 5, 6]])
    points, labels = draw(0, voxels)
    assert labels.tolist() == [INSIDE, INSIDE, INSIDE, IGNORED, IGNORED]
    assert {tuple(point) for point in points[:3].tolist()} == {(1, 2, 3), (4, 5, 6)}
    points, labels = draw(1, torch.zeros(0, 3))
    assert labels.tolist() == [IGNORED]


def test_windows_overlap_by_half_and_end_at_the_edge() -> None:
    corners = list(zoom._corners(torch.Size((16, 70, 64)), SIZES.window))
    assert corners == [(0, 0, 0), (0, 6, 0)]
    corners = list(zoom._corners(torch.Size((30, 64, 64)), SIZES.window))
    assert corners == [(0, 0, 0), (8, 0, 0), (14, 0, 0)]


def test_a_prepared_volume_is_cut_to_its_foreground_and_its_values_are_0_to_1() -> None:
    prepared = prepare(a_volume(), SIZES.window)
    assert prepared.start == (2, 2, 2)
    assert prepared.image.shape == (18, 66, 86)
    assert prepared.image.dtype == np.float32
    assert prepared.image.min() == 0
    assert prepared.image.max() == 1
    assert prepared.zoomed.shape == SIZES.window


def test_values_below_the_lowest_percentile_become_exactly_0_even_where_it_is_no_float32() -> None:
    volume = np.full((8, 8, 8), -1000, np.float32)
    volume[2:5, 2:5, 2:5] = np.linspace(0.1, 300.3, 27, dtype=np.float32).reshape(3, 3, 3)
    prepared = prepare(volume, SIZES.window)
    assert prepared.image.shape == (3, 3, 3)
    assert (prepared.image == 0).sum() == 1


def test_an_image_of_one_value_is_refused() -> None:
    with pytest.raises(ImageError, match="nothing in it to segment"):
        prepare(np.zeros((4, 4, 4), np.int16), SIZES.window)


def test_weights_are_taken_key_for_key(network: SegVol) -> None:
    weights = dict(network.state_dict())
    key = "text_encoder.dim_align.weight"
    with pytest.raises(ModelError, match=f"the weights lack {key}"):
        network_of({name: tensor for name, tensor in weights.items() if name != key}, SIZES)
    with pytest.raises(ModelError, match=rf"{key} as \(1, 2\)"):
        network_of({**weights, key: torch.zeros(1, 2)}, SIZES)
    with pytest.raises(ModelError, match=r"1 keys .* such as optimizer"):
        network_of({**weights, "optimizer": torch.zeros(1)}, SIZES)


def test_weights_that_no_mask_depends_on_may_be_there(network: SegVol) -> None:
    unread = {
        "prompt_encoder.mask_downscaling.0.weight": torch.zeros(4, 1, 2, 2),
        "mask_decoder.output_hypernetworks_mlps.1.layers.0.bias": torch.zeros(48),
        "text_encoder.clip_text_model.text_model.embeddings.position_ids": torch.zeros(1, 77, dtype=torch.int64),
    }
    network_of({**network.state_dict(), **unread}, SIZES)


@pytest.mark.long
def test_the_published_network_is_of_its_published_size() -> None:
    with torch.device("meta"):
        network = SegVol(SegVolSizes())
    read = sum(tensor.numel() for tensor in network.state_dict().values())
    assert 170e6 < read < 180_890_064
