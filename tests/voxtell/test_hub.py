"""Published weights: fetched at a recorded revision, checked, usable offline. A folder stands in for the hub."""

import hashlib
import json
import shutil
from collections.abc import Callable
from fnmatch import fnmatch
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RevisionNotFoundError

import voxtell
from voxtell import hub
from voxtell.errors import FetchError, ModelError
from voxtell.integrity import RECORD, digest_of
from voxtell.model.network import VoxTell
from voxtell.model.weights_file import PUBLISHED_WEIGHTS
from voxtell.text.encoders import QWEN


class FolderHub:
    """Answers `model_info` and `snapshot_download` from a folder, as huggingface_hub 1.x answers from the network."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.revisions = {hub.REVISION, "b" * 40}
        self.downloads: list[str] = []

    def model_info(self, repository: str, *, revision: str | None, files_metadata: bool) -> SimpleNamespace:
        assert (repository, files_metadata) == (hub.REPOSITORY, True)
        if revision not in self.revisions:
            raise RevisionNotFoundError("404", response=SimpleNamespace(headers={}, request=None))
        files = [path for path in sorted(self.root.rglob("*")) if path.is_file()]
        siblings = [
            SimpleNamespace(
                rfilename=str(path.relative_to(self.root)),
                lfs=SimpleNamespace(sha256=hashlib.sha256(path.read_bytes()).hexdigest()),
            )
            for path in files
        ]
        return SimpleNamespace(sha=revision, card_data={"license": "cc-by-nc-4.0"}, siblings=siblings)

    def snapshot_download(self, repository: str, *, revision: str, local_dir: Path, allow_patterns: list[str]) -> None:
        self.downloads.append(revision)
        for path in self.root.rglob("*"):
            name = path.relative_to(self.root)
            if path.is_file() and any(fnmatch(str(name), pattern) for pattern in allow_patterns):
                (local_dir / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, local_dir / name)


@pytest.fixture
def remote(published: Path, tmp_path_factory, monkeypatch) -> FolderHub:
    root = tmp_path_factory.mktemp("remote")
    shutil.copytree(published, root / "voxtell_v1.1")
    shutil.copytree(published, root / "voxtell_v1.0")
    for version in hub.VERSIONS:
        bank = root / "embeddings" / f"voxtell_{version}" / "text_embeddings.npz"
        bank.parent.mkdir(parents=True)
        np.savez(bank, labels=np.array(["liver"]), embeddings=np.zeros((1, 10), np.float16))
    (root / "LICENSE").write_text("not for commercial use")
    folder_hub = FolderHub(root)
    monkeypatch.setattr(hub, "HfApi", lambda: folder_hub)
    monkeypatch.setattr(hub, "snapshot_download", folder_hub.snapshot_download)
    return folder_hub


def test_a_fetched_model_shows_its_licence_and_needs_no_network(remote: FolderHub, tmp_path, monkeypatch) -> None:
    said: list[str] = []
    directory = hub.fetch(tmp_path / "models", announce=said.append)
    assert directory == tmp_path / "models" / "voxtell_v1.1"
    assert "cc-by-nc-4.0" in said[0]
    assert not (tmp_path / "models" / "voxtell_v1.0").exists()
    assert (directory / "text_embeddings.npz").is_file()
    monkeypatch.setattr(hub, "HfApi", None)
    assert hub.verify(directory)["fold_0/checkpoint_final.pth"].startswith("sha256:")
    facts = hub.describe(directory)
    assert (facts["licence"], facts["revision"], facts["bank"]) == ("cc-by-nc-4.0", hub.REVISION, True)


@pytest.mark.parametrize("version", hub.VERSIONS)
def test_every_published_version_loads_without_a_network(remote: FolderHub, tmp_path, monkeypatch, version) -> None:
    directory = hub.fetch(tmp_path, version, announce=lambda _: None)
    monkeypatch.setattr(hub, "HfApi", None)
    monkeypatch.setattr(hub, "snapshot_download", None)
    segmenter = voxtell.load(directory)
    assert directory.name == f"voxtell_{version}"
    assert segmenter.info.digest == hub.describe(directory)["digest"]
    assert segmenter.embed(["liver"]).shape == (1, 10)  # by the bank: there is no text model here


def test_the_built_in_revision_is_fetched_unless_another_is_named_or_was_before(remote: FolderHub, tmp_path) -> None:
    hub.fetch(tmp_path, announce=lambda _: None)
    hub.fetch(tmp_path, revision="b" * 40, announce=lambda _: None)
    hub.fetch(tmp_path, announce=lambda _: None)
    assert remote.downloads == [hub.REVISION, "b" * 40, "b" * 40]


def test_a_revision_that_does_not_have_it_is_named(remote: FolderHub, tmp_path) -> None:
    with pytest.raises(ModelError, match=r"has no revision c{40}; name another with --revision"):
        hub.fetch(tmp_path, revision="c" * 40, announce=lambda _: None)
    shutil.rmtree(remote.root / "voxtell_v1.0")
    with pytest.raises(ModelError, match=rf"at {hub.REVISION} has no voxtell_v1\.0; name another revision"):
        hub.fetch(tmp_path, "v1.0", announce=lambda _: None)
    assert remote.downloads == []


def test_a_file_that_is_not_what_the_hub_says_is_refused(remote: FolderHub, tmp_path, monkeypatch) -> None:
    download = remote.snapshot_download

    def damaged(*arguments: object, **options: object) -> None:
        download(*arguments, **options)
        path = tmp_path / "voxtell_v1.1" / "fold_0" / "checkpoint_final.pth"
        path.write_bytes(path.read_bytes()[:-1])

    monkeypatch.setattr(hub, "snapshot_download", damaged)
    with pytest.raises(ModelError, match=r"checkpoint_final\.pth has sha256:.*expected sha256:"):
        hub.fetch(tmp_path, announce=lambda _: None)


def test_a_hub_that_cannot_be_reached_is_worth_trying_later(remote: FolderHub, tmp_path, monkeypatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(hub, "snapshot_download", unreachable)
    with pytest.raises(FetchError, match=r"no route to host.*copy a model directory") as raised:
        hub.fetch(tmp_path, announce=lambda _: None)
    assert raised.value.retry == "later"
    with pytest.raises(FetchError, match="Qwen"):
        hub.fetch_text_model(lambda _: None)


def test_an_unknown_version_is_refused(tmp_path) -> None:
    with pytest.raises(ModelError, match=r"published are v1\.1, v1\.0"):
        hub.fetch(tmp_path, "v9", announce=lambda _: None)


def test_verifying_names_what_changed_since_the_model_was_fetched(remote: FolderHub, tmp_path) -> None:
    directory = hub.fetch(tmp_path, announce=lambda _: None)
    plans = directory / "plans.json"
    plans.write_text(plans.read_text().replace(" ", "\t", 1))
    with pytest.raises(ModelError, match=r"plans\.json has sha256:"):
        hub.verify(directory)
    plans.write_text(plans.read_text() + " ")
    with pytest.raises(ModelError, match=r"plans\.json has \d+ bytes, expected \d+; copy it again"):
        hub.verify(directory)
    plans.unlink()
    with pytest.raises(ModelError, match=r"plans\.json is missing"):
        hub.verify(directory)
    for content in ("{", "7", '{"files": 7}', '{"files": {"plans.json": 7}}', '{"licence": [1]}'):
        (directory / RECORD).write_text(content)
        with pytest.raises(ModelError, match="is damaged"):
            hub.verify(directory)


def test_the_self_test_finds_broken_weights(tiny_network: VoxTell) -> None:
    network = tiny_network.eval()
    hub.self_test(network)
    with torch.no_grad():
        network.project_to_decoder_channels[0][2].weight.zero_()
        network.project_to_decoder_channels[0][2].bias.zero_()
    with pytest.raises(ModelError, match="do not depend"):
        hub.self_test(network)
    with torch.no_grad():
        network.encoder.stem.convs[0].conv.weight[0] = float("nan")
    with pytest.raises(ModelError, match="not finite"):
        hub.self_test(network)


def test_a_model_without_a_record_is_described_by_its_own_card(published: Path) -> None:
    facts = hub.describe(published)
    assert facts["revision"] is None
    assert facts["digest"] == digest_of(published / PUBLISHED_WEIGHTS)
    assert facts["parameters"] > 1000
    assert json.dumps(facts)


def test_what_a_model_knows_is_said(published: Path) -> None:
    assert hub.describe(published)["knows"] == "whatever is asked for"
    assert hub.describe(voxtell.engine.BUNDLED_MODEL)["knows"].startswith("brainstem, spinal cord, ")


# -- the text model, whose files in the hub's cache are named by their digests


@pytest.fixture
def text_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The text model as `model fetch --text-model` leaves it in the hub's cache; with other weights."""
    repository = tmp_path / "hub" / f"models--{QWEN.replace('/', '--')}"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("a" * 40)
    index = json.dumps({"weight_map": {"x": "model-1.safetensors", "y": "model-2.safetensors"}}).encode()
    files = {"config.json": b"{}", "model.safetensors.index.json": index}
    files |= {f"model-{n}.safetensors": bytes([n]) * 1000 for n in (1, 2)}
    for name, content in files.items():
        large = name.endswith(".safetensors")
        git = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        blob = repository / "blobs" / (hashlib.sha256(content).hexdigest() if large else git)
        blob.write_bytes(content)
        (snapshot / name).symlink_to(blob)
    monkeypatch.setattr(hub, "snapshot_download", partial(snapshot_download, cache_dir=tmp_path / "hub"))
    return snapshot


