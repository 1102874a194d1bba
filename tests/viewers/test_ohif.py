"""A result of all outputs in the real OHIF: each object is shown on the image, in its place, names and colours."""

from pathlib import Path

import pytest

from dicom_node.scu.c_store import send
from tests.support.peers import orthanc, orthanc_plugin
from tests.viewers.looking import look, look_at_report
from tests.viewers.ohif import ohif
from tests.viewers.studies import ct, study


@pytest.mark.peers
def test_a_result_of_all_outputs_is_shown_on_its_image(tmp_path: Path) -> None:
    shown = study(ct(tmp_path / "ct"), ("seg", "rtstruct", "sr", "preview"), tmp_path / "results")
    with orthanc(tmp_path / "orthanc", Plugins=[orthanc_plugin("OrthancDicomWeb")]) as pacs, ohif(pacs.http) as viewer:
        send([*shown.images, *shown.results], pacs.peer, calling_ae="VOXTELL")
        with viewer.study(shown.series.study_uid, 1 + len(shown.results)) as page:
            for modality in ("RTSTRUCT", "SEG"):
                seen = look(page, shown, modality, tmp_path / "pictures")
                assert (seen.opened_on, seen.faults) == ("CT", [])
            assert look_at_report(page, shown, tmp_path / "pictures") == []
