"""Another engine is a folder of its own and one line: it is recognised, loaded and used, and results name it."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.studies import series
from tests.support.twins import ThresholdSegmenter
from voxtell import ModelError
from voxtell import engine as engines
from voxtell.card import Card
from voxtell.engine import BUNDLED_MODEL, Layout, recognise
from worker.engines.loading import engine_key, load_engine, options_of, settings_for
from worker.errors import EngineOptionError
from worker.job_spec import EngineOptions, JobSpec
from worker.settings import load
from worker.steps.offline import run_study


@dataclass(frozen=True)
class ToyOptions:
    """`early_exit` is a setting of the node; `folds` is the toy's own."""

    early_exit: float | None = None
    folds: int = 5


class ToyLayout(Layout):
    engine, holds, options = "toy", "toy.txt", ToyOptions

    def fits(self, directory: Path) -> bool:
        return (directory / "toy.txt").is_file()

    def card(self, directory: Path) -> Card:
        return Card(name="toy", knows=("bone",))

    def load(self, directory, device, bank, *, use_bank, options) -> ThresholdSegmenter:
        made = ThresholdSegmenter()
        made.loaded_with = (directory, device, use_bank, options)
        return made

    def describe(self, directory: Path) -> dict[str, Any]:
        return {"name": "toy"}

    def verify(self, directory: Path) -> dict[str, str]:
        return {"toy.txt": "sha256:0"}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The directory of a toy's model; the toy's room is a module, its one line is in LAYOUTS."""
    monkeypatch.setitem(sys.modules, "toy_layout", SimpleNamespace(LAYOUT=ToyLayout()))
    monkeypatch.setattr(engines, "LAYOUTS", (*engines.LAYOUTS, "toy_layout"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "toy.txt").touch()
    return folder


def spec(model: Path, **engine: object) -> JobSpec:
    return JobSpec.of(
        study_uid="1.2", series_uid="1.2.3", instances=["1.2.3.4"], protocol="liver", protocol_digest="0",
        prompts=(), model=str(model), engine=EngineOptions(**engine),
    )  # fmt: skip


def test_a_toy_is_recognised_and_loaded_with_its_own_options(toy: Path, tmp_path: Path):
    settings = load(home=tmp_path / "home", model=str(toy), device="cpu", early_exit=2, skip_below=-900)
    assert recognise(toy).engine == "toy"
    assert recognise(BUNDLED_MODEL).engine == "voxtell"
    made = load_engine(settings, use_bank=False)
    assert made.loaded_with == (toy, "cpu", False, ToyOptions(early_exit=2.0))


def test_a_study_is_segmented_by_the_toy_and_the_result_names_it(toy: Path, tmp_path: Path):
    series(tmp_path / "study", 1)
    (result,) = run_study(
        load(home=tmp_path / "home", model=str(toy), device="cpu"),
        tmp_path / "study", tmp_path / "out", ["above 300"], None, None, (),
    )  # fmt: skip
    model = result.result.json_facts()["model"]
    assert (model["name"], model["version"]) == ("threshold", "1")


def test_an_option_that_the_engine_does_not_have_is_refused_where_a_protocol_sets_it(toy: Path, tmp_path: Path):
    settings = load(home=tmp_path / "home", coarse_first=1)
    assert settings_for(spec(toy, early_exit=3), settings).early_exit == 3
    assert settings_for(spec(toy, exact=True, resample_tilt=True), settings).coarse_first is None
    with pytest.raises(EngineOptionError, match=r"'liver' sets skip_below in `engine`, .* toy, does not have"):
        settings_for(spec(toy, early_exit=3, skip_below=-900), settings)
    assert settings_for(spec(BUNDLED_MODEL, skip_below=-900), settings).skip_below == -900
    with pytest.raises(ModelError, match=r"voxtell: .*; toy: toy\.txt"):
        settings_for(spec(tmp_path, early_exit=3), settings)


def test_every_shortcut_of_a_protocol_is_switched_off_by_exact_and_makes_another_engine(tmp_path: Path):
    taken = {"early_exit": 2.0, "skip_below": -900.0, "coarse_first": 1.0, "resample": True}
    assert taken.keys() | {"exact", "resample_tilt", "resample_spacing"} == EngineOptions.model_fields.keys(), (
        "a row for the new option"
    )
    plain, shortened = load(home=tmp_path / "home"), load(home=tmp_path / "home", **taken)
    exact = settings_for(spec(BUNDLED_MODEL, exact=True), shortened)
    assert engine_key(exact) == engine_key(settings_for(spec(BUNDLED_MODEL), plain))
    one_each = [load(home=tmp_path / "home", **{name: value}) for name, value in taken.items()]
    assert len({engine_key(settings) for settings in (plain, *one_each)}) == 1 + len(taken)


def test_the_engines_own_model_judges_its_options(tmp_path: Path):
    class Strict(ToyLayout):
        options = dataclass(frozen=True)(type("Strict", (), {"__annotations__": {"device": int}}))

    with pytest.raises(EngineOptionError, match=r"option device of engine toy: .*integer.* \(got 'cpu'\)"):
        options_of(load(home=tmp_path, device="cpu"), Strict())
