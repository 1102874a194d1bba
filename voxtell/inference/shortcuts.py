"""Defines approximations that save work for nearly the same masks. All are off by default.

What each costs in Dice and saves in time is measured in docs/explanation/engine.md.
"""

from dataclasses import dataclass, fields, replace
from math import isfinite

from voxtell.errors import ModelError
from voxtell.model.plans import InputPlans

# Published weights take every spacing as it is. Outside these bounds "resample" brings an axis to the spacing that
# most of their training images had, in millimetres.
USUAL_SPACING = (0.5, 3.0)
TYPICAL_SPACING = 1.5

# The logit of a whole window in which a prompt was not decoded, because the coarser pass found nothing there.
ABSENT = -5.0


@dataclass(frozen=True)
class Shortcuts:
    """Says which work may be left out. A margin is a number of logits; None switches the shortcut off.

    early_exit: a prompt leaves the mask decoder in a window where all logits of the head at a quarter or at half the
        resolution are below minus this margin.
    skip_below: windows in which no voxel is above this grey value (HU on a CT) are not run.
    coarse_first: a pass at half the resolution comes first; a prompt is decoded only in windows where a logit of that
        pass is above minus this margin.
    resample: axes of unusual spacing are brought to 1.5 mm, and the masks back, even for weights that take every
    spacing.

    Raises:
        ModelError: when a margin is negative or not finite.
    """

    early_exit: float | None = None
    skip_below: float | None = None
    coarse_first: float | None = None
    resample: bool = False

    def __post_init__(self) -> None:
        for name in ("early_exit", "coarse_first"):
            margin = getattr(self, name)
            if margin is not None and not (isfinite(margin) and margin >= 0):
                raise ModelError(f"{name} is {margin}; a margin is a number of logits, 0 or more")

    def __str__(self) -> str:
        """Returns those that are on, for logs and results: "early-exit=2 resample"; "" when all is exact."""
        on = {f.name.replace("_", "-"): getattr(self, f.name) for f in fields(self)}
        return " ".join(
            name if value is True else f"{name}={value:g}"
            for name, value in on.items()
            if value is not None and value is not False
        )

    def applied_to(self, plans: InputPlans) -> InputPlans:
        """Returns the input plans with the resampling asked for. A model's own spacing is never overridden."""
        if not self.resample or plans.spacing is not None:
            return plans
        low, high = ((bound,) * 3 for bound in USUAL_SPACING)
        return replace(plans, spacing=(TYPICAL_SPACING,) * 3, spacing_min=low, spacing_max=high)


EXACT = Shortcuts()
