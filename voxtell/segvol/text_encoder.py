"""Turns a prompt into one vector: CLIP's text model and a linear layer, both part of the checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxtell.segvol.sizes import SegVolSizes
from voxtell.two_way import Attention


class _ClipEmbeddings(nn.Module):
    """Embeds tokens and their places."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(sizes.vocabulary, sizes.text_width)
        self.position_embedding = nn.Embedding(sizes.text_tokens, sizes.text_width)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns (B, N, C) of ids (B, N)."""
        output: Tensor = self.token_embedding(ids) + self.position_embedding.weight[: ids.shape[1]]
        return output


class _ClipMlp(nn.Module):
    """Transforms each token by itself: linear, x sigmoid(1.702 x), linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        hidden = self.fc1(tokens)
        output: Tensor = self.fc2(hidden * torch.sigmoid(1.702 * hidden))
        return output


class _ClipLayer(nn.Module):
    """One layer of the text model; a token reads itself and those before it."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.self_attn = Attention(sizes.text_width, sizes.text_heads)
        self.layer_norm1 = nn.LayerNorm(sizes.text_width)
        self.mlp = _ClipMlp(sizes.text_width, sizes.text_hidden)
        self.layer_norm2 = nn.LayerNorm(sizes.text_width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (B, N, C) of tokens (B, N, C)."""
        normed = self.layer_norm1(tokens)
        tokens = tokens + self.self_attn(normed, normed, normed, causal=True)
        output: Tensor = tokens + self.mlp(self.layer_norm2(tokens))
        return output


class _TextModel(nn.Module):
    """CLIP's text model up to its last normalization."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.embeddings = _ClipEmbeddings(sizes)
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(_ClipLayer(sizes) for _ in range(sizes.text_layers))})
        self.final_layer_norm = nn.LayerNorm(sizes.text_width)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns (B, N, C) of ids (B, N)."""
        tokens = self.embeddings(ids)
        for layer in self.encoder["layers"]:  # type: ignore[attr-defined]
            tokens = layer(tokens)
        output: Tensor = self.final_layer_norm(tokens)
        return output


class ClipEncoder(nn.Module):
    """Encodes the tokens of a prompt."""

    def __init__(self, sizes: SegVolSizes) -> None:
        super().__init__()
        self.clip_text_model = nn.ModuleDict({"text_model": _TextModel(sizes)})
        self.dim_align = nn.Linear(sizes.text_width, sizes.width)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns (C) of the ids (N) of one prompt: what stands at its end token, the highest id of the vocabulary."""
        state = self.clip_text_model["text_model"](ids[None])[0, ids.argmax()]
        output: Tensor = self.dim_align(state)
        return output
