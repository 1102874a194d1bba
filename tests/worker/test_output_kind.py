"""A new kind of object is one row of the table: everything that asks for kinds asks there."""

from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MultiFrameTrueColorSecondaryCaptureImageStorage, RLELossless

from dicom_node.objects.common import refer_to_source, result_dataset
from dicom_node.objects.kinds import KINDS, Content, OutputKind
from dicom_node.objects.provenance import ObjectKind
from dicom_node.synthesis import ct_series
from tests.support.twins import ThresholdSegmenter
from worker.destinations.dicom import DicomDestination, kinds_for, syntaxes_for
from worker.job_spec import JobSpec, Output, Prompt, Route
from worker.ledger.routing import destinations, objects_for
from worker.protocols.protocol import NOT_SENT
from worker.result import Result
from worker.results.forms import in_form_for
from worker.results.write import write_outputs
from worker.steps.segmentation import segment

IDENTITY = ObjectKind("hologram", MultiFrameTrueColorSecondaryCaptureImageStorage, codes.DCM.IllustrationOfROI)


def write_hologram(content: Content) -> Dataset:
    provenance = content.provenance
    reference = provenance.reference(IDENTITY, content.series, content.regions)
    dataset = result_dataset(content.series, provenance, reference, "OT")
    refer_to_source(dataset, content.series)
    return dataset


HOLOGRAM = OutputKind(
    output="hologram",
    stem="hologram",
    identity=IDENTITY,
    brings=("rtstruct",),
    syntaxes=(ExplicitVRLittleEndian,),
    whole_bytes=True,
    write=write_hologram,
)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[JobSpec, Result, Path]:
    """A job that asks for a SEG, a preview and a hologram, its result, and the folder that it lies in."""
    monkeypatch.setitem(KINDS, HOLOGRAM.file, HOLOGRAM)
    image = np.full((5, 16, 16), -1000, np.float32)
    image[1:4, 4:12, 4:12] = 500
    prompts = (Prompt(text="above 300"),)
    spec = JobSpec.of(
        study_uid="1.2",
        series_uid="1.2.3",
        instances=["1.2.3.4"],
        protocol="test",
        protocol_digest="d",
        prompts=prompts,
        model=None,
    ).model_copy(update={"outputs": ("seg", "preview", "hologram")})
    paths = ct_series(image, (3.0, 1.0, 1.0), tmp_path / "series")
    done = segment(paths, prompts, ThresholdSegmenter())  # type: ignore[arg-type]
    folder = tmp_path / "results"
    folder.mkdir()
    return spec, write_outputs(done, spec, folder), folder


def test_it_is_written_listed_and_named_by_the_preview(made: tuple[JobSpec, Result, Path]) -> None:
    _, result, folder = made
    assert result.files == ("seg.dcm", "rtstruct.dcm", "preview.dcm", "hologram.dcm"), "it brings a structure set"
    listed = result.objects[-1]
    assert (listed.kind, listed.form, listed.sop_class_uid) == ("hologram", None, IDENTITY.sop_class)
    preview = pydicom.dcmread(folder / "preview.dcm")
    (named,) = (one for one in preview.ReferencedInstanceSequence if one.ReferencedSOPInstanceUID == listed.sop_uid)
    assert named.PurposeOfReferenceCodeSequence[0].CodeValue == IDENTITY.purpose.value


@pytest.mark.peers
def test_routes_bring_it_where_it_is_asked_for_and_to_everybody_else_unasked(
    made: tuple[JobSpec, Result, Path],
) -> None:
    spec, result, _ = made
    theatre = Route(to="theatre").model_copy(update={"outputs": ("hologram",)})
    routed = spec.model_copy(update={"routes": (theatre, Route(to="pacs"), Route(to="planning", outputs=("sr",)))})
    assert destinations(routed, result) == ["theatre", "pacs"]
    assert [one.file for one in objects_for(routed, result, "theatre")] == ["hologram.dcm"]
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", seg="labelmap")
    assert [one.file for one in in_form_for(pacs, objects_for(routed, result, "pacs"))] == list(result.files)


@pytest.mark.peers
@pytest.mark.usefixtures("made")
def test_a_destination_is_asked_whether_it_takes_it() -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1")
    assert kinds_for(pacs)["hologram"] is HOLOGRAM
    assert syntaxes_for(pacs, HOLOGRAM) == [ExplicitVRLittleEndian]
    assert syntaxes_for(pacs.model_copy(update={"transfer_syntax": "rle"}), HOLOGRAM) == [RLELossless]


def test_protocols_know_every_kind_of_the_table_and_names_are_said_once() -> None:
    assert {kind.output for kind in KINDS.values()} == {*get_args(Output)} - {*NOT_SENT}
    assert {one for kind in KINDS.values() for one in kind.brings} <= {*get_args(Output)}
    assert len({kind.identity.name for kind in KINDS.values()}) == len(KINDS)


def test_a_kind_is_written_after_what_it_brings() -> None:
    rows = list(KINDS.values())
    for place, kind in enumerate(rows):
        for brought in kind.brings:
            assert any(one.output == brought and one.form == kind.form for one in rows[:place]), kind.file
