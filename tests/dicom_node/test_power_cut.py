"""What the node acknowledges or publishes is on the disk by then: content and names are synced before it says so."""

import json
from pathlib import Path

import pytest

from dicom_node.removal import StoreRemoval
from dicom_node.store import Outcome, Receipt, Store
from tests.support.instances import small_instance
from tests.support.power import Disk
from tests.support.web import part10

STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"


def put(store: Store, content: bytes, sop_uid: str = SOP) -> Receipt:
    return store.put(content, study_uid=STUDY, series_uid=SERIES, sop_uid=sop_uid)


def link_anew(path: Path, disk: Disk) -> None:
    """Gives the file its name again, which is not on the disk yet."""
    aside = path.with_name("1.2.3.4.9.dcm")
    path.rename(aside)
    disk.note(path.parent)
    aside.rename(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


def test_the_model_notices_what_is_not_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(tmp_path, monkeypatch)
    (tmp_path / "folder").mkdir()
    path = tmp_path / "folder" / "file"
    path.write_bytes(b"content")
    assert not disk.holds(path)
    for synced in (path, path.parent, tmp_path):
        assert not disk.holds(path), "the content, its name and the folder's name must all be synced"
        disk.note(synced)
    assert disk.holds(path)
    path.write_bytes(b"longer content")
    assert not disk.holds(path)


def test_an_instance_survives_once_it_is_acknowledged(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(store.home, monkeypatch)
    first = put(store, b"one")
    assert disk.holds(first.path)
    assert disk.holds(put(store, b"another", "1.2.3.4.6").path)


def test_an_instance_that_comes_again_survives_even_if_its_first_writer_was_cut_off(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first writer had linked the name and not synced the folder when the second asked."""
    first = put(store, b"one").path
    disk = Disk(store.home, monkeypatch)
    link_anew(first, disk)
    assert not disk.holds(first)
    assert put(store, b"one").outcome is Outcome.SAME
    assert disk.holds(first)
    link_anew(first, disk)
    copy = store.home / "incoming" / first.name
    copy.write_bytes(b"one")
    store.put_back(copy, study_uid=STUDY, series_uid=SERIES)
    assert disk.holds(first)


def test_what_is_kept_aside_survives_with_its_reason(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, b"one")
    disk = Disk(store.home, monkeypatch)
    other = put(store, b"two")
    assert other.outcome is Outcome.CONFLICT
    assert disk.holds(other.path)
    assert disk.holds(other.path.with_suffix(".json"))
    incoming = store.incoming()
    incoming.write(b"no image")
    kept = store.quarantine(incoming, "it is no DICOM data set")
    assert disk.holds(kept)
    assert disk.holds(kept.with_suffix(".json"))


def test_content_that_takes_the_place_of_the_former_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "home", newer_wins=True)
    former, later = (part10(small_instance(1, PatientID=name)) for name in ("WRONG", "RIGHT"))
    put(store, former)
    disk = Disk(store.home, monkeypatch)
    taken = put(store, later)
    assert taken.outcome is Outcome.REPLACED
    assert taken.path.read_bytes() == later
    assert disk.holds(taken.path.parent), "with the count of replacements beside it"
    (kept,) = (store.home / "quarantine").glob("*.dcm")
    assert kept.read_bytes() == former
    assert disk.holds(kept)


def test_a_result_survives_as_a_whole_once_it_is_published(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(store.home, monkeypatch)
    for content in (b"first", b"second"):
        with store.results("job") as folder:
            (folder / "seg.dcm").write_bytes(content)
            (folder / "masks").mkdir()
            (folder / "masks" / "liver.nii.gz").write_bytes(content)
            (folder / "result.json").write_text(json.dumps({"made": len(content)}))
        assert disk.holds(store.home / "results" / "job"), content


def test_what_comes_back_from_its_removal_survives(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    image = put(store, b"one")
    removal = StoreRemoval(store)
    disk = Disk(store.home, monkeypatch)
    removal.set_aside(STUDY, used_at=0)
    assert not image.path.exists()
    removal.bring_back(STUDY)
    assert disk.holds(image.path)
