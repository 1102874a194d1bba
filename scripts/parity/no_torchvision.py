"""Import before transformers, which imports torchvision where it is installed; one for another torch would stop it."""

import sys

sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
