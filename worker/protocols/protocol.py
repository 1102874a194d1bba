"""A protocol: which series, which prompts, which outputs, which destinations. One YAML file each."""

import hashlib
import json
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from worker.errors import ProtocolError
from worker.jobs import Output, Prompt, Route
from worker.protocols.matching import Candidate, Finding, Match


class Protocol(BaseModel):
    """What to do with which series."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$")
    description: str = ""
    match: Match
    prompts: tuple[Prompt, ...] = Field(min_length=1)
    outputs: tuple[Output, ...] = ("seg",)
    destinations: tuple[Route, ...] | None = None  # None: every destination that is set

    @field_validator("prompts", mode="before")
    @classmethod
    def _plain_text(cls, value: Any) -> Any:
        if not isinstance(value, list):
            raise ValueError("prompts are a list")
        return [{"text": one} if isinstance(one, str) else one for one in value]

    @field_validator("destinations", mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        return [{"to": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value

    @field_validator("prompts")
    @classmethod
    def _distinct(cls, value: tuple[Prompt, ...]) -> tuple[Prompt, ...]:
        labels = [prompt.label for prompt in value]
        if any(not prompt.text.strip() for prompt in value):
            raise ValueError("a prompt is empty")
        if len(set(labels)) != len(labels):
            raise ValueError("two prompts have the same name")
        return value

    @property
    def digest(self) -> str:
        """16 hexadecimal digits of the SHA-256 of what decides a result: the version that results carry."""
        facts = self.model_dump(mode="json", exclude={"description", "destinations"})
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def ask(self, candidate: Candidate) -> tuple[bool, list[Finding]]:
        """Whether this protocol takes the series, and every condition with what was there."""
        return self.match.ask(candidate)


def read_protocol(path: Path) -> Protocol:
    """Reads one protocol file.

    Raises:
        ProtocolError: names the file, the line and the field.
    """
    try:
        text = path.read_text(encoding="utf-8")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ProtocolError(f"{path}: cannot be read: {error}") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ProtocolError(f"{path}, line {line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:  # control characters and the like
        raise ProtocolError(f"{path}: not valid YAML: {error}") from None
    try:
        return Protocol.model_validate(content)
    except ValidationError as invalid:
        first = invalid.errors()[0]
        line, field = _place(root, first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise ProtocolError(f"{path}, line {line}, {field}: {message}") from None


def _place(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, str]:
    """The line (from 1) and the name of the deepest field on the way that is in the file; pydantic's own steps are not.

    A field that is missing is named with the line of what lacks it.
    """
    line, found = node.start_mark.line if node else 0, []
    for part in location:
        step = "not" if part == "not_" else part
        if isinstance(node, yaml.MappingNode):
            key, value = next(((k, v) for k, v in node.value if str(k.value) == str(step)), (None, None))
            if key is not None:
                line, node = key.start_mark.line, value
                found.append(str(step))
            elif part == location[-1] and step in Protocol.model_fields | Prompt.model_fields:
                found.append(str(step))
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line
            found.append(str(part + 1))
    return line + 1, ".".join(found) or "the file"
