"""The table of kinds of destinations, and which of them an entry of VOXTELL_DESTINATIONS is of."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator

from worker.destinations.destination import Destination
from worker.destinations.dicom import DicomDestination
from worker.destinations.dicomweb import WebDestination

KINDS: list[type[Destination]] = [DicomDestination, WebDestination]
"""Every kind of destination, one line each. The fields in `reached_by` tell them apart."""


def of_its_kind(entry: Any) -> Any:
    """Returns an entry of the settings as the destination that it describes; what is no mapping as it is.

    Raises:
        ValueError: when it is reached in two ways or in none, or a field belongs to another kind.
        ValidationError: when a field is missing, unknown or not valid.
    """
    if not isinstance(entry, Mapping):
        return entry
    given = {name: value for name, value in entry.items() if value is not None}
    named = [kind for kind in KINDS if given.keys() & {*kind.reached_by}]
    if len(named) != 1 or not {*named[0].reached_by} <= given.keys():
        raise ValueError(f"a destination is reached by {', or else by '.join(map(_way, KINDS))}")
    (kind,) = named
    for name in sorted(given.keys() - kind.model_fields.keys()):
        others = [other for other in KINDS if name in other.model_fields]
        if others and given[name] == others[0].model_fields[name].default:
            del given[name]  # it says nothing, and settings that worked go on working
        elif others:
            raise ValueError(
                f"{name} is for a destination that is reached by {_way(others[0])}; this one is reached by "
                f"{_way(kind)}: leave {name} out"
            )
    return kind.model_validate(given)


AnyDestination = Annotated[Destination, BeforeValidator(of_its_kind)]
"""The type of an entry: a mapping is read as the kind that it names."""


def _way(kind: type[Destination]) -> str:
    """Says how a kind is reached: "ae_title and host"."""
    return " and ".join(kind.reached_by)
