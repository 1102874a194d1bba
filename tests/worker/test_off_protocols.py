"""A protocol that a new release refuses: the node starts and receives, says so everywhere, and loses no study."""

from pathlib import Path

import pytest
from pydicom import dcmread
from structlog.testing import capture_logs
from typer.testing import CliRunner

from tests.support.listening import QUIET, IntakeSite
from worker.__main__ import app
from worker.explain.history import history_of
from worker.ledger import SeriesState
from worker.maintenance.retention import DAY, Retention
from worker.off_protocols import CONSEQUENCE, off_protocols
from worker.queue.embedded_server import running_queue

LIVER = "name: liver\nmatch: {Modality: CT}\nprompts: [liver]\n"
JAW = "name: jaw\nmatch: {Modality: CT}\nprompts: [no mandible]\n"

pytestmark = pytest.mark.peers


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of a release that took "no mandible" for a prompt: in the folder, and as its last good version."""
    home = tmp_path / "home"
    for folder in (home / "protocols", home / "protocols-in-force"):
        folder.mkdir(parents=True)
        (folder / "jaw.yaml").write_text(JAW)
        (folder / "liver.yaml").write_text(LIVER)
    return home


@pytest.fixture
def node(home: Path):
    made = IntakeSite(home, keep_unused_days=1.0)
    with running_queue(made.settings):
        yield made
        made.close()


def test_its_studies_are_stored_and_segmented_when_it_can_be_read_again(node, images):
    node.receives(*images, ago=2 * DAY)  # before the upgrade, and decided after it
    (job,) = node.tick()
    assert job.protocol == "liver"
    assert node.tick() == [job], "it is settled, and nobody asks again"
    node.restart()
    assert node.tick() == [job]
    (node.home / "protocols" / "jaw.yaml").write_text(JAW.replace("no mandible", "mandible"))
    with capture_logs() as logs:
        jobs = node.tick()
    assert [(one["series"], one["log_level"]) for one in logs if one["event"] == "protocol_back"] == [(1, "info")]
    assert [one.protocol for one in jobs] == ["liver", "jaw"]
    assert node.tick() == jobs
    assert [one.state for one in node.ledger.series.of_study(job.study_uid)] == [SeriesState.SETTLED]
    assert off_protocols(node.home) == []


def test_it_is_told_by_doctor_jobs_explain_and_check(node, images, monkeypatch):
    node.receives(*images, ago=QUIET + 1)
    node.tick()
    study = str(dcmread(images[0]).StudyInstanceUID)
    hints = history_of(study, node.ledger, node.store, node.settings, []).hints
    assert [hint for hint in hints if CONSEQUENCE in hint and "jaw.yaml" in hint]
    monkeypatch.setenv("VOXTELL_HOME", str(node.home))
    monkeypatch.setenv("VOXTELL_PORT", "1")
    said = {
        words: CliRunner().invoke(app, words.split())
        for words in ("doctor", "jobs", "protocols check", f"protocols explain --study {study}")
    }
    assert [
        words for words, done in said.items() if CONSEQUENCE not in done.output or "jaw.yaml" not in done.output
    ] == []
    assert said["protocols check"].exit_code == 1
    assert "FAIL protocols" in said["doctor"].stdout
    assert said[f"protocols explain --study {study}"].exit_code == 0


def test_retention_keeps_what_nobody_could_be_asked_about(node, images):
    (node.home / "protocols" / "liver.yaml").unlink()
    node.receives(*images, ago=QUIET + 1)
    assert node.tick() == []
    retention = Retention(node.settings, node.store, node.ledger)
    node.lag = -2 * DAY  # two days later
    retention.tidy()
    assert not list(node.home.glob("leaving/*"))
    (node.home / "protocols" / "jaw.yaml").unlink()
    node.intake._protocols.current()
    retention.tidy()
    assert len(list(node.home.glob("leaving/*"))) == 1
