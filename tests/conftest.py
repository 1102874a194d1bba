"""What every test may ask for: the real data next to the project, free loopback ports; and its kind, which is held."""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import UID

from dicom_node.uids import derived_uid
from tests.support import examples, ports
from tests.support.marks import GUARD, kind_of

__all__ = ["examples"]  # its import makes hypothesis's profiles known, before a command line chooses one

DATA = Path(os.environ.get("VOXTELL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.hookimpl(tryfirst=True)  # before pytest chooses by `-m`
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks `unit` what has no mark of a kind; refuses what has several."""
    for item in items:
        try:
            item.add_marker(kind_of(_marks(item)))
        except ValueError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Holds a test with its fixtures to its kind."""
    with GUARD.watching(kind_of(_marks(item))):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown() -> Generator[None, object, object]:
    """Fails a test that swallowed a refusal."""
    result = yield
    GUARD.check()
    return result


def _marks(item: pytest.Item) -> set[str]:
    return {mark.name for mark in item.iter_markers()}


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
    return ports.free_port()


@pytest.fixture
def other_programs() -> Iterator[None]:
    """A `unit` test with this fixture may start programs that belong to its checks, such as git."""
    with GUARD.lifted():
        yield


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
