"""Turns a results folder into what one destination would get: one form of each object, in one transfer syntax."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

from dicom_node.objects import Form
from dicom_node.scu.transcode import Syntax, transcoded
from worker.result import Result
from worker.results.forms import in_form


def as_sent(result: Result, folder: Path, form: Form, syntax: Syntax) -> Result:
    """Removes the objects in the other form from `folder` and transcodes those that stay; returns what is left.

    `result.json` then lists the same. An object that has no such form or syntax stays as it is, as on its way to a
    destination.

    Raises:
        OSError: when a file cannot be read or written.
    """
    kept = tuple(in_form(form, result.objects))
    for one in result.objects:
        if one not in kept:
            (folder / one.file).unlink()
    with TemporaryDirectory(prefix=".transcoding-", dir=folder) as copies:
        for one in kept:
            copy = transcoded(folder / one.file, syntax, Path(copies))
            copy.replace(folder / one.file)
    left = result.model_copy(update={"objects": kept})
    (folder / "result.json").write_text(json.dumps(left.json_facts(), indent=2), encoding="utf-8")
    return left
