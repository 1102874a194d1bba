"""Texts in the code page of a site, of images that declare no character set: what the PACS shows is in the results."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from dicom_node.images.character_sets import codec_of
from dicom_node.images.frames import read_file
from dicom_node.objects.seg import write_seg
from dicom_node.regions import region_for
from dicom_node.series import read_series, read_volume
from dicom_node.synthesis import ct_series
from tests.support.examples import examples
from tests.support.images import PROVENANCE

IVANOV, WANG = "Иванов^Иван", "王^小东"
UNDECLARED: list[str | list[str] | None] = [
    None, "", "ISO_IR 6", "ISO 2022 IR 6", "Not Supplied", ["ISO 2022 IR 6", "IS"], ["", "KLINGON"], "US-ASCII",
]  # fmt: skip


def series(folder: Path, declared: str | list[str] | None, **values: bytes) -> list[Path]:
    """A CT with these bytes as values, which declares that character set."""
    paths = ct_series(np.zeros((2, 9, 9)), (3.0, 2.0, 2.0), folder)
    for path in paths:
        image = dcmread(path)
        del image.SpecificCharacterSet
        if declared is not None:
            image.SpecificCharacterSet = declared
        image.save_as(path)
        image = dcmread(path)
        for keyword, value in values.items():
            padded, tag = value + b" " * (len(value) % 2), Tag(keyword)
            image._dict[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
        image.save_as(path)
    return paths


def result(paths: list[Path], character_set: str) -> Dataset:
    """The SEG of such a series, written and read again."""
    mask = np.ones((1, 2, 9, 9), dtype=bool)
    made = write_seg(read_series(paths, character_set=character_set), mask, [region_for("liver")], PROVENANCE).dataset
    assert made is not None
    made.save_as(paths[0].parent / "seg.dcm", enforce_file_format=True)
    return dcmread(paths[0].parent / "seg.dcm")


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("declared", UNDECLARED, ids=str)
@pytest.mark.parametrize(
    ("name", "codec", "setting"),
    [
        (IVANOV, "cp1251", "cp1251"),
        (IVANOV, "cp1251", "windows-1251"),
        (IVANOV, "iso8859_5", "ISO_IR 144"),
        (IVANOV, "koi8_r", "KOI8-R"),
        (WANG, "gb18030", "GB18030"),
        (WANG, "gbk", "GBK"),
        ("Ωνάσης^Αρης", "cp1253", "cp1253"),
    ],
)
def test_names_of_images_that_declare_none_are_what_the_pacs_shows(
    tmp_path: Path, declared: str | list[str] | None, name: str, codec: str, setting: str
) -> None:
    paths = series(tmp_path, declared, PatientName=name.encode(codec), PatientID=name.encode(codec))
    seg = result(paths, setting)
    assert (seg.PatientName, seg.PatientID, seg.SpecificCharacterSet) == (name, name, "ISO_IR 192")


@pytest.mark.parametrize(
    ("declared", "codec", "name"),
    [
        ("ISO_IR 100", "latin-1", "Müller^Jörg"),
        ("ISO_IR 192", "utf-8", "Müller^Jörg"),
        ("ISO_IR 144", "iso8859_5", IVANOV),
        ("GB18030", "gb18030", WANG),
        (["", "ISO 2022 IR 100"], "ascii", "Miller^J"),
        ("ISO-IR 100", "latin-1", "Müller^Jörg"),
        ("ISO-8859-1", "latin-1", "Müller^Jörg"),  # usual names, which the standard does not have
        ("GB2312", "gb2312", "王^小"),
        ("KOI8-R", "koi8_r", IVANOV),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_images_declare_goes_before_the_setting(
    tmp_path: Path, declared: str | list[str], codec: str, name: str
) -> None:
    assert result(series(tmp_path, declared, PatientName=name.encode(codec)), "cp1251").PatientName == name


def test_without_the_setting_it_is_as_before(tmp_path: Path) -> None:
    assert result(series(tmp_path / "a", None, PatientName="Müller".encode()), "").PatientName == "Müller"
    assert result(series(tmp_path / "b", None, PatientName="Müller".encode("latin-1")), "").PatientName == "Müller"


def test_conditions_see_the_same_texts(tmp_path: Path) -> None:
    paths = series(tmp_path, None, StudyDescription="КТ грудной клетки".encode("cp1251"))
    assert read_file(paths[0], "cp1251").header.StudyDescription == "КТ грудной клетки"


def test_a_named_volume_is_read_alike(tmp_path: Path) -> None:
    paths = series(tmp_path, None, PatientName=IVANOV.encode("cp1251"))
    assert read_volume(paths, "", character_set="cp1251").headers[0].PatientName == IVANOV


@given(st.text(st.characters(min_codepoint=0x410, max_codepoint=0x44F), min_size=1, max_size=20))
@examples(20, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_name_in_cyrillic_letters_comes_through(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    paths = series(tmp_path_factory.mktemp("ct"), None, PatientName=name.encode("cp1251"))
    assert read_file(paths[0], "cp1251").header.PatientName == name


@pytest.mark.parametrize("name", ["klingon", "utf-16", "base64", "", "IS"])
def test_what_is_no_character_set_of_texts_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no character set for texts, such as ISO_IR 144, GB18030 or cp1251"):
        codec_of(name)
