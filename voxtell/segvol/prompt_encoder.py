"""Turns boxes, points and a text vector into tokens for the mask decoder."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from voxtell.segvol.sizes import SegVolSizes
from voxtell.two_way import FourierPositions

INSIDE, OUTSIDE, IGNORED = 1, 0, -1


@dataclass(frozen=True)
class WindowPrompt:
    """Asks for one structure in one window; what is None takes no part.

    text: float32 (C), the text vector.
    box: (6), lowest then highest voxel index (D, H, W), both inside the box.
    points: (n, 3), voxel indices (D, H, W). labels: (n), INSIDE, OUTSIDE or IGNORED.
    """

    text: Tensor | None = None
    box: Tensor | None = None
    points: Tensor | None = None
    labels: Tensor | None = None


class PromptEncoder(nn.Module):
    """Encodes the prompt of one window."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.grid = sizes.grid
        d, h, w = sizes.window
        # The weights were trained with the first two axes divided by each other's size.
        self._divisors = (float(h), float(d), float(w))
        self.pe_layer = FourierPositions(sizes.width)
        # Outside, inside, and the two corners of a box.
        self.point_embeddings = nn.ModuleList(nn.Embedding(1, sizes.width) for _ in range(4))
        self.not_a_point_embed = nn.Embedding(1, sizes.width)
        self.no_mask_embed = nn.Embedding(1, sizes.width)

    def forward(self, prompt: WindowPrompt) -> Tensor:
        """Returns tokens (1, n, C): points, box, text, in this order."""
        tokens = [torch.zeros(0, self.no_mask_embed.embedding_dim, device=self.no_mask_embed.weight.device)]
        if prompt.points is not None and prompt.labels is not None:
            tokens.append(self._points(prompt.points, prompt.labels, alone=prompt.box is None))
        if prompt.box is not None:
            corners = self._kinds()[2:]
            tokens.append(self._places(prompt.box.reshape(2, 3)) + corners)
        if prompt.text is not None:
            tokens.append(prompt.text[None])
        return torch.cat(tokens)[None]

    def _points(self, points: Tensor, labels: Tensor, *, alone: bool) -> Tensor:
        """Returns (n, C), and one ignored point more when there is no box."""
        if alone:
            points = torch.cat((points, points.new_zeros(1, 3)))
            labels = torch.cat((labels, labels.new_full((1,), IGNORED)))
        outside, inside, *_ = self._kinds()
        kinds = torch.where((labels == INSIDE)[:, None], inside, outside)
        return torch.where((labels == IGNORED)[:, None], self.not_a_point_embed.weight, self._places(points) + kinds)

    def _kinds(self) -> Tensor:
        """Returns (4, C): what is added to a point outside, to one inside, and to the corners of a box."""
        return torch.cat([next(embedding.parameters()) for embedding in self.point_embeddings])

    def _places(self, voxels: Tensor) -> Tensor:
        """Returns the positions (n, C) of voxels (n, 3)."""
        encoded: Tensor = self.pe_layer((voxels.float() + 0.5) / voxels.new_tensor(self._divisors, dtype=torch.float32))
        return encoded
