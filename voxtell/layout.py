"""Recognises VoxTell's model directories and defines what can be set when one is loaded. torch is imported late.

It is the entry for `voxtell.engine.LAYOUTS`. The two layouts of a directory, published and bundled, are described in
`voxtell.model.checkpoint`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxtell.card import Card
from voxtell.engine import Layout, Precision
from voxtell.inference.shortcuts import Shortcuts
from voxtell.model.plans import ENGINE, PLANS, Plans
from voxtell.model.weights_file import weights_path

if TYPE_CHECKING:
    from voxtell.segmenter import Segmenter


@dataclass(frozen=True)
class Options:
    """Holds what can be set for VoxTell; a node's setting of the same name fills a field.

    The first four are explained at `Shortcuts`. precision: "auto" is float16 on CUDA and float32 elsewhere.
    compile_encoder: let torch compile the encoder, which takes minutes at the first window and needs a C compiler.
    """

    early_exit: float | None = None
    skip_below: float | None = None
    coarse_first: float | None = None
    resample: bool = False
    precision: Precision = "auto"
    compile_encoder: bool = False

    @property
    def shortcuts(self) -> Shortcuts:
        """The first four fields as `Shortcuts`.

        Raises:
            ModelError: when a margin is negative or not finite.
        """
        return Shortcuts(self.early_exit, self.skip_below, self.coarse_first, self.resample)


class VoxTellLayout(Layout):
    """Recognises and loads directories with plans.json beside the weights, as published or as bundled."""

    engine = ENGINE
    holds = f"{PLANS} beside fold_0/checkpoint_final.pth or model.safetensors"
    options = Options

    def fits(self, directory: Path) -> bool:
        """Whether there is a plans.json. Weights may be missing: `load` then says which file is."""
        return (directory / PLANS).is_file()

    def card(self, directory: Path) -> Card:
        """Returns the card in the `voxtell` section of plans.json.

        Raises:
            ModelError: when plans.json is missing or damaged.
        """
        return Plans.read(directory / PLANS).card

    def require_whole(self, directory: Path) -> None:
        """Checks that the weights are there, and that every file is there to its end.

        Raises:
            ModelError: when one is not; names the file.
        """
        weights_path(directory)
        super().require_whole(directory)

    def load(self, directory: Path, device: str, bank: Path | None, *, use_bank: bool, options: Options) -> Segmenter:
        """Returns a `Segmenter` on the device; arguments and errors are those of `voxtell.segmenter.load`."""
        from voxtell.segmenter import load

        return load(
            directory,
            device,
            bank,
            use_bank=use_bank,
            precision=options.precision,
            shortcuts=options.shortcuts,
            compiled=options.compile_encoder,
        )

    def describe(self, directory: Path) -> dict[str, Any]:
        """Returns what `voxtell.hub.describe` returns."""
        from voxtell import hub

        return hub.describe(directory)

    def verify(self, directory: Path) -> dict[str, str]:
        """Returns what `voxtell.hub.verify` returns."""
        from voxtell import hub

        return hub.verify(directory)


LAYOUT = VoxTellLayout()
