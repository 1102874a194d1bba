"""What every test may ask for: the real data next to the project, and free loopback ports."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.uids import derived_uid

settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")  # how fast an example runs says nothing of the code

DATA = Path(os.environ.get("VOXTELL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """`shared_data("openkbp", "index.json")`: a file of the test data; without it a test skips at home, fails in CI."""
    return lambda *parts: _found(DATA, *parts)


@pytest.fixture(scope="session")
def shared_case() -> Callable[..., Path]:
    """`shared_case("nifti-metre-units", "ct.nii.gz")`: an input from a public bug report."""
    return lambda *parts: _found(DATA.parent / "cases", *parts)


def _found(folder: Path, *parts: str) -> Path:
    path = folder.joinpath(*parts)
    if not path.exists():
        message = f"test data {'/'.join(parts)} is not in {folder} (set VOXTELL_TEST_DATA)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def ct_paths(shared_data: Callable[..., Path]) -> list[Path]:
    """A real CT: GE, 41 slices, explicit VR little endian."""
    return sorted(shared_data("ct_abdomen_crlm1004", "dicom").glob("*.dcm"))


@pytest.fixture(scope="session")
def j2k_paths(shared_data: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A real CT in JPEG 2000, 20 slices. Its empty UIDs, which C-STORE cannot send, are filled."""
    folder = tmp_path_factory.mktemp("j2k")
    paths = []
    for path in sorted(shared_data("ct_totalseg_j2k", "dicom").glob("*.dcm")):
        instance = dcmread(path)
        instance.SOPClassUID = instance.file_meta.MediaStorageSOPClassUID
        instance.SOPInstanceUID = instance.file_meta.MediaStorageSOPInstanceUID
        instance.StudyInstanceUID = UID(derived_uid("study of", path.parent.name))
        instance.SeriesInstanceUID = UID(derived_uid("series of", path.parent.name))
        instance.save_as(folder / path.name)
        paths.append(folder / path.name)
    return paths
