"""Results of every age are read as one value, and are written under the keys that others read."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from worker.result import Result

FIRST = """{"found": [{"label": "liver", "prompt": "liver", "volume_ml": 1412.5}], "not_found": ["spleen"],
"files": ["seg.dcm", "rtstruct.dcm", "liver.nii.gz"],
"model": {"name": "VoxTell", "version": "1.1", "digest": "sha256:ab"}, "seconds": {"network": 3.5}, "notes": []}"""
"""Before objects, reviews and what the model never learnt were listed."""

LISTED = """{"found": [{"label": "cyst", "prompt": "cyst", "volume_ml": 2.0, "sentence": "A cyst."}], "not_found": [],
"not_known": ["mandible"], "files": ["seg.dcm", "sr.dcm", "seg-labelmap.dcm", "sr-labelmap.dcm", "preview.dcm"],
"objects": [
{"file": "seg.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.4", "sop_uid": "2.25.1", "series_uid": "2.25.2"},
{"file": "sr.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.22", "sop_uid": "2.25.3", "series_uid": "2.25.4"},
{"file": "seg-labelmap.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.66.7", "sop_uid": "2.25.5",
 "series_uid": "2.25.6"},
{"file": "sr-labelmap.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.22", "sop_uid": "2.25.7",
 "series_uid": "2.25.8"},
{"file": "preview.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "sop_uid": "2.25.9", "series_uid": "2.25.10"}],
"review": ["It is small."], "model": {"name": "VoxTell", "version": "1.1", "digest": "sha256:ab", "notice": "No."},
"seconds": {"network": 3.5}, "notes": ["one"]}"""
"""Objects with their UIDs, whose kind only the file's name tells."""

NOW = """{"found": [], "not_found": ["liver"], "not_known": [], "objects": [{"kind": "rtstruct", "form": null,
"file": "structures.dcm", "sop_class_uid": "1.2.840.10008.5.1.4.1.1.481.3", "sop_uid": "2.25.1",
"series_uid": "2.25.2"}], "nifti": ["liver.nii.gz"], "files": ["structures.dcm", "liver.nii.gz"], "review": [],
"model": null, "seconds": {}, "notes": [], "of_a_later_version": 1}"""

KEYS = {"found", "not_found", "not_known", "files", "objects", "review", "model", "seconds", "notes"}


def kinds(result: Result) -> list[tuple[str, str | None]]:
    return [(one.kind, one.form) for one in result.objects]


def test_a_result_of_before_objects_were_listed_has_them_without_uids() -> None:
    result = Result.model_validate_json(FIRST)
    assert kinds(result) == [("seg", "binary"), ("rtstruct", None)]
    assert [one.file for one in result.objects] == ["seg.dcm", "rtstruct.dcm"]
    assert list(result.named_objects()) == []
    assert (result.nifti, result.not_known, result.review) == (("liver.nii.gz",), (), ())
    assert (result.found[0].sentence, result.model and result.model.notice) == (None, "")


def test_a_result_of_before_kinds_were_written_has_them_from_the_names_of_its_files() -> None:
    result = Result.model_validate_json(LISTED)
    assert kinds(result) == [
        ("seg", "binary"),
        ("sr", "binary"),
        ("seg", "labelmap"),
        ("sr", "labelmap"),
        ("preview", None),
    ]
    assert [one.sop_uid for one in result.named_objects()] == [f"2.25.{number}" for number in (1, 3, 5, 7, 9)]
    assert result.found[0].sentence == "A cyst."


def test_a_result_of_today_says_its_kinds_whatever_its_files_are_called() -> None:
    result = Result.model_validate_json(NOW)
    assert kinds(result) == [("rtstruct", None)]
    assert result.files == ("structures.dcm", "liver.nii.gz")


@pytest.mark.parametrize("text", [FIRST, LISTED, NOW])
def test_what_is_written_has_the_keys_that_others_read_and_is_read_as_the_same(text: str) -> None:
    old: dict[str, Any] = json.loads(text)
    result = Result.model_validate(old)
    facts = json.loads(json.dumps(result.json_facts()))
    assert facts.keys() >= KEYS
    assert facts["files"] == old["files"]
    for key in ("not_found", "seconds", "notes"):
        assert facts[key] == old[key]
    assert Result.model_validate(facts) == result


def test_a_result_that_is_none_is_refused() -> None:
    with pytest.raises(ValidationError, match="volume_ml"):
        Result.model_validate({"found": [{"label": "liver", "prompt": "liver"}]})
    with pytest.raises(ValidationError, match="objects"):
        Result.model_validate({"objects": ["seg.dcm"]})
