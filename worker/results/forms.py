"""Which form of an object a destination takes: a Segmentation as BINARY or as LABELMAP, and the report on it.

Both forms may be made of one result. They are different objects with UIDs of their own; a destination gets one of them.
"""

from collections.abc import Iterable, Sequence

from dicom_node.objects import Form
from worker.destinations.destination import Destination
from worker.job_spec import Route
from worker.result import ResultObject


def label_map_wanted(routes: Iterable[Route], destinations: Iterable[Destination]) -> bool:
    """Whether a destination of these routes, or a fallback of one, asks for label maps."""
    asking = {destination.name for destination in destinations if destination.seg == "labelmap"}
    return any(asking & {route.to, route.fallback} for route in routes)


def in_form_for(destination: Destination, objects: Sequence[ResultObject]) -> list[ResultObject]:
    """Returns those of the objects that are in the form that the destination takes, in their order."""
    return in_form(destination.seg, objects)


def in_form(form: Form, objects: Sequence[ResultObject]) -> list[ResultObject]:
    """Returns those of the objects that are in a form, in their order.

    Who asks for label maps gets the BINARY form where none was made: overlapping segments have none.
    """
    mapped = {one.kind for one in objects if one.form == "labelmap"} if form == "labelmap" else set()
    return [one for one in objects if (one.form == "labelmap") == (one.kind in mapped)]
