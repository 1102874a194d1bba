"""The result of a job: which structures were found, which objects were written, and what a person should look at.

`worker.results.write` makes it. The ledger keeps it as JSON beside its job, and `result.json` in the results folder
holds the same. Routes, forms, the command line and the next job on the same volume read it. Results of every earlier
version can still be read: `Result` completes what they did not write yet.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field, model_validator

from dicom_node.objects import Form


class _Value(BaseModel):
    """A value that is compared by content and never changed. Unknown fields, as a later version writes, are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Found(_Value):
    """A structure whose mask is not empty."""

    label: str  # the name people see
    prompt: str  # what the network read; of a derived structure how it was made
    volume_ml: float
    sentence: str | None = None  # the report's sentence that asked for it


class ResultObject(_Value):
    """One DICOM object in the results folder."""

    kind: str  # the output of the protocol that asks for it, such as "seg"; "" where an old name does not tell
    form: Form | None = None  # of a SEG, and of a report the form of the SEG that it measures; None: there is one only
    file: str  # its name in the results folder
    sop_class_uid: str = ""  # these three are empty in results of before objects were listed
    sop_uid: str = ""
    series_uid: str = ""


class ModelUsed(_Value):
    """The model that made the masks."""

    name: str
    version: str
    digest: str  # of the weights, "sha256:...", and how they were used
    notice: str = ""  # one sentence: what it is not for
    identity: str = ""  # everything of it that can change a mask; "" in results of before it was told apart


class Result(_Value):
    """The result of one job.

    An empty mask is listed once, by what it means: `not_found` (looked for, not there), `not_known` (the model never
    learnt it) or `not_judged` (the image is of another kind than the model was trained on). A structure that a person
    is to draw is in none of these lists.
    """

    found: tuple[Found, ...] = ()
    not_found: tuple[str, ...] = ()  # labels of empty masks
    not_known: tuple[str, ...] = ()  # labels of empty masks of what the model never learnt
    not_judged: tuple[str, ...] = ()  # labels of empty masks in an image of another kind than the model was trained on
    objects: tuple[ResultObject, ...] = ()
    nifti: tuple[str, ...] = ()  # names of the files that are not DICOM
    review: tuple[str, ...] = ()  # sentences: why a person should look at it
    model: ModelUsed | None = None
    seconds: Mapping[str, float] = {}  # by step
    notes: tuple[str, ...] = ()  # sentences: what could not be as it was asked for

    @computed_field  # type: ignore[prop-decorator]
    @property
    def files(self) -> tuple[str, ...]:
        """The names of all files in the results folder but `result.json`, DICOM objects first."""
        return (*(one.file for one in self.objects), *self.nifti)

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, facts: Any) -> Any:
        """Completes an older result from its file names: one without a list of objects, or without their kinds."""
        if not isinstance(facts, Mapping) or ("files" not in facts and "objects" not in facts):
            return facts
        files = [str(name) for name in facts.get("files", ())]
        listed = facts.get("objects") or [{"file": name} for name in files if name.endswith(".dcm")]
        objects = [_with_kind(one) if isinstance(one, Mapping) else one for one in listed]
        nifti = facts.get("nifti", [name for name in files if not name.endswith(".dcm")])
        return {**facts, "objects": objects, "nifti": nifti}

    def json_facts(self) -> dict[str, Any]:
        """Returns the result as JSON values, `files` included: what the ledger and `result.json` hold."""
        return self.model_dump(mode="json")

    def named_objects(self) -> Iterator[ResultObject]:
        """Yields the objects whose UIDs are known; those of the oldest results are not."""
        return (one for one in self.objects if one.sop_uid)


def _with_kind(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Completes an object's facts by its kind and form, which only the file's name told up to version 0.2."""
    if "kind" in facts:
        return facts
    name = str(facts.get("file", ""))
    kind = re.split(r"[^a-z]", name, maxsplit=1)[0]
    label_map = name.endswith("-labelmap.dcm")
    form = "labelmap" if label_map else "binary" if kind in ("seg", "sr") else None
    return {**facts, "kind": kind, "form": form}
