"""The whole network: what it computes of one window and one prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxtell.errors import ModelError
from voxtell.segvol.image_encoder import PatchEncoder
from voxtell.segvol.mask_decoder import WindowDecoder
from voxtell.segvol.prompt_encoder import PromptEncoder, WindowPrompt
from voxtell.segvol.sizes import SegVolSizes
from voxtell.segvol.text_encoder import ClipEncoder

UNUSED = re.compile(
    r"prompt_encoder\.mask_downscaling\.|mask_decoder\.iou_prediction_head\."
    r"|mask_decoder\.output_hypernetworks_mlps\.[123]\.|text_encoder\.clip_text_model\.text_model\.embeddings\.position_ids$"
)
"""Keys of a checkpoint that no mask depends on."""


class SegVol(nn.Module):
    """Segments one window by one prompt."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.image_encoder = PatchEncoder(sizes)
        self.mask_decoder = WindowDecoder(sizes)
        self.prompt_encoder = PromptEncoder(sizes)
        self.text_encoder = ClipEncoder(sizes)

    def encode(self, window: Tensor) -> Tensor:
        """Returns (C, tokens D, H, W) of a window float32 (D, H, W), values 0 to 1."""
        encoded: Tensor = self.image_encoder(window[None, None])[0]
        return encoded

    def places(self) -> Tensor:
        """Returns (C, tokens D, H, W): the positions of the window's tokens."""
        return self.prompt_encoder.pe_layer.of_grid(self.sizes.grid)

    def low(self, encoded: Tensor, prompt: WindowPrompt) -> Tensor:
        """Returns the logits (D, H, W) as decoded, coarser than the window, of what `encode` returned."""
        image = encoded + self.prompt_encoder.no_mask_embed.weight[0][:, None, None, None]
        tokens = self.prompt_encoder(prompt)
        logits: Tensor = self.mask_decoder(image[None], self.places()[None], tokens, prompt.text)
        return logits

    def logits(self, encoded: Tensor, prompt: WindowPrompt) -> Tensor:
        """Returns the logits (D, H, W) at every voxel of the window, of what `encode` returned."""
        low = self.low(encoded, prompt)[None, None]
        return functional.interpolate(low, size=self.sizes.window, mode="trilinear", align_corners=False)[0, 0]


def network_of(state: Mapping[str, Tensor], sizes: SegVolSizes) -> SegVol:
    """Returns a network with the weights of a state dict: float32, in evaluation mode, without gradients.

    Raises:
        ModelError: when a key is missing, unknown or of another shape; names the first.
    """
    with torch.device("meta"):
        network = SegVol(sizes)
    used = {key: tensor for key, tensor in state.items() if not UNUSED.match(key)}
    expected = {key: tensor.shape for key, tensor in network.state_dict().items()}
    for key, shape in expected.items():
        if key not in used:
            raise ModelError(f"the weights lack {key}; they are not those of a SegVol network")
        if used[key].shape != shape:
            raise ModelError(f"the weights hold {key} as {tuple(used[key].shape)}; a SegVol network has {tuple(shape)}")
    if unknown := used.keys() - expected.keys():
        raise ModelError(f"the weights hold {len(unknown)} keys that no SegVol network has, such as {min(unknown)}")
    network.load_state_dict(used, strict=True, assign=True)
    return network.float().eval().requires_grad_(False)
