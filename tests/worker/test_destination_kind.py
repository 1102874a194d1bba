"""A new kind of destination is one module and one line of the table: settings, delivery and `doctor` ask there."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import pytest
from pydantic import Field
from pydicom.filereader import read_file_meta_info
from typer import Typer
from typer.testing import CliRunner

from dicom_node.errors import PeerError
from dicom_node.scu.c_store import SendOutcome
from tests.support.delivering import segmented
from worker.cli.doctor import doctor
from worker.destinations.destination import Destination, Senders
from worker.destinations.kinds import KINDS
from worker.errors import SettingsError, WorkerError
from worker.ledger import DeliveryState, JobState
from worker.protocols import Protocol, routes_of
from worker.settings import Settings, load
from worker.steps import delivery
from worker.steps.delivery import DeliveryWorker


class FolderDestination(Destination):
    """A folder: results are copied there."""

    reached_by: ClassVar = ("folder",)

    folder: Path = Field(description="The folder.")

    @property
    def address(self) -> str:
        return str(self.folder)

    def send(self, paths: Sequence[Path], settings: Settings) -> list[SendOutcome]:
        if not self.folder.is_dir():
            raise PeerError(f"{self.folder} is not there; mount it")
        outcomes = []
        for path in paths:
            uid = str(read_file_meta_info(path).MediaStorageSOPInstanceUID)
            shutil.copy(path, self.folder / f"{uid}.dcm")
            outcomes.append(SendOutcome(path, uid, 0, "ok", None, f"{self.folder} has {uid}."))
        return outcomes

    def check(self, settings: Settings, senders: Senders) -> str:
        if not self.folder.is_dir():
            raise WorkerError(f"{self.folder} is not there; mount it")
        return f"{self.folder} takes {', '.join(output for output, who in senders.items() if who) or 'nothing'}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the settings name as a destination; the table of kinds has one line more."""
    monkeypatch.setattr("worker.destinations.kinds.KINDS", [*KINDS, FolderDestination])
    share = tmp_path / "share"
    monkeypatch.setenv("VOXTELL_DESTINATIONS", json.dumps([{"name": "share", "folder": str(share)}]))
    return share


@pytest.fixture
def sender(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeliveryWorker]:
    made = DeliveryWorker(load(home=tmp_path / "home", backoff_seconds=0.001))
    monkeypatch.setattr(DeliveryWorker, "_mine", made)
    yield made
    made.ledger.close()


def test_the_settings_tell_it_from_the_other_kinds(folder: Path) -> None:
    settings = load()
    assert settings.destination("share") == FolderDestination(name="share", folder=folder)
    liver = Protocol.model_validate({"name": "liver", "match": {"Modality": "CT"}, "prompts": ["liver"]})
    assert [route.to for route in routes_of(liver, settings)] == ["share"]
    with pytest.raises(SettingsError, match="port is for a destination that is reached by ae_title and host; this one"):
        load(destinations=[{"folder": "/mnt", "port": 105}])
    assert load(destinations=[{"folder": "/mnt", "tls": False}]).destinations, "it says nothing"
    with pytest.raises(SettingsError, match="reached by ae_title and host, or else by url, or else by folder"):
        load(destinations=[{"folder": "/mnt", "url": "https://h"}])


def test_results_arrive_there_once_and_again_later_when_it_was_away(sender: DeliveryWorker, folder: Path) -> None:
    job = segmented(sender, "share")
    delivery.run(job.id, "share")
    (line,) = sender.ledger.deliveries.of_job(job.id)
    assert (line.state, line.reason) == (DeliveryState.PENDING, f"{folder} is not there; mount it")
    folder.mkdir()
    while sender.ledger.jobs.get(job.id).state is JobState.SENDING:
        delivery.run(job.id, "share")
    assert sender.ledger.jobs.get(job.id).state is JobState.DELIVERED
    assert len(list(folder.glob("*.dcm"))) == 2


@pytest.mark.peers
def test_doctor_asks_it(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXTELL_HOME", str(tmp_path / "home"))
    command = Typer()
    command.command()(doctor)

    def asked() -> tuple[str, str]:
        checks = json.loads(CliRunner().invoke(command, ["--json"]).stdout)
        (share,) = (one for one in checks if one["check"] == "share")
        return share["mark"], share["message"]

    assert asked() == ("FAIL", f"{folder} is not there; mount it")
    folder.mkdir()
    mark, message = asked()
    assert (mark, message.partition(";")[0]) == ("ok", f"{folder} takes seg, rtstruct")
    assert "it gets everything from head-and-neck-oar" in message
