"""A prompt that says more than a name is refused in protocols and commands, and left out of reports."""

from pathlib import Path

import pytest

from voxtell.errors import PromptError
from worker.errors import ProtocolError
from worker.protocols import read_protocol
from worker.protocols.protocol import FromReport
from worker.report_language import ExtractedPrompt, load_language
from worker.report_language.extract import ReportPrompts
from worker.reports.reported import drawable, reported_by
from worker.settings import Settings
from worker.steps.offline import run_study


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("SpinalCord_PRV05", r"p.yaml, line 5, .*with a margin.*\(\"PRV\"\); let a protocol make it"),
        ("everything except the mandible", r"p.yaml, line 5, .*all but a structure.*derived, with subtract"),
    ],
)
def test_a_protocol_with_such_a_prompt_is_not_valid(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(f"name: p\nmatch: {{Modality: CT}}\nprompts:\n- larynx\n- {text}\n")
    with pytest.raises(ProtocolError, match=sentence):
        read_protocol(path)


def test_the_derived_structure_that_the_sentence_advises_is_valid(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(
        "name: p\nmatch: {Modality: CT}\nprompts:\n- spinal cord\n"
        "derived:\n- {name: SpinalCord_PRV05, union: [spinal cord], margin_mm: 5}\n"
    )
    assert read_protocol(path).derived[0].margin_mm == 5


def test_run_refuses_it_before_it_looks_at_the_study(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="'contralateral parotid' names a side by another one"):
        run_study(
            Settings(home=tmp_path / "home"),
            tmp_path / "no study",
            tmp_path / "out",
            ["larynx", "contralateral parotid"],
            report=None,
            protocol=None,
            outputs=(),
        )
    assert not (tmp_path / "out").exists()


def test_a_report_that_names_a_side_by_another_one_gives_no_prompt_of_it() -> None:
    text = "FINDINGS: 8 mm nodule in the left upper lobe. Enlarged lymph node in the contralateral axilla."
    reported = reported_by(text, FromReport(), load_language())
    texts = [prompt.text for prompt in reported.prompts]
    assert any("nodule" in text for text in texts)
    assert not any("contralateral" in text for text in texts)


def test_what_of_a_report_cannot_be_drawn_is_left_out_with_the_reason() -> None:
    found = [
        ExtractedPrompt(
            prompt=text, sentence="s", finding="nodule", site="lung", side="", status="present", span=(0, 1)
        )
        for text in ("nodule in the left lung", "nodule in the contralateral lung")
    ]
    kept = drawable(ReportPrompts(tuple(found), ()))
    assert [one.prompt for one in kept.prompts] == ["nodule in the left lung"]
    assert [(one.text, one.reason) for one in kept.left_out] == [("nodule in the contralateral lung", "relative")]
