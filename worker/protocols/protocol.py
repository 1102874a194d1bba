"""The protocol: which volumes it takes, what is segmented in them, and where the results go.

The fields are the keys of a protocol file (docs/reference/protocols.md). `yaml_file` reads one; a value that makes no
sense is refused here, with the field to look at.
"""

import re
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from worker.findings import Finding
from worker.identity import deciding_facts, digest_of
from worker.job_spec import Derived, EngineOptions, Frozen, Output, Priority, Prompt, Route, SetLabel
from worker.protocols.attributes import Candidate
from worker.protocols.conditions import Match
from worker.protocols.preferences import Choose
from worker.protocols.structure_checks import PlacedError, check_structures
from worker.protocols.words import vocabulary

NOT_SENT = ("nifti",)
"""Outputs that are no DICOM objects: they stay in the results folder."""

CIRCUMSTANCES: dict[str, Any] = {
    **dict.fromkeys(("description", "destinations", "priority", "window", "release", "shadow"), True),
    "report": {"wait_minutes"},
}
"""Fields that say when, how and where to, and change nothing of what a result is; the digest leaves them out."""


def _time_of_day(value: Any) -> Any:
    """Reads a time of day as YAML gives it: without quotes `22:00` is the number 1320, to base 60 (YAML 1.1)."""
    if isinstance(value, int) and value >= 60:
        return f"{value // 60:02}:{value % 60:02}"
    if not isinstance(value, str):
        raise ValueError(f"write a time of day as '22:00', not {value!r}")
    return value


