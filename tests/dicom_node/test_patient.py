"""Whose image it was: the results lie in the source's study, whatever its header breaks, and are valid themselves."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.objects.patient import carry_patient
from dicom_node.objects.seg import write_seg
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from tests.support.images import PROVENANCE, iod_errors

Result = Callable[..., Dataset]
JAPANESE = b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B"  # PS3.5 H.3.1
KOREAN = b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"  # PS3.5 I.2


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """`result(charset, Keyword=bytes)`: a SEG, written and read again, of a source with these bytes in its headers."""

    def write(charset: str | list[str] = "", **values: bytes) -> Dataset:
        files = ct_series(np.zeros((4, 9, 9)), (3.0, 2.0, 2.0), tmp_path / "ct")
        for path in files:
            image = dcmread(path)
            image.SpecificCharacterSet = charset
            image.save_as(path)
            image = dcmread(path)
            for keyword, value in values.items():
                padded, tag = value + b" " * (len(value) % 2), Tag(keyword)
                image._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
            image.save_as(path)
        seg = write_seg(
            read_series(files), np.ones((1, 4, 9, 9), dtype=bool), [region_for("liver")], PROVENANCE
        ).dataset
        assert seg is not None
        seg.save_as(tmp_path / "seg.dcm", enforce_file_format=True)
        return dcmread(tmp_path / "seg.dcm")

    return write


@pytest.mark.peers
@pytest.mark.parametrize(
    ("charset", "name", "expected"),
    [
        ("ISO_IR 100", b"M\xfcller^J\xf6rg", "Müller^Jörg"),
        ("ISO_IR 192", "山田^太郎".encode(), "山田^太郎"),
        (["", "ISO 2022 IR 87"], JAPANESE, "Yamada^Tarou=山田^太郎"),
        (["", "ISO 2022 IR 149"], KOREAN, "Hong^Gildong=洪^吉洞"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        ("ISO_IR 144", "Люк".encode("iso8859_5"), "Люк"),
        ("", b"M\xfcller^J\xf6rg", "Müller^Jörg"),  # not declared
        ("", "Müller^Jörg".encode(), "Müller^Jörg"),
        ("ISO_IR 192", b"M\xfcller^J\xf6rg", "Müller^Jörg"),  # declared, but not so
    ],
)
def test_names_come_through_every_character_set(
    result: Result, tmp_path: Path, charset: str | list[str], name: bytes, expected: str
) -> None:
    seg = result(charset, PatientName=name)
    assert (seg.PatientName, seg.SpecificCharacterSet) == (expected, "ISO_IR 192")
    assert iod_errors(seg, tmp_path) == []


@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about the length
@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("AccessionNumber", b"1234567890123456789012"),
        ("PatientID", b"x" * 80),
        ("PatientID", b"HOSPITAL\\12345"),
        ("PatientName", b"Long" * 20 + b"^Name"),
        ("StudyInstanceUID", b"1.2.3.004.5"),
    ],
)
def test_what_an_archive_files_by_stays_as_it_is(result: Result, keyword: str, value: bytes) -> None:
    carried = result("ISO_IR 100", **{keyword: value})[keyword].value
    assert (
        "\\".join(carried) if not isinstance(carried, str) and len(carried) == 2 else str(carried)
    ) == value.decode()


@pytest.mark.peers
@pytest.mark.parametrize(
    ("keyword", "value", "expected"),
    [
        ("PatientAge", b"45", None),
        ("PatientBirthDate", b"1950-01-01", ""),
        ("StudyDate", b"2020.01.31", "20200131"),
        ("StudyDate", b"20200101-20200131", ""),
        ("StudyTime", b"25:99", ""),
        ("StudyID", b"CT 2026-01-02 number 17", ""),
        ("PatientSex", b"male", ""),
        ("PatientWeight", b"70,5", None),
        ("StudyDescription", b"y" * 200, None),
        ("StudyDescription", b"head\r\nneck", "head neck"),
        ("StudyDescription", b"head\\neck", None),
        ("PositionReferenceIndicator", b"x" * 80, ""),
    ],
)
def test_what_is_not_valid_is_left_out(
    result: Result, tmp_path: Path, keyword: str, value: bytes, expected: str | None
) -> None:
    seg = result("ISO_IR 100", **{keyword: value})
    assert (str(seg[keyword].value) if keyword in seg else None) == expected
    assert iod_errors(seg, tmp_path) == []


@pytest.mark.peers
def test_an_anonymised_source_that_does_not_tell_how_makes_a_valid_result(result: Result, tmp_path: Path) -> None:
    seg = result(PatientIdentityRemoved=b"YES")
    assert (seg.PatientIdentityRemoved, seg.DeidentificationMethod) == ("YES", "Not told by the source")
    assert iod_errors(seg, tmp_path) == []
    told = result(PatientIdentityRemoved=b"YES", DeidentificationMethod=b"by hand\\again")
    assert list(told.DeidentificationMethod) == ["by hand", "again"]


@pytest.mark.peers
def test_a_trial_is_carried_if_the_source_says_which(result: Result, tmp_path: Path) -> None:
    known = {"ClinicalTrialSponsorName": b"S", "ClinicalTrialProtocolID": b"P", "ClinicalTrialSubjectID": b"7"}
    seg = result(**known)
    assert (seg.ClinicalTrialProtocolID, seg.ClinicalTrialSiteID) == ("P", "")
    assert iod_errors(seg, tmp_path) == []
    seg = result(**known | {"ClinicalTrialSponsorName": b""})
    assert not [element.keyword for element in seg if element.keyword.startswith("ClinicalTrial")]
    assert iod_errors(seg, tmp_path) == []


def test_codes_that_say_nothing_are_left_out() -> None:
    source, result = Dataset(), Dataset()
    source.PatientID = "1"
    source.ProcedureCodeSequence = [Dataset()]
    source.ProcedureCodeSequence[0].CodeMeaning = "CT head"
    carry_patient(source, result)
    assert "ProcedureCodeSequence" not in result
    source.ProcedureCodeSequence[0].CodeValue = "1"
    source.ProcedureCodeSequence[0].CodingSchemeDesignator = "99LOCAL"
    carry_patient(source, result)
    assert result.ProcedureCodeSequence[0].CodeMeaning == "CT head"


def test_class_and_instance_come_from_the_meta_information_where_the_header_is_empty(tmp_path: Path) -> None:
    files = ct_series(np.zeros((4, 9, 9)), (3.0, 2.0, 2.0), tmp_path / "ct")
    expected = read_series(files).references
    for path in files:
        image = dcmread(path)
        del image.SOPClassUID, image.SOPInstanceUID
        image.save_as(path)
    series = read_series(files)
    assert series.references == expected
    assert [header.SOPInstanceUID for header in series.headers] == [reference.sop_uid for reference in expected]
