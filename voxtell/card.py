"""What a model says of itself. `voxtell.engine.read_card` reads it from a directory without loading torch."""

from dataclasses import dataclass
from typing import Literal

from voxtell.errors import ModelError


@dataclass(frozen=True)
class Card:
    """What a model says of itself."""

    name: str = "VoxTell"
    version: str = "unversioned"
    licence: str = "see the licence of the weights where they were published"
    notice: str = "Not for diagnosis without review; the published weights are not for commercial use."
    text_encoder: Literal["qwen3", "ngrams"] = "qwen3"
    knows: tuple[str, ...] = ()
    """The structures that it was trained on; none: whatever is asked for."""
    taught: tuple[str, ...] = ()
    """The other words for them that it was trained on, descriptions among them."""
    refused: tuple[str, ...] = ()
    """What it was trained to answer with an empty mask."""

    def __post_init__(self) -> None:
        if self.text_encoder not in ("qwen3", "ngrams"):
            raise ModelError(f"text_encoder {self.text_encoder!r} is unknown; it is 'qwen3' or 'ngrams'")
