"""The rules of a language or site style: what section titles and words of context mean (`rules.<language>.yaml`).

docs/reference/reports.md describes the data file, `patterns` the notation of its phrases.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from worker.report_language.errors import LanguageError
from worker.report_language.language.patterns import PhrasePatterns

REPORT = "report"
"""The kind of the sections whose findings count. Every other kind is the `Reason` why the findings there do not."""

CONCLUSION = "CONCLUSION"
"""The title that the readers of formats (`formats/`) put before a conclusion; it is known in every language."""


class Reason(StrEnum):
    """Why a finding that the report names gives no prompt."""

    NEGATED = "negated"  # "No pleural effusion."
    NORMAL = "normal"  # "The spleen is normal."
    UNCERTAIN = "uncertain"  # "Possible metastasis."
    HISTORICAL = "historical"  # "History of pneumonia."
    COMPARED = "compared"  # in the section "Comparison"
    RESOLVED = "resolved"  # "The effusion has resolved."
    TECHNIQUE = "technique"  # "Evaluation for embolism is limited."
    RECOMMENDATION = "recommendation"  # "Follow up of nodules is recommended."
    NO_VOLUME = "not a thing with a volume"  # "Scoliosis."
    REPEATED = "repeated"
    OVER_LIMIT = "over the limit"
    OTHER_LANGUAGE = "in another language"  # in English rules: "Kein Pneumothorax rechts."


class Direction(StrEnum):
    """Which findings a trigger speaks about."""

    FORWARD = "forward"  # those after it, up to a stop: "no nodule or mass"
    BACKWARD = "backward"  # those before it, back to a stop: "a nodule is not seen"
    BETWEEN = "between"  # the two that touch it: "atelectasis or pneumonia"
    AROUND = "around"  # both directions, up to stops
    SENTENCE = "sentence"  # every finding of the sentence


class TriggerGroup(BaseModel):
    """Triggers that mean the same in the same direction."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason
    direction: Direction
    phrases: list[str]
    stops: list[str] = []  # where the scope ends, besides the stops that hold for all


class RulesFile(BaseModel):
    """The data file as written; every list holds phrases or words of the language."""

    model_config = ConfigDict(extra="forbid")

    language: str
    capitalised_nouns: bool = False  # as in German: a capital letter at the begin of a line starts no sentence
    abbreviations: list[str] = []  # words after which a dot ends no sentence
    connectors: list[str] = []  # words that end no line of a list: the sentence goes on in the next line
    sections: dict[str, list[str]]  # "report", or the reason why a section gives no prompts -> titles
    conclusions: list[str] = []  # titles of the report that close it: the findings before them may have no title
    one_line_sections: list[str] = []  # kinds that end with their line when no title follows
    title_breakers: list[str] = []  # words that no title holds
    addenda: list[str] = []  # how a text begins that adds to an earlier report instead of replacing it
    pseudo: list[str] = []  # phrases that hold a trigger word and are none: "no change"
    stops: list[str] = []  # where the scope of every trigger ends
    backward_stops: list[str] = []  # the same for scopes that go back
    foreign: list[str] = []  # phrases of other languages: in their line these rules read neither sides nor denials
    triggers: list[TriggerGroup]


@dataclass(frozen=True, slots=True)
class Trigger:
    """What a trigger phrase means: the reason it gives, to which findings, and the stops of its own."""

    reason: Reason
    direction: Direction
    stops: PhrasePatterns[bool]


@dataclass(frozen=True, slots=True)
class Stop:
    """A phrase at which the scope of a trigger ends."""

    backward_only: bool  # only scopes that go back


class Rules:
    """The rules of one language, compiled.

    `sections` gives the kind of a title; `context` the trigger of a phrase, or None where the phrase only looks like
    one; `triggers` the same without those; `stops` the ends of scopes; `foreign` phrases of other languages.
    """

    def __init__(self, file: RulesFile) -> None:
        self.file = file
        self.abbreviations = frozenset(word.casefold() for word in file.abbreviations)
        self.connectors = frozenset(word.casefold() for word in file.connectors)
        self.title_breakers = frozenset(word.casefold() for word in file.title_breakers)
        titles = [(title, kind) for kind, titles in file.sections.items() for title in titles]
        self.sections = PhrasePatterns([*titles, (CONCLUSION, REPORT)])
        self.one_line = frozenset(file.one_line_sections)
        self.conclusions = PhrasePatterns((title, True) for title in (*file.conclusions, CONCLUSION))
        self.addenda = tuple(start.casefold() for start in file.addenda)
        compiled = [
            (phrase, trigger) for group in file.triggers for trigger in (_trigger(group),) for phrase in group.phrases
        ]
        self.triggers = PhrasePatterns(compiled)
        pseudo = [(phrase, None) for phrase in file.pseudo]
        self.context: PhrasePatterns[Trigger | None] = PhrasePatterns([*pseudo, *compiled])
        self.foreign = PhrasePatterns((phrase, True) for phrase in file.foreign)
        self.stops = PhrasePatterns(
            [(phrase, Stop(backward_only=False)) for phrase in file.stops]
            + [(phrase, Stop(backward_only=True)) for phrase in file.backward_stops]
        )


def _trigger(group: TriggerGroup) -> Trigger:
    """Compiles the stops of a group."""
    return Trigger(group.reason, group.direction, PhrasePatterns((stop, True) for stop in group.stops))


def load_rules(path: Path) -> Rules:
    """Loads the rules of a YAML file.

    Raises:
        LanguageError: when the file cannot be read or is not valid; names the file and the field that is wrong.
    """
    try:
        # BaseLoader builds strings only: SafeLoader would read the words "no" and "on" as booleans.
        rules = RulesFile.model_validate(yaml.load(path.read_text("utf-8"), Loader=yaml.BaseLoader))  # noqa: S506
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise LanguageError(f"{path}: {field}: {first['msg']}; correct this field") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise LanguageError(f"{path}: {error}; correct the file") from error
    unknown = set(rules.sections) - {REPORT} - set(Reason)
    if unknown:
        raise LanguageError(
            f"{path}: sections: {min(unknown)} is no reason; use {REPORT} or one of {', '.join(Reason)}"
        )
    return Rules(rules)
