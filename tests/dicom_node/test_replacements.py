"""Where newer wins, a correction takes the place of the former instance, and no content is lost."""

import itertools
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from dicom_node.conflicts import conflicts_in
from dicom_node.errors import StoreError
from dicom_node.removal import StoreRemoval
from dicom_node.storage.durable import locked
from dicom_node.store import Outcome, Receipt, Store
from dicom_node.uids import SeriesKey
from tests.support.examples import examples
from tests.support.instances import small_instance
from tests.support.web import part10

SERIES = SeriesKey("1.2.3", "1.2.3.4")
UID = "1.2.3.4.1"
WRONG, RIGHT = {"PatientID": "WRONG"}, {"PatientID": "RIGHT", "PatientName": "Right^Patient"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", newer_wins=True)


def content(**values: object) -> bytes:
    return part10(small_instance(1, **values))


def put(store: Store, file: bytes) -> Receipt:
    return store.put(file, study_uid=SERIES.study_uid, series_uid=SERIES.series_uid, sop_uid=UID)


def aside(store: Store) -> list[bytes]:
    return [path.read_bytes() for path in (store.home / "quarantine").glob("*.dcm")]


def test_a_corrected_patient_takes_the_place_of_the_former(store: Store) -> None:
    former, later = content(**WRONG), content(**RIGHT)
    first = put(store, former)
    assert (first.outcome, store.replacements(SERIES)) == (Outcome.NEW, {})
    assert put(store, later) == Receipt(first.path, Outcome.REPLACED)
    assert first.path.read_bytes() == later
    assert aside(store) == [former]
    assert store.replacements(SERIES) == {UID: 1}
    assert put(store, later).outcome is Outcome.SAME
    assert store.series_paths(SERIES) == [first.path]
    assert store.count(SERIES) == 1


def test_what_was_replaced_is_told_and_what_to_do(store: Store) -> None:
    put(store, content(**WRONG))
    put(store, content(**RIGHT))
    (found,) = conflicts_in(store.home)
    assert found.replaced
    assert "1 file came again under a known SOP Instance UID with other PatientName, PatientID" in found.sentence
    assert (
        "the later ones stand, the former lie in quarantine; withdraw results that were made of the former"
        in found.sentence
    )
    assert "RIGHT" not in found.sentence, "values are for no log"


OTHER_SYNTAX = small_instance(1, **WRONG)
OTHER_SYNTAX.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian


@pytest.mark.parametrize(
    ("later", "outcome"),
    [
        (content(**RIGHT), Outcome.REPLACED),
        (content(**WRONG, PixelData=bytes(32)), Outcome.REPLACED),
        (content(**WRONG, StudyDescription="Thorax"), Outcome.REPLACED),
        (content(**WRONG, InstanceNumber=2), Outcome.CONFLICT),
        (content(**RIGHT, ImagePositionPatient=[0, 0, 3]), Outcome.CONFLICT),
        (part10(OTHER_SYNTAX), Outcome.CONFLICT),
        (content(**RIGHT)[:-20], Outcome.CONFLICT),
        (b"no DICOM", Outcome.CONFLICT),
    ],
    ids=["patient", "pixels", "description", "another slice", "another place", "syntax", "cut", "damaged"],
)
def test_only_a_correction_replaces(store: Store, later: bytes, outcome: Outcome) -> None:
    first = put(store, content(**WRONG))
    receipt = put(store, later)
    assert receipt.outcome is outcome
    assert first.path.read_bytes() == (later if outcome is Outcome.REPLACED else content(**WRONG))


def compressed(*, cut: int = 0, **values: object) -> bytes:
    """An image of two fragments of pixels, without its last bytes; the last 8 are the delimiter of the fragments."""
    image = small_instance(1, **values)
    image.file_meta.TransferSyntaxUID = RLELossless
    image.PixelData = encapsulate([bytes(64), bytes(range(64))])
    image["PixelData"].is_undefined_length = True
    file = part10(image)
    return file[: len(file) - cut]


def last_in_sequences(*, cut: int) -> bytes:
    """An image that ends with a sequence in an item of a sequence, both without lengths, without its last bytes."""
    image = small_instance(1, **RIGHT)
    outer = Dataset()
    outer.ReferencedSeriesSequence = [Dataset()]
    outer["ReferencedSeriesSequence"].is_undefined_length = True
    image.add_new(0x7FE10010, "LO", "PRIVATE")
    image.add_new(0x7FE11001, "SQ", [outer])
    image[0x7FE11001].is_undefined_length = True
    file = part10(image)
    return file[: len(file) - cut]


@pytest.mark.parametrize(
    ("cut", "outcome"),
    [
        (0, Outcome.REPLACED),
        (8, Outcome.CONFLICT),  # between the last fragment and the delimiter
        (8 + 72, Outcome.CONFLICT),  # between two fragments
        (4, Outcome.CONFLICT),  # within the delimiter
        (20, Outcome.CONFLICT),  # within a fragment
    ],
)
def test_a_compressed_image_that_was_cut_off_replaces_nothing(store: Store, cut: int, outcome: Outcome) -> None:
    put(store, compressed(**WRONG))
    assert put(store, compressed(cut=cut, **RIGHT)).outcome is outcome


@pytest.mark.parametrize("cut", range(41))
def test_an_image_whose_last_sequence_was_cut_off_replaces_nothing(store: Store, cut: int) -> None:
    """A sequence without a length needs its delimiter, also where another one ends at the same byte."""
    put(store, content(**WRONG))
    assert put(store, last_in_sequences(cut=cut)).outcome is (Outcome.CONFLICT if cut else Outcome.REPLACED)


def test_one_uid_for_all_slices_replaces_nothing(store: Store) -> None:
    slices = [content(**WRONG, InstanceNumber=n, ImagePositionPatient=[0, 0, 3 * n]) for n in range(4)]
    assert [put(store, one).outcome for one in slices] == [Outcome.NEW, *[Outcome.CONFLICT] * 3]
    assert store.replacements(SERIES) == {}


def test_by_default_the_first_one_stands(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    former = content(**WRONG)
    first = put(store, former)
    assert put(store, content(**RIGHT)).outcome is Outcome.CONFLICT
    assert first.path.read_bytes() == former
    assert store.replacements(SERIES) == {}


CONTENTS = [content(PatientID=name, PixelData=bytes([n] * 32)) for name in "AB" for n in range(2)]


@examples(30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CONTENTS), min_size=1, max_size=8))
def test_the_last_stands_and_every_other_is_kept(tmp_path_factory, arrivals: Sequence[bytes]) -> None:
    store = Store(tmp_path_factory.mktemp("home"), newer_wins=True)
    outcomes = [put(store, one).outcome for one in arrivals]
    changes = sum(one != before for before, one in itertools.pairwise(arrivals))
    assert outcomes.count(Outcome.REPLACED) == changes
    assert store.replacements(SERIES) == ({UID: changes} if changes else {})
    assert store.series_paths(SERIES)[0].read_bytes() == arrivals[-1]
    assert {*aside(store), arrivals[-1]} == {*arrivals}


