"""`doctor`: what fails a node, and what is only worth a note."""

import importlib.util
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, get_args

import pytest
from pydicom.uid import EnhancedSRStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, SegmentationStorage
from pynetdicom import AE, DEFAULT_TRANSFER_SYNTAXES
from pynetdicom.sop_class import Verification
from typer import Typer
from typer.testing import CliRunner

from dicom_node.listener import Listener
from dicom_node.objects.kinds import KINDS
from dicom_node.scp.access import EVERYBODY, Access
from dicom_node.store import Store
from dicom_node.tls import server_context
from tests.support.certificates import Authority
from tests.support.model_files import looks_published
from worker.cli import doctor as doctors
from worker.cli.doctor import doctor
from worker.destinations.dicom import DicomDestination, kinds_for
from worker.job_spec import Output
from worker.maintenance.presence import DELIVER, LISTEN, SEGMENT, at_work
from worker.protocols.protocol import NOT_SENT
from worker.servers.tls import listener_tls
from worker.settings import load

pytestmark = pytest.mark.peers

CLASSES = {kind.output: kind.sop_class for kind in KINDS.values() if kind.form != "labelmap"}
UNCOMPRESSED = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)

ROLES = (LISTEN, SEGMENT, DELIVER)
COMMAND = Typer()
COMMAND.command()(doctor)


class Machine:
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
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A node as the torch-free installation makes it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "torch" else found(name, *more)
    )
    return Machine(tmp_path, monkeypatch)


@contextmanager
def listening(
    node: Machine,
    tls: ssl.SSLContext | None = None,
    roles: Sequence[str] = ROLES,
    access: Access = EVERYBODY,
) -> Iterator[None]:
    """The node's listener is up, and these roles are at work on its home."""
    with ExitStack() as stack:
        up = stack.enter_context(
            Listener(
                Store(node.home),
                ae_title="VOXTELL",
                host="127.0.0.1",
                port=0,
                on_arrival=lambda _: None,
                tls=tls,
                access=access,
            )
        )
        for role in roles:
            stack.enter_context(at_work(node.home, role))
        node.set(port=up.port)
        yield


def test_a_machine_without_the_engine_is_in_order(node: Machine) -> None:
    with listening(node):
        code, checks = node.doctor()
    assert (checks["engine"]["mark"], checks["engine"]["ok"]) == ("note", True)
    assert checks["engine"]["message"].startswith("not here; the machine of the segmentation worker needs it")
    assert code == 0


def test_the_language_of_the_reports_is_checked(node: Machine) -> None:
    with listening(node):
        assert node.doctor()[1]["reports"]["message"].startswith("language en: ")
        node.set(report_language="tlh")
        code, checks = node.doctor()
    assert checks["reports"]["message"] == (
        "report language 'tlh' has no lexicon.tlh.toml; known languages: en; see VOXTELL_REPORT_LANGUAGE"
    )
    assert (checks["reports"]["mark"], code) == ("FAIL", 1)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "hospital")


@pytest.mark.parametrize("asks", [False, True], ids=["asks nobody for a certificate", "asks peers for one"])
def test_a_node_with_tls_speaks_tls_to_itself(node: Machine, authority: Authority, asks: bool) -> None:
    certificate, key = authority.issue("node")
    node.set(tls_certificate=certificate, tls_key=key)
    if asks:
        node.set(tls_authorities=authority.certificate)
    with listening(node, listener_tls(load())):
        code, checks = node.doctor()
    assert checks["listener"]["message"].endswith("answers by TLS")
    assert (checks["listener"]["mark"], code) == ("ok", 0)


def test_a_listener_with_another_certificate_than_the_settings_name_fails(node: Machine, authority: Authority) -> None:
    certificate, key = authority.issue("renewed")
    node.set(tls_certificate=certificate, tls_key=key)
    with listening(node, server_context(*authority.issue("former"))):
        code, checks = node.doctor()
    assert "its certificate is signed by an authority that this node does not trust" in checks["listener"]["message"]
    assert (checks["listener"]["mark"], code) == ("FAIL", 1)


