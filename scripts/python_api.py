#!/usr/bin/env python3
"""Writes docs/reference/python.md from the docstrings of public names; run it after changing one (a test compares)."""

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import voxtell
from dicom_node.series import read_series
from dicom_node.volume import from_network, to_network, write_nifti
from voxtell.engine import Engine
from voxtell.segmenter import Segmenter

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "python.md"

HEAD = """# From Python

<!-- made by scripts/python_api.py -->

```python
import voxtell

segmenter = voxtell.load()  # the bundled model, on the CPU
image = voxtell.read("ct.nii.gz")  # array float32 (S, A, R), spacing in mm (S, A, R)
masks = segmenter(image.array, ["brainstem", "left parotid gland"], spacing=image.spacing)  # bool (2, S, A, R)
voxtell.write("brainstem.nii.gz", masks[0], image)
```

Axes are (S, A, R) everywhere: index 0 grows to superior, 1 to anterior, 2 to the patient's right. `voxtell.read`
returns them so; an array that comes from elsewhere has to be turned. Always give the spacing. Importing `voxtell` loads
no torch. [A notebook](../tutorials/from-python.ipynb) goes through it step by step.
"""

DICOM = """
## DICOM in and out

```python
from dicom_node.series import read_series
from dicom_node.volume import from_network, to_network

series = read_series(sorted(Path("ct").glob("*.dcm")))  # refused with the slice that is wrong
volume = to_network(series)  # .array (S, A, R), .spacing in mm
masks = segmenter(volume.array, ["mandible"], spacing=volume.spacing)
on_slices = from_network(masks, volume, series)  # bool (1, slices, rows, columns)
```
`voxtell-dicom run` does this and writes SEG, RTSTRUCT, SR and previews: [command line](command-line.md#run).
"""


def page() -> str:
    """The whole page."""
    parts = [HEAD, "\n## Functions\n", *map(_function, (voxtell.load, voxtell.read, voxtell.write))]
    parts += ["\n## An engine, as `voxtell.load` returns it\n", _text(Engine)]
    parts += [_function(Segmenter.__call__, "segmenter")]
    parts += [_function(getattr(Segmenter, name), f"segmenter.{name}") for name in ("logits", "unlearnt", "doubts")]
    parts += ["\n## Values\n", *map(_class, (voxtell.NiftiImage, voxtell.Ask, voxtell.ModelInfo, voxtell.Shortcuts))]
    parts += ["\n## Errors and warnings\n\n| | |\n|---|---|\n", *_errors()]
    parts += [DICOM, *map(_function, (read_series, to_network, from_network, write_nifti))]
    return "".join(parts)


def _function(function: Callable[..., Any], name: str | None = None) -> str:
    """A heading with the signature, and the docstring."""
    called = name or f"{function.__module__.removesuffix('.__init__')}.{function.__name__}"
    heading = called.rpartition(".")[2] if called.startswith("dicom_node") else called
    return f"\n### {heading}\n```\n{called}{_signature(function)}\n```\n{_text(function)}"


def _signature(function: Callable[..., Any]) -> str:
    """Parameters and what is returned, one parameter a line, with short names of types."""
    signature = inspect.signature(function)
    rows = []
    for one in signature.parameters.values():
        if one.name != "self":
            default = "" if one.default is one.empty else f" = {one.default!r}"
            rows += ["*"] if one.kind is one.KEYWORD_ONLY and "*" not in rows else []
            rows.append(f"{one.name}: {_type(one.annotation)}{_short(default)}")
    return "(\n" + "".join(f"    {row},\n" for row in rows) + f") -> {_type(signature.return_annotation)}"


def _type(annotation: Any) -> str:
    """A type as people write it."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(
        r"(?:npt\.)?NDArray\[np\.(\w+)[^]]*\]|numpy\.ndarray\[.*?numpy\.dtype\[numpy\.(\w+)\]\]", r"\1\2 array", text
    )
    return _short(text)


def _short(text: str) -> str:
    """Names without their modules."""
    return re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", text)


def _class(kind: type[Any]) -> str:
    """A heading, the docstring, and the fields with their properties."""
    fields = ", ".join(f"`{name}`" for name in getattr(kind, "__dataclass_fields__", {}))
    shown = [name for name, value in vars(kind).items() if isinstance(value, property)]
    properties = "".join(f"- `{name}`: {_line(getattr(kind, name).__doc__)}\n" for name in shown)
    return f"\n### {kind.__name__}\n{_text(kind)}\nFields: {fields}.\n" + (f"\n{properties}" if properties else "")


def _errors() -> Iterator[str]:
    """A row for each public error and warning."""
    for name in voxtell.__all__:
        one = getattr(voxtell, name)
        if isinstance(one, type) and issubclass(one, Exception):
            yield f"| `{name}` | {_line(one.__doc__)} |\n"


def _text(thing: Any) -> str:
    """A docstring as Markdown: paragraphs as they are, the entries of Args and Raises as a list."""
    done, inside = [], False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line in ("Args:", "Raises:", "Returns:"):
            done.append(f"{line}\n")
            inside = True
        elif inside and (entry := re.match(r"    (\w[\w, ]*): (.*)", line)):
            done.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            inside = inside and (not line or line.startswith("    "))
            done.append(f"  {line.strip()}" if inside and line else line)
    return "\n".join(done).strip() + "\n"


def _line(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