def test_the_text_model_is_held_against_the_names_of_its_files(text_model: Path) -> None:
    assert set(hub.verify_text_model()) == {path.name for path in text_model.iterdir()}
    blob = (text_model / "model-2.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"^{blob} is damaged; copy the folder again"):
        hub.verify_text_model()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda snapshot: (snapshot / "model-2.safetensors").unlink(), r"model-2\.safetensors is missing; copy the"),
        (lambda snapshot: (snapshot / "config.json").unlink(), r"config\.json is missing; copy the folder again"),
        (
            lambda snapshot: (snapshot / "config.json").resolve().unlink(),
            r"config\.json leads to a file that is missing",
        ),
        (lambda snapshot: shutil.rmtree(snapshot.parents[1]), r"is not in the cache of the hub .* --text-model"),
        (
            lambda snapshot: (snapshot / "config.json").unlink() or (snapshot / "config.json").write_text("{}"),
            r"config\.json is no link into the cache any more, .* copy the folder with its links \(tar, cp -a\)",
        ),
    ],
    ids=["a part", "its description", "behind a link", "all of it", "copied without links"],
)
def test_what_a_copy_of_the_text_model_has_lost_is_named(
    text_model: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(text_model)
    with pytest.raises(ModelError, match=said):
        hub.verify_text_model()
