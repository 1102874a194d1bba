"""The numbers that decide the shapes of a Text3DSAM network."""

from dataclasses import dataclass

from voxtell.two_way import Grid


@dataclass(frozen=True)
class TextSizes:
    """Holds the sizes of the BERT that reads the prompts."""

    width: int = 312
    layers: int = 4
    heads: int = 12
    hidden: int = 1200
    vocabulary: int = 28996
    tokens: int = 512  # the longest prompt


@dataclass(frozen=True)
class Text3DSAMSizes:
    """Holds the sizes of a network; the defaults are the published ones.

    Tuples of five are of the encoder's stages, finest first; `kernels` are those of the last four.
    """

    image: Grid = (128, 256, 256)  # voxels (D, H, W) that the network sees
    widths: tuple[int, ...] = (48, 96, 192, 384, 768)
    blocks: tuple[int, ...] = (1, 2, 3, 6, 2)
    kernels: tuple[int, ...] = (13, 11, 9, 7)
    heads: int = 8
    decoder_layers: int = 2
    decoder_heads: int = 8
    decoder_hidden: int = 2048
    passes: int = 2  # refinements after the rough mask
    text: TextSizes = TextSizes()

    @property
    def grid(self) -> Grid:
        """Voxels (D, H, W) of the coarsest stage."""
        d, h, w = (size // 64 for size in self.image)
        return d, h, w
