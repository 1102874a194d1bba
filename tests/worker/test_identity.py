"""Identities stay what they are: a field that a release adds changes none, and fixed facts give fixed values."""

import hashlib
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, create_model

import voxtell
from dicom_node.objects.provenance import Algorithm, Provenance
from dicom_node.regions import region_for
from dicom_node.series import read_series
from dicom_node.synthesis import ct_series
from dicom_node.uids import derived_uid, fingerprint
from voxtell.engine import BUNDLED_MODEL, ModelInfo
from worker.identity import digest_of
from worker.job_spec import Derived, EngineOptions, Finish, JobSpec, Plausible, Priority, Prompt, Route
from worker.ledger import Ledger
from worker.ledger.schema import jobs
from worker.protocols import Match, Protocol
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport

FULL: dict[str, Any] = {
    "study_uid": "1.2",
    "series_uid": "1.2.3",
    "instances": ("1.2.3.1", "1.2.3.2"),
    "frames": None,
    "protocol": "liver",
    "protocol_digest": "0" * 16,
    "prompts": (
        Prompt(
            text="liver",
            name="Leber",
            code="10200004",
            tg263="Liver",
            colour=(200, 100, 50),
            roi_type="ORGAN",
            finish=Finish(fill_holes=True, min_volume_ml=1.5),
            expect=Plausible(volume_ml=(500.0, 3000.0)),
            sentence="Die Leber ist vergrößert.",
        ),
        Prompt(text="spleen"),
    ),
    "derived": (Derived(name="both", union=("Leber", "spleen"), margin_mm=2.5),),
    "model": "/models/large",
    "engine": EngineOptions(exact=True, resample_tilt=True),
    "outputs": ("seg", "rtstruct"),
    "holes": "xor",
}
PLAIN: dict[str, Any] = FULL | {
    "prompts": (Prompt(text="liver"),),
    "derived": (),
    "model": None,
    "engine": EngineOptions(),
    "outputs": ("seg",),
    "holes": "keyhole",
}


@pytest.mark.parametrize(
    ("facts", "job_id"),
    [(PLAIN, "4dd4be6f52872498"), (FULL, "15b0460e188e1fde"), (FULL | {"frames": "f" * 16}, "58844695aff21681")],
    ids=["plain", "full", "part of a file"],
)
def test_ids_of_jobs_are_those_of_version_0_3(facts: dict[str, Any], job_id: str) -> None:
    assert JobSpec.of(**facts).job_id == job_id


def test_digests_of_protocols_are_those_of_version_0_2() -> None:
    plain = Protocol(name="liver", match=Match.model_validate({"Modality": "CT"}), prompts=("liver",))
    full = Protocol(
        name="all",
        match=Match.model_validate({"Modality": "CT", "not": {"SeriesDescription": {"regex": "scout"}}}),
        choose=Choose(take="best"),
        prompts=tuple(prompt.model_copy(update={"sentence": None}) for prompt in FULL["prompts"]),
        derived=FULL["derived"],
        report=FromReport(uncertain=True, wait_minutes=5),
        model="large",
        engine=FULL["engine"],
        outputs=FULL["outputs"],
        holes="xor",
    )
    assert (plain.digest, full.digest) == ("02637f70c8bf8d6f", "daa29580ba0e061b")


def test_uids_and_digests_are_made_of_the_same_bytes() -> None:
    assert derived_uid("SEG", "a", "b") == "2.25.340149539779022775953665954846613643957"
    assert fingerprint({"b": 1, "a": [None, "ü"]}) == fingerprint({"a": [None, "ü"], "b": 1})
    assert digest_of({"b": 1, "a": [None, "ü"]}) == "bbba55acb5e60a76"


def test_uids_of_results_are_those_of_version_0_3(tmp_path: Path) -> None:
    """Of the first image of a series; what the model is made of is part of them, what people are told of it is not."""
    files = ct_series(np.zeros((3, 4, 4), np.float32), (3.0, 1.0, 1.0), tmp_path)
    series, regions = read_series(files), [region_for("liver"), region_for("spleen")]
    model = ModelInfo("VoxTell", "1", "sha256:" + "a" * 64, "", "", "qwen3", "voxtell", used=("float16",))
    uids = []
    for made_with in ((), ("plans=sha256:b", "bank=sha256:c"), ("plans=sha256:b", "bank=sha256:d")):
        info = replace(model, made_with=made_with)
        assert info.digest == "sha256:" + "a" * 64 + " float16"
        algorithm = Algorithm(info.name, info.version, info.digest, identity=info.identity)
        provenance = Provenance(algorithm, datetime(2026, 1, 2), "liver", "0" * 16)
        uids.append(provenance.uid("SEG", series, regions))
    assert uids == [
        "2.25.230856773812095038512874611440518943373",
        "2.25.138345087387583591007576274731368482823",
        "2.25.14021499325457190414572862458123612861",
    ]
    of_version_0_2 = Provenance(Algorithm("VoxTell", "1", model.digest), datetime(2026, 1, 2), "liver", "0" * 16)
    assert of_version_0_2.uid("SEG", series, regions) == uids[0]


