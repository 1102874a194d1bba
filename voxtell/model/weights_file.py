"""Where the weights of a model directory lie. Loads no torch."""

from pathlib import Path
from typing import Final

from voxtell.errors import ModelError
from voxtell.model.plans import PLANS

PUBLISHED_WEIGHTS: Final = Path("fold_0", "checkpoint_final.pth")
BUNDLED_WEIGHTS: Final = Path("model.safetensors")


def weights_path(directory: Path) -> Path:
    """Returns the weights file of a model directory; the bundled layout wins where both are there.

    Raises:
        ModelError: when the directory or the weights file is missing.
    """
    if not directory.is_dir():
        raise ModelError(f"{directory} is no model directory; it must hold {PLANS} and {PUBLISHED_WEIGHTS}")
    for name in (BUNDLED_WEIGHTS, PUBLISHED_WEIGHTS):
        if (directory / name).is_file():
            return directory / name
    raise ModelError(
        f"{directory} holds no weights: neither {PUBLISHED_WEIGHTS} nor {BUNDLED_WEIGHTS}; put one of them there"
    )