def test_a_half_copied_model_is_told(node: Machine) -> None:
    copy = looks_published(node.home / "models" / "voxtell_v1.1")
    with listening(node):
        code, checks = node.doctor()
        assert (checks["models"]["message"], code) == (f"{copy}: every file verifies", 0)
        (copy / "text_embeddings.npz").write_bytes(b"PK\x03\x04")
        code, checks = node.doctor()
    assert checks["models"]["message"].startswith("voxtell_v1.1 counts as not here: ")
    assert "text_embeddings.npz ends early; it was not copied to its end" in checks["models"]["message"]
    assert (checks["models"]["mark"], code) == ("FAIL", 1)


# -- whose listener answers, and whether workers live


def test_the_listener_of_another_home_on_the_port_is_told(node: Machine) -> None:
    with listening(node, roles=(SEGMENT, DELIVER)):
        code, checks = node.doctor()
    assert checks["listener"]["message"].startswith("another node has the port: VOXTELL@127.0.0.1:")
    assert f"no listener works on {node.home}" in checks["listener"]["message"]
    assert (checks["listener"]["mark"], code) == ("FAIL", 1)


@pytest.mark.parametrize("allowed", [["CT1"], ["CT1", "VOXTELL"]])
def test_doctor_asks_by_an_ae_title_that_may_send(node: Machine, allowed: list[str]) -> None:
    node.set(allowed_calling_aets=json.dumps(allowed))
    with listening(node, access=Access(calling_aes=tuple(allowed))):
        code, checks = node.doctor()
    assert (checks["listener"]["mark"], code) == ("ok", 0)


def test_an_address_of_doctor_that_may_not_send_is_a_note(node: Machine) -> None:
    node.set(allowed_addresses='["10.1.0.0/16"]')
    with listening(node, access=Access(networks=("10.1.0.0/16",))):
        code, checks = node.doctor()
    assert "VOXTELL_ALLOWED_ADDRESSES has no 127.0.0.1, from where doctor asks" in checks["listener"]["message"]
    assert (checks["listener"]["mark"], code) == ("note", 0)
    node.set(allowed_addresses='["10.1.0.0/16", "127.0.0.1"]')
    with listening(node):
        assert node.doctor()[1]["listener"]["mark"] == "ok"


def test_another_program_on_the_port_is_told(node: Machine) -> None:
    ae = AE("VOXTELL")
    ae.add_supported_context(Verification)
    server = ae.start_server(("127.0.0.1", 0), block=False)
    node.set(port=server.server_address[1])
    try:
        with at_work(node.home, LISTEN):
            _, checks = node.doctor()
    finally:
        server.shutdown()
    assert checks["listener"]["message"].startswith("another program has the port: VOXTELL@127.0.0.1:")
    assert "and is PYNETDICOM" in checks["listener"]["message"]


@pytest.mark.parametrize("lives", [SEGMENT, DELIVER])
def test_a_worker_that_died_is_told(node: Machine, lives: str) -> None:
    with listening(node):
        assert node.doctor()[1]["workers"]["message"] == "segment-worker and deliver-worker are at work"
    with listening(node, roles=(LISTEN, lives)):
        code, checks = node.doctor()
    (dead,) = {SEGMENT, DELIVER} - {lives}
    assert checks["workers"]["message"].startswith(f"no {dead} works on {node.home}: jobs wait; ")
    assert (checks["workers"]["mark"], code) == ("FAIL", 1)


