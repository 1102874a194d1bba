"""Which form of an object a destination takes: an organ map as BINARY or as LABELMAP, and in which transfer syntax.

A Segmentation may be there in both forms, and a report on either. They are objects of their own, with UIDs of their
own; a destination gets the one or the other.
"""

from collections.abc import Iterable, Sequence

from worker.job_spec import Route
from worker.result import ResultObject
from worker.settings import Destination


def label_map_wanted(routes: Iterable[Route], destinations: Iterable[Destination]) -> bool:
    """Whether a destination of these routes, or a fallback of one, asks for label maps."""
    asking = {destination.name for destination in destinations if destination.seg == "labelmap"}
    return any(asking & {route.to, route.fallback} for route in routes)


def in_form_for(destination: Destination, objects: Sequence[ResultObject]) -> list[ResultObject]:
    """Of the objects that routes give to a destination those in the form that it takes, in their order.

    It takes the BINARY form where there is no label map: segments that overlap have none.
    """
    mapped = {one.kind for one in objects if one.form == "labelmap"} if destination.seg == "labelmap" else set()
    return [one for one in objects if (one.form == "labelmap") == (one.kind in mapped)]
