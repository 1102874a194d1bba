"""A study that waits for its report, and the sentence that every structure can be traced to."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import BasicTextSRStorage, ExplicitVRLittleEndian

from dicom_node.synthesis import ct_series
from tests.support.images import edit
from tests.support.listening import QUIET, IntakeSite
from tests.support.twins import ThresholdSegmenter
from worker.job_spec import Prompt
from worker.ledger import Job, JobState
from worker.reports.inbox import ReportInbox
from worker.results.write import write_outputs
from worker.steps.pipeline import segment

pytestmark = pytest.mark.peers

PROTOCOL = """
name: lesions
match: {Modality: CT}
report: {use: true, required: true, wait_minutes: 30}
outputs: [seg, rtstruct, sr]
"""
TEXT = "FINDINGS: 8 mm solid nodule in the right upper lobe. No pleural effusion. Stable hepatic cysts."


@pytest.fixture
def node(tmp_path: Path):
    folder = tmp_path / "home" / "protocols"
    folder.mkdir(parents=True)
    (folder / "lesions.yaml").write_text(PROTOCOL)
    made = IntakeSite(tmp_path / "home")
    yield made
    made.close()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = ct_series(np.zeros((4, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    for path in paths:
        edit(path, AccessionNumber="ACC-0042", PatientID="4711")
    return paths


def study_of(images: list[Path]) -> str:
    return str(pydicom.dcmread(images[0], stop_before_pixels=True).StudyInstanceUID)


def report_of(study_uid: str, text: str, path: Path) -> Path:
    """A Basic Text SR with one paragraph."""
    paragraph = Dataset()
    paragraph.RelationshipType, paragraph.ValueType, paragraph.TextValue = "CONTAINS", "TEXT", text
    paragraph.ConceptNameCodeSequence = [Dataset()]
    paragraph.ConceptNameCodeSequence[0].CodeMeaning = "Finding"
    document = Dataset()
    document.SOPClassUID, document.SOPInstanceUID = BasicTextSRStorage, f"{study_uid}.9.1"
    document.StudyInstanceUID, document.SeriesInstanceUID, document.Modality = study_uid, f"{study_uid}.9", "SR"
    document.ValueType, document.ContentSequence = "CONTAINER", [paragraph]
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.save_as(path, enforce_file_format=True)
    return path


def reason(node: IntakeSite, study_uid: str) -> str:
    return " | ".join(one.reason for one in node.ledger.series.decisions_on(study_uid) if one.protocol == "lesions")


def texts(job: Job) -> list[str]:
    return [prompt.text for prompt in job.spec.prompts]


def test_a_study_waits_for_the_sr_of_its_study_and_is_segmented_by_it(node: IntakeSite, images, tmp_path) -> None:
    study = study_of(images)
    node.receives(*images, ago=QUIET + 60)
    assert node.tick() == []
    assert "waits for a report until " in reason(node, study)
    node.receives(report_of(study, TEXT, tmp_path / "report.dcm"), ago=QUIET + 1, association="a2")
    node.tick()
    (job,) = node.tick()
    assert [(one.text, one.sentence) for one in job.spec.prompts] == [
        ("solid nodule in the right upper lobe", "8 mm solid nodule in the right upper lobe."),
        ("hepatic cysts", "Stable hepatic cysts."),
    ]
    assert "2 prompts from the report; left out: 1 negated" in reason(node, study)
    assert node.ledger.series.unsettled() == []


def test_a_report_by_accession_number_ends_the_wait_and_a_correction_makes_a_new_job(node: IntakeSite, images) -> None:
    study = study_of(images)
    node.receives(*images, ago=QUIET + 60)
    node.tick()
    inbox = ReportInbox(node.settings.home, node.ledger)
    inbox.take(TEXT.encode(), source="http", accession="acc-0042")
    (first,) = node.tick()
    assert node.ledger.series.unsettled() == []

    inbox.take(b"ADDENDUM: There is also a fracture of the left 7th rib.", source="http", accession="ACC-0042")
    old, new = node.tick()
    assert (old.id, old.state, old.superseded_by) == (first.id, JobState.CANCELLED, new.id)
    assert texts(new) == [*texts(first), "fracture of the left 7th rib"]
    assert new.study_uid == study


def test_when_no_report_comes_the_wait_is_over_and_says_so(node: IntakeSite, images) -> None:
    study = study_of(images)
    node.receives(*images, ago=31 * 60)
    assert node.tick() == []
    assert "no report came" in reason(node, study)
    assert node.ledger.series.unsettled() == []
    ReportInbox(node.settings.home, node.ledger).take(TEXT.encode(), source="http", accession="ACC-0042")
    (late,) = node.tick()
    assert texts(late) == ["solid nodule in the right upper lobe", "hepatic cysts"]


def test_a_report_of_another_patient_with_that_accession_number_is_not_used(node: IntakeSite, images) -> None:
    node.receives(*images, ago=QUIET + 60)
    oru = (
        "MSH|^~\\&|RIS|H|NODE|H|20240101||ORU^R01|1|P|2.5.1\rPID|1||4712\r"
        f"OBR|1||ACC-0042\rOBX|1|TX|^FINDINGS||{TEXT}||||||F\r"
    )
    ReportInbox(node.settings.home, node.ledger).take(oru.encode(), source="hl7")
    assert node.tick() == []
    assert "waits for a report" in reason(node, study_of(images))


def test_every_object_names_the_sentence_that_asked_for_it(tmp_path: Path, node: IntakeSite) -> None:
    image = np.full((6, 16, 16), -1000, np.float32)
    image[2:4, 4:9, 4:9] = 600
    paths = ct_series(image, (3.0, 2.0, 2.0), tmp_path / "series")
    sentence = "8 mm solid nodule in the right upper lobe."
    prompts = (Prompt(text="above 500", name="nodule", sentence=sentence),)
    node.receives(*paths, ago=31 * 60)
    ReportInbox(node.settings.home, node.ledger).take(TEXT.encode(), source="http", study_uid=study_of(paths))
    (job,) = node.tick()
    work = job.spec.model_copy(update={"prompts": prompts})
    folder = tmp_path / "results"
    folder.mkdir()
    result = write_outputs(segment(paths, prompts, ThresholdSegmenter()), work, folder)  # type: ignore[arg-type]

    made = {name: pydicom.dcmread(folder / name) for name in result.files if name.endswith(".dcm")}
    assert sentence in made["seg.dcm"].SegmentSequence[0].SegmentDescription
    assert sentence in made["rtstruct.dcm"].StructureSetROISequence[0].ROIDescription
    comments = [str(element.value) for element in made["sr.dcm"].iterall() if element.keyword == "TextValue"]
    assert any(sentence in comment for comment in comments)
    assert result.found[0].sentence == sentence
