"""Lets a reference check ask our SegVol: `build` returns an object with the questions it asks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from voxtell.segvol.network import network_of
from voxtell.segvol.preprocess import prepare
from voxtell.segvol.prompt_encoder import WindowPrompt
from voxtell.segvol.sizes import SegVolSizes
from voxtell.segvol.zoom import drawn, segment

Array = npt.NDArray[Any]


def build(meta: Mapping[str, Any], state: Mapping[str, Array]) -> "Answers":
    """Returns the network of a reference: its sizes (`meta`) and weights (`state`)."""
    return Answers(meta, state)


class Answers:
    """Answers in numpy arrays; what is absent of a prompt is None."""

    def __init__(self, meta: Mapping[str, Any], state: Mapping[str, Array]) -> None:
        self._ids = meta["token_ids"]
        weights = {key: torch.from_numpy(np.array(value)) for key, value in state.items()}
        self._network = network_of(weights, _sizes(meta))
        self._encoded: tuple[Array, torch.Tensor] | None = None

    def preprocess(self, volume: Array) -> tuple[Array, tuple[int, ...], Array]:
        """A volume as in its file (i, j, k); the network's axes are (k, j, i)."""
        prepared = prepare(volume.transpose(), self._network.sizes.window)
        return prepared.image, prepared.start, prepared.zoomed

    def embed(self, texts: Sequence[str]) -> Array:
        return np.stack([self._text(text).numpy() for text in texts])

    def encode(self, zoomed: Array) -> Array:
        return self._network.encode(torch.from_numpy(zoomed)).numpy()

    def dense_pe(self) -> Array:
        return self._network.places().numpy()

    def low(self, zoomed: Array, *parts: Any) -> Array:
        return self._network.low(self._encode_once(zoomed), self._prompt(*parts)).numpy()

    def logits(self, zoomed: Array, *parts: Any) -> Array:
        return self._network.logits(self._encode_once(zoomed), self._prompt(*parts)).numpy()

    def segment(
        self, image: Array, zoomed: Array, text: str | None, box: Any, points: Any, labels: Any, window_points: Any
    ) -> dict[str, Any]:
        """Points per window are those handed over, else drawn."""
        draw = drawn(torch.Generator().manual_seed(0))
        if window_points is not None:
            draw = lambda number, _voxels: tuple(torch.from_numpy(part) for part in window_points[number])  # noqa: E731
        prompt = self._prompt(text, box, points, labels)
        found = segment(self._network, torch.from_numpy(image), torch.from_numpy(zoomed), prompt, draw)
        answer = {
            "mask": found.mask.numpy(),
            "zoom_out_mask": found.coarse.numpy(),
            "roi": found.region or (-1,) * 6,
            "windows": found.windows,
            "logits": found.logits.numpy(),
        }
        return answer | ({"window_boxes": torch.stack(found.boxes).numpy()} if found.boxes else {})

    def _encode_once(self, zoomed: Array) -> torch.Tensor:
        """The same image is asked about many times."""
        if self._encoded is None or self._encoded[0] is not zoomed:
            self._encoded = zoomed, self._network.encode(torch.from_numpy(zoomed))
        return self._encoded[1]

    def _text(self, text: str) -> torch.Tensor:
        encoded: torch.Tensor = self._network.text_encoder(torch.tensor(self._ids[text]))
        return encoded

    def _prompt(self, text: str | None, *spatial: Any) -> WindowPrompt:
        parts = (None if part is None else torch.from_numpy(part) for part in spatial)
        return WindowPrompt(None if text is None else self._text(text), *parts)


def _sizes(meta: Mapping[str, Any]) -> SegVolSizes:
    clip, decoder = meta["clip"], meta["decoder"]
    return SegVolSizes(
        window=tuple(meta["spatial_size"]),
        patch=tuple(meta["patch_size"]),
        width=meta["embed_dim"],
        image_layers=meta["vit_layers"],
        image_heads=meta["vit_heads"],
        image_hidden=meta["vit_mlp_dim"],
        decoder_layers=decoder["depth"],
        decoder_heads=decoder["num_heads"],
        decoder_hidden=decoder["mlp_dim"],
        text_width=clip["hidden_size"],
        text_layers=clip["num_hidden_layers"],
        text_heads=clip["num_attention_heads"],
        text_hidden=clip["intermediate_size"],
        text_tokens=clip["max_position_embeddings"],
        vocabulary=clip["vocab_size"],
    )
