"""The numbers that decide the shapes of a SegVol network."""

from dataclasses import dataclass

from voxtell.two_way import Grid


@dataclass(frozen=True)
class SegVolSizes:
    """Holds the sizes of a network; the defaults are those of the published weights."""

    window: Grid = (32, 256, 256)  # voxels (D, H, W) that the network sees at once
    patch: Grid = (4, 16, 16)  # voxels per token of the image
    width: int = 768
    image_layers: int = 12
    image_heads: int = 12
    image_hidden: int = 3072
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    text_width: int = 512
    text_layers: int = 12
    text_heads: int = 8
    text_hidden: int = 2048
    text_tokens: int = 77  # the longest prompt, with the words around it
    vocabulary: int = 49408

    @property
    def grid(self) -> Grid:
        """Tokens of one window (D, H, W)."""
        d, h, w = (whole // part for whole, part in zip(self.window, self.patch, strict=True))
        return d, h, w
