"""VoxTell's model directories: how they are recognised, and what is set when one is loaded. Loads torch late."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from voxtell.card import Card
from voxtell.engine import Layout, Precision
from voxtell.inference.shortcuts import Shortcuts
from voxtell.model.plans import ENGINE, PLANS, Plans

if TYPE_CHECKING:
    from voxtell.segmenter import Segmenter


@dataclass(frozen=True)
class Options:
    """What can be set for VoxTell; the first four are `Shortcuts`."""

    early_exit: float | None = None
    skip_below: float | None = None
    coarse_first: float | None = None
    resample: bool = False
    precision: Precision = "auto"
    compile_encoder: bool = False

    @property
    def shortcuts(self) -> Shortcuts:
        """What may be left out. Raises `ModelError` for a margin that is none."""
        return Shortcuts(self.early_exit, self.skip_below, self.coarse_first, self.resample)


class VoxTellLayout(Layout):
    """plans.json beside the weights, as published or as bundled."""

    engine = ENGINE
    holds = f"{PLANS} beside fold_0/checkpoint_final.pth or model.safetensors"
    options = Options

    def fits(self, directory: Path) -> bool:
        """Whether there is a plans.json: without weights it is still VoxTell's, and `load` says what is missing."""
        return (directory / PLANS).is_file()

    def card(self, directory: Path) -> Card:
        """The `voxtell` section of plans.json. Raises `ModelError`."""
        return Plans.read(directory / PLANS).card

    def load(self, directory: Path, device: str, bank: Path | None, *, use_bank: bool, options: Options) -> Segmenter:
        """A `Segmenter`. Raises like `voxtell.segmenter.load`."""
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
        """As `voxtell.hub.describe`."""
        from voxtell import hub

        return hub.describe(directory)

    def verify(self, directory: Path) -> dict[str, str]:
        """As `voxtell.hub.verify`."""
        from voxtell import hub

        return hub.verify(directory)


LAYOUT = VoxTellLayout()
