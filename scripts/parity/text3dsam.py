"""Lets a reference check ask our Text3DSAM: `build` returns an object with the questions it asks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from voxtell.text3dsam.network import network_of
from voxtell.text3dsam.segment import resized, segment
from voxtell.text3dsam.sizes import Text3DSAMSizes, TextSizes

Array = npt.NDArray[Any]


def build(meta: Mapping[str, Any], state: Mapping[str, Array]) -> "Answers":
    """Returns the network of a reference: its sizes (`meta`) and weights (`state`)."""
    return Answers(meta, state)


class Answers:
    """Answers in numpy arrays."""

    def __init__(self, meta: Mapping[str, Any], state: Mapping[str, Array]) -> None:
        weights = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
        self._network = network_of(weights, _sizes(meta))
        self._encoded: tuple[Array, list[torch.Tensor]] | None = None

    def resized(self, volume: Array) -> Array:
        return resized(volume, self._network.sizes.image).numpy()

    def features(self, volume: Array) -> list[Array]:
        return [feature[0].numpy() for feature in self._encode_once(volume)]

    def cls(self, ids: Array, mask: Array) -> Array:
        return self._network.state(_unpadded(ids, mask)).numpy()

    def text(self, ids: Array, mask: Array) -> Array:
        return self._network.text(_unpadded(ids, mask)).numpy()

    def dense_pe(self) -> Array:
        return self._network.seg_decoder.places().numpy()

    def low(self, volume: Array, ids: Array, mask: Array, passes: int) -> Array:
        text = self._network.text(_unpadded(ids, mask))
        return self._network.low(self._encode_once(volume), text, passes).numpy()

    def segment(self, volume: Array, prompts: Sequence[tuple[int, Array, Array]], instance: int) -> Array:
        """Where instances are asked for, the first prompt alone counts, and its voxels are 1."""
        asked = [(1, *prompts[0][1:])] if instance else prompts
        texts = {label: self._network.text(_unpadded(ids, mask)) for label, ids, mask in asked}
        return segment(self._network, volume, texts)

    def _encode_once(self, volume: Array) -> list[torch.Tensor]:
        """The same volume is asked about many times."""
        if self._encoded is None or self._encoded[0] is not volume:
            self._encoded = volume, self._network.encode(torch.from_numpy(volume))
        return self._encoded[1]


def _unpadded(ids: Array, mask: Array) -> torch.Tensor:
    return torch.from_numpy(ids[mask.astype(bool)].astype(np.int64))


def _sizes(meta: Mapping[str, Any]) -> Text3DSAMSizes:
    encoder, bert = meta["encoder"], meta["bert"]
    return Text3DSAMSizes(
        image=tuple(meta["image_size"]),
        widths=tuple(encoder["channels"]),
        blocks=tuple(encoder["num_blocks"]),
        kernels=tuple(encoder["kernel_sizes"]),
        heads=encoder["attention_heads"],
        decoder_layers=meta["transformer_depth"],
        decoder_heads=meta["num_heads"],
        decoder_hidden=meta["mlp_dim"],
        passes=meta["pass_num"],
        text=TextSizes(
            width=bert["hidden_size"],
            layers=bert["num_hidden_layers"],
            heads=bert["num_attention_heads"],
            hidden=bert["intermediate_size"],
            vocabulary=bert["vocab_size"],
            tokens=bert["max_position_embeddings"],
        ),
    )
