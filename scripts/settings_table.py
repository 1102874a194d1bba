#!/usr/bin/env python3
"""Writes docs/reference/settings.md from the fields of `worker.settings`; run it after a change (a test compares)."""

from pathlib import Path

from pydantic.fields import FieldInfo

from worker.destinations.destination import Destination
from worker.destinations.kinds import KINDS
from worker.settings import PREFIX, Settings
from worker.value_faults import allowed

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "settings.md"

HEAD = f"""# Settings

<!-- made by scripts/settings_table.py -->

Every setting is an environment variable, read once at the start. A variable that begins with `{PREFIX}` and is none of
these stops the start, so that a misspelt one is never ignored. The defaults serve one machine.

| variable | value | default | what it is |
|---|---|---|---|
"""

FIELDS = """
| field | value | default | what it is |
|---|---|---|---|
"""

DESTINATIONS = f"""
`{PREFIX}DESTINATIONS` is a JSON list of objects. Every destination may have:
{FIELDS}"""

EXAMPLE = f"""
```
export {PREFIX}DESTINATIONS='[{{"name": "pacs", "ae_title": "ORTHANC", "host": "10.1.0.5", "port": 4242}}]'
```

One that promises to keep the results (it must know the node's AE title, address and port, to answer), and a DICOMweb
service:

```
export {PREFIX}DESTINATIONS='[
  {{"name": "pacs", "ae_title": "ORTHANC", "host": "10.1.0.5", "port": 4242, "commitment": true}},
  {{"name": "web", "url": "https://pacs.example/dicom-web", "token_file": "/run/secrets/pacs-token"}}]'
```
"""


def page() -> str:
    """The whole page."""
    settings = (_row(PREFIX + name.upper(), field) for name, field in Settings.model_fields.items())
    common = Destination.model_fields
    page = HEAD + "".join(settings) + DESTINATIONS + "".join(_row(name, field) for name, field in common.items())
    for kind in KINDS:
        page += f"\n{(kind.__doc__ or '').strip()}\n{FIELDS}"
        page += "".join(_row(name, field) for name, field in kind.model_fields.items() if name not in common)
    return page + EXAMPLE


def _row(name: str, field: FieldInfo) -> str:
    return f"| `{name}` | {allowed(field)} | {_default(field)} | {field.description} |\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "`~/.local/share/voxtell-dicom`"
    empty = field.default is None or field.default == ()
    return "" if empty else f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