def test_of_many_senders_at_once_no_content_is_lost(store: Store) -> None:
    arrivals = [content(PatientID=f"P{n % 6}") for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = [receipt.outcome for receipt in pool.map(lambda one: put(store, one), arrivals)]
    assert outcomes.count(Outcome.NEW) == 1
    assert store.replacements(SERIES) == {UID: outcomes.count(Outcome.REPLACED)}
    assert {*aside(store), store.series_paths(SERIES)[0].read_bytes()} == {*arrivals}


def test_a_disk_that_fails_keeps_the_former_in_its_place(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    former, later = content(**WRONG), content(**RIGHT)
    first = put(store, former)
    with monkeypatch.context() as patched:
        patched.setattr("dicom_node.store.fsync", _fails)
        with pytest.raises(StoreError, match="No space left"):
            put(store, later)
    assert put(store, later).outcome in (Outcome.SAME, Outcome.REPLACED)
    assert first.path.read_bytes() == later
    assert former in aside(store)


def test_what_stands_again_is_no_conflict_any_more(tmp_path: Path) -> None:
    former, later = content(**WRONG), content(**RIGHT)
    keeping, newer = Store(tmp_path / "home"), Store(tmp_path / "home", newer_wins=True)
    put(keeping, former)
    put(keeping, later)
    assert aside(keeping) == [later], "the first one stands"
    put(newer, later)
    assert aside(newer) == [former]
    (found,) = conflicts_in(newer.home)
    assert (found.replaced, found.files) == (True, 1)
    put(newer, former)
    assert aside(newer) == [later]


def test_the_note_of_a_content_compares_it_with_the_one_that_took_its_place(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(store, content(**WRONG))
    other = content(**WRONG, StudyDescription="Thorax")

    def overtaken(folder: Path) -> AbstractContextManager[None]:
        monkeypatch.undo()
        put(store, other)  # another sender is quicker
        return locked(folder)

    monkeypatch.setattr("dicom_node.store.locked", overtaken)
    put(store, content(**RIGHT))
    notes = [json.loads(path.read_text()) for path in (store.home / "quarantine").glob("*.json")]
    assert {note["differs"] for note in notes} == {"StudyDescription", "StudyDescription PatientName PatientID"}


def _fails(_path: Path) -> None:
    raise OSError(28, "No space left on device")


def test_a_study_that_was_set_aside_comes_back_with_its_counts(store: Store) -> None:
    put(store, content(**WRONG))
    put(store, content(**RIGHT))
    removal = StoreRemoval(store)
    with removal.alone():
        removal.set_aside(SERIES.study_uid, 0.0)
    assert store.replacements(SERIES) == {}
    removal.bring_back(SERIES.study_uid)
    assert store.replacements(SERIES) == {UID: 1}


def test_what_came_while_the_study_was_set_aside_is_newer(store: Store) -> None:
    put(store, content(**WRONG))
    removal = StoreRemoval(store)
    with removal.alone():
        removal.set_aside(SERIES.study_uid, 0.0)
    later = put(store, content(**RIGHT))
    assert later.outcome is Outcome.NEW
    removal.bring_back(SERIES.study_uid)
    assert later.path.read_bytes() == content(**RIGHT)
    assert aside(store) == [content(**WRONG)]
    assert store.replacements(SERIES) == {UID: 1}, "a job on the former content is none on this"
