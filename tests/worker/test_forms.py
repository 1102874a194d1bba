"""Which form a destination gets: the one that it asks for, where there is one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from dicom_node.store import Store
from tests.support.delivering import pacs, segmented
from worker.destinations.dicom import DicomDestination
from worker.job_spec import Route
from worker.result import Result
from worker.results.forms import in_form_for, label_map_wanted
from worker.settings import load
from worker.steps import delivery
from worker.steps.delivery import DeliveryWorker

BINARY = DicomDestination(name="pacs", ae_title="A", host="h")
LABELS = DicomDestination(name="viewer", ae_title="B", host="h", seg="labelmap")
ALL = ["seg.dcm", "sr.dcm", "seg-labelmap.dcm", "sr-labelmap.dcm", "rtstruct.dcm", "preview.dcm"]


def files_for(destination: DicomDestination, names: list[str]) -> list[str]:
    return [one.file for one in in_form_for(destination, Result.model_validate({"files": names}).objects)]


def test_each_destination_gets_one_form_of_each_object() -> None:
    assert files_for(BINARY, ALL) == ["seg.dcm", "sr.dcm", "rtstruct.dcm", "preview.dcm"]
    assert files_for(LABELS, ALL) == ["seg-labelmap.dcm", "sr-labelmap.dcm", "rtstruct.dcm", "preview.dcm"]


def test_without_a_label_map_everybody_gets_the_binary_form() -> None:
    names = ["seg.dcm", "sr.dcm", "rtstruct.dcm"]
    assert files_for(LABELS, names) == files_for(BINARY, names) == names


def test_label_maps_are_made_where_a_route_or_its_fallback_asks() -> None:
    destinations = (BINARY, LABELS)
    assert not label_map_wanted((Route(to="pacs"),), destinations)
    assert label_map_wanted((Route(to="pacs"), Route(to="viewer")), destinations)
    assert label_map_wanted((Route(to="pacs", fallback="viewer"),), destinations)
    assert not label_map_wanted((), destinations)


@pytest.mark.peers
def test_a_destination_gets_the_form_and_the_transfer_syntax_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free_port: int
) -> None:
    monkeypatch.delenv("VOXTELL_DESTINATIONS", raising=False)
    peer = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port}
    peer |= {"seg": "labelmap", "transfer_syntax": "deflated"}
    sender = DeliveryWorker(load(home=tmp_path / "home", destinations=[peer]))
    monkeypatch.setattr(DeliveryWorker, "_mine", sender)
    job = segmented(sender, "pacs")
    (folder,) = {path.parent for path in sender.store.result_paths(job.id)}
    (folder / "0002.dcm").rename(folder / "0001-labelmap.dcm")
    claimed = Result.model_validate({"files": ["0001.dcm", "0001-labelmap.dcm"]})
    monkeypatch.setattr(sender.ledger.jobs, "get", lambda *_: replace(job, result=claimed))
    with pacs(tmp_path / "pacs", free_port):
        delivery.run(job.id, "pacs")
    (arrived,) = Store(tmp_path / "pacs").walk()
    kept = pydicom.dcmread(folder / "0001-labelmap.dcm")
    sent = pydicom.dcmread(arrived.path)
    assert sent.SOPInstanceUID == kept.SOPInstanceUID
    assert kept.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian, "what lies in the store is not touched"
    assert sent.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    assert np.array_equal(sent.pixel_array, kept.pixel_array)
    sender.ledger.close()
