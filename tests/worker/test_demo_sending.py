"""`demo --send-to`: the demo's CT goes to a node that runs already, as from a modality."""

from pathlib import Path

import numpy as np
import pytest
from typer import Typer
from typer.testing import CliRunner

from dicom_node.store import Store
from dicom_node.synthesis import ct_series
from tests.support.delivering import pacs
from worker.cli.demo import demo
from worker.demo import run

COMMAND = Typer()
COMMAND.command()(demo)


@pytest.mark.peers
def test_a_study_is_only_sent(tmp_path: Path, free_port: int) -> None:
    ct_series(np.zeros((3, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    words = [str(tmp_path / "ct"), "-o", str(tmp_path / "out"), "--send-to", f"PACS@127.0.0.1:{free_port}"]
    with pacs(tmp_path / "node", free_port):
        done = CliRunner().invoke(COMMAND, words)
    assert done.exit_code == 0, done.output
    assert len(list(Store(tmp_path / "node").walk())) == 3
    assert "3 images by C-STORE" in done.output
    assert not (tmp_path / "out" / "node").exists(), "no node was started"


@pytest.mark.peers
def test_a_node_that_does_not_come_up_is_said(tmp_path: Path, free_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "START_SECONDS", 0.1)
    ct_series(np.zeros((3, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")
    words = [str(tmp_path / "ct"), "-o", str(tmp_path / "out"), "--send-to", f"PACS@127.0.0.1:{free_port}"]
    done = CliRunner().invoke(COMMAND, words)
    assert isinstance(done.exception, run.DemoError)
    assert "the node did not come up: PACS@127.0.0.1" in str(done.exception)


def test_a_peer_that_is_none_is_usage(tmp_path: Path) -> None:
    done = CliRunner().invoke(COMMAND, [str(tmp_path), "--send-to", "PACS:104"])
    assert done.exit_code == 2
    assert "'PACS:104'" in done.output