TimeOfDay = Annotated[str, BeforeValidator(_time_of_day), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""Local time, 00:00 to 23:59."""


def _by_name(value: Any) -> Any:
    """Reads a priority by its name: urgent, routine or archive."""
    named = Priority.named(value)
    if not isinstance(named, Priority):
        raise ValueError(f"give {', '.join(one.name.lower() for one in Priority)}; not {value!r}")
    return named


class FromReport(Frozen):
    """Which prompts the protocol takes from the study's radiology report, and how long it waits for one.

    See docs/reference/reports.md.
    """

    use: bool = Field(True, description="Findings of the report become prompts, besides those of the protocol.")
    wait_minutes: float = Field(0.0, ge=0, le=10080, description="How long a study waits for its report, in minutes.")
    required: bool = Field(False, description="Without a report nothing is segmented.")
    uncertain: bool = Field(False, description="Also findings that the report calls possible.")
    limit: int = Field(32, ge=1, le=100, description="Most prompts from one report.")


class Protocol(Frozen):
    """One protocol, as its file says. Equal content means equal `digest`, and equal work means the same job."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.-]{0,63}$", description="How results, ledger and commands call it."
    )
    description: str = Field("", description="For people.")
    match: Match = Field(description="The conditions that a series must satisfy.")
    choose: Choose = Field(Choose(), description="Which of the volumes that match.")
    prompts: tuple[Prompt, ...] = Field((), description="What is segmented.")
    derived: tuple[Derived, ...] = Field((), description="Structures made of others, and empty ones to draw in.")
    report: FromReport = Field(FromReport(use=False), description="What is taken from the radiology report.")
    model: str | None = Field(
        None,
        min_length=1,
        description="`published`: the published weights; `bundled`: the small model that comes with the node; or a "
        "folder in HOME/models, or its path. Left out: the node's model (VOXTELL_MODEL).",
    )
    engine: EngineOptions = Field(EngineOptions(), description="Settings of the engine that are other than the node's.")
    outputs: tuple[Output, ...] = Field(("seg",), min_length=1, description="What is made.")
    holes: Literal["keyhole", "xor"] = Field("keyhole", description="How RTSTRUCT contours say that there is a hole.")
    tilted_rtstruct: bool = Field(True, description="Whether an RTSTRUCT is made on the slices of a tilted gantry.")
    structure_set_label: SetLabel | None = Field(
        None, description="How planning systems list the structure set; 16 characters at most."
    )
    destinations: tuple[Route, ...] | None = Field(None, description="Where to. Left out: every destination set.")
    priority: Annotated[Priority, BeforeValidator(_by_name)] = Field(
        Priority.ROUTINE, description="urgent, routine or archive: which job is next."
    )
    window: tuple[TimeOfDay, TimeOfDay] | None = Field(None, description="Local times between which jobs are started.")
    release: bool = Field(False, description="A person must release the result before it is sent.")
    shadow: bool = Field(False, description="Results are made and kept, never sent.")

    @field_validator("prompts", "derived", mode="before")
    @classmethod
    def _written_short(cls, value: Any) -> Any:
        """Completes prompts that are their text alone, and colours as #rrggbb."""
        if not isinstance(value, (list, tuple)):
            raise ValueError("this is a list; start each entry with '- '")
        return [_with_colour({"text": one} if isinstance(one, str) else one) for one in value]

    @field_validator("destinations", mode="before")
    @classmethod
    def _plain_name(cls, value: Any) -> Any:
        """Reads `pacs` as `{to: pacs}`."""
        return [{"to": one} if isinstance(one, str) else one for one in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        """Checks what spans several fields; names the field of the first problem."""
        if not self.prompts and not self.report.use:
            raise PlacedError(("prompts",), "nothing to segment: give prompts, or report: {use: true}")
        if "named" in self.choose.prefer and not self.match.region:
            raise PlacedError(("choose", "prefer"), "named needs a region under match, such as region: neck")
        check_structures(self.prompts, self.derived)
        self._check_outputs()
        for i, route in enumerate(self.destinations or ()):
            self._check_route(route, i)
        if self.window is not None and self.window[0] == self.window[1]:
            raise PlacedError(("window",), f"from {self.window[0]} to {self.window[1]} is no time at all")
        return self

    def _check_outputs(self) -> None:
        """Refuses an output that is named twice, and empty structures without an RTSTRUCT to hold them."""
        if len(set(self.outputs)) != len(self.outputs):
            raise PlacedError(("outputs",), "an output is named twice")
        for i, structure in enumerate(self.derived):
            if structure.empty and "rtstruct" not in self.outputs:
                raise PlacedError(("derived", i, "empty"), "empty structures stand in an RTSTRUCT; add it to outputs")

    def _check_route(self, route: Route, i: int) -> None:
        """Refuses a route that repeats another, falls back on itself, or sends what is not made or cannot be sent."""
        if route.to in [other.to for other in (self.destinations or ())[:i]]:
            raise PlacedError(("destinations", i, "to"), f"destination '{route.to}' is named twice")
        if route.fallback == route.to:
            raise PlacedError(("destinations", i, "fallback"), f"the fallback of '{route.to}' is '{route.to}' itself")
        for j, output in enumerate(route.outputs or ()):
            if output in NOT_SENT:
                raise PlacedError(("destinations", i, "outputs", j), f"{output} is no DICOM object; it cannot be sent")
            if output not in self.outputs:
                made = ", ".join(self.outputs)
                raise PlacedError(("destinations", i, "outputs", j), f"{output} is not made; outputs are {made}")
        if route.outputs == ():
            raise PlacedError(("destinations", i, "outputs"), "none of the outputs goes there; leave the field out")

    @property
    def digest(self) -> str:
        """The version of the protocol that results carry: 16 hexadecimal digits of what decides a result.

        Destinations, priority, window, release, shadow and the description change nothing of it (`worker.identity`).
        """
        facts = deciding_facts(self, CIRCUMSTANCES)
        if not self.report.use:
            facts.pop("report", None)
        if self.match.asks_words or any(isinstance(one, Match) and one.asks_words for one in self.choose.prefer):
            facts["words"] = vocabulary().digest
        return digest_of(facts)

    def ask(self, candidate: Candidate) -> tuple[bool, list[Finding]]:
        """Returns whether the series satisfies the protocol's conditions, and the finding of each condition."""
        return self.match.ask(candidate)


def _with_colour(structure: Any) -> Any:
    """Replaces a colour written as "#ff8000" by [255, 128, 0]."""
    if not isinstance(structure, dict) or not isinstance(structure.get("colour"), str):
        return structure
    if not re.fullmatch(r"#[0-9A-Fa-f]{6}", structure["colour"]):
        return structure  # and pydantic says what a colour is
    return structure | {"colour": list(bytes.fromhex(structure["colour"][1:]))}
