"""What the node relies on inside pynetdicom: the list is true, complete, and no other module reaches in."""

import ast
import importlib
import inspect
import pkgutil
import socketserver
from collections.abc import Iterator
from pathlib import Path

import pytest
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import TRANSITION_TABLE
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from dicom_node import upper_layer
from dicom_node.upper_layer.private_names import PRIVATE_NAMES, PrivateName, moved, samples

ROOT = Path(__file__).parents[2]
HERE = ROOT / "dicom_node" / "upper_layer"
INSIDE = sorted(path for path in HERE.glob("*.py") if path.name != "private_names.py")
OUTSIDE = sorted(
    path for room in ("dicom_node", "worker") for path in (ROOT / room).rglob("*.py") if HERE not in path.parents
)


# the installed pynetdicom has what is needed


def test_the_installed_pynetdicom_has_every_name():
    with samples() as owners:
        assert moved(owners) == []


@pytest.mark.parametrize("private", PRIVATE_NAMES, ids=str)
def test_a_name_that_is_gone_is_named(private: PrivateName, monkeypatch: pytest.MonkeyPatch):
    """As after an upgrade to a pynetdicom that calls it something else."""
    with samples() as owners:
        owner = owners[private.owner]
        monkeypatch.delattr(holder(owner, private.name), private.name)
        assert moved(owners) == [f"{private} is gone: {private.why}"]


def holder(owner: object, name: str) -> object:
    """The object or the class that has the name."""
    kind = owner if isinstance(owner, type) else type(owner)
    return owner if name in vars(owner) else next(base for base in kind.__mro__ if name in vars(base))


def test_a_method_with_other_parameters_is_named(monkeypatch):
    monkeypatch.setattr(DULServiceProvider, "_read_pdu_data", lambda self, timeout: None)
    with samples() as owners:
        (line,) = moved(owners)
    assert line.startswith("pynetdicom.dul.DULServiceProvider._read_pdu_data takes ('timeout',), not ():")


def test_a_class_that_is_gone_is_named(monkeypatch):
    monkeypatch.delattr("pynetdicom.transport.ThreadedAssociationServer")
    with pytest.raises(AttributeError, match="ThreadedAssociationServer"), samples():
        pass


@pytest.mark.parametrize("event", ["Evt17", "Evt19"])
def test_the_events_that_upper_layer_raises_itself_are_known_during_data_transfer(event):
    assert (event, "Sta6") in TRANSITION_TABLE


# the list is complete


def private_of_pynetdicom() -> dict[str, set[str]]:
    """The private attributes of the objects that upper_layer has to do with, each with its owners."""
    found: dict[str, set[str]] = {}
    with samples() as owners:
        for owner in (*owners.values(), ThreadedAssociationServer, RequestHandler):
            for name in dir(owner):
                if name.startswith("_") and not name.startswith("__") and not inspect.ismodule(owner):
                    found.setdefault(name, set()).add(getattr(owner, "__name__", type(owner).__name__))
    return found


