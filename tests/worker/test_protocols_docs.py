"""docs/reference/protocols.md against the code: each field stands where it belongs, and every example is valid."""

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import BaseModel

from dicom_node.ranking.order import Kind, Quality
from worker.job_spec import Derived, EngineOptions, Finish, Output, Plausible, Priority, Prompt, Route
from worker.protocols import Protocol
from worker.protocols.attributes import SERIES_FACTS
from worker.protocols.conditions import Condition
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport
from worker.protocols.yaml_file import parse_protocol

TEXT = (Path(__file__).parents[2] / "docs" / "reference" / "protocols.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.DOTALL | re.MULTILINE))
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SMALLEST = {"name": "example", "match": {"Modality": "CT"}, "prompts": ["liver"]}

SHOWN = {
    "Fields of a protocol": (Protocol,),
    "Choosing among volumes": (Choose,),
    "Prompts": (Prompt, Finish, Plausible),
    "Derived structures": (Derived,),
    "Reports": (FromReport,),
    "Engine": (EngineOptions,),
    "Destinations": (Route,),
}
FROM_ELSEWHERE = {"sentence"}  # of a prompt out of a report; no protocol has it


@pytest.mark.parametrize(("section", "models"), SHOWN.items(), ids=SHOWN)
def test_every_field_has_its_row_and_no_row_is_of_a_field_that_is_gone(
    section: str, models: tuple[type[BaseModel], ...]
):
    fields = {name for model in models for name in model.model_fields} - FROM_ELSEWHERE
    rows = re.findall(r"^\| (`.*?`) \|", SECTIONS[section], re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == fields


def test_every_operation_of_a_condition_and_every_fact_is_described():
    for name in (*Condition.model_fields, "all", "any", "not", *SERIES_FACTS):
        assert re.search(rf"\b{name}\b", SECTIONS["Conditions"]), name


def test_every_value_that_can_be_chosen_is_named():
    choosing, fields = SECTIONS["Choosing among volumes"], SECTIONS["Fields of a protocol"]
    for value in (*get_args(Quality), *get_args(Kind)):
        assert f"`{value}`" in choosing, value
    for value in (*get_args(Output), *(one.name.lower() for one in Priority)):
        assert f"`{value}`" in fields, value


def test_what_is_said_of_defaults_is_so():
    assert f"| {FromReport().limit} |" in SECTIONS["Reports"]
    assert ", ".join(f"`{quality}`" for quality in Choose().prefer) in SECTIONS["Choosing among volumes"]
    assert Protocol.model_validate(SMALLEST).outputs == ("seg",)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_are_valid(example: str):
    """An example that shows a part stands for the smallest protocol with that part."""
    missing = {name: value for name, value in SMALLEST.items() if name not in yaml.safe_load(example)}
    protocol = parse_protocol(example + (yaml.safe_dump(missing) if missing else ""), "the example")
    assert protocol.name


def test_there_are_examples_for_every_part():
    written = {name for example in EXAMPLES for name in yaml.safe_load(example)}
    assert written >= {"match", "choose", "prompts", "derived", "report", "outputs", "destinations", "priority"}
