"""Listing all studies of a PACS that cuts its lists: simulated ones of every habit, and Orthanc with limits."""

import dataclasses
import io
import random
import string
import urllib.request
import zipfile
from collections.abc import Callable
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.scu.listing import (
    Done,
    Failed,
    Split,
    Window,
    all_studies,
    hidden_limit,
    smaller,
    step,
    studies_between,
)
from dicom_node.scu.query import Matches, StudyEntry, asking
from tests.support.examples import examples
from tests.support.instances import small_instance
from tests.support.peers import orthanc

FIRST, LAST = date(2024, 2, 27), date(2024, 3, 2)
ASKED_AT_MOST = 100_000


def study(number: int, day: str = "20240301", time: str = "080000", patient: str = "P1") -> StudyEntry:
    return StudyEntry(f"1.2.{number}", patient, "", day, time, "", ("CT",), 1)


@dataclasses.dataclass
class SimulatedPacs:
    """A PACS that compares dates and times as texts and lists at most `limit` studies; `habits` are its faults."""

    studies: list[StudyEntry]
    limit: int
    habits: frozenset[str] = frozenset()
    asked: int = 0

    def __call__(self, *, dates, times, modality, patient_id, accession_number, limit) -> Matches[StudyEntry]:
        self.asked += 1
        assert self.asked < ASKED_AT_MOST
        times = "" if "ignores times" in self.habits else times
        patient_id = "" if "ignores Patient ID" in self.habits else patient_id
        if "no case" in self.habits:
            patient_id = patient_id.upper()
        found = [one for one in self.studies if self._matches(one, dates, times, patient_id)]
        given_out = tuple(found[: self.limit])
        complete = len(found) <= self.limit or "silent" in self.habits
        return Matches(given_out, complete and (limit is None or len(given_out) < limit), 0)

    def _matches(self, one: StudyEntry, dates: str, times: str, patient_id: str) -> bool:
        patient = one.patient_id.upper() if "no case" in self.habits else one.patient_id
        if not (_within(one.date, dates) and _within(one.time, times)):
            return False
        return patient.startswith(patient_id[:-1]) if patient_id.endswith("*") else patient_id in ("", patient)


def _within(value: str, key: str) -> bool:
    if not key:
        return True
    lo, _, hi = key.partition("-") if "-" in key else (key, "", key)
    return bool(value) and lo <= value <= hi


def listed(ask: Callable[..., Matches[StudyEntry]], *windows: Window, limit: int | None = None):
    """All studies that the windows bring, by their UIDs, and the sentences of those that failed."""
    todo, found, reasons = list(windows), set(), []
    while todo:
        became = step(todo.pop(), ask, limit=limit)
        if isinstance(became, Split):
            todo += became.windows
        else:
            found |= {entry.study_uid for entry in became.studies}
            reasons += [became.reason] if isinstance(became, Failed) else []
    return found, reasons


DAYS = st.sampled_from(["20240227", "20240228", "20240229", "20240301", "20240302", "", "2024.03.01"])
TIMES = st.sampled_from(
    ["", "000000", "08", "0815", "080000", "080000.5", "080001", "115959.999999", "235959", "235959.9", "08:15:00"]
)
PATIENTS = st.sampled_from(["1", "10", "11", "A", "a", "AB", "A-1", "A B", "[x]"])
HOLDINGS = st.lists(st.tuples(DAYS, TIMES, PATIENTS), max_size=20)
HABITS = st.frozensets(st.sampled_from(["silent", "ignores times", "no case"]))


@examples(30)
@given(HOLDINGS, st.integers(3, 6), HABITS)
def test_every_study_is_listed_or_its_window_has_failed(holding, limit, habits):
    studies = [study(number, *facts) for number, facts in enumerate(holding)]
    pacs = SimulatedPacs(studies, limit, habits)
    found, reasons = listed(pacs, *all_studies(FIRST, LAST), limit=limit)
    expected = {one.study_uid for one in studies}
    assert found <= expected
    if not reasons:
        assert found == expected, expected - found


@examples(30)
@given(HOLDINGS, st.integers(3, 6))
def test_what_fails_is_more_studies_of_one_patient_than_the_pacs_lists(holding, limit):
    """Without a fault of the PACS, nothing fails where each patient has fewer studies than it lists."""
    patients: dict[str, int] = {}
    studies = []
    for number, (day, time, patient) in enumerate(holding):
        patients[patient.upper()] = patients.get(patient.upper(), 0) + 1
        if patients[patient.upper()] < limit:
            studies.append(study(number, day, time, patient))
    found, reasons = listed(SimulatedPacs(studies, limit), *all_studies(FIRST, LAST), limit=limit)
    assert (found, reasons) == ({one.study_uid for one in studies}, [])


