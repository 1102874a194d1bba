"""What a report says about the study it belongs to."""

import json

import pytest

from tests.support.reports import ORU, document
from worker.report_language import NotAReportError
from worker.report_language.formats.links import ReportLinks, normalised
from worker.report_language.formats.read import report_links


def fhir(**fields: object) -> bytes:
    return json.dumps({"resourceType": "DiagnosticReport", "status": "final", **fields}).encode()


def test_an_oru_names_study_order_and_patient() -> None:
    assert report_links(ORU.encode()) == ReportLinks("1.2.3.4", "ACC0042", frozenset({"4711", "998"}))


@pytest.mark.parametrize(
    ("fields", "accession"),
    [(("OBR-3",), "FILLER1"), (("OBR-2", "OBR-3"), "PLACER1"), (("OBR-44", "ORC-3"), "FILLER1"), (("OBR-44",), "")],
)
def test_a_site_says_where_its_accession_numbers_stand(fields: tuple[str, ...], accession: str) -> None:
    assert report_links(ORU.encode(), fields).accession == accession


@pytest.mark.parametrize(
    "segment", ["OBX|2|HD|113014^DICOM Study^DCM||1.2.9||||||F", "IPC|ACC|RP|1.2.9^^^|SPS", "ZDS|1.2.9^RIS"]
)
def test_the_study_uid_has_three_places_in_an_oru(segment: str) -> None:
    assert report_links(ORU.replace("ZDS|1.2.3.4^RIS^Application^DICOM", segment).encode()).study_uid == "1.2.9"


def test_a_dicom_document_names_its_study() -> None:
    content = document(StudyInstanceUID="1.2.840.5", AccessionNumber="00123", PatientID="P-1")
    assert report_links(content) == ReportLinks("1.2.840.5", "123", frozenset({"P-1"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"}]},
        {"identifier": [{"system": "urn:hospital:accession-numbers", "value": "a1"}]},
        {"basedOn": [{"identifier": {"type": {"coding": [{"code": "ACSN"}]}, "value": "A1"}}]},
    ],
)
def test_a_fhir_report_names_its_accession_number_in_several_ways(fields: dict[str, object]) -> None:
    assert report_links(fhir(**fields)).accession == "A1"


@pytest.mark.parametrize(
    "fields",
    [
        {"imagingStudy": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}]},
        {"study": [{"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}]},
        {
            "imagingStudy": [{"reference": "#s"}],
            "contained": [
                {
                    "resourceType": "ImagingStudy",
                    "id": "s",
                    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
                }
            ],
        },
    ],
)
def test_a_fhir_report_names_its_study_in_several_ways(fields: dict[str, object]) -> None:
    assert report_links(fhir(**fields)).study_uid == "1.2.3"


def test_a_fhir_report_names_its_patient() -> None:
    assert report_links(fhir(subject={"identifier": {"value": "007"}})).patient_ids == {"7"}
    assert report_links(fhir(subject={"reference": "Patient/7"})).patient_ids == frozenset()


@pytest.mark.parametrize("wrong", [b"{", b'{"entry": 1}', b'{"identifier": [1]}', b'{"entry": [{"resource": 1}]}'])
def test_what_only_looks_like_fhir_is_refused(wrong: bytes) -> None:
    with pytest.raises(NotAReportError):
        report_links(wrong)


def test_plain_text_has_no_links() -> None:
    assert report_links(b"Nodule in the right upper lobe.") == ReportLinks()


@pytest.mark.parametrize(
    ("written", "same"),
    [(" a-42 ", "A-42"), ("000123", "123"), ("12\u200b3", "123"), ("\uff11\uff12", "12"), ("0", "")],
)
def test_numbers_are_compared_as_people_mean_them(written: str, same: str) -> None:
    assert normalised(written) == same


def test_a_report_of_another_patient_is_told() -> None:
    links = ReportLinks(accession="1", patient_ids=frozenset({"4711", "998"}))
    assert links.contradicts("4712")
    assert not links.contradicts("04711")
    assert not links.contradicts("")
    assert not ReportLinks(accession="1").contradicts("4712")
