"""VoxTell: a residual encoder, a prompt decoder that attends to its features, a mask decoder that prompts guide.

The attribute names are those of the published state dict. Shapes and letters are those of the package's docstring.
"""

import re

import torch
from torch import Tensor, nn

from voxtell.model.encoder import build_encoder
from voxtell.model.mask_decoder import MaskDecoder
from voxtell.model.plans import Plans
from voxtell.model.prompt_decoder import PromptDecoder, sine_positions

UNUSED = re.compile(r"^transformer_decoder\.layers\.\d+\.(self_attn|norm1)\.")
"""Keys of the state dict that `VoxTell.drop_unused` removes."""


class VoxTell(nn.Module):
    """The network of one model, for B images with P prompts each; windows have the size `plans.patch_size`.

    For training call it as a whole. Inference calls `encoder` and `guidance` once per window and `decoder` once per
    prompt.
    """

    pos_embed: Tensor

    def __init__(self, plans: Plans) -> None:
        super().__init__()
        self.plans = plans
        prompt = plans.prompt
        self.encoder = build_encoder(plans.encoder)
        self.project_bottleneck_embed = mlp(plans.memory_channels, prompt.query_dim, prompt.query_dim)
        self.project_text_embed = mlp(prompt.text_dim, prompt.query_dim, prompt.query_dim)
        with torch.device("cpu"):  # `arange` on the device "meta" would import torch's compiler and sympy: 1.5 s
            self.register_buffer("pos_embed", sine_positions(plans.memory_grid, prompt.query_dim))
        self.transformer_decoder = PromptDecoder(prompt)
        self.project_to_decoder_channels = nn.ModuleList(
            mlp(prompt.query_dim, prompt.query_dim, channels * (prompt.guidance_channels if scale else 1))
            for scale, channels in enumerate(plans.encoder.features[: prompt.fusion_stages])
        )
        self.decoder = MaskDecoder(plans)

    def forward(self, image: Tensor, text: Tensor) -> list[Tensor]:
        """Returns the logits (B, P, s, a, r) per scale: finest first, in evaluation mode only the finest.

        image: float (B, 1, S, A, R), normalized, of the patch size. text: float (B, P, E) embeddings.
        """
        skips = self.encoder(image)
        guidance = self.guidance(skips, text)
        kernels = self.decoder.kernels()
        images = []
        for b in range(image.shape[0]):
            shared = self.decoder.share([z[b : b + 1] for z in skips], kernels)
            prompts = [self.decoder(shared, [g[b, p] for g in guidance], kernels) for p in range(text.shape[1])]
            images.append([torch.cat(scale, dim=1) for scale in zip(*prompts, strict=True)])
        return [torch.cat(scale) for scale in zip(*images, strict=True)]

    def guidance(self, skips: list[Tensor], text: Tensor) -> list[Tensor]:
        """Returns what the prompts say to each scale of the mask decoder: (B, P, values) per scale, finest first.

        skips: the encoder's features, of which only `plans.prompt.memory_stage` is read. text: float (B, P, E).
        `values` is the number of channels for the finest scale, and guidance maps times channels for the others.
        """
        memory = skips[self.plans.prompt.memory_stage].flatten(2).permute(2, 0, 1)
        queries = self.project_text_embed(text).transpose(0, 1)
        queries = self.transformer_decoder(queries, self.project_bottleneck_embed(memory), self.pos_embed)
        return [project(queries.transpose(0, 1)) for project in self.project_to_decoder_channels]

    def drop_unused(self) -> None:
        """Frees the weights that every published checkpoint has and nothing reads (`UNUSED`), a quarter of them."""
        for layer in self.transformer_decoder.layers:
            for name in ("self_attn", "norm1"):
                if hasattr(layer, name):  # a second call on the same network does nothing
                    delattr(layer, name)


def mlp(n_in: int, n_hidden: int, n_out: int) -> nn.Sequential:
    """Returns two linear layers with a GELU between them: the form of every projection in the network."""
    return nn.Sequential(nn.Linear(n_in, n_hidden), nn.GELU(), nn.Linear(n_hidden, n_out))
