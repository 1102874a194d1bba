"""The whole network: what it computes of one volume and one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from voxtell.errors import ModelError
from voxtell.text3dsam.decoder import SegDecoder
from voxtell.text3dsam.image_encoder import VolumeEncoder
from voxtell.text3dsam.sizes import Text3DSAMSizes
from voxtell.text3dsam.text_encoder import BertEncoder

UNUSED = re.compile(r"text_encoder\.pooler\.|seg_decoder\.mask_decoder\.output_hypernetworks_mlps\.[123]\.")
"""Keys of a checkpoint that no mask depends on."""


class Text3DSAM(nn.Module):
    """Segments one volume by one text."""

    def __init__(self, sizes: Text3DSAMSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.widths[-1]
        self.image_encoder = VolumeEncoder(sizes)
        self.text_encoder = BertEncoder(sizes.text)
        self.text_projector = nn.Sequential(
            nn.Linear(sizes.text.width, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width)
        )
        self.seg_decoder = SegDecoder(sizes)

    def encode(self, volume: Tensor) -> list[Tensor]:
        """Returns the five stages (1, C, D, H, W), finest first, of a volume float32 (D, H, W), values 0 to 255."""
        features: list[Tensor] = self.image_encoder(volume[None, None])
        return features

    def state(self, ids: Tensor) -> Tensor:
        """Returns what BERT makes of a prompt, (its width), of its ids (n) without padding."""
        output: Tensor = self.text_encoder(ids)
        return output

    def text(self, ids: Tensor) -> Tensor:
        """Returns the text vector (C) of a prompt, of its ids (n) without padding."""
        output: Tensor = self.text_projector(self.state(ids))
        return output

    def low(self, features: Sequence[Tensor], text: Tensor, passes: int | None = None) -> Tensor:
        """Returns logits (D, H, W), each of four voxels per axis; `passes` refinements, as trained when None."""
        logits: Tensor = self.seg_decoder(features, text, self.sizes.passes if passes is None else passes)
        return logits


def network_of(state: Mapping[str, Tensor], sizes: Text3DSAMSizes) -> Text3DSAM:
    """Returns a network with the weights of a state dict: float32, in evaluation mode, without gradients.

    Raises:
        ModelError: when a key is missing, unknown or of another shape; names the first.
    """
    with torch.device("meta"):
        network = Text3DSAM(sizes)
    used = {key: tensor for key, tensor in state.items() if not UNUSED.match(key)}
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    for key, shape in expected.items():
        if key not in used:
            raise ModelError(f"the weights lack {key}; they are not those of a Text3DSAM network")
        if used[key].shape != shape:
            raise ModelError(f"the weights hold {key} as {tuple(used[key].shape)}; the network has {tuple(shape)}")
    if unknown := used.keys() - expected.keys():
        raise ModelError(f"the weights hold {len(unknown)} keys that no Text3DSAM network has, such as {min(unknown)}")
    network.load_state_dict(used, strict=True, assign=True)
    return network.float().eval().requires_grad_(False)
