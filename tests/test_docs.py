"""README and docs against the repository: links, files, commands and make targets that they name are there."""

import ast
import importlib.util
import re
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path

import pytest
import yaml
from typer.core import TyperGroup
from typer.main import get_command

from worker.__main__ import app
from worker.protocols import Protocol

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])

LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
FILE = re.compile(
    r"(?<![\w./$~-])((?:voxtell|dicom_node|worker|tests|scripts|bench|docs|docker)/[\w./-]+\.(?:py|toml|yaml|md|c|sh|txt))\b"
)
FOLDER = re.compile(r"`((?:voxtell|dicom_node|worker|tests|scripts|bench|docs|docker)/(?:[\w-]+/)*)`")
MODULE = re.compile(r"python -m ((?:voxtell|worker|bench|tests)[\w.]*)")
NAME = re.compile(r"`(?!NAME)(_?[a-z]\w+|[A-Z]\w*[a-z]\w*)(?:\([^`]*\))?`")  # capitals alone are examples and settings
TARGET = re.compile(r"(?:`|^)make ([a-z-]+)", re.MULTILINE)
COMMAND = re.compile(r"voxtell-dicom((?: [a-z][a-z-]*)+)")
NO_VERB = re.compile(r"(?!Whether\b)(?![A-Z][a-z-]+s\b(?! of\b))|(?:This|Its|As|Is)\b")
ERROR = re.compile(r"[\w.]+: when \S")
GROUP_ALONE = re.compile(r"`((?:jobs|protocols|report|model|ledger) [a-z][a-z-]*)")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def linked(page: Path) -> list[str]:
    """The targets of a page's links that are not addresses of the web."""
    return [link for link in LINK.findall(page.read_text()) if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page are called, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text)}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in linked(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_that_is_named_is_there(page: Path) -> None:
    text = page.read_text()
    named = {name for name in (*FILE.findall(text), *FOLDER.findall(text)) if not re.search("NAME|LANGUAGE", name)}
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
    modules = {module.rstrip(".").replace(".", "/") for module in MODULE.findall(text)}
    assert sorted(one for one in modules if not ((ROOT / one).is_dir() or (ROOT / f"{one}.py").exists())) == []


def unknown_names(page: Path) -> list[str]:
    """Returns the names of functions, classes and fields in backticks that stand nowhere in the code."""
    sources = [
        path for room in ("voxtell", "dicom_node", "worker", "tests", "bench") for path in (ROOT / room).rglob("*.py")
    ]
    code = set(re.findall(r"\w+", "".join(path.read_text() for path in (*sources, ROOT / ".importlinter"))))
    return sorted({name for name in NAME.findall(page.read_text()) if name not in code})


def test_every_name_in_the_recipes_is_in_the_code(tmp_path: Path) -> None:
    assert unknown_names(ROOT / "docs" / "contributing.md") == []
    page = tmp_path / "page.md"
    page.write_text("`load_engine`, `_nobody" + "_has_this(...)`, `HELD` and `Engine`")
    assert unknown_names(page) == ["_nobody" + "_has_this"]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_named_is_one(page: Path) -> None:
    text = page.read_text()
    said = [words.split() for words in (*COMMAND.findall(text), *GROUP_ALONE.findall(text))]
    assert [" ".join(words) for words in said if not is_command(words)] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_target_of_make_that_is_named_is_one(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert sorted(set(TARGET.findall(page.read_text())) - targets) == []


def test_every_page_stands_in_the_index() -> None:
    index = ROOT / "docs" / "README.md"
    listed = {(index.parent / link).resolve() for link in linked(index)}
    assert [name_of(page) for page in PAGES if page.is_relative_to(index.parent) and page not in {index, *listed}] == []


@pytest.mark.parametrize("room", ["voxtell", "dicom_node", "worker"])
def test_the_architecture_names_every_module_and_folder_of_a_room_in_its_layers(room: str) -> None:
    text = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    (section,) = re.findall(rf"^## Inside `{room}`\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)
    there = {path.name + "/" for path in (ROOT / room).iterdir() if (path / "__init__.py").exists()}
    there |= {path.stem for path in (ROOT / room).glob("*.py") if path.stem != "__init__"}
    rows = [re.findall(r"`(\w+)/?`", row) for row in re.findall(r"^\| `.*?(?= \|)", section, re.MULTILINE)]
    assert {name for row in rows for name in row} == {name.removesuffix("/") for name in there}
    contracts = ConfigParser()
    contracts.read(ROOT / ".importlinter")
    layers = contracts[f"importlinter:contract:{room.replace('_', '-')}"]["layers"]
    assert [sorted(row) for row in rows] == [sorted(re.findall(r"\w+", layer)) for layer in layers.split("\n") if layer]


def docstrings(path: Path) -> Iterator[tuple[str, str, bool]]:
    """Yields each docstring of a module's functions and classes: where it stands, its text, whether a verb begins it.

    A function's says what it does ("Returns", "Whether"); that of a property or class may name what it is.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and (
            said := ast.get_docstring(node)
        ):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            is_value = isinstance(node, ast.ClassDef) or any(mark.endswith("property") for mark in marks)
            yield f"{path.name}:{node.lineno} {node.name}: {said.partition(chr(10))[0]}", said, not is_value


def misformed(path: Path) -> Iterator[str]:
    """Yields what is not in the form of this project: a first line without a verb, an error without its "when".

    A verb is told by its s: a noun in the plural without "of" behind it passes.
    """
    for where, said, begins_with_a_verb in docstrings(path):
        if said.startswith(("True ", "False ")) or (begins_with_a_verb and NO_VERB.match(said)):
            yield where
        for block in re.findall(r"^Raises:\n((?: {4}.*\n?)+)", said, re.MULTILINE):
            yield from (
                f"{where}: {line}" for line in re.findall(r"^ {4}(\S.*)", block, re.MULTILINE) if not ERROR.match(line)
            )


@pytest.mark.parametrize("room", ["voxtell", "dicom_node", "worker"])
def test_docstrings_begin_with_a_verb_and_say_when_each_error_is_raised(room: str) -> None:
    assert [line for path in sorted((ROOT / room).rglob("*.py")) for line in misformed(path)] == []


def test_docstrings_of_another_form_are_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    forms = (
        ("Returns the files.", 0), ("Whether it is there.", 0), ("The files.", 1), ("Files of a series.", 1),
        ("Take the next bytes.", 1), ("True when it is there.", 1), ("As `keep`.", 1), ("A -> B, and counts.", 1),
        ("Reads it.\n\n    Raises:\n        OSError: when the disk fails, or\n            worse.\n    ", 0),
        ("Reads it.\n\n    Raises:\n        OSError: the disk fails.\n        ValueError: when it is odd.\n    ", 1),
        ("Reads it.\n\n    Raises:\n        OSError, ValueError: when it cannot.\n    ", 1),
    )  # fmt: skip
    for said, found in forms:
        module.write_text(f'def one():\n    """{said}"""\n')
        assert len(list(misformed(module))) == found, said
    module.write_text('class One:\n    """A file."""\n    @property\n    def name(self):\n        """Its name."""\n')
    assert list(misformed(module)) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "how-to"], ids=name_of)
def test_every_protocol_of_a_guide_is_valid(page: Path) -> None:
    for text in re.findall(r"^```yaml\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        Protocol.model_validate(yaml.safe_load(text))


def test_the_readme_and_the_changelog_name_the_version_of_the_project() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"| Version | {version};" in (ROOT / "README.md").read_text()
    released = re.findall(r"^## \[(\S+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert released[0] == version


def test_what_is_not_released_is_one_line_a_change_under_the_headings_of_keep_a_changelog() -> None:
    (changes,) = re.findall(
        r"^## \[Unreleased\]\n(.*?)(?=^## )", (ROOT / "CHANGELOG.md").read_text(), re.DOTALL | re.MULTILINE
    )
    kinds = "### (?:Added|Changed|Deprecated|Removed|Fixed|Security)"
    assert [line for line in changes.splitlines() if not re.fullmatch(rf"{kinds}|- \S.*|", line)] == []


@pytest.mark.long
@pytest.mark.parametrize("name", ["command_line", "python_api"])
def test_pages_made_by_a_script_are_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.PAGE.read_text() == script.page(), f"run scripts/{name}.py"


@cache
def commands() -> TyperGroup:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return group


def is_command(words: list[str]) -> bool:
    """Whether words begin with a command of `voxtell-dicom`; of a group, with one of its own or none."""
    command = commands().commands.get(words[0])
    if isinstance(command, TyperGroup) and len(words) > 1:
        return words[1] in command.commands
    return command is not None


@pytest.mark.parametrize(
    ("words", "known"),
    [("up", True), ("jobs", True), ("jobs retry", True), ("jobs rety", False), ("retry", False), ("run here", True)],
)
def test_commands_are_told_from_other_words(words: str, known: bool) -> None:
    assert is_command(words.split()) is known


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# A page\n[one](gone.md) [two](#a-page) [three](#other) [web](https://example.org) `worker/gone.py`\n"
    )
    assert linked(page) == ["gone.md", "#a-page", "#other"]
    assert anchors(page) == {"a-page"}
    assert FILE.findall(page.read_text()) == ["worker/gone.py"]
