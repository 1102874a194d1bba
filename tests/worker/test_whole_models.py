"""A half-copied model counts as not there: protocols that need it are inactive, and say which file to copy again."""

import shutil
from pathlib import Path

import pytest

from tests.support.model_files import looks_published
from voxtell.integrity import write_record
from worker.engines import whole_models
from worker.engines.models import on_this_node
from worker.engines.whole_models import note_verified, problem_with
from worker.protocols import Protocol, inactive
from worker.protocols.on_this_node import model_of
from worker.settings import Settings


@pytest.fixture(autouse=True)
def nothing_was_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole_models, "_judged", {})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Fetched weights on a machine that has a network."""
    folder = looks_published(tmp_path / "source")
    write_record(folder)
    return folder


def needs(model: str | None) -> Protocol:
    return Protocol.model_validate({"name": "liver", "match": {"Modality": "CT"}, "prompts": ["liver"], "model": model})


def test_weights_count_as_there_only_when_all_of_them_has_arrived(source: Path, tmp_path: Path) -> None:
    """File by file in the order of a copy, each in halves."""
    node = Settings(home=tmp_path / "home")
    target = node.home / "models" / "voxtell_v1.1"
    asked = needs("published")
    files = sorted(path for path in source.rglob("*") if path.is_file())
    states = []
    for path in files:
        to = target / path.relative_to(source)
        to.parent.mkdir(parents=True, exist_ok=True)
        content = path.read_bytes()
        to.write_bytes(content[: len(content) // 2])
        states.append(inactive(asked, node))
        to.write_bytes(content)
        states.append(inactive(asked, node))
    assert all(states[:-1])
    assert states[-1] == ""
    assert model_of(asked, node) == str(target)


@pytest.mark.parametrize("model", [None, "mine", "published"])
def test_a_protocol_is_inactive_with_a_half_copied_model(source: Path, tmp_path: Path, model: str | None) -> None:
    home = tmp_path / "home"
    copy = shutil.copytree(source, home / "models" / "mine")
    node = Settings(home=home, model=str(copy))
    assert inactive(needs(model), node) == ""
    checkpoint = copy / "fold_0" / "checkpoint_final.pth"
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    size = (source / "fold_0" / "checkpoint_final.pth").stat().st_size
    assert inactive(needs(model), node) == (
        f"protocol 'liver' is inactive: its model is not whole: {checkpoint} has {size - 1} of {size} bytes; it was "
        "not copied to its end: copy it again, or fetch the model again"
    )
    assert inactive(needs("bundled"), node) == ""


def test_of_two_fetched_versions_the_one_that_is_whole_is_taken(source: Path, tmp_path: Path) -> None:
    node = Settings(home=tmp_path / "home")
    old = shutil.copytree(source, node.home / "models" / "voxtell_v1.0")
    new = shutil.copytree(source, node.home / "models" / "voxtell_v1.1")
    assert model_of(needs("published"), node) == str(new)
    (new / "text_embeddings.npz").unlink()
    assert model_of(needs("published"), node) == str(old)


def test_what_is_no_model_is_none(tmp_path: Path) -> None:
    node = Settings(home=tmp_path)
    (tmp_path / "models" / "empty").mkdir(parents=True)
    assert "holds no model of a known layout" in inactive(needs("empty"), node)
    (tmp_path / "models" / "empty" / "plans.json").write_text("{}")
    assert "holds no weights" in inactive(needs("empty"), node)


def test_a_copy_is_read_once_and_again_when_it_changes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    compare = whole_models.compare_digests
    monkeypatch.setattr(whole_models, "compare_digests", lambda folder: (read.append(folder), compare(folder)))
    home = tmp_path / "home"
    home.mkdir()
    assert problem_with(source, home) == problem_with(source, home) == ""
    assert len(read) == 1
    whole_models._judged.clear()  # the next process
    assert problem_with(source, home) == ""
    assert len(read) == 1, "it is noted in the home"
    (source / "plans.json").write_text("[]")
    assert "plans.json has sha256:" in problem_with(source, home)
    assert "plans.json has sha256:" in problem_with(source, home)
    assert len(read) == 2
    write_record(source)
    note_verified(source, home)
    whole_models._judged.clear()
    assert problem_with(source, home) == ""
    assert len(read) == 2


def test_a_home_that_cannot_be_written_only_costs_the_reading(source: Path, tmp_path: Path) -> None:
    assert problem_with(source, tmp_path / "nowhere") == ""
    (tmp_path / "verified-models.json").write_text("{ damaged")
    assert problem_with(source, tmp_path) == ""


def test_the_models_of_a_node_are_found(source: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    one = shutil.copytree(source, home / "models" / "voxtell_v1.1")
    (home / "models" / "embeddings" / "voxtell_v1.1").mkdir(parents=True)
    shutil.copy(source / "text_embeddings.npz", home / "models" / "embeddings" / "voxtell_v1.1")
    (home / "models" / ".cache" / "huggingface").mkdir(parents=True)
    assert on_this_node(Settings(home=home)) == [one]
    assert on_this_node(Settings(home=home, model=str(source))) == [source, one]
    assert on_this_node(Settings(home=home, model=str(tmp_path / "elsewhere"))) == [one]


def test_a_model_that_changed_while_it_was_read_is_not_noted_as_whole(source: Path, tmp_path: Path) -> None:
    note_verified(source, tmp_path, {"model.safetensors": [1, 1]})
    assert not (tmp_path / "verified-models.json").exists()
