"""Text3DSAM: the numbers of a small seeded network, and how labels are decided.

`data/text3dsam_small.npz` holds what this code computed when a full comparison (`make parity`) had found it equal to
upstream; weights and volume are drawn again from its seed.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from voxtell.errors import ModelError, PromptError
from voxtell.text3dsam.network import Text3DSAM, network_of
from voxtell.text3dsam.segment import resized, segment
from voxtell.text3dsam.sizes import Text3DSAMSizes, TextSizes

FROZEN = Path(__file__).parent / "data" / "text3dsam_small.npz"
SEED = 11
SIZES = Text3DSAMSizes(
    image=(64, 64, 64),
    widths=(4, 8, 16, 32, 64),
    blocks=(1, 1, 1, 1, 1),
    decoder_hidden=32,
    text=TextSizes(width=24, layers=1, heads=4, hidden=32, vocabulary=40),
)


@pytest.fixture(scope="module", autouse=True)
def _without_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def network() -> Text3DSAM:
    return network_of(weights_of(Text3DSAM(SIZES)), SIZES)


def weights_of(network: Text3DSAM) -> dict[str, torch.Tensor]:
    """Seeded weights; variances stay above zero, and the first ones are those of values up to 255."""
    weights = {}
    for number, (name, tensor) in enumerate(network.state_dict().items()):
        drawn = torch.from_numpy(np.random.default_rng([SEED, number]).standard_normal(tuple(tensor.shape)))
        if not tensor.is_floating_point():
            weights[name] = tensor
        elif name.endswith("running_var"):
            weights[name] = (1e4 if ".s0." in name else 1.0) * (1 + drawn.abs())
        elif tensor.dim() > 1:
            weights[name] = drawn * (2 if "embed" in name else 2 / tensor[0].numel() ** 0.5)
        elif name.endswith("bias"):
            weights[name] = 0.2 * drawn
        else:
            weights[name] = 1 + 0.2 * drawn
    return {name: tensor.to(network.state_dict()[name].dtype) for name, tensor in weights.items()}


def a_volume() -> np.ndarray:
    return np.random.default_rng(SEED).integers(0, 256, (20, 44, 40), dtype=np.uint8)


def texts(network: Text3DSAM) -> list[torch.Tensor]:
    return [network.text(torch.tensor(ids)) for ids in ([2, 17, 3], [2, 5, 9, 20, 3], [2, 30, 3])]


@pytest.mark.long
def test_logits_and_labels_equal_the_kept_ones(network: Text3DSAM) -> None:
    frozen = np.load(FROZEN)
    features = network.encode(resized(a_volume(), SIZES.image))
    for number, text in enumerate(texts(network)):
        for passes in (0, 1, 2):
            kept = frozen[f"{number} after {passes}"]
            ours = network.low(features, text, passes)[::2, ::2, ::2]
            np.testing.assert_allclose(ours, kept, rtol=0, atol=1e-4 * np.ptp(kept))
    labels = segment(network, a_volume(), dict(zip((1, 3, 7), texts(network), strict=True)))
    assert labels.dtype == np.uint8
    assert {0, 1} < set(np.unique(labels))
    assert np.mean(labels[::2, ::2, ::2] != frozen["labels"]) < 1e-3


def test_the_first_of_equally_probable_structures_has_the_voxel(network: Text3DSAM) -> None:
    text = texts(network)[0]
    labels = segment(network, a_volume(), {9: text, 2: text})
    assert set(np.unique(labels)) == {0, 9}


def test_a_label_that_is_no_byte_is_refused(network: Text3DSAM) -> None:
    for label in (0, 256):
        with pytest.raises(PromptError, match=f"the label {label} cannot be written"):
            segment(network, a_volume(), {label: texts(network)[0]})


def test_the_order_of_words_counts(network: Text3DSAM) -> None:
    one, other = (network.text(torch.tensor(ids)) for ids in ([2, 5, 9, 3], [2, 9, 5, 3]))
    assert not torch.allclose(one, other)


@pytest.mark.long
def test_weights_are_taken_key_for_key(network: Text3DSAM) -> None:
    weights = dict(network.state_dict())
    key = "text_projector.0.bias"
    with pytest.raises(ModelError, match=f"the weights lack {key}"):
        network_of({name: tensor for name, tensor in weights.items() if name != key}, SIZES)
    with pytest.raises(ModelError, match=rf"{key} as \(3,\)"):
        network_of({**weights, key: torch.zeros(3)}, SIZES)
    with pytest.raises(ModelError, match=r"1 keys .* such as more"):
        network_of({**weights, "more": torch.zeros(1)}, SIZES)
    network_of({**weights, "text_encoder.pooler.dense.bias": torch.zeros(24)}, SIZES)
