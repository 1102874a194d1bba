"""How the house is built, as tests: who imports whom, how big a piece may be, where errors may be swallowed."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from kombu.transport import redis as redis_transport
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
ROOMS = ("voxtell", "dicom_node", "worker")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

LONGEST_MODULE = 350  # lines; a page or two is what we aim at
LONGEST_FUNCTION = 60  # lines: a screen

ENGINE = {"torch", "nnunetv2", "transformers", "dynamic-network-architectures"}

DOORS = {
    "dicom_node/commitment.py": 1,  # what becomes of one N-EVENT-REPORT
    "dicom_node/listener.py": 2,  # the C-STORE handler; what the node does at an association's end
    "dicom_node/scp/stow.py": 1,  # an instance by STOW-RS
    "dicom_node/upper_layer/association.py": 1,  # the connection must not outlive the thread of its association
    "dicom_node/upper_layer/reactor.py": 1,  # nor that of its upper layer
    "worker/__main__.py": 1,  # errors become sentences for people
    "worker/steps/delivery.py": 1,  # the Celery task: errors become a line of the ledger
    "worker/steps/intake.py": 1,  # the intake thread outlives what goes wrong at one tick
    "worker/selection/child.py": 1,  # the child process: what goes wrong with a question is its answer
    "worker/servers/mllp.py": 2,  # what becomes of one HL7 message; whatever ends the thread of the receiver
    "worker/maintenance/leases.py": 1,  # its thread outlives a renewal that goes wrong
    "worker/maintenance/retention.py": 1,  # its thread outlives what goes wrong in one round
    "worker/steps/segmentation.py": 1,  # the Celery task
}
"""Where `except Exception` may stand, and how often: at the doors only."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# -- who knows whom


def test_the_rooms_keep_to_their_import_contracts(other_programs):
    # In a process of its own: import-linter sets up logging anew and would silence every logger that is there.
    command = [Path(sys.executable).with_name("lint-imports"), "--config", ROOT / ".importlinter", "--no-cache"]
    judged = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout + judged.stderr


LISTEN = """
import os, signal, sys, threading, time
from pathlib import Path
import worker.__main__, worker.steps.delivery
from worker import roles
from worker.settings import Settings
def stop():
    while signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGTERM)
threading.Thread(target=stop).start()
roles.listen(Settings(home=Path(sys.argv[1]), port=0))
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.mark.processes
def test_a_node_without_the_engine_loads_no_torch(tmp_path):
    """A real listener from start to end, with the command line and the delivery beside it, in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VOXTELL_")}
    command = [sys.executable, "-c", LISTEN, str(tmp_path / "home")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert {"pynetdicom", "celery", "sqlalchemy"} <= loaded
    assert not loaded & {"torch", "nnunetv2", "transformers", "safetensors"}


# -- what is installed


def needed(requirements: list[str], extra: str = "") -> Iterator[str]:
    """The names of all distributions that these requirements bring on this machine, without their versions."""
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), extra) for text in requirements]
    while waiting:
        requirement, asked_by = waiting.pop()
        if not _applies(requirement.marker, asked_by):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in (requirement.extras or set()) | {""}:
            if (name, wanted) in seen:
                continue
            seen.add((name, wanted))
            waiting += [(Requirement(text), wanted) for text in metadata.requires(name) or []]
    yield from sorted({name for name, _ in seen})


def _applies(marker: Marker | None, extra: str) -> bool:
    return marker is None or marker.evaluate({"extra": extra})


def test_the_node_needs_no_engine():
    names = set(needed(PROJECT["dependencies"]))
    assert {"pynetdicom", "celery", "redis"} <= names
    assert not names & ENGINE
    assert {Requirement(text).name for text in PROJECT["optional-dependencies"]["gpu"]} >= {"torch", "nnunetv2"}


@pytest.mark.long
def test_every_distribution_that_is_installed_has_its_tested_version():
    wanted = [
        *PROJECT["dependencies"],
        *(text for extra in PROJECT["optional-dependencies"].values() for text in extra),
    ]
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pinned = {canonicalize_name(line.split("==")[0]) for line in lines if line and not line.startswith("#")}
    missing = set(needed(wanted)) - pinned - {"setuptools", "pip"}
    assert not missing, f"add their versions to constraints.txt: {', '.join(sorted(missing))}"


