"""Why a protocol takes a series or not, in one sentence of plain words, from real findings."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import Dataset

from worker.explain.plain_words import sentence, why
from worker.findings import Finding, VolumeFindings
from worker.protocols import Candidate, Match

HEADER = Dataset()
HEADER.Modality, HEADER.SliceThickness, HEADER.StudyDescription = "MR", "6", "Knee left"
HEADER.BodyPartExamined, HEADER.PatientSex, HEADER.ImageType = "KNEE", "O", ["DERIVED", "PRIMARY"]


def said(match: dict[str, object]) -> str:
    """What is said of one image that these conditions do not take."""
    answer, findings = Match.model_validate(match).judge(Candidate([HEADER]))
    return why([VolumeFindings("", tuple(findings))], answer)


@pytest.mark.parametrize(
    ("match", "expected"),
    [
        ({"Modality": "CT"}, "Modality is MR, not CT"),
        ({"Modality": {"equals": ["CT", "PT"]}}, "Modality is MR, not CT or PT"),
        ({"ContrastBolusAgent": "Gd"}, "ContrastBolusAgent is missing"),
        ({"ContrastBolusAgent": {"present": True}}, "ContrastBolusAgent is missing"),
        ({"PatientSex": {"present": False}}, "PatientSex is there (O)"),
        ({"Instances": {"min": 20}}, "it has 1 image, and at least 20 are asked for"),
        ({"SliceThickness": {"max": 3}}, "SliceThickness is 6, and at most 3 is asked for"),
        ({"SliceThickness": {"min": 1, "max": 3}}, "SliceThickness is 6, and 1 to 3 is asked for"),
        ({"StudyDescription": {"regex": "thorax|chest"}}, "StudyDescription is Knee left, which has none of the words "
         "asked for"),
        ({"not": {"Modality": "MR"}}, "Modality is MR, which is excluded"),
        ({"not": {"StudyDescription": {"regex": "knee"}}}, "StudyDescription is Knee left, which is excluded"),
        (
            {"any": [{"BodyPartExamined": {"regex": "HEAD"}}, {"StudyDescription": {"regex": "head"}}]},
            "none of BodyPartExamined, StudyDescription has the words asked for",
        ),
        (
            {"any": [{"BodyPartExamined": "HEAD"}, {"Modality": "CT"}]},
            "none of BodyPartExamined, Modality is as asked for",
        ),
        (
            {"not": {"any": [{"BodyPartExamined": "HEAD"}, {"StudyDescription": {"regex": "knee"}}]}},
            "StudyDescription is Knee left, which is excluded",
        ),
        ({"Modality": "CT", "PatientSex": "F"}, "Modality is MR, not CT (and 1 more condition fails)"),
        ({"Modality": "CT", "PatientSex": "F", "Instances": 3}, "Modality is MR, not CT (and 2 more conditions fail)"),
    ],
)  # fmt: skip
def test_what_fails_first_is_said_in_plain_words(match: dict[str, object], expected: str) -> None:
    assert said(match) == expected


@pytest.mark.parametrize(
    ("finding", "expected"),
    [
        (("one regular volume", "not: a slice is missing"), "its images are no regular volume: a slice is missing"),
        (("a complete study", "not: 2 of its series still arrive"), "the study is not complete yet: 2 of its series "
         "still arrive"),
        (("an active protocol", "not: protocol 'x' is inactive: it needs the published weights, and this node has not; "
          "get them"), "it is inactive: it needs the published weights"),
        (("the best of 3", "number 2, thinner"), "another volume is better: this is number 2, thinner of 3"),
        (("none of projection, phantom", "a projection (MIP)"), "it is a projection (MIP), which the protocol never "
         "takes"),
        (("a report", "not there: no report came"), "there is no report: no report came"),
        (("something new", "odd"), "something new: no, it is odd"),
    ],
)  # fmt: skip
def test_rules_of_the_node_are_said_in_plain_words(finding: tuple[str, str], expected: str) -> None:
    assert why([VolumeFindings("", (Finding(*finding, False),))], False) == expected


def test_volumes_of_a_series_are_named_where_they_differ() -> None:
    shape = Finding("one regular volume", "30 slices, 2.00 mm apart, axial", True)
    few = Finding("Instances min 20.0", "5", False)
    volumes = [VolumeFindings("EchoTime=10", (shape,)), VolumeFindings("EchoTime=90", (few,))]
    assert sentence("brain", True, volumes) == "brain takes it: EchoTime=10: 30 slices, 2.00 mm apart, axial"
    both = [VolumeFindings(name, (few,)) for name in ("EchoTime=10", "EchoTime=90")]
    assert sentence("brain", False, both, past=True) == (
        "brain did not take it: EchoTime=10, EchoTime=90: it has 5 images, and at least 20 are asked for"
    )
    assert sentence("brain", False, ()) == "brain does not take it"


TEXT = st.text(max_size=30)
FINDINGS = st.lists(
    st.builds(
        Finding,
        st.one_of(TEXT, st.sampled_from(["any of these", "none of these", "all of these", "Modality equals 'CT'",
                                         "not KVP min 80.0 and max 140.0", "Rows equals (1, 'a')"])),
        TEXT,
        st.sampled_from([True, False, None]),
        st.integers(0, 3),
    ),
    max_size=6,
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(st.builds(VolumeFindings, TEXT, FINDINGS.map(tuple)), max_size=3), st.sampled_from([True, False, None]))
def test_whatever_a_ledger_holds_is_one_sentence(volumes: list[VolumeFindings], taken: bool | None) -> None:
    assert isinstance(why(volumes, taken), str)
