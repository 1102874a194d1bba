"""Small DICOM instances, as data sets and as bytes, and a plain way to send them."""

from typing import Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.scu.association import associated


def small_instance(
    number: int = 1, *, series: str = "1.2.3.4", sop_class: str = CTImageStorage, **more: Any
) -> Dataset:
    """A few hundred bytes of a CT image, with file meta information; `more` are further attributes."""
    instance = Dataset()
    instance.SOPClassUID = sop_class
    instance.SOPInstanceUID = f"{series}.{number}"
    instance.PatientName = "Test^Small"
    instance.StudyInstanceUID = "1.2.3"
    instance.SeriesInstanceUID = series
    instance.InstanceNumber = number
    instance.Rows = instance.Columns = 4
    instance.BitsAllocated = instance.BitsStored = 16
    instance.PixelData = bytes(range(32))
    instance["PixelData"].VR = "OW"
    for keyword, value in more.items():
        setattr(instance, keyword, value)
    instance.file_meta = FileMetaDataset()
    instance.file_meta.MediaStorageSOPClassUID = sop_class
    instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    instance.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return instance


def data_set(part10: bytes) -> bytes:
    """The bytes behind preamble and file meta information: what a C-STORE carries."""
    meta_length = int.from_bytes(part10[140:144], "little")  # value of (0002,0000), PS3.10 section 7.1
    return part10[144 + meta_length :]


CT = [build_context(CTImageStorage, ExplicitVRLittleEndian)]


def send_data_sets(peer, *instances, contexts=CT):
    """C-STORE by pynetdicom; the responses."""
    with associated(peer, contexts, calling_ae="SCU") as association:
        return [association.send_c_store(instance) for instance in instances]
