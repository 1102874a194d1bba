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
        ModelError: when text_encoder is unknown, or a field holds anything but text.
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
        lists = (self.knows, self.taught, self.refused)
        texts = [self.name, self.version, self.licence, self.notice]
        texts += [text for one in lists if isinstance(one, tuple) for text in one]
        if not all(isinstance(one, tuple) for one in lists) or not all(isinstance(text, str) for text in texts):
            raise ModelError(
                "name, version, licence and notice of a model must be texts; knows, taught and refused lists of texts"
            )
