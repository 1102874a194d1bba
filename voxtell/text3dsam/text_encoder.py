"""Reads a prompt: the BERT of the checkpoint. Attributes are named as the checkpoint names its tensors."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from voxtell.text3dsam.sizes import TextSizes

EPSILON = 1e-12


class _BertEmbeddings(nn.Module):
    """Embeds tokens and their places."""

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        self.word_embeddings = nn.Embedding(sizes.vocabulary, sizes.width)
        self.position_embeddings = nn.Embedding(sizes.tokens, sizes.width)
        self.token_type_embeddings = nn.Embedding(2, sizes.width)  # of the first or second sentence; a prompt is one
        self.LayerNorm = nn.LayerNorm(sizes.width, eps=EPSILON)

    def forward(self, ids: Tensor) -> Tensor:
        """Returns (N, C) of ids (N)."""
        places = self.position_embeddings.weight[: len(ids)]
        output: Tensor = self.LayerNorm(self.word_embeddings(ids) + self.token_type_embeddings.weight[0] + places)
        return output


class _Added(nn.Module):
    """Adds a linear layer's output to what came in, then normalizes."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.dense = nn.Linear(before, width)
        self.LayerNorm = nn.LayerNorm(width, eps=EPSILON)

    def forward(self, change: Tensor, tokens: Tensor) -> Tensor:
        """Returns (N, C) of a change (N, before) and tokens (N, C)."""
        output: Tensor = self.LayerNorm(tokens + self.dense(change))
        return output


class _BertLayer(nn.Module):
    """One layer: every token reads every other, then each is transformed."""

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        width = sizes.width
        self.heads = sizes.heads
        self.attention = nn.ModuleDict(
            {
                "self": nn.ModuleDict({name: nn.Linear(width, width) for name in ("query", "key", "value")}),
                "output": _Added(width, width),
            }
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(width, sizes.hidden)})
        self.output = _Added(sizes.hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns (N, C) of tokens (N, C)."""
        projections: nn.ModuleDict = self.attention["self"]  # type: ignore[assignment]
        q, k, v = (
            projections[name](tokens).unflatten(-1, (self.heads, -1)).transpose(0, 1)
            for name in ("query", "key", "value")
        )
        read = functional.scaled_dot_product_attention(q[None], k[None], v[None])[0]
        tokens = self.attention["output"](read.transpose(0, 1).flatten(1), tokens)
        output: Tensor = self.output(functional.gelu(self.intermediate["dense"](tokens)), tokens)
        return output


class BertEncoder(nn.Module):
    """Encodes the tokens of a prompt."""

    def __init__(self, sizes: TextSizes) -> None:
        super().__init__()
        self.embeddings = _BertEmbeddings(sizes)
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(_BertLayer(sizes) for _ in range(sizes.layers))})

    def forward(self, ids: Tensor) -> Tensor:
        """Returns (C), what stands at the first token, of the ids (N) of one prompt without padding."""
        layers: nn.ModuleList = self.encoder["layer"]  # type: ignore[assignment]
        tokens: Tensor = self.embeddings(ids)
        for layer in layers:
            tokens = layer(tokens)
        return tokens[0]
