"""Reads protocol files: YAML in, a Protocol out, or one sentence that names the file, the line and the field.

An example of such a sentence: "ct.yaml, line 4, match.Modalty: 'Modalty' is no DICOM keyword or tag; did you mean
Modality?"
"""

from difflib import get_close_matches
from pathlib import Path

import yaml
from pydantic import ValidationError

from worker.errors import ProtocolError
from worker.job_spec import Derived, Finish, Plausible, Prompt, Route
from worker.protocols.conditions import Condition
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport, Protocol
from worker.protocols.structure_checks import FieldPath

MODELS = (Protocol, Prompt, Finish, Plausible, Derived, Route, Choose, FromReport, Condition)
"""The models whose fields may stand in a protocol file; a misspelt one is compared with all of them."""

MOST_CHARACTERS = 2**20
MOST_BYTES = 4 * MOST_CHARACTERS  # a character of UTF-8 has four at most
"""Of a protocol file; the longest that is shipped has a few thousand."""
MOST_NODES = 100_000
"""Keys and values of a protocol with its aliases written out."""

_FIELDS = sorted({name for model in MODELS for name in model.model_fields})


def protocol_files(folder: Path) -> list[Path]:
    """Returns the protocol files of a folder (.yaml, .yml), in the order of their names."""
    return sorted(path for path in folder.glob("*.y*ml") if path.suffix in {".yaml", ".yml"})


def read_protocol(path: Path) -> Protocol:
    """Reads one protocol file.

    Raises:
        ProtocolError: when it cannot be read or is not valid; names the file, the line and the field.
    """
    return parse_protocol(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Reads the text of a protocol file, but no more than a protocol may have.

    Raises:
        ProtocolError: when it cannot be read, or is too large; names the file.
    """
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise ProtocolError(f"{path}: has {size} bytes, and at most {MOST_BYTES} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: cannot be read: {error}") from None


def parse_protocol(text: str, source: str) -> Protocol:
    """Reads a protocol from the text of a file; `source` is its name for messages.

    Raises:
        ProtocolError: when the text is not YAML, has a key twice, or is no valid protocol.
    """
    try:
        if len(text) > MOST_CHARACTERS:
            raise ProtocolError(f"{source}: has {len(text)} characters, and at most {MOST_CHARACTERS} are read")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if (size := _written_out(root, {})) > MOST_NODES:
            raise ProtocolError(f"{source}: its aliases (*) stand for {size} entries; at most {MOST_NODES} are read")
        content = yaml.safe_load(text)
        twice = _written_twice(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProtocolError(f"{source}, line {line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError) as error:  # control characters; a date that there is not
        raise ProtocolError(f"{source}: not valid YAML: {error}") from None
    except RecursionError:
        raise ProtocolError(f"{source}: nested without end; write out what an alias (*) stands for") from None
    if twice is not None:
        raise ProtocolError(f"{source}, line {twice.start_mark.line + 1}, {twice.value}: stands here a second time")
    try:
        return Protocol.model_validate(content)
    except ValidationError as invalid:
        place, message = _first(invalid)
        line, field = _where(root, place)
        raise ProtocolError(f"{source}, line {line}, {field}: {message}") from None


def _first(invalid: ValidationError) -> tuple[FieldPath, str]:
    """Returns place and message of pydantic's first error, with a suggestion for a misspelt field."""
    error = invalid.errors()[0]
    cause = error.get("ctx", {}).get("error")
    place = error["loc"] + getattr(cause, "place", ())
    if error["type"] == "extra_forbidden":
        near = get_close_matches(str(place[-1]), _FIELDS, n=1)
        return place, "there is no such field here" + (f"; did you mean {near[0]}?" if near else "; remove it")
    return place, error["msg"].removeprefix("Value error, ")


def _written_out(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Counts the nodes of a file with every alias written out; `known` are the counts of nodes seen before."""
    if node is None or isinstance(node, yaml.ScalarNode):
        return 1
    if id(node) not in known:
        parts = [part for pair in node.value for part in pair] if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def _written_twice(node: yaml.Node | None) -> yaml.ScalarNode | None:
    """Finds the first key that a mapping has twice: YAML would silently keep the last."""
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if key.value in seen and key.value != "<<":
                return key  # type: ignore[no-any-return]
            seen.add(key.value)
            if (found := _written_twice(value)) is not None:
                return found
    elif isinstance(node, yaml.SequenceNode):
        return next((found for one in node.value if (found := _written_twice(one)) is not None), None)
    return None


def _where(node: yaml.Node | None, place: FieldPath) -> tuple[int, str]:
    """Returns the line (from 1) and the dotted name of the deepest field of `place` that is in the file.

    Steps that only pydantic knows, such as the member of a union, are skipped. A field that is missing is named with
    the line of the mapping that lacks it.
    """
    line, found = node.start_mark.line if node else 0, []
    for part in place:
        step = "not" if part == "not_" else part
        if isinstance(node, yaml.MappingNode):
            key, value = _entry(node, str(step))
            if key is not None:
                line, node = key.start_mark.line, value
                found.append(str(step))
            elif part == place[-1] and step in _FIELDS:
                found.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
            found.append(str(part + 1))
    return line + 1, ".".join(found) or "the file"


def _entry(node: yaml.MappingNode, name: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """Returns the key node and the value node of a mapping's entry; (None, None) if there is none."""
    return next(((key, value) for key, value in node.value if str(key.value) == name), (None, None))
