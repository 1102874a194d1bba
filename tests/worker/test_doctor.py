"""`doctor`: what fails a node, and what is only worth a note."""

import importlib.util
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from dicom_node.listener import Listener
from dicom_node.store import Store
from dicom_node.tls import server_context
from tests.dicom_node.test_tls import Authority
from worker.commands.doctor import doctor
from worker.doors.peers import listener_tls
from worker.settings import load

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


@contextmanager
def listening(node: Node, tls: ssl.SSLContext | None = None) -> Iterator[None]:
    """The node's listener is up."""
    with Listener(
        Store(node.home), ae_title="VOXTELL", host="127.0.0.1", port=0, on_arrival=lambda _: None, tls=tls
    ) as up:
        node.set(port=up.port)
        yield


def test_a_machine_without_the_engine_is_in_order(node: Node) -> None:
    with listening(node):
        code, checks = node.doctor()
    assert (checks["engine"]["mark"], checks["engine"]["ok"]) == ("note", True)
    assert checks["engine"]["message"].startswith("not here; the machine of the segmentation worker needs it")
    assert code == 0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "hospital")


@pytest.mark.parametrize("asks", [False, True], ids=["asks nobody for a certificate", "asks peers for one"])
def test_a_node_with_tls_speaks_tls_to_itself(node: Node, authority: Authority, asks: bool) -> None:
    certificate, key = authority.issue("node")
    node.set(tls_certificate=certificate, tls_key=key)
    if asks:
        node.set(tls_authorities=authority.certificate)
    with listening(node, listener_tls(load())):
        code, checks = node.doctor()
    assert checks["listener"]["message"].endswith("answers by TLS")
    assert (checks["listener"]["mark"], code) == ("ok", 0)


def test_a_listener_with_another_certificate_than_the_settings_name_fails(node: Node, authority: Authority) -> None:
    certificate, key = authority.issue("renewed")
    node.set(tls_certificate=certificate, tls_key=key)
    with listening(node, server_context(*authority.issue("former"))):
        code, checks = node.doctor()
    assert "TLS fails (CERTIFICATE_VERIFY_FAILED)" in checks["listener"]["message"]
    assert (checks["listener"]["mark"], code) == ("FAIL", 1)
