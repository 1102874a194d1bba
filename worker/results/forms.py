"""Which form of an object a destination takes: an organ map as BINARY or as LABELMAP, and in which transfer syntax.

A Segmentation that is also there as a label map lies beside it as `seg-labelmap.dcm`, its report as `sr-labelmap.dcm`.
They are objects of their own, with UIDs of their own; a destination gets the one or the other.
"""

from collections.abc import Iterable, Sequence

from worker.job_spec import Route
from worker.settings import Destination

LABEL_MAP = "-labelmap.dcm"


def label_map_wanted(routes: Iterable[Route], destinations: Iterable[Destination]) -> bool:
    """Whether a destination of these routes, or a fallback of one, asks for label maps."""
    asking = {destination.name for destination in destinations if destination.seg == "labelmap"}
    return any(asking & {route.to, route.fallback} for route in routes)


def files_for(destination: Destination, names: Sequence[str]) -> list[str]:
    """Of the files that routes give to a destination those in the form that it takes, in their order.

    It takes the BINARY form where there is no label map: segments that overlap have none.
    """
    there = set(names)
    if destination.seg == "labelmap":
        return [name for name in names if name.endswith(LABEL_MAP) or name.replace(".dcm", LABEL_MAP) not in there]
    return [name for name in names if not name.endswith(LABEL_MAP)]
