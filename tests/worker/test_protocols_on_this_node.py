"""What a protocol comes to on one node: its model, its destinations, and when it is inactive."""

from importlib.resources import files
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.uids import SeriesKey
from tests.support.model_files import looks_published
from worker.job_spec import JobSpec, Priority, Route
from worker.protocols import (
    Protocol,
    beyond_bundled,
    inactive,
    open_protocol_folder,
    read_protocol,
    routes_of,
    unknown_destinations,
)
from worker.protocols.on_this_node import InactiveError, job_spec, model_of, where_to
from worker.settings import Settings

PACS = {"name": "pacs", "ae_title": "PACS", "host": "pacs", "port": 104}


def protocol(**fields: object) -> Protocol:
    return Protocol.model_validate({"name": "liver", "match": {"Modality": "CT"}, "prompts": ["liver"]} | fields)


def settings(home: Path, **fields: object) -> Settings:
    return Settings(home=home, **fields)


def test_without_a_model_the_nodes_own_is_used(tmp_path):
    assert model_of(protocol(), settings(tmp_path)) is None
    assert model_of(protocol(), settings(tmp_path, model="/models/mine")) == "/models/mine"
    assert model_of(protocol(model="bundled"), settings(tmp_path, model="/models/mine")) is None


def test_a_protocol_for_the_published_weights_is_inactive_with_the_bundled_model(tmp_path):
    asked = protocol(model="published")
    said = inactive(asked, settings(tmp_path))
    assert said == (
        "protocol 'liver' is inactive: it needs the published weights, and this node has the bundled small model only, "
        "which knows seven structures of the head and neck; get them with: voxtell-dicom model fetch"
    )
    with pytest.raises(InactiveError, match="inactive"):
        model_of(asked, settings(tmp_path))
    bundled_elsewhere = tmp_path / "copy"
    bundled_elsewhere.mkdir()
    assert inactive(asked, settings(tmp_path, model=str(bundled_elsewhere)))
    assert not inactive(protocol(), settings(tmp_path))


def test_what_the_bundled_model_has_not_learnt_is_said(tmp_path):
    asked = protocol(prompts=["Brainstem", "left parotid", "liver", "a lesion in the larynx"])
    assert beyond_bundled(asked, settings(tmp_path)) == (
        "protocol 'liver' runs with the bundled model, which has not learnt liver, a lesion in the larynx: looked for, "
        "this will not be found; set model: published"
    )
    assert beyond_bundled(asked, settings(tmp_path, model="/models/mine")) == ""
    assert beyond_bundled(protocol(model="published"), settings(tmp_path)) == "", "it is inactive"
    shipped = Path(str(files("worker.protocols") / "shipped" / "head-and-neck-oar.yaml"))
    assert beyond_bundled(read_protocol(shipped), settings(tmp_path)) == ""


def test_published_weights_are_found_where_they_are(tmp_path):
    asked = protocol(model="published")
    named = looks_published(tmp_path / "named")
    assert model_of(asked, settings(tmp_path, model=str(named))) == str(named)
    elsewhere = str(tmp_path / "on the machine of the segmentation worker")
    assert model_of(asked, settings(tmp_path, model=elsewhere)) == elsewhere
    looks_published(tmp_path / "models" / "voxtell_v1.0")
    newest = looks_published(tmp_path / "models" / "voxtell_v1.1")
    assert model_of(asked, settings(tmp_path)) == str(newest)


def test_a_model_of_ones_own_is_a_folder(tmp_path):
    tuned = looks_published(tmp_path / "models" / "tuned")
    assert model_of(protocol(model="tuned"), settings(tmp_path)) == str(tuned)
    assert model_of(protocol(model=str(tuned)), settings(tmp_path)) == str(tuned)
    assert f"{tmp_path / 'models' / 'tunde'} is no folder" in inactive(protocol(model="tunde"), settings(tmp_path))


def test_destinations_that_the_node_does_not_know_are_named(tmp_path):
    asked = protocol(destinations=["pacs", {"to": "tps", "fallback": "archive"}])
    assert unknown_destinations(asked, settings(tmp_path, destinations=(PACS,))) == [
        "protocol 'liver' sends to 'tps', which is not in VOXTELL_DESTINATIONS (pacs); add it there",
        "protocol 'liver' sends to 'archive', which is not in VOXTELL_DESTINATIONS (pacs); add it there",
    ]
    assert "(none is set)" in unknown_destinations(asked, settings(tmp_path))[0]
    assert unknown_destinations(protocol(), settings(tmp_path, destinations=(PACS,))) == []


