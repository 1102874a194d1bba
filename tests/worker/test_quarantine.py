"""The quarantine's limits: one sender fills it for nobody else, and what was acknowledged is never lost."""

import os

import pytest
from structlog.testing import capture_logs

from dicom_node.removal import Quarantined, StoreRemoval
from dicom_node.store import Store
from worker.maintenance.quarantine import files_to_remove, trim
from worker.settings import Settings

LIMITS = {"most_bytes": 1000, "most_files": 100, "most_per_sender": 50, "lacking": 0}


def files(count: int, sender: str = "A", *, start: int = 0, size: int = 1, acknowledged: bool = False):
    mark = ".conflict-" if acknowledged else ""
    return [
        Quarantined(f"{sender}{mark}{number}", sender, size, float(number), acknowledged)
        for number in range(start, start + count)
    ]


def names(found) -> list[str]:
    return [one.name for one in found]


def test_nothing_goes_within_the_limits():
    assert files_to_remove(files(50), **LIMITS) == []


@pytest.mark.parametrize(
    ("lying", "limits", "gone"),
    [
        (files(53), {}, ["A0", "A1", "A2"]),
        (files(3, size=400), {}, ["A0"]),
        (files(3), {"most_files": 1}, ["A0", "A1"]),
        (files(3, size=10), {"lacking": 15}, ["A0", "A1"]),
        ([*files(2, "B"), *files(53, start=5)], {"most_files": 52}, ["A5", "A6", "A7"]),
    ],
    ids=["a sender's share", "bytes", "files", "the disk", "a flood pushes out nobody else's"],
)
def test_the_oldest_refused_go_first(lying, limits, gone):
    assert names(files_to_remove(lying, **(LIMITS | limits))) == gone


def test_what_was_acknowledged_stays_whatever_the_limits():
    lying = [*files(3, acknowledged=True), *files(2, "B", start=9)]
    nothing = {"most_bytes": 0, "most_files": 0, "most_per_sender": 0, "lacking": 10**9}
    assert names(files_to_remove(lying, **nothing)) == ["B9", "B10"]


def put(store: Store, content: bytes, sender: str, *, came: float) -> None:
    with store.incoming() as file:
        file.write(content)
        kept = store.quarantine(file, "no DICOM", calling_ae=sender, address="10.0.0.1")
    os.utime(kept.with_suffix(".json"), (came, came))


def test_a_flood_of_bad_parts_is_trimmed_with_one_line_and_conflicts_stay(tmp_path):
    store = Store(tmp_path)
    uids = {"study_uid": "1.2", "series_uid": "1.3", "sop_uid": "1.4"}
    for content in (b"one", b"another"):
        store.put(content, **uids)
    put(store, b"honest", "CT", came=5.0)
    for number in range(40):
        put(store, b"bad %d" % number, "FLOOD", came=100.0 + number)
    settings = Settings(home=tmp_path, quarantine_files_per_sender=10, min_free_bytes=0)
    clearing = StoreRemoval(store)
    with capture_logs() as logs:
        trim(clearing, settings, store.free_bytes())
        trim(clearing, settings, store.free_bytes())
    (line,) = logs
    assert (line["event"], line["files"], line["senders"]) == ("quarantine_trimmed", 30, {"FLOOD 10.0.0.1": 30})
    left = clearing.quarantined()
    assert [one.sender for one in left if not one.acknowledged] == ["CT 10.0.0.1"] + ["FLOOD 10.0.0.1"] * 10
    assert [one.acknowledged for one in left].count(True) == 1
    assert len(list((tmp_path / "quarantine").iterdir())) == 2 * 12

    with capture_logs() as logs:
        trim(clearing, settings.model_copy(update={"min_free_bytes": 2**62}), store.free_bytes())
    assert [one.acknowledged for one in clearing.quarantined()] == [True]
    with capture_logs() as logs:
        trim(clearing, settings.model_copy(update={"quarantine_files": 0}), store.free_bytes())
    assert [line["event"] for line in logs] == ["quarantine_full_of_conflicts"]


def test_bytes_that_come_again_meanwhile_are_kept(tmp_path):
    store = Store(tmp_path)
    put(store, b"bad", "A", came=5.0)
    clearing = StoreRemoval(store)
    seen = clearing.quarantined()
    put(store, b"bad", "A", came=6.0)
    assert clearing.drop(seen) == []
    assert len(clearing.quarantined()) == 1
