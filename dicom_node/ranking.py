"""Ranking: which volume of a study is the one to take, and why this one before that one. From headers alone."""

from typing import Literal

Quality = Literal[
    "thin",
    "coverage",
    "slices",
    "axial",
    "coronal",
    "sagittal",
    "soft kernel",
    "sharp kernel",
    "original",
    "contrast",
    "no contrast",
    "small field",
    "large field",
    "newest",
]
"""What one may prefer in a volume."""

Kind = Literal["projection", "reformatted", "derived"]
"""What one may refuse: intensity projections (MIP and the like), reformatted planes (MPR), everything DERIVED."""
