"""The seam to engines: no torch on import, one layout per model directory, and prompts that a model cannot take."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import voxtell
from voxtell import Ask, Box, ModelError, Point, PromptError, Shortcuts
from voxtell import engine as engines
from voxtell.engine import BUNDLED_MODEL, check_asks, read_card, recognise
from voxtell.layout import LAYOUT, Options, VoxTellLayout
from voxtell.segmenter import Segmenter

BOX = Box((0, 0, 0), (1, 2.5, 3))


def loaded_by(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.processes
def test_neither_the_package_nor_a_card_nor_recognition_loads_torch():
    loaded = loaded_by(
        "import voxtell, voxtell.layout; from voxtell.engine import read_card; read_card(); voxtell.Ask('liver')"
    )
    assert {"voxtell.engine", "voxtell.inference.openmp"} <= loaded
    assert not loaded & {"torch", "numpy", "nnunetv2", "transformers", "safetensors", "scipy"}


@pytest.mark.processes
@pytest.mark.parametrize(
    "code", ["import voxtell; voxtell.Segmenter", "import voxtell.segmenter", "import voxtell; voxtell.load()"]
)
def test_what_needs_torch_loads_it_after_the_setting_of_its_threads(code: str):
    before = (
        "import sys\n"
        "class Watch:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'torch': assert 'voxtell.inference.openmp' in sys.modules\n"
        "sys.meta_path.insert(0, Watch())\n"
    )
    assert "torch" in loaded_by(before + code)


def test_the_package_names_what_it_has_and_nothing_else():
    assert voxtell.Segmenter is Segmenter
    assert all(hasattr(voxtell, name) for name in voxtell.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Segmentor'"):
        voxtell.Segmentor  # noqa: B018


def test_the_card_says_what_the_bundled_model_knows():
    card = read_card()
    assert (card.name, card.text_encoder) == ("voxtell-small-hn", "ngrams")
    assert "spinal cord" in card.knows
    assert "cord" in card.taught
    assert "liver" in card.refused
    assert card == read_card(BUNDLED_MODEL) == read_card(str(BUNDLED_MODEL))


# -- which engine


def test_a_directory_with_plans_is_voxtells():
    assert recognise(BUNDLED_MODEL) is LAYOUT
    assert isinstance(voxtell.load(), Segmenter)
    assert voxtell.load().info.engine == "voxtell"


def test_other_directories_are_refused_with_the_layouts_that_are_known(tmp_path: Path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"no model of a known layout; known are voxtell: plans\.json beside fold_0"):
        recognise(tmp_path)
    with pytest.raises(ModelError, match=r"gone is no model directory; .*voxtell: plans\.json"):
        voxtell.load(tmp_path / "gone")


def test_a_directory_of_two_engines_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Second(VoxTellLayout):
        engine = "second"

    monkeypatch.setitem(sys.modules, "second", SimpleNamespace(LAYOUT=Second()))
    monkeypatch.setattr(engines, "LAYOUTS", (*engines.LAYOUTS, "second"))
    with pytest.raises(ModelError, match=r"holds models of voxtell and second; give each a directory of its own"):
        recognise(BUNDLED_MODEL)


def test_options_reach_the_engine_that_has_them_and_no_other(monkeypatch: pytest.MonkeyPatch):
    fast = voxtell.load(precision="bfloat16", shortcuts=Shortcuts(skip_below=0.0))
    assert fast.info.digest.endswith(" skip-below=0 bfloat16")

    class Plain(VoxTellLayout):
        engine, options = "plain", type("None", (), {"__dataclass_fields__": {}})

        def load(self, directory, device, bank, *, use_bank, options):
            return "plain"

    monkeypatch.setitem(sys.modules, "plain", SimpleNamespace(LAYOUT=Plain()))
    monkeypatch.setattr(engines, "LAYOUTS", ("plain",))
    assert voxtell.load() == "plain"
    with pytest.raises(ModelError, match=r"plain, has no compile_encoder, skip_below; leave it out"):
        voxtell.load(compiled=True, shortcuts=Shortcuts(skip_below=0.0))


def test_the_options_of_voxtell_are_checked():
    assert Options(early_exit=2, resample=True).shortcuts == Shortcuts(early_exit=2, resample=True)
    with pytest.raises(ModelError, match="early_exit is -1"):
        Options(early_exit=-1).shortcuts  # noqa: B018


# -- what is asked


def test_a_text_is_a_prompt_as_it_stands():
    both = frozenset({"text", "box"})
    assert check_asks(["Liver", Ask("spleen")], frozenset({"text"}), "m") == [Ask("Liver"), Ask("spleen")]
    assert check_asks([Ask("liver", BOX), Ask(box=BOX)], both, "m") == [Ask("liver", BOX), Ask(box=BOX)]
    assert Ask("liver", BOX, (Point((1, 1, 1), positive=False),)).parts == {"text", "box", "point"}


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Ask("liver", BOX), r"prompt 2 of 2 \('liver'\) has a box; voxtell-small-hn takes text only"),
        (Ask("liver", points=(Point((1, 1, 1)),)), r"prompt 2 of 2 \('liver'\) has a point; voxtell-small-hn"),
        (Ask("x", BOX, (Point((1, 1, 1)),)), r"prompt 2 of 2 \('x'\) has a box and a point; voxtell-small-hn takes"),
        (Ask(box=BOX), r"prompt 2 of 2 has a box; voxtell-small-hn takes text only"),
    ],
)
def test_voxtell_refuses_boxes_and_points_before_any_window_runs(ask: Ask, words: str, monkeypatch: pytest.MonkeyPatch):
    segmenter = voxtell.load()
    monkeypatch.setattr(segmenter._runner, "fill", lambda *_: pytest.fail("a window ran"))
    for call in (segmenter, segmenter.logits):
        with pytest.raises(PromptError, match=words):
            call(np.ones((8, 8, 8), np.float32), ["brainstem", ask])
    with pytest.raises(PromptError, match=words):
        segmenter.unlearnt(["brainstem", ask])
    assert PromptError.retry == "usage"


@pytest.mark.long
def test_an_ask_of_text_alone_is_the_text():
    segmenter = voxtell.load()
    image = np.random.default_rng(0).normal(0, 100, (20, 20, 20)).astype(np.float32)
    found = segmenter(image, [Ask("Mandible"), "liver"], spacing=(2.5, 4, 4))
    assert np.array_equal(found, segmenter(image, ["Mandible", Ask("liver")], spacing=(2.5, 4, 4)))
    assert segmenter.unlearnt([Ask("mandible"), Ask("liver"), "Spleen"]) == ["liver", "Spleen"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Ask(), "give a text, a box or points"),
        (lambda: Box((0, 2, 0), (1, 1, 1)), "from its low corner to its high corner"),
        (lambda: Box((0, 0, 0), (1, float("inf"), 1)), "high corner of a box is .*three finite"),
        (lambda: Point((0, float("nan"), 0)), "a point is .*three finite"),
        (lambda: Point((0, 0)), "a point is .*three finite"),
    ],
)
def test_what_is_no_place_is_refused(make, words: str):
    with pytest.raises(PromptError, match=words):
        make()


@pytest.mark.parametrize(
    ("prompts", "words"),
    [
        ("liver", "must be a list of texts"),
        ([], "no prompt"),
        (["liver", 7], "prompt 2 is 7, not a text"),
        (["liver", " "], "prompt 2 of 2 is empty"),
        ([Ask(" ", BOX)], "prompt 1 of 1 is empty"),
    ],
)
def test_what_is_no_prompt_is_refused(prompts, words: str):
    with pytest.raises(PromptError, match=words):
        check_asks(prompts, frozenset({"text", "box", "point"}), "m")
