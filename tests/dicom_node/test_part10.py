"""The file around a received data set, read by pydicom and by DCMTK."""

import subprocess
from io import BytesIO

import pytest
from pydicom import dcmread
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, JPEG2000Lossless
from pynetdicom.dsutils import encode

from dicom_node.storage.part10 import IMPLEMENTATION_CLASS_UID, file_start
from dicom_node.uids import derived_uid
from tests.support.instances import small_instance
from tests.support.peers import program


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEG2000Lossless])
@pytest.mark.parametrize("sop_uid", ["1.2.3", "1.2.34"])
def test_pydicom_reads_the_file_meta_information(sop_uid, syntax):
    start = file_start(sop_class_uid=CTImageStorage, sop_uid=sop_uid, transfer_syntax=syntax)
    meta = dcmread(BytesIO(start)).file_meta
    assert meta.FileMetaInformationGroupLength == len(start) - 128 - 4 - 12
    assert meta.FileMetaInformationVersion == b"\x00\x01"
    assert meta.MediaStorageSOPClassUID == CTImageStorage
    assert meta.MediaStorageSOPInstanceUID == sop_uid
    assert meta.TransferSyntaxUID == syntax
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == "VOXTELL_DICOM"


@pytest.mark.peers
def test_dcmtk_finds_no_fault(tmp_path):
    instance = small_instance()
    start = file_start(
        sop_class_uid=CTImageStorage, sop_uid=instance.SOPInstanceUID, transfer_syntax=ExplicitVRLittleEndian
    )
    (tmp_path / "one.dcm").write_bytes(start + encode(instance, False, True))
    checked = subprocess.run([program("dcmftest"), tmp_path / "one.dcm"], capture_output=True, text=True, check=False)
    assert checked.stdout.startswith("yes:")
    dumped = subprocess.run([program("dcmdump"), tmp_path / "one.dcm"], capture_output=True, text=True, check=False)
    assert (dumped.returncode, dumped.stderr) == (0, "")


def test_the_implementation_has_one_uid_for_ever():
    assert derived_uid("voxtell-dicom") == IMPLEMENTATION_CLASS_UID
