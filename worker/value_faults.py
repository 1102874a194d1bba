"""What is wrong with a value, and what is allowed instead: pydantic's errors in an administrator's words.

No sentence quotes the value, which may be a secret.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from json import JSONDecodeError
from typing import TYPE_CHECKING, Any, Final, get_args

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo
    from pydantic_core import ErrorDetails

_FAULTS: Final = {
    "int_parsing": "is no whole number",
    "int_from_float": "is no whole number",
    "int_parsing_size": "is too long for a number",
    "int_type": "is no whole number",
    "float_parsing": "is no number",
    "float_type": "is no number",
    "finite_number": "is no finite number",
    "bool_parsing": "is neither true nor false",
    "bool_type": "is neither true nor false",
    "string_type": "is no text",
    "path_type": "is no path",
    "tuple_type": "is no list",
    "literal_error": "is none of the choices",
    "enum": "is none of the choices",
    "greater_than": "is not more than {gt:.10g}",
    "greater_than_equal": "is less than {ge:.10g}",
    "less_than": "is not less than {lt:.10g}",
    "less_than_equal": "is more than {le:.10g}",
    "string_too_short": "is too short",
    "string_too_long": "has more than {max_length} characters",
    "string_pattern_mismatch": "has a character that is not allowed",
    "string_unicode": "is not valid Unicode",
    "missing": "is missing",
    "extra_forbidden": "is no field",
    "model_type": "is no object with fields",
    "is_instance_of": "is no object with fields",
}
"""By pydantic's type of error; each follows the name of the value."""

_FIELD: Final = re.compile(r'field "(\w+)"')
_KINDS: Final = {"Path": "path", "bool": "true or false", "int": "whole number", "float": "number"}


def fault_of(error: "ErrorDetails") -> str:
    """Returns what follows the name of a value in a sentence: " is less than 1", or ": " and a validator's own text."""
    if said := _FAULTS.get(error["type"]):
        return " " + said.format(**error.get("ctx", {}))
    return f": {error['msg'].removeprefix('Value error, ')}"


def allowed(field: "FieldInfo") -> str:
    """Returns what a field takes: "whole number, 0 to 65535", "keep or newer", "path"."""
    written = str(field.annotation)
    if "Literal[" in written:
        return _one_of(get_args(field.annotation))
    if "tuple[" in written:
        return "JSON list"
    if (longest := _limit(field, "max_length")) is not None:
        plain = ", no backslash, no control character" if _limit(field, "pattern") else ""
        return f"text of {_limit(field, 'min_length') or 0} to {longest} characters{plain}"
    kind = next((words for name, words in _KINDS.items() if re.search(rf"\b{name}\b", written)), "text")
    bounds = _bounds(field)
    return f"{kind}, {bounds}" if bounds else kind


def setting_fault(
    error: "ErrorDetails", prefix: str, settings: "Mapping[str, FieldInfo]", parts: "Mapping[str, FieldInfo]"
) -> str:
    """Returns the sentence for an error of the settings: which variable, what is wrong with it, what is allowed.

    parts: the fields of the entries of settings that are lists of objects.
    """
    name, *inside = error["loc"]
    where = f"setting {prefix}{str(name).upper()}"
    where += "".join(f", entry {part + 1}" if isinstance(part, int) else f", {part}" for part in inside)
    last, fault = str(error["loc"][-1]), fault_of(error)
    if error["type"] == "extra_forbidden":
        return f"{where}{fault}{nearest(last, parts, 'leave it out')}"
    field = (parts if inside else settings).get(last, settings[str(name)])
    if fault.startswith(":"):  # a validator's own text says what is allowed
        return where + fault
    return f"{where}{fault}; allowed: {allowed(field)}"


def json_fault(error: ValueError, prefix: str) -> str:
    """Returns the sentence for a setting that cannot be parsed as JSON, of which pydantic-settings names the field."""
    field, cause = _FIELD.search(str(error)), error.__cause__
    name = f"setting {prefix}{field[1].upper()}" if field else "a setting"
    place = f" at character {cause.pos + 1} ({cause.msg})" if isinstance(cause, JSONDecodeError) else ""
    return f"""{name} is not valid JSON{place}; allowed: JSON list, quoted for the shell, such as '["ONE", "TWO"]'"""


def nearest(name: str, known: Collection[str], otherwise: str = "unset it") -> str:
    """Makes the end of an error sentence: "; did you mean VOXTELL_PORT?", or "; unset it"."""
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f"; {otherwise}"


def _bounds(field: "FieldInfo") -> str:
    """Returns the range of a number, such as "1 to 8", "0 or more"; "" where there is none."""
    least, most, above = (_limit(field, name) for name in ("ge", "le", "gt"))
    if above is not None:
        return f"more than {above}"
    if least is not None:
        return f"{least} to {most}" if most is not None else f"{least} or more"
    return ""


def _limit(field: "FieldInfo", name: str) -> Any:
    """Returns a limit of a field by the name that its constraint has; None where it has none."""
    return next((found for one in field.metadata if (found := getattr(one, name, None)) is not None), None)


def _one_of(choices: Sequence[str]) -> str:
    """Joins choices: "keep or newer"."""
    *others, last = choices
    return f"{', '.join(others)} or {last}"