def test_without_destinations_results_go_to_every_one_that_is_set(tmp_path):
    node = settings(tmp_path, destinations=(PACS, PACS | {"name": "tps"}))
    assert routes_of(protocol(), node) == (Route(to="pacs"), Route(to="tps"))
    assert routes_of(protocol(destinations=[]), node) == ()
    assert routes_of(protocol(destinations=["tps"]), node) == (Route(to="tps"),)


def test_a_destination_gets_what_no_protocol_named_unless_it_is_only_when_named(tmp_path):
    research = PACS | {"name": "research", "only_when_named": True}
    node = settings(tmp_path, destinations=(PACS, research))
    unnamed, named = protocol(), protocol(name="named", destinations=["research"])
    assert routes_of(unnamed, node) == (Route(to="pacs"),)
    assert routes_of(named, node) == (Route(to="research"),)
    assert list(where_to(unnamed, node)) == ["names no destination: everything that it makes goes to pacs"]
    assert list(where_to(named, node)) == list(where_to(protocol(shadow=True), node)) == []
    assert list(where_to(unnamed, settings(tmp_path, destinations=(research,)))) == [
        "names no destination, and every destination is only_when_named: its results are kept, not sent"
    ]


def test_the_start_says_which_protocols_send_everything_to_a_destination(tmp_path):
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "a.yaml").write_text("name: a\nmatch: {Modality: CT}\nprompts: [brainstem]\n")
    (folder / "b.yaml").write_text("name: b\nmatch: {Modality: CT}\nprompts: [brainstem]\ndestinations: [tps]\n")
    research = PACS | {"name": "research", "only_when_named": True}
    with capture_logs() as at_the_start:
        open_protocol_folder(settings(tmp_path, destinations=(PACS, PACS | {"name": "tps"}, research)))
    said = [line for line in at_the_start if line["event"] == "destination_gets_everything"]
    assert [(line["destination"], line["protocols"]) for line in said] == [("pacs", ["a"]), ("tps", ["a"])]


def test_everything_that_a_protocol_says_stands_in_its_work(tmp_path):
    said = {
        "derived": [{"name": "around", "union": ["liver"], "margin_mm": 10}],
        "outputs": ["seg", "rtstruct"],
        "holes": "xor",
        "destinations": ["pacs"],
        "priority": "urgent",
        "window": ["22:00", "06:00"],
        "release": True,
        "shadow": True,
    }
    made = protocol(**said)
    here = settings(tmp_path, destinations=(PACS,))
    work = job_spec(made, here, SeriesKey("1.2", "1.2.3"), ["1.2.3.5", "1.2.3.4"], made.prompts)
    of_the_images = {"revision", "content"}  # the selection adds them, see worker.selection.contents
    assert set(JobSpec.model_fields) - of_the_images == work.model_fields_set
    assert (work.series_key, work.instances) == (SeriesKey("1.2", "1.2.3"), ("1.2.3.4", "1.2.3.5"))
    assert (work.protocol_digest, work.prompts, work.derived) == (made.digest, made.prompts, made.derived)
    assert (work.outputs, work.holes, work.routes) == (("seg", "rtstruct"), "xor", (Route(to="pacs"),))
    assert (work.priority, work.window, work.release, work.shadow) == (Priority.URGENT, ("22:00", "06:00"), True, True)


def test_what_protocols_come_to_is_logged_at_the_start_and_at_each_change(tmp_path):
    folder = tmp_path / "protocols"
    folder.mkdir()
    (folder / "a.yaml").write_text("name: a\nmatch: {Modality: CT}\nprompts: [liver]\ndestinations: [tps]\n")
    with capture_logs() as at_the_start:
        protocols = open_protocol_folder(settings(tmp_path))
    (in_force, unknown, beyond) = at_the_start
    assert (beyond["log_level"], "has not learnt liver" in beyond["problem"]) == ("warning", True)
    assert in_force["protocols"] == {"a": protocols.current()[0].digest}
    assert (unknown["log_level"], unknown["problem"][:28]) == ("error", "protocol 'a' sends to 'tps',")
    (folder / "a.yaml").write_text("name: a\nmatch: {Modality: CT}\nprompts: [liver]\nmodel: published\n")
    with capture_logs() as at_the_change:
        protocols.current()
        protocols.current()
    assert [line["log_level"] for line in at_the_change] == ["info", "warning"]
    assert "inactive" in at_the_change[1]["problem"]
