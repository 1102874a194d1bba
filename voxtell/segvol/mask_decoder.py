"""Turns an encoded window and the tokens of a prompt into logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxtell.segvol.sizes import SegVolSizes
from voxtell.two_way import Mlp, TwoWayTransformer

MASKS = 4  # tokens for masks that the checkpoint holds; the first alone gives the mask


class WindowDecoder(nn.Module):
    """Decodes one prompt in one window.

    The layers of the other masks and of the quality estimate, which nothing reads, are left out.
    """

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        width, (d, h, w) = sizes.width, sizes.grid
        self.grid = sizes.grid
        self.transformer = TwoWayTransformer(sizes.decoder_layers, width, sizes.decoder_heads, sizes.decoder_hidden)
        self.iou_token = nn.Embedding(1, width)
        self.mask_tokens = nn.Embedding(MASKS, width)
        self.output_upscaling = nn.Sequential(
            nn.ConvTranspose3d(width, width // 4, 2, stride=2),
            nn.LayerNorm((width // 4, 2 * d, 2 * h, 2 * w)),  # over channels and space together
            nn.GELU(),
            nn.ConvTranspose3d(width // 4, width // 8, 2, stride=2),
            nn.GELU(),
        )
        self.output_hypernetworks_mlps = nn.ModuleList([Mlp(width, width, width, width // 8)])
        self.txt_align_upscaled_embedding = nn.Linear(width, width // 8)

    def forward(self, image: Tensor, places: Tensor, prompt: Tensor, text: Tensor | None) -> Tensor:
        """Returns logits (D, H, W), four voxels per token of the image and axis.

        image, places: (1, C, tokens D, H, W). prompt: tokens (1, n, C). text: the text vector (C), or None.
        """
        own = torch.cat((self.iou_token.weight, self.mask_tokens.weight))[None]
        tokens, seen = self.transformer(image, places, torch.cat((own, prompt), dim=1))
        features = self.output_upscaling(seen.transpose(1, 2).unflatten(-1, self.grid))[0]
        kernel = self.output_hypernetworks_mlps[0](tokens[0, 1])
        if text is not None:  # both products have the same features
            kernel = kernel + self.txt_align_upscaled_embedding(text)
        return torch.einsum("c,cdhw->dhw", kernel, features)