# -- how it reads


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_a_page_or_two_and_a_function_fits_a_screen(path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            assert node.end_lineno - node.lineno + 1 <= LONGEST_FUNCTION, node.name


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_for(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.long
def test_errors_of_every_kind_are_caught_at_the_doors_only():
    found = {}
    for path in MODULES:
        handlers = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ExceptHandler)]
        broad = sum(_catches_everything(handler) for handler in handlers)
        if broad:
            found[name_of(path)] = broad
    assert found == DOORS


def _catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


# Never leaves the module that raises it: it carries a C-STORE status to the handler.
NOT_AN_ANSWER = {"RefusedError"}

MACHINE_PATH = re.compile(rb"(?<![\w.$}>~-])/(work|root|home/\w+|Users/\w+)/")


def test_no_file_names_a_path_of_somebodys_machine(other_programs):
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        content = (ROOT / name).read_bytes() if (ROOT / name).is_file() else b""
        if b"\0" not in content[:8192]:
            assert not MACHINE_PATH.search(content), name


def test_every_error_says_whether_to_try_again():
    errors = [error for room in ROOMS for error in _errors(room)]
    assert len(errors) > 15
    for name, retry, docstring in errors:
        assert retry in {"final", "later", "usage"}, name
        assert docstring, name


def _errors(room: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Classes of errors in a room by its source: name, own or inherited `retry`, docstring."""
    classes = [
        node
        for path in (ROOT / room).rglob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and node.name not in NOT_AN_ANSWER
    ]
    retries = {node.name: _own_retry(node) for node in classes}
    bases = {node.name: [base.id for base in node.bases if isinstance(base, ast.Name)] for node in classes}
    for node in classes:
        chain = [node.name]
        while chain[-1] in bases and retries[chain[-1]] is None and bases[chain[-1]]:
            chain.append(bases[chain[-1]][0])
        yield f"{room}: {node.name}", retries.get(chain[-1]), ast.get_docstring(node)


def _own_retry(node: ast.ClassDef) -> str | None:
    for statement in node.body:
        targets = [statement.target] if isinstance(statement, ast.AnnAssign) else getattr(statement, "targets", [])
        if any(isinstance(target, ast.Name) and target.id == "retry" for target in targets):
            return statement.value.value
    return None


@pytest.mark.long
def test_a_class_name_stands_for_one_thing():
    named = Counter(
        node.name for path in MODULES for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)
    )
    assert [name for name, times in named.items() if times > 1] == []


PRIVATE_IMPORTS = {
    "dicom_node/scp/contexts.py": {"pydicom._uid_dict"},  # every SOP class that DICOM names
    "dicom_node/upper_layer/requestor.py": {"pynetdicom._config"},  # listed in upper_layer/private_names.py
    "worker/protocols/attributes.py": {"pydicom._dicom_dict"},  # which keywords protocols may ask about
    "worker/protocols/snomed.py": {"pydicom.sr._concepts_dict"},  # which SNOMED codes DICOM uses
}
"""What comes from a private module of a library, which a release may move without a word."""


def test_private_modules_of_libraries_are_those_that_are_known() -> None:
    found: dict[str, set[str]] = {}
    for path in MODULES:
        for module in _imported(path):
            head, *inner = module.split(".")
            if head not in ROOMS and any(part.startswith("_") for part in inner):
                found.setdefault(name_of(path), set()).add(module)
    assert found == PRIVATE_IMPORTS


def _imported(path: Path) -> Iterator[str]:
    """Yields every module that the file imports; of `from a import _b` a._b."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (one.name for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{one.name}" for one in node.names if one.name.startswith("_"))


@pytest.mark.parametrize("name", ["Channel._brpop_read", "Transport._deliver"])
def test_kombu_has_the_methods_that_the_queue_overrides(name: str) -> None:
    """worker/queue/checked_transport.py drops there what is no message of the node."""
    owner, method = name.split(".")
    assert callable(getattr(getattr(redis_transport, owner), method))
