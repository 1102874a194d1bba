"""Data sets without preamble and File Meta Information are read, in both VR encodings; other bytes are refused."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import write_dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node.errors import SeriesError
from dicom_node.images.headerless import headerless_meta
from dicom_node.series import read_series

SYNTAXES = {True: ImplicitVRLittleEndian, False: ExplicitVRLittleEndian}


def without_header(path: Path, folder: Path, implicit: bool) -> Path:
    from pydicom.filebase import DicomBytesIO

    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, implicit
    write_dataset(buffer, dcmread(path))
    (folder / path.name).write_bytes(buffer.getvalue())
    return folder / path.name


@pytest.mark.parametrize("implicit", [True, False])
def test_the_values_are_those_of_the_whole_files(ct_paths: list[Path], tmp_path: Path, implicit: bool) -> None:
    bare = [without_header(path, tmp_path, implicit) for path in ct_paths[:3]]
    assert bare[0].read_bytes()[:2] == b"\x08\x00"
    series = read_series(bare)
    np.testing.assert_array_equal(series.volume.array, read_series(ct_paths[:3]).volume.array)
    assert {header.file_meta.TransferSyntaxUID for header in series.headers} == {SYNTAXES[implicit]}


def test_meta_information_without_its_preamble_is_used(ct_paths: list[Path], tmp_path: Path) -> None:
    short = [tmp_path / path.name for path in ct_paths[:3]]
    for path, target in zip(ct_paths, short, strict=False):
        target.write_bytes(path.read_bytes()[132:])
    np.testing.assert_array_equal(read_series(short).volume.array, read_series(ct_paths[:3]).volume.array)


@given(st.binary(max_size=64))
def test_other_bytes_are_no_data_set(content: bytes) -> None:
    if content[:2] in (b"\x08\x00", b"\x02\x00"):
        return
    with pytest.raises(InvalidDicomError):
        headerless_meta(io.BytesIO(content))


@pytest.mark.parametrize("content", [b"", b"hello", b"\x08\x00", b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"])
def test_a_file_that_is_no_instance_is_refused_by_name(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "note.dcm"
    path.write_bytes(content)
    with pytest.raises(SeriesError, match=r"note\.dcm is not a readable DICOM file"):
        read_series([path])
