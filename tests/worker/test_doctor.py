"""`doctor`: what fails a node, and what is only worth a note."""

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.sop_class import Verification
from typer import Typer
from typer.testing import CliRunner

from worker.commands.doctor import doctor

COMMAND = Typer()
COMMAND.command()(doctor)


class Node:
    """A listener's machine: `doctor` is asked there."""

    def __init__(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home, self._monkeypatch = home, monkeypatch
        self.set(home=home, min_free_bytes=0)

    def set(self, **settings: object) -> None:
        for name, value in settings.items():
            self._monkeypatch.setenv(f"VOXTELL_{name.upper()}", str(value))

    def doctor(self) -> tuple[int, dict[str, dict[str, Any]]]:
        """The exit code, and what is said of each part."""
        done = CliRunner().invoke(COMMAND, ["--json"])
        return done.exit_code, {check["check"]: check for check in json.loads(done.stdout)}


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """A node as the torch-free installation makes it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    return Node(tmp_path, monkeypatch)


@pytest.fixture
def listener(node: Node) -> Iterator[None]:
    """Somebody answers where the node listens."""
    ae = AE("VOXTELL")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    node.set(port=server.server_address[1])
    yield
    server.shutdown()


def test_a_machine_without_the_engine_is_in_order(node: Node, listener: None) -> None:
    code, checks = node.doctor()
    assert (checks["engine"]["mark"], checks["engine"]["ok"]) == ("note", True)
    assert checks["engine"]["message"].startswith("not here; the machine of the segmentation worker needs it")
    assert code == 0
