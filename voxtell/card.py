"""Defines what a model says about itself. `voxtell.engine.read_card` reads it from a directory, without torch."""

from dataclasses import dataclass
from typing import Literal

from voxtell.errors import ModelError


@dataclass(frozen=True)
class Card:
    """Holds what a model says about itself; results and `voxtell-dicom model` repeat it.

    notice: one sentence that says what the model is not for. text_encoder: "qwen3", the published text model, or
    "ngrams", the bundled word list.

    Raises:
        ModelError: when text_encoder is unknown.
    """

    name: str = "VoxTell"
    version: str = "unversioned"
    licence: str = "see the licence of the weights where they were published"
    notice: str = "Not for diagnosis without review; the published weights are not for commercial use."
    text_encoder: Literal["qwen3", "ngrams"] = "qwen3"
    knows: tuple[str, ...] = ()
    """The structures that it was trained on; empty when it takes any structure."""
    taught: tuple[str, ...] = ()
    """Other words for them that it was trained on, including descriptions."""
    refused: tuple[str, ...] = ()
    """What it was trained to answer with an empty mask."""

    def __post_init__(self) -> None:
        if self.text_encoder not in ("qwen3", "ngrams"):
            raise ModelError(f"text_encoder {self.text_encoder!r} is unknown; it is 'qwen3' or 'ngrams'")