def test_a_queue_that_refuses_is_not_in_order(node: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    node.set(redis_url="redis://127.0.0.1:1/0")
    code, checks = node.doctor()
    assert checks["queue"]["message"].startswith("no queue answers at redis://127.0.0.1:1/0")
    monkeypatch.setattr(doctors, "queue_problem", lambda _settings: "")
    assert node.doctor()[1]["queue"]["message"] == "redis://127.0.0.1:1/0 takes messages"
    assert (checks["queue"]["mark"], code) == ("FAIL", 1)


@contextmanager
def pacs(
    node: Machine, *sop_classes: str, syntaxes: Sequence[str] = DEFAULT_TRANSFER_SYNTAXES, **more: object
) -> Iterator[None]:
    """A destination of the node that takes objects of these classes, and answers a C-ECHO."""
    ae = AE("PACS")
    for sop_class in (Verification, *sop_classes):
        ae.add_supported_context(sop_class, list(syntaxes))
    server = ae.start_server(("127.0.0.1", 0), block=False)
    where = {"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": server.server_address[1]}
    node.set(destinations=json.dumps([where | more]))
    try:
        yield
    finally:
        server.shutdown()


def written(node: Machine, more: str) -> None:
    """The node's only protocol."""
    (node.home / "protocols").mkdir()
    (node.home / "protocols" / "a.yaml").write_text(f"name: liver\nmatch: {{Modality: CT}}\nprompts: [liver]\n{more}")


@pytest.mark.parametrize(
    ("protocol", "taken", "form", "mark", "said"),
    [
        ("", (), "binary", "FAIL", "but does not take Segmentation Storage of liver; change"),
        ("outputs: [sr]\n", (EnhancedSRStorage,), "binary", "FAIL", "does not take Segmentation Storage of liver"),
        ("", (SegmentationStorage,), "labelmap", "FAIL", "does not take Label Map Segmentation Storage of liver"),
        ("", (SegmentationStorage,), "binary", "note", "does not take Enhanced SR Storage, RT Structure Set Storage, "),
        ("shadow: true\n", (), "binary", "note", "Segmentation Storage, Enhanced SR Storage, RT Structure Set "),
        ("outputs: [seg, sr]\ndestinations: [{to: pacs, outputs: [sr]}]\n", (EnhancedSRStorage,), "binary", "note", ""),
        ("outputs: [seg, rtstruct]\n", tuple(CLASSES.values()), "binary", "ok", " answers in "),
    ],
)
def test_a_destination_is_asked_for_what_goes_there(
    node: Machine, protocol: str, taken: tuple[str, ...], form: str, mark: str, said: str
) -> None:
    written(node, protocol)
    with pacs(node, *taken, seg=form), listening(node):
        code, checks = node.doctor()
    assert said in checks["pacs"]["message"]
    assert (checks["pacs"]["mark"], code) == (mark, int(mark == "FAIL"))


@pytest.mark.parametrize(
    ("syntax", "mark", "said"),
    [
        ("rle", "FAIL", "but does not take Secondary Capture Image Storage in RLE Lossless of liver; change"),
        ("deflated", "ok", " answers in "),  # what it does not take deflated is rewritten
        ("explicit", "ok", " answers in "),
    ],
)
def test_a_destination_is_asked_for_the_transfer_syntaxes_of_what_goes_there(
    node: Machine, syntax: str, mark: str, said: str
) -> None:
    written(node, "outputs: [seg, rtstruct, sr, preview]\n")
    with pacs(node, *CLASSES.values(), syntaxes=UNCOMPRESSED, transfer_syntax=syntax), listening(node):
        code, checks = node.doctor()
    assert said in checks["pacs"]["message"]
    assert (checks["pacs"]["mark"], code) == (mark, int(mark == "FAIL"))


def test_a_destination_by_dicomweb_is_a_note(node: Machine) -> None:
    node.set(destinations=json.dumps([{"name": "cloud", "url": "https://pacs.example/dicom-web"}]))
    with listening(node):
        code, checks = node.doctor()
    assert checks["cloud"]["mark"] == "note"
    assert code == 0


def test_every_kind_of_object_that_is_written_is_asked_for() -> None:
    forms = ("binary", "labelmap")
    asked = [kinds_for(DicomDestination(name="pacs", ae_title="A", host="h", seg=form)) for form in forms]
    assert {kind.file for kinds in asked for kind in kinds.values()} == KINDS.keys()
    for kinds in asked:
        assert {*kinds} == {*get_args(Output)} - {*NOT_SENT}
