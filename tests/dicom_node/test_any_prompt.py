"""Whatever a prompt holds, all results are valid objects that keep its words."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import strategies as st
from pydicom import dcmread

from dicom_node.masks.measures import extent
from dicom_node.objects.result_set import ResultSet
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support.examples import examples
from tests.support.images import PROVENANCE, result_errors

pytestmark = pytest.mark.peers

WORDS = st.text(st.characters(exclude_categories=["Cs", "Cn"]), min_size=1, max_size=120)


@examples(5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(prompt=WORDS)
@example("a\\b")
@example("line\r\nbreak\x00\x1b$B")
@example("肝臓の病変 " * 30)
@example(" ")
def test_any_prompt_makes_valid_objects(tmp_path: Path, prompt: str) -> None:
    if not (tmp_path / "ct").exists():
        ct_series(np.zeros((3, 8, 8)), (3, 1, 1), tmp_path / "ct")
    series = read_series(sorted((tmp_path / "ct").iterdir()))
    masks = np.zeros((1, 3, 8, 8), dtype=bool)
    masks[0, 1:, 2:5, 2:6] = True
    regions = [region_for(prompt)]
    plan = ResultSet(series, masks, regions, PROVENANCE, ("seg", "rtstruct", "sr", "preview"), label_map=True)
    made = dict(plan.written([extent(masks[0], series.affine)]))
    assert len(made) == 6
    for name, dataset in made.items():
        assert result_errors(dataset, tmp_path) == [], name
        assert dcmread(tmp_path / f"{dataset.SOPInstanceUID}.dcm").PatientID == "PHANTOM"
    words = [word for word in prompt.split() if word.isalnum()]
    assert all(word in made["seg.dcm"].SegmentSequence[0].SegmentDescription for word in words)
