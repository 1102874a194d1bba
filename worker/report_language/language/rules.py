"""The rules of a language or site style: what a section title and a word of context mean (`rules.<language>.yaml`).

The data file is described in docs/reference/reports.md; the little language of its phrases in `patterns`.
"""

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.report_language.errors import LanguageError
from worker.report_language.language.patterns import Phrases


class Reason(StrEnum):
    """Why a finding that the report names gives no prompt."""

    NEGATED = "negated"
    NORMAL = "normal"
    UNCERTAIN = "uncertain"
    HISTORICAL = "historical"
    COMPARED = "compared"
    RESOLVED = "resolved"
    TECHNIQUE = "technique"
    RECOMMENDATION = "recommendation"
    NO_VOLUME = "not a thing with a volume"
    REPEATED = "repeated"
    OVER_LIMIT = "over the limit"


class Direction(StrEnum):
    """Which findings a trigger speaks about."""

    FORWARD = "forward"  # those after it, up to a stop
    BACKWARD = "backward"  # those before it, back to a stop
    BETWEEN = "between"  # the two that touch it: "atelectasis or pneumonia"
    AROUND = "around"  # both directions, up to stops
    SENTENCE = "sentence"


class TriggerGroup(BaseModel):
    """Triggers that mean the same in the same direction."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    direction: Direction
    phrases: list[str]
    stops: list[str] = []  # where the reach ends, besides the stops that hold for all


class RulesFile(BaseModel):
    """The data file as written."""

    model_config = ConfigDict(extra="forbid")

    language: str
    abbreviations: list[str] = []  # words after which a dot ends no sentence
    connectors: list[str] = []  # words that end no line of a list: the sentence goes on in the next line
    sections: dict[str, list[str]]  # "report", or the reason why a section gives no prompts -> titles
    conclusions: list[str] = []  # titles of the report that close it: the findings before them may have no title
    one_line_sections: list[str] = []  # kinds that end with their line when no title follows
    title_breakers: list[str] = []  # words that no title holds
    title_answers: list[str] = []  # "none" in "Pneumothorax: none"
    addenda: list[str] = []  # how a text begins that adds to an earlier report instead of replacing it
    gap_breakers: list[str] = []  # words that `...` never stands for
    pseudo: list[str] = []
    stops: list[str] = []
    backward_stops: list[str] = []
    triggers: list[TriggerGroup]


@dataclass(frozen=True, slots=True)
class Trigger:
    """A group of triggers with its own stops compiled."""

    reason: Reason
    direction: Direction
    stops: Phrases[bool]


@dataclass(frozen=True, slots=True)
class Stop:
    """Where the reach of triggers ends; `backward` only for reaches that go back."""

    backward_only: bool


class Rules:
    """The rules of one language, ready to be applied."""

    def __init__(self, file: RulesFile) -> None:
        self.file = file
        self.abbreviations = frozenset(word.casefold() for word in file.abbreviations)
        self.connectors = frozenset(word.casefold() for word in file.connectors)
        self.title_breakers = frozenset(word.casefold() for word in file.title_breakers)
        self.sections = Phrases((title, kind) for kind, titles in file.sections.items() for title in titles)
        self.one_line = frozenset(file.one_line_sections)
        self.conclusions = Phrases((title, True) for title in file.conclusions)
        self.addenda = tuple(start.casefold() for start in file.addenda)
        self.answers = Phrases((answer, True) for answer in file.title_answers)
        compiled = [
            (phrase, trigger) for group in file.triggers for trigger in (_trigger(group),) for phrase in group.phrases
        ]
        self.triggers = Phrases(compiled)
        self.context: Phrases[Trigger | None] = Phrases([*((phrase, None) for phrase in file.pseudo), *compiled])
        self.stops = Phrases(
            [(phrase, Stop(backward_only=False)) for phrase in file.stops]
            + [(phrase, Stop(backward_only=True)) for phrase in file.backward_stops]
        )


def _trigger(group: TriggerGroup) -> Trigger:
    return Trigger(group.reason, group.direction, Phrases((stop, True) for stop in group.stops))


def load_rules(path: Path) -> Rules:
    """The rules of a YAML file; LanguageError names the file and the field that is wrong."""
    try:
        # BaseLoader builds strings only: SafeLoader would read the words "no" and "on" as booleans.
        rules = RulesFile.model_validate(yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader))  # noqa: S506
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LanguageError(f"{path}: {field}: {first['msg']}; correct this field") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LanguageError(f"{path}: {error}; correct the file") from error
    unknown = set(rules.sections) - {"report"} - set(Reason)
    if unknown:
        raise LanguageError(f"{path}: sections: {min(unknown)} is no reason; use report or one of {', '.join(Reason)}")
    return Rules(rules)


@lru_cache(maxsize=4)
def bundled_rules(language: str = "en") -> Rules:
    """The rules that come with the package."""
    return load_rules(Path(__file__).with_name(f"rules.{language}.yaml"))
