"""The figures of the model card."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from voxtell.training import plot
from voxtell.training.measure import Disagreement


@pytest.mark.long
def test_the_figure_of_the_worst_patients_has_a_legend_and_says_whose_they_are(tmp_path: Path) -> None:
    image = np.zeros((40, 40), np.float32)
    mask, contour = np.zeros((2, 40, 40), bool)
    mask[10:20, 10:20], contour[12:22, 12:22] = True, True
    shown = Disagreement("validation_pt_1", 0.5, image, mask, contour, (4.0, 4.0))
    for count in (1, 2, 7):
        figures: list[Figure] = []
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(plot.plt, "close", figures.append)
            plot.disagreements(dict.fromkeys([f"organ {n}" for n in range(count)], shown), tmp_path / "worst.png")
        (figure,) = figures
        panels = figure.get_axes()
        assert len(panels) >= count + 1, "one panel is the legend"
        legend = panels[-1].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["the planner's contour", "the model's mask"]
        first = panels[0]
        assert (first.get_title(loc="left"), first.get_title(loc="right")) == ("organ 0", "Dice 0.50")
        assert {text.get_text() for text in first.texts} == {"R", "L", "2 cm", "validation_pt_1"}
        low, high = first.get_xlim()
        assert low > high, "the patient's right is on the left"
        plot.plt.close(figure)
