"""Turns an encoded volume and a text vector into logits, and refines them by looking at them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from voxtell.text3dsam.image_encoder import Decomposed
from voxtell.text3dsam.sizes import Text3DSAMSizes
from voxtell.two_way import FourierPositions, Mlp, TwoWayTransformer

MASKS = 4  # tokens for masks that the checkpoint holds; the first alone gives the mask


class _ChannelNorm(nn.LayerNorm):
    """Normalizes over the channels of each voxel."""

    def __init__(self, width: int) -> None:
        super().__init__(width, eps=1e-6)

    def forward(self, volume: Tensor) -> Tensor:
        """Returns (B, C, D, H, W) of a volume (B, C, D, H, W)."""
        return super().forward(volume.movedim(1, -1)).movedim(-1, 1)


class _PromptEncoder(nn.Module):
    """Encodes the mask of the pass before."""

    def __init__(self, sizes: Text3DSAMSizes) -> None:
        super().__init__()
        width = sizes.widths[-1]
        self.grid = sizes.grid
        self.pe_layer = FourierPositions(width)
        self.mask_downscaling = nn.Sequential(
            Decomposed(1, width // 8, 7, stride=4),
            nn.GELU(),
            Decomposed(width // 8, width // 4, 5, stride=2),
            nn.GELU(),
            Decomposed(width // 4, width // 2, 3, stride=2),
            nn.GELU(),
            Decomposed(width // 2, width, 3),
        )
        self.no_mask_embed = nn.Embedding(1, width)

    def forward(self, logits: Tensor | None) -> Tensor:
        """Returns what is added to the image (1, C, D, H, W), of the logits (D, H, W) of the pass before, if any."""
        if logits is None:
            return self.no_mask_embed.weight.reshape(1, -1, 1, 1, 1)
        output: Tensor = self.mask_downscaling(torch.sigmoid(logits)[None, None])
        return output


class _MaskDecoder(nn.Module):
    """Decodes one prompt."""

    def __init__(self, sizes: Text3DSAMSizes) -> None:
        super().__init__()
        width, middle, fine = sizes.widths[-1], sizes.widths[-1] // 4, sizes.widths[-1] // 16
        self.grid = sizes.grid
        self.transformer = TwoWayTransformer(sizes.decoder_layers, width, sizes.decoder_heads, sizes.decoder_hidden)
        self.mask_tokens = nn.Embedding(MASKS, width)
        # Numbered as in the checkpoint: 0 and 4 enlarge, 3 is the GELU.
        self.output_upscaling = nn.ModuleDict(
            {
                "1": nn.Conv3d(width, middle, 1),
                "2": _ChannelNorm(middle),
                "5": nn.Conv3d(middle, fine, 1),
                "6": _ChannelNorm(fine),
            }
        )
        self.feat_conv0 = nn.Conv3d(sizes.widths[0], fine, 1)
        self.feat_conv1 = nn.Conv3d(sizes.widths[2], middle, 1)
        self.output_hypernetworks_mlps = nn.ModuleList([Mlp(width, middle, middle, fine)])
        self.txt_align_upscaled_embedding = nn.Sequential(
            nn.Linear(width, middle), nn.LayerNorm(middle), nn.GELU(), nn.Linear(middle, fine)
        )

    def forward(
        self, features: Sequence[Tensor], image: Tensor, places: Tensor, prompt: Tensor, text: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns logits (D, H, W), four voxels of the volume each, and the mask's token (C).

        image, places: (1, C, D, H, W) of the coarsest stage. prompt: tokens (n, C). text: the text vector (C).
        """
        tokens, seen = self.transformer(image, places, torch.cat((self.mask_tokens.weight, prompt))[None])
        enlarged = self._enlarged(seen.transpose(1, 2).unflatten(-1, self.grid), features)
        kernel = self.output_hypernetworks_mlps[0](tokens[0, 0]) + self.txt_align_upscaled_embedding(text)
        return torch.einsum("c,cdhw->dhw", kernel, enlarged[0]), tokens[0, 0]

    def _enlarged(self, volume: Tensor, features: Sequence[Tensor]) -> Tensor:
        """Returns the decoded volume as fine as the first stage; the middle and the first stage join on the way."""
        up = self.output_upscaling
        volume = up["1"](functional.interpolate(volume, scale_factor=4, mode="trilinear"))
        volume = functional.gelu(up["2"](volume + self.feat_conv1(features[2])))
        volume = up["5"](functional.interpolate(volume, scale_factor=4, mode="trilinear"))
        return functional.gelu(up["6"](volume) + self.feat_conv0(features[0]))


class SegDecoder(nn.Module):
    """Decodes a prompt roughly, then refines its mask."""

    def __init__(self, sizes: Text3DSAMSizes) -> None:
        super().__init__()
        self.mask_decoder = _MaskDecoder(sizes)
        self.prompt_encoder = _PromptEncoder(sizes)
        self.grid = sizes.grid

    def forward(self, features: Sequence[Tensor], text: Tensor, passes: int) -> Tensor:
        """Returns logits (D, H, W) after some refinements, of the stages (1, C, D, H, W) and the text vector (C)."""
        places = self.places()[None]
        image = features[-1] + self.prompt_encoder(None)
        logits, token = self.mask_decoder(features, image, places, text[None], text)
        for _ in range(passes):
            image = features[-1] + self.prompt_encoder(logits)
            logits, token = self.mask_decoder(features, image, places, torch.stack((text, token)), text)
        output: Tensor = logits
        return output

    def places(self) -> Tensor:
        """Returns (C, D, H, W): the positions of the coarsest stage."""
        return self.prompt_encoder.pe_layer.of_grid(self.grid)
