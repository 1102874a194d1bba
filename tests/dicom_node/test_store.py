"""The store: first writer wins, nothing is lost or replaced, crashes leave whole files only."""

import contextlib
import errno
import fcntl
import json
import multiprocessing
import os
import re
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from pydicom.examples import get_path

from dicom_node.errors import StoreError
from dicom_node.storage.durable import lock, try_lock
from dicom_node.store import Outcome, Receipt, Store
from dicom_node.uids import SeriesKey
from tests.support.examples import examples

STUDY, SERIES, SOP = "1.2.3", "1.2.3.4", "1.2.3.4.5"


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "home")


def put(store: Store, content: bytes, sop_uid: str = SOP, series_uid: str = SERIES) -> Receipt:
    return store.put(content, study_uid=STUDY, series_uid=series_uid, sop_uid=sop_uid)


def leftovers(store: Store) -> list[Path]:
    return [path for path in (store.home / "incoming").rglob("*") if path.is_file()]


def test_an_instance_lies_under_its_uids(store):
    receipt = put(store, b"one")
    assert receipt == Receipt(store.home / "studies" / STUDY / SERIES / f"{SOP}.dcm", Outcome.NEW)
    assert receipt.path.read_bytes() == b"one"
    assert leftovers(store) == []


def test_the_same_instance_again_is_success_without_work(store):
    first = put(store, b"one")
    changed = first.path.stat().st_mtime_ns
    assert put(store, b"one") == Receipt(first.path, Outcome.SAME)
    assert first.path.stat().st_mtime_ns == changed


def test_other_content_under_a_known_uid_is_quarantine_and_replaces_nothing(store):
    first = put(store, b"one")
    second = put(store, b"two")
    assert second.outcome is Outcome.CONFLICT
    assert first.path.read_bytes() == b"one"
    assert second.path.read_bytes() == b"two"
    assert second.path.name.startswith(f"{SOP}.conflict-")
    assert SOP in json.loads(second.path.with_suffix(".json").read_text())["reason"]
    assert store.series_paths(SeriesKey(STUDY, SERIES)) == [first.path]


@examples(40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["7.1", "7.2", "7.3"]), st.binary(max_size=6)), max_size=12))
def test_whatever_is_put_the_first_content_of_a_uid_stands_and_every_other_is_kept(tmp_path_factory, arrivals):
    store = Store(tmp_path_factory.mktemp("home"))
    first: dict[str, bytes] = {}
    for sop_uid, content in arrivals:
        receipt = put(store, content, sop_uid)
        if sop_uid not in first:
            assert receipt.outcome is Outcome.NEW
            first[sop_uid] = content
        elif content == first[sop_uid]:
            assert receipt.outcome is Outcome.SAME
        else:
            assert receipt.outcome is Outcome.CONFLICT
        assert receipt.path.read_bytes() == content
    assert {stored.sop_uid: stored.path.read_bytes() for stored in store.walk()} == first
    kept = {path.read_bytes() for path in (store.home / "quarantine").glob("*.dcm")}
    assert kept == {content for sop_uid, content in arrivals if content != first[sop_uid]}


@pytest.mark.parametrize("uid", ["", "..", "1/2", "../../etc/passwd", "1.2\x00", "1" * 65, "1.2.a"])
@pytest.mark.parametrize("which", ["study_uid", "series_uid", "sop_uid"])
def test_what_is_no_uid_never_becomes_a_path(store, which, uid):
    uids = {"study_uid": STUDY, "series_uid": SERIES, "sop_uid": SOP, which: uid}
    with pytest.raises(ValueError, match="UID"):
        store.put(b"x", **uids)
    assert list(store.walk()) == []


def test_the_store_knows_what_it_holds(store):
    put(store, b"b", "9.2")
    put(store, b"a", "9.1")
    put(store, b"c", "9.3", series_uid="1.2.3.5")
    (store.home / "studies" / "lost+found" / "x").mkdir(parents=True)
    assert [path.name for path in store.series_paths(SeriesKey(STUDY, SERIES))] == ["9.1.dcm", "9.2.dcm"]
    assert store.series_of(STUDY) == [SERIES, "1.2.3.5"]
    assert [(stored.series_uid, stored.sop_uid) for stored in store.walk()] == [
        (SERIES, "9.1"),
        (SERIES, "9.2"),
        ("1.2.3.5", "9.3"),
    ]
    assert store.series_of("8.8") == []
    assert store.series_paths(SeriesKey("8.8", "8.9")) == []