def names_in(path: Path) -> Iterator[str]:
    """Everything in a module that may stand for a name of pynetdicom: attributes, methods, imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
                yield name
            case ast.ImportFrom(names=aliases):
                yield from (alias.name for alias in aliases)


def test_every_private_attribute_of_pynetdicom_that_is_used_is_listed():
    """Also fails when pynetdicom gives one of its objects an attribute that upper_layer gave its subclass before."""
    listed = {private.name for private in PRIVATE_NAMES}
    known = private_of_pynetdicom()
    unlisted = {
        f"{path.name}: {name} of {', '.join(sorted(known[name]))}"
        for path in INSIDE
        for name in names_in(path)
        if name in known and name not in listed
    }
    assert unlisted == set()


def test_every_listed_name_is_used():
    used = {name for path in INSIDE for name in names_in(path)}
    assert [str(private) for private in PRIVATE_NAMES if private.name not in used] == []


def test_every_method_that_upper_layer_overrides_is_listed():
    listed = {(private.owner, private.name) for private in PRIVATE_NAMES}
    overridden = set()
    for module in pkgutil.iter_modules(upper_layer.__path__, "dicom_node.upper_layer."):
        for kind in vars(importlib.import_module(module.name)).values():
            if isinstance(kind, type) and kind.__module__ == module.name:
                overridden |= overrides(kind)
    assert ("pynetdicom.dul.DULServiceProvider", "send_pdu") in overridden
    assert overridden <= listed


def overrides(kind: type) -> set[tuple[str, str]]:
    """(class of pynetdicom, name) of what a subclass replaces, but for what socketserver documents."""
    return {
        (f"{base.__module__}.{base.__qualname__}", name)
        for name in vars(kind).keys() - set(dir(socketserver.TCPServer))
        for base in kind.__mro__[1:]
        if base.__module__.startswith("pynetdicom") and name in vars(base) and not name.startswith("__")
    }


# nobody else reaches in

PARTS = {"acse", "dimse", "dul"}
"""Attributes of an association behind which pynetdicom's inner parts lie."""


def reaches(source: str) -> list[str]:
    """What a module does with pynetdicom's inner parts, as far as its text tells, with the line."""
    tree = ast.parse(source)
    known = private_of_pynetdicom()
    modules = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "pynetdicom"
        for alias in node.names
    }
    found = []
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr="__class__", ctx=ast.Store()):
                found.append(f"{node.lineno}: sets __class__")
            case ast.Attribute(value=ast.Name(id=name), ctx=ast.Store() | ast.Del()) if name in modules:
                found.append(f"{node.lineno}: replaces {ast.unparse(node)}")
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if name not in PARTS:
                continue
            case ast.Attribute(attr=name) if name in known or name in PARTS:
                found.append(f"{node.lineno}: uses {name}")
            case ast.ImportFrom(module=str(module), names=aliases) if module.split(".")[0] == "pynetdicom":
                words = [*module.split("."), *(alias.name for alias in aliases)]
                found += [f"{node.lineno}: imports {word}" for word in words if word.startswith("_")]
            case ast.Import(names=aliases):
                words = [alias.name for alias in aliases if alias.name.startswith("pynetdicom._")]
                found += [f"{node.lineno}: imports {word}" for word in words]
            case ast.Call(func=ast.Name(id="setattr" | "delattr"), args=[ast.Name(id=name), *_]) if name in modules:
                found.append(f"{node.lineno}: replaces an attribute of {name}")
    return found


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_other_module_reaches_into_pynetdicom(path):
    assert reaches(path.read_text()) == []


@pytest.mark.parametrize("path", INSIDE, ids=lambda path: path.name)
def test_upper_layer_makes_its_objects_and_changes_the_class_of_none(path):
    assert [line for line in reaches(path.read_text()) if "__class__" in line] == []


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("association.dul.socket.close()", "1: uses dul"),
        ("association._reactor_checkpoint.set()", "1: uses _reactor_checkpoint"),
        ("event.assoc._kill = True", "1: uses _kill"),
        ("made.__class__ = Own", "1: sets __class__"),
        ("self.association.dimse.get_msg()", "1: uses dimse"),
        ("from pynetdicom import _config", "1: imports _config"),
        ("from pynetdicom._globals import MODE_ACCEPTOR", "1: imports _globals"),
        ("import pynetdicom._config", "1: imports pynetdicom._config"),
        ("from pynetdicom import AE\nAE.associate = None", "2: replaces AE.associate"),
        ("from pynetdicom import AE\nsetattr(AE, name, None)", "2: replaces an attribute of AE"),
    ],
)
def test_each_way_to_reach_in_is_noticed(source, line):
    assert reaches(source) == [line]


def test_what_a_class_calls_its_own_is_no_reach():
    assert reaches("self._kill = self._started_dul\nassociation.abort()") == []