def test_what_the_bundled_model_is_made_of_is_its_identity() -> None:
    engine = voxtell.load()
    plans, text, lexicon = engine.made_by(["larynx"]).made_with
    assert plans == f"plans=sha256:{hashlib.sha256((BUNDLED_MODEL / 'plans.json').read_bytes()).hexdigest()}"
    assert (text, lexicon[:15]) == ("text=voxtell-ngrams-2", "lexicon=sha256:")
    assert engine.made_by(["larynx"]).identity == " ".join((engine.info.digest, plans, text, lexicon))


def grown(kind: type[Any], default: Any, **fields: Any) -> type[Any]:
    """The same model in a later release: with a field more, and with other grown models in its fields."""
    return create_model(kind.__name__, __base__=kind, new_in_a_later_release=(type(default), Field(default)), **fields)


DEFAULTS = st.one_of(st.booleans(), st.integers(), st.text(), st.tuples(st.text()), st.floats(allow_nan=False))
PROMPTS = st.builds(
    Prompt,
    text=st.text(min_size=1),
    name=st.none() | st.text("abc", min_size=1, max_size=9),
    finish=st.builds(Finish, fill_holes=st.booleans(), smooth_mm=st.floats(0, 20)),
    expect=st.builds(Plausible, inside_view=st.booleans()),
    sentence=st.none() | st.text(),
)
ENGINES = st.builds(EngineOptions, exact=st.booleans(), skip_below=st.none() | st.floats(-1000, 1000))
SPECS = st.builds(
    JobSpec.of,
    study_uid=st.just("1.2"),
    series_uid=st.just("1.2.3"),
    instances=st.lists(st.integers(1, 99).map(lambda number: f"1.2.{number}"), min_size=1, unique=True),
    protocol=st.just("liver"),
    protocol_digest=st.just("0" * 16),
    prompts=st.lists(PROMPTS, min_size=1, max_size=3).map(tuple),
    model=st.none() | st.just("large"),
    engine=ENGINES,
    derived=st.lists(st.builds(Derived, name=st.just("x"), union=st.just(("y",))), max_size=1).map(tuple),
)


@pytest.mark.long
@given(SPECS, DEFAULTS)
def test_a_field_that_a_later_release_adds_changes_no_job(spec: JobSpec, default: Any) -> None:
    finish = grown(Finish, default)
    prompt = grown(Prompt, default, finish=(finish, finish()))
    derived, engine = grown(Derived, default), grown(EngineOptions, default)
    later = grown(
        JobSpec,
        default,
        prompts=(tuple[prompt, ...], ...),  # type: ignore[valid-type]
        derived=(tuple[derived, ...], ()),  # type: ignore[valid-type]
        engine=(engine, engine()),
    )
    assert later.model_validate(spec.model_dump(mode="json")).job_id == spec.job_id


@pytest.mark.long
@given(SPECS, st.text(min_size=1))
def test_a_field_of_a_later_release_that_says_something_makes_another_job(spec: JobSpec, said: str) -> None:
    later = grown(JobSpec, "")
    facts = spec.model_dump(mode="json") | {"new_in_a_later_release": said}
    assert later.model_validate(facts).job_id != spec.job_id


@given(DEFAULTS)
def test_a_field_that_a_later_release_adds_changes_no_protocol(default: Any) -> None:
    facts: dict[str, Any] = {"name": "liver", "match": {"Modality": "CT"}, "prompts": ["liver"]}
    prompt = grown(Prompt, default)
    later = grown(Protocol, default, prompts=(tuple[prompt, ...], ()))  # type: ignore[valid-type]
    assert later.model_validate(facts).digest == Protocol.model_validate(facts).digest


def test_work_that_an_earlier_version_did_under_another_id_is_not_done_again(ledger: Ledger) -> None:
    spec = JobSpec.of(**FULL, routes=(Route(to="pacs"),), priority=Priority.URGENT)
    assert ledger.jobs.add(spec)
    with ledger.database.write() as connection:
        connection.execute(sa.update(jobs).values(id="an earlier id"))
    assert ledger.jobs.id_of(spec) == "an earlier id"
    assert not ledger.jobs.add(spec.model_copy(update={"volume": "EchoTime=90", "routes": ()}))
    assert not ledger.best_volume.prefer(spec.model_copy(update={"volume": "EchoTime=90"}))  # it is no rival of itself
    assert [(job.id, job.state) for job in ledger.jobs.find()] == [("an earlier id", "queued")]
    more = spec.model_copy(update={"instances": (*spec.instances, "1.2.3.3")})
    assert ledger.jobs.id_of(more) == more.job_id
    assert ledger.jobs.add(more)
    assert ledger.jobs.get("an earlier id").superseded_by == more.job_id