def test_many_threads_with_one_uid_make_one_file(store):
    contents = [f"content {number % 4}".encode() for number in range(32)]
    with ThreadPoolExecutor(8) as pool:
        receipts = list(pool.map(lambda content: put(store, content), contents))
    winner = (store.home / "studies" / STUDY / SERIES / f"{SOP}.dcm").read_bytes()
    assert [receipt.outcome for receipt in receipts].count(Outcome.NEW) == 1
    for receipt, content in zip(receipts, contents, strict=True):
        assert (receipt.outcome is Outcome.CONFLICT) == (content != winner)
    assert leftovers(store) == []


def _put_25(home: Path) -> None:
    store = Store(home)
    for number in range(25):
        put(store, str(number).encode(), f"5.{number}")


@pytest.mark.processes
def test_several_processes_may_use_one_home(tmp_path):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_put_25, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    store = Store(tmp_path)
    assert {stored.sop_uid: stored.path.read_bytes() for stored in store.walk()} == {
        f"5.{number}": str(number).encode() for number in range(25)
    }
    assert list((tmp_path / "quarantine").iterdir()) == []


def _die_while_writing(home: Path) -> None:
    store = Store(home)
    put(store, b"acknowledged")

    def killed_before_the_link(*_paths: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.link = killed_before_the_link
    put(store, b"unfinished", "1.2.3.4.6")


@pytest.mark.processes
def test_a_killed_writer_leaves_no_half_file_and_the_next_start_sweeps_its_rest(tmp_path):
    living = Store(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(leftovers(living)) == 1
    store = Store(tmp_path)
    assert leftovers(store) == []
    assert [stored.path.read_bytes() for stored in store.walk()] == [b"acknowledged"]
    assert put(living, b"still works", "1.2.3.4.7").outcome is Outcome.NEW


def test_results_appear_as_a_whole(store):
    with store.results("job-1") as folder:
        (folder / "seg.dcm").write_bytes(b"seg")
        assert store.result_paths("job-1") == []
    assert [path.read_bytes() for path in store.result_paths("job-1")] == [b"seg"]


def test_a_failed_job_leaves_nothing_and_keeps_the_earlier_result(store):
    with store.results("job-1") as folder:
        (folder / "seg.dcm").write_bytes(b"first")
    with contextlib.suppress(RuntimeError), store.results("job-1") as folder:
        (folder / "seg.dcm").write_bytes(b"half")
        raise RuntimeError
    assert [path.read_bytes() for path in store.result_paths("job-1")] == [b"first"]
    assert leftovers(store) == []


def test_a_result_is_replaced_in_one_step(store):
    """Somebody who looks all the time never finds the result gone."""
    final = store.home / "results" / "job"
    stop = threading.Event()
    seen = set()

    def look() -> None:
        while not stop.is_set():
            seen.add(final.is_dir())

    with store.results("job") as folder:
        (folder / "first").write_text("old")
    reader = threading.Thread(target=look)
    reader.start()
    for number in range(20):
        with store.results("job") as folder:
            (folder / f"run {number}").write_text("new")
    stop.set()
    reader.join()
    assert seen == {True}
    assert [path.name for path in store.result_paths("job")] == ["run 19"]
    assert leftovers(store) == []


def write_results_of_at_most_1000_bytes(home: Path, pipe: Connection) -> None:
    """In a process of its own, since the limit is the whole process'; sends what became of a larger result."""
    store, result = Store(home), get_path("ct")
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    for write in (
        lambda path: path.write_bytes(result.read_bytes()),
        lambda path: pydicom.dcmread(result).save_as(path),  # which loses the system's word for what happened
    ):
        try:
            with store.results("job") as folder:
                write(folder / "seg.dcm")
        except StoreError as error:
            pipe.send((error.retry, str(error)))


def put_3000_bytes_where_1000_fit(home: Path, pipe: Connection) -> None:
    """The system writes the first 1000 bytes and says so, as a disk does that fills up: a short write."""
    store = Store(home)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
    try:
        pipe.send(str(put(store, bytes(3000)).outcome))
    except StoreError as error:
        pipe.send(error.retry)


@pytest.mark.processes
def test_a_part_of_an_image_is_never_taken_for_the_whole(store):
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    child = multiprocessing.get_context("spawn").Process(
        target=put_3000_bytes_where_1000_fit, args=(store.home, theirs)
    )
    child.start()
    theirs.close()
    assert ours.recv() == "later"
    child.join()
    assert list(store.walk()) == []
    assert leftovers(store) == []


@pytest.mark.processes
def test_a_result_that_the_disk_does_not_take_is_worth_trying_later(store):
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    arguments = store.home, theirs
    child = multiprocessing.get_context("spawn").Process(target=write_results_of_at_most_1000_bytes, args=arguments)
    child.start()
    theirs.close()
    refusals = [ours.recv(), ours.recv()]
    child.join()
    for retry, sentence in refusals:
        assert retry == "later"
        assert re.search(r"results/job could not be written \(.*large.*\); make room", sentence)
    assert store.result_paths("job") == leftovers(store) == []


@pytest.mark.parametrize("name", ["", "..", ".hidden", "a/b", "a\x00b", "x" * 129])
def test_a_job_id_that_is_no_folder_name_is_refused(store, name):
    with pytest.raises(ValueError, match="folder"), store.results(name):
        pass


def test_quarantine_keeps_bytes_and_reason_once(store):
    paths = set()
    for _ in range(3):
        with store.incoming() as file:
            file.write(b"bad")
            paths.add(store.quarantine(file, "no UID", calling_ae="CT1"))
    assert len(paths) == 1
    path = paths.pop()
    assert path.read_bytes() == b"bad"
    assert json.loads(path.with_suffix(".json").read_text()) == {"reason": "no UID", "calling_ae": "CT1"}
    assert len(list(path.parent.iterdir())) == 2


def test_a_home_that_cannot_be_used_is_said_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StoreError, match=r"file cannot be used .*give a writable folder"):
        Store(tmp_path / "file")


def test_a_full_disk_is_a_store_error_and_leaves_nothing(store, monkeypatch):
    def full(_descriptor: int, _content: memoryview) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        put(store, b"one")
    assert caught.value.retry == "later"
    assert leftovers(store) == []
    monkeypatch.undo()
    assert put(store, b"one").outcome is Outcome.NEW


def test_every_file_and_folder_is_fsynced_before_put_returns(store, monkeypatch):
    synced = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    put(store, b"one")
    series = store.home / "studies" / STUDY / SERIES
    assert synced[0].parent.parent == store.home / "incoming"
    assert set(synced[1:]) == {series, series.parent, series.parent.parent, store.home}
    synced.clear()
    put(store, b"two", "1.2.3.4.6")
    assert len(synced) == 2
    assert synced[1] == series


def test_a_file_system_without_hard_links_is_said_at_the_start(tmp_path, monkeypatch):
    def no_links(_source: Path, _target: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(
        StoreError, match=r"cannot be used .Operation not permitted.; give a writable folder on a local"
    ):
        Store(tmp_path / "home")


def test_what_a_process_cannot_announce_any_more_keeps_no_series_open(tmp_path: Path, monkeypatch) -> None:
    """Its disk is full when the association ends: an old word would keep the series from being settled."""
    ours, theirs = Store(tmp_path).workspace, Store(tmp_path).workspace
    ours.announce([("1.2", "1.2.3")])
    assert theirs.announced_by_others() == {("1.2", "1.2.3")}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        ours.announce([])
    assert theirs.announced_by_others() == set()
    assert list(ours.path.iterdir()) == []


@pytest.mark.parametrize("take", [lock, try_lock])
def test_a_lock_that_cannot_be_had_leaves_no_file_open(tmp_path, monkeypatch, take):
    def refuse(_descriptor, _operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(OSError, match="No locks"):
            take(tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