def test_studies_of_one_second_and_one_patient_cannot_be_asked_for_apart():
    pacs = SimulatedPacs([study(number) for number in range(4)], 3)
    found, reasons = listed(pacs, studies_between(FIRST, LAST))
    assert len(found) == 3, "what came is kept"
    assert "the PACS cuts its list at 3 and cannot be asked for less: 2024-03-01 08:00:00, Patient ID P1" in reasons


def test_patient_ids_beyond_ascii_are_asked_for_where_one_was_listed():
    studies = [study(number, "", "", f"É{number}") for number in range(6)]
    found, reasons = listed(SimulatedPacs(studies, 4), *all_studies(FIRST, LAST))
    assert (len(found), reasons) == (6, [])


def test_a_pacs_that_matches_nothing_is_not_asked_for_ever():
    pacs = SimulatedPacs(
        [study(number, patient=f"P{number}") for number in range(9)],
        3,
        frozenset(("ignores times", "ignores Patient ID")),
    )
    found, reasons = listed(pacs, studies_between(FIRST, LAST))
    assert len(found) == 3
    assert "the PACS cuts its list at 3 and does not match by Patient ID: 2024-03-01" in reasons[0]
    assert pacs.asked < ASKED_AT_MOST


def test_a_limit_that_the_pacs_hides_is_found_by_asking_again():
    window = studies_between(FIRST, LAST)
    studies = [study(number, "20240228", f"{number % 24:02}0000", f"P{number}") for number in range(150)]
    cut, whole = (SimulatedPacs(studies, limit, frozenset(("silent",))) for limit in (100, 200))
    became = step(window, cut)
    assert isinstance(became, Done)
    assert hidden_limit(window, became, cut) == 100
    became = step(window, whole)
    assert isinstance(became, Done)
    assert hidden_limit(window, became, whole) is None


def test_a_window_is_kept_as_text_and_says_what_it_asks_for():
    window = Window("20240301080000", "20240301080000", patient_id="A*", modality="CT")
    assert Window(window.lo, window.hi, **window.keys) == window
    assert str(window) == "2024-03-01 08:00:00, Patient ID A*, CT"
    assert str(Window("", "")) == "no date"
    day = studies_between(FIRST, FIRST)
    assert [str(part) for part in smaller(day).windows] == [
        "2024-02-27 00:00:00 to 2024-02-27 11:59:59",
        "2024-02-27 12:00:00 to 2024-02-27 23:59:59",
        "2024-02-27 without time",
    ]


def test_a_patient_id_grows_to_its_64_characters_and_no_further():
    windows = smaller(Window("", "", patient_id="A" * 64 + "*")).windows
    assert windows == (Window("", "", patient_id="A" * 64),)
    assert smaller(windows[0]).windows == ()


def zip_of(count: int) -> bytes:
    """Studies of one image: 40 % on one day, a sixth without time, a tenth without date."""
    noise = random.Random(7)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as zipped:
        for number in range(count):
            day = f"2024{1 + number % 9:02}{1 + number % 27:02}"
            day = "20240229" if number < 0.4 * count else "" if number >= 0.9 * count else day
            time = f"{noise.randrange(24):02}{noise.randrange(60):02}{noise.randrange(60):02}" if number % 6 else ""
            facts = {"StudyInstanceUID": f"1.2.{number + 1}", "StudyDate": day, "StudyTime": time, "Modality": "CT"}
            patient = f"{noise.choice(string.digits + string.ascii_letters)}{number}"
            image = small_instance(1, series=f"1.2.{number + 1}.1", PatientID=patient, **facts)
            one = io.BytesIO()
            image.save_as(one, enforce_file_format=True)
            zipped.writestr(f"{number}.dcm", one.getvalue())
    return content.getvalue()


@pytest.mark.peers
@pytest.mark.parametrize(("limit", "count"), [(100, 300), (7, 100)])
def test_orthanc_that_cuts_its_lists_is_listed_as_a_whole(tmp_path, limit, count):
    with orthanc(tmp_path / "orthanc", LimitFindResults=limit) as pacs:
        request = urllib.request.Request(pacs.http + "/instances", zip_of(count), method="POST")
        urllib.request.urlopen(request, timeout=300).close()
        held = {one["MainDicomTags"]["StudyInstanceUID"] for one in pacs.get("/studies?expand")}
        assert len(held) == count
        with asking(pacs.peer, calling_ae="VOXTELL") as ask:
            found, reasons = listed(ask, *all_studies(date(2024, 1, 1), date(2024, 12, 31)), limit=limit)
    assert (found, reasons) == (held, [])
