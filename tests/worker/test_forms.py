"""Which form a destination gets: the one that it asks for, where there is one."""

from worker.forms import files_for, label_map_wanted
from worker.jobs import Route
from worker.settings import Destination

BINARY = Destination(name="pacs", ae_title="A", host="h")
LABELS = Destination(name="viewer", ae_title="B", host="h", seg="labelmap")
ALL = ["seg.dcm", "sr.dcm", "seg-labelmap.dcm", "sr-labelmap.dcm", "rtstruct.dcm", "preview.dcm"]


def test_each_destination_gets_one_form_of_each_object() -> None:
    assert files_for(BINARY, ALL) == ["seg.dcm", "sr.dcm", "rtstruct.dcm", "preview.dcm"]
    assert files_for(LABELS, ALL) == ["seg-labelmap.dcm", "sr-labelmap.dcm", "rtstruct.dcm", "preview.dcm"]


def test_without_a_label_map_everybody_gets_the_binary_form() -> None:
    names = ["seg.dcm", "sr.dcm", "rtstruct.dcm"]
    assert files_for(LABELS, names) == files_for(BINARY, names) == names


def test_label_maps_are_made_where_a_route_or_its_fallback_asks() -> None:
    destinations = (BINARY, LABELS)
    assert not label_map_wanted((Route(to="pacs"),), destinations)
    assert label_map_wanted((Route(to="pacs"), Route(to="viewer")), destinations)
    assert label_map_wanted((Route(to="pacs", fallback="viewer"),), destinations)
    assert not label_map_wanted((), destinations)
