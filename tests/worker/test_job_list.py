"""`jobs` for people who look for a patient's study, and want to know what each job waits for."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import LEASE, Clock, claimed, deliver, sending, work
from worker import result
from worker.cli.jobs import app
from worker.explain.job_sentences import sentences_of
from worker.job_spec import Route
from worker.ledger import DeliveryState, Job, JobFilter, JobState, Ledger, StudyFacts

JANE = StudyFacts("P1", "Doe^Jane", "A-0042", "20261124", "CT neck")
NOTHING = result.Result()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path))
    monkeypatch.setattr(Console, "is_terminal", False)
    return tmp_path


@pytest.fixture
def here(home: Path) -> Iterator[Ledger]:
    """The ledger of the home that `jobs` reads."""
    opened = Ledger(f"sqlite:///{home / 'ledger.sqlite'}")
    yield opened
    opened.close()


def jobs(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def columns(*words: str) -> list[str]:
    return jobs(*words).output.splitlines()[0].split()


def facts(*words: str) -> list[dict[str, object]]:
    return json.loads(jobs(*words, "--json").output)  # type: ignore[no-any-return]


# -- whose study it is


def test_a_job_is_listed_with_its_patient_and_found_by_it(here: Ledger) -> None:
    here.studies.note_facts("1.2.3", JANE)
    here.jobs.add(work(images=128))
    other = work(series="1.9.1").model_copy(update={"study_uid": "1.9"})
    here.jobs.add(other)
    assert columns() == ["job", "state", "protocol", "patient", "accession", "date", "description", "changed", "reason"]
    (line,) = [line for line in jobs().output.splitlines() if "Doe" in line]
    assert "Doe^Jane (P1)  A-0042     2026-11-24  CT neck" in line
    for words in (("--patient", "p1"), ("--patient", "jane"), ("--study", "1.2.3"), ("--study", "A-0042")):
        assert [one["study_uid"] for one in facts(*words)] == ["1.2.3"], words
    assert facts("--patient", "P") == []
    shown = jobs("show", here.jobs.find()[-1].id).output
    assert all(word in shown for word in ("Doe^Jane (P1)", "A-0042", "2026-11-24", "CT neck", "128 images"))


def test_json_counts_the_images_and_names_none(here: Ledger) -> None:
    here.studies.note_facts("1.2.3", JANE)
    here.jobs.add(work(images=128))
    (one,) = facts()
    assert one["images"] == 128
    assert "instances" not in one["work"]  # type: ignore[operator]
    assert one["work"]["prompts"][0]["text"] == "liver"  # type: ignore[index]
    assert (one["patient_id"], one["accession_number"], one["study_date"]) == ("P1", "A-0042", "20261124")
    assert one["sentence"] == f"job {one['id']} is queued: waits for a segmentation worker"
    assert len(json.loads(jobs("show", str(one["id"]), "--json").output)["work"]["instances"]) == 128


def test_without_names_none_is_shown(here: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    here.studies.note_facts("1.2.3", JANE)
    here.jobs.add(work())
    monkeypatch.setenv("VOXTELL_KEEP_NAMES", "false")
    assert columns() == ["job", "state", "protocol", "changed", "reason"]
    assert "patient_id" not in facts()[0]
    for said in (jobs().output, jobs("show", here.jobs.find()[0].id).output):
        assert "Doe" not in said


def test_what_names_a_patient_goes_with_the_images(ledger: Ledger) -> None:
    ledger.studies.note_accession("1.2.3", "42")
    ledger.studies.note_facts("1.2.3", JANE)
    ledger.studies.note_facts("1.2.3", StudyFacts(description="CT neck, second look"))
    assert ledger.studies.facts_of("1.2.3").patient_id == "P1", "what is empty changes nothing"
    ledger.retention.note_removed(study_uid="1.2.3")
    assert ledger.studies.facts_of("1.2.3") == StudyFacts()
    assert ledger.studies.of_report("", "42") == ["1.2.3"], "a report still finds the study"


def test_jobs_are_found_on_every_database(ledger: Ledger) -> None:
    ledger.studies.note_facts("1.2.3", StudyFacts(patient_id="100%", patient_name="O'Neill^A_B"))
    ledger.jobs.add(work())
    for patient, found in (("100%", 1), ("100", 0), ("a_b", 1), ("axb", 0), ("%", 0), ("o'neill", 1)):
        wanted = JobFilter(patient=patient)
        assert len(ledger.listing.jobs(wanted)) == ledger.listing.count(wanted) == found, patient


# -- which jobs


def test_older_jobs_are_left_out_and_counted(here: Ledger) -> None:
    for number in range(5):
        here.jobs.add(work(series=f"1.2.{number}"))
    listed = jobs("--limit", "2").output.splitlines()
    assert len(listed) == 4
    assert listed[-1] == "note: these are the newest 2 of 5 jobs; --limit shows more."
    assert len(facts("--limit", "2")) == 2
    assert len(facts()) == 5


@pytest.mark.parametrize(("since", "seen"), [("1h", 1), ("2d", 2), ("2001-09-09", 2), ("2999-01-01 10:00", 0)])
def test_jobs_since_a_time(here: Ledger, since: str, seen: int) -> None:
    here.jobs.add(work())
    here.jobs.add(work(series="1.2.9"))
    with here.database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs SET updated_at = updated_at - 36000 WHERE series_uid = '1.2.9'")
    assert len(facts("--since", since)) == seen


@pytest.mark.parametrize("since", ["yesterday", "3 d", "-1h", "2026-13-01", "h"])
def test_a_time_that_is_none_is_usage(here: Ledger, since: str) -> None:
    done = jobs("--since", since)
    assert done.exit_code == 2
    assert "is no time; write 2026-11-30" in " ".join(done.output.replace("│", "").split())


# -- what has no job


def test_series_that_cannot_be_read_or_still_arrive_are_told(here: Ledger) -> None:
    sender = Origin("CT1", "VOXTELL", "10.1.0.9")
    for number in range(6):
        here.series.image_arrived(SeriesKey("1.2.3", f"1.2.3.{number}"), sender)
    assert here.series.mark_unreadable(SeriesKey("1.2.3", "1.2.3.0"), "reading its headers took more than 120 s")
    said = jobs().output.splitlines()
    assert said == [
        "no jobs",
        "note: series 1.2.3.0 cannot be read and has no job: reading its headers took more than 120 s; "
        "voxtell-dicom ledger look-again 1.2.3 looks once more.",
        "note: 5 series still arrive, or a protocol waits for their study or report; why: "
        "voxtell-dicom protocols explain --study 1.2.3.",
    ]
    assert jobs("--study", "1.9").output == jobs("--state", "failed").output == "no jobs\n"
    for number in range(1, 5):
        here.series.mark_unreadable(SeriesKey("1.2.3", f"1.2.3.{number}"), "damaged")
    assert "note: 2 more series cannot be read; voxtell-dicom jobs --unreadable lists all." in jobs().output
    assert len(jobs("--unreadable").output.splitlines()) == 7
    listed = facts("--unreadable")
    assert [one["series_uid"] for one in listed] == [f"1.2.3.{number}" for number in range(5)]
    assert listed[0]["reason"] == "reading its headers took more than 120 s"
    here.series.look_again("1.2.3")
    assert jobs("--unreadable").output == "every series can be read\n"


# -- what a job waits for


def said(ledger: Ledger, job: Job, clock: Clock) -> str:
    fresh = ledger.jobs.get(job.id)
    return "; ".join(sentences_of(fresh, ledger.deliveries.of_job(job.id), clock.now))


def test_what_a_queued_job_waits_for(ledger: Ledger, clock: Clock) -> None:
    job = claimed(ledger)
    assert said(ledger, job, clock) == "", "a worker is at it"
    ledger.jobs.postpone(job, "the GPU has no memory", 90)
    assert said(ledger, job, clock).startswith("tried again at ")
    assert said(ledger, job, clock).endswith(": the GPU has no memory")
    clock.passes(100)
    assert said(ledger, job, clock) == "waits for a segmentation worker: the GPU has no memory"
    clock.passes(1300)
    assert said(ledger, job, clock) == "nobody has taken it for 22 minutes: does a segmentation worker run?"


def test_what_results_wait_for(ledger: Ledger, clock: Clock) -> None:
    job = sending(ledger, "pacs", "plan")
    assert said(ledger, job, clock) == "to pacs: pending; to plan: pending"
    deliver(ledger, job, "plan", DeliveryState.DELIVERED)
    claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert claim is not None
    ledger.deliveries.postpone(claim, "nothing listens there", 60)
    assert said(ledger, job, clock).startswith("to pacs: pending, nothing listens there (attempt 2 at ")
    clock.passes(61)
    deliver(ledger, job, "pacs", DeliveryState.FAILED, "refused")
    assert said(ledger, job, clock) == "pacs: refused", "it is said once"


def test_a_delivered_job_may_wait_for_a_promise(ledger: Ledger, clock: Clock) -> None:
    job = sending(ledger, "pacs")
    claim = ledger.deliveries.claim(job.id, "pacs", LEASE)
    assert claim is not None
    ledger.deliveries.end(claim, DeliveryState.DELIVERED, transaction_uid="2.25.1")
    assert said(ledger, job, clock) == "pacs has not promised yet to keep it"


FOUND = result.Result.model_validate({"files": ["seg.dcm"], "found": []})


@pytest.mark.parametrize(
    ("made", "circumstances", "sentence"),
    [
        (result.Result(not_found=("liver",)), {"routes": (Route(to="pacs"),)}, "looked for, nothing found: there is"),
        (result.Result(not_known=("liver",)), {}, "the model knows nothing of what was asked for: there is nothing"),
        (result.Result(not_judged=("liver",)), {}, "the image is of another kind than the model was trained on: there"),
        (FOUND, {}, "it has no destination: results are kept, not sent"),
        (FOUND, {"shadow": True, "routes": (Route(to="pacs"),)}, "its protocol is in shadow mode: results are kept"),
        (FOUND, {"routes": (Route(to="pacs", outputs=("sr",)),)}, "nothing that it made goes to pacs: results are"),
    ],
    ids=["not found", "not known", "not judged", "no destination", "shadow", "other outputs"],
)
def test_nothing_found_is_not_no_destination(
    ledger: Ledger, clock: Clock, made: result.Result, circumstances: dict[str, object], sentence: str
) -> None:
    task = work().model_copy(update=circumstances)
    assert ledger.jobs.add(task)
    job = ledger.jobs.claim(task.job_id, LEASE)
    assert job is not None
    assert ledger.jobs.segmented(job, made)
    assert ledger.jobs.get(job.id).state is JobState.SEGMENTED
    assert said(ledger, job, clock).startswith(sentence)
