"""Loading: strict about keys and shapes, and nothing in a file is run."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import voxtell
from voxtell.errors import ModelError
from voxtell.integrity import digest_of
from voxtell.model import checkpoint
from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans
from voxtell.model.prompt_decoder import from_published_order
from voxtell.model.weights_file import BUNDLED_WEIGHTS, PUBLISHED_WEIGHTS


@pytest.fixture
def bundled(tiny_network: VoxTell, tmp_path: Path) -> Path:
    (tmp_path / "plans.json").write_text(json.dumps(tiny_network.plans.document()))
    save_file(tiny_network.state_dict(), tmp_path / BUNDLED_WEIGHTS)
    return tmp_path


def test_the_published_position_table_is_brought_to_the_order_of_the_array() -> None:
    grid = (2, 3, 4)
    published = torch.arange(3 * 4 * 2.0).view(-1, 1, 1)  # tokens numbered over (A, R, S)
    ours = from_published_order(published, grid).view(grid)
    for s, a, r in [(0, 0, 0), (1, 0, 0), (0, 2, 1), (1, 2, 3)]:
        assert ours[s, a, r] == (a * 4 + r) * 2 + s


@pytest.mark.long
@pytest.mark.parametrize("layout", ["published", "bundled"])
def test_both_layouts_give_the_network_back(layout: str, tiny_network: VoxTell, request) -> None:
    network = checkpoint.load_network(request.getfixturevalue(layout))
    assert network.plans == tiny_network.plans
    assert not network.training
    tiny_network.drop_unused()  # both files hold what nothing reads
    loaded, wanted = network.state_dict(), tiny_network.state_dict()
    assert loaded.keys() == wanted.keys()
    for key, tensor in wanted.items():
        torch.testing.assert_close(loaded[key], tensor, rtol=0, atol=0)


@pytest.mark.long
def test_a_bundled_file_needs_only_what_is_read(tiny_network: VoxTell, bundled: Path) -> None:
    whole = checkpoint.load_network(bundled).state_dict()
    tiny_network.drop_unused()
    save_file(tiny_network.state_dict(), bundled / BUNDLED_WEIGHTS)
    for key, tensor in checkpoint.load_network(bundled).state_dict().items():
        assert torch.equal(tensor, whole[key]), key


def test_load_gives_a_segmenter_with_the_digest_of_its_weights(bundled: Path) -> None:
    plans = json.loads((bundled / "plans.json").read_text())
    plans["voxtell"] |= {"text_encoder": "ngrams", "name": "tiny", "version": "3"}
    (bundled / "plans.json").write_text(json.dumps(plans))
    segmenter = voxtell.load(bundled)
    masks = segmenter(np.random.default_rng(0).normal(size=(16, 16, 24)).astype(np.float32), ["liver"])
    assert masks.shape == (1, 16, 16, 24)
    assert (segmenter.info.name, segmenter.info.version, segmenter.info.text_encoder) == ("tiny", "3", "ngrams")
    assert segmenter.info.digest == digest_of(bundled / "model.safetensors")
    assert len(segmenter.info.digest) == len("sha256:") + 64


def edit_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        with torch.serialization.safe_globals(checkpoint._HARMLESS):
            content = torch.load(path, weights_only=True)
        change(content["network_weights"])
        torch.save(content, path)

    return edit


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (edit_weights(lambda w: w.update(pos_embed=torch.zeros(3, 1, 24))), r"pos_embed is \(3, 1, 24\), plans.json"),
        (edit_weights(lambda w: w.pop("transformer_decoder.norm.bias")), "lacks transformer_decoder.norm.bias"),
        (edit_weights(lambda w: w.update({"extra.weight": torch.zeros(1)})), "does not describe, such as extra.weight"),
        (truncate, "truncated"),
        (lambda path: path.write_bytes(b""), "truncated"),
        (lambda path: torch.save({"network_weights": Evil()}, path), "asks to run .*exec"),
        (lambda path: path.write_bytes(pickle.dumps(Evil(), protocol=2)), "asks to run .*exec"),
        (lambda path: torch.save([1, 2], path), "no 'network_weights'"),
        (Path.unlink, "holds no weights"),
    ],
)
def test_a_wrong_checkpoint_is_refused_in_one_sentence(
    published: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    spoil(published / PUBLISHED_WEIGHTS)
    with pytest.raises(ModelError, match=sentence) as raised:
        checkpoint.load_network(published)
    assert "\n" not in str(raised.value)
    assert raised.value.retry == "final"


def test_truncated_safetensors_are_refused(bundled: Path) -> None:
    truncate(bundled / BUNDLED_WEIGHTS)
    with pytest.raises(ModelError, match="truncated or damaged"):
        checkpoint.load_network(bundled)


def test_missing_files_are_named(bundled: Path) -> None:
    with pytest.raises(ModelError, match="no model directory"):
        checkpoint.load_network(bundled / "nowhere")
    (bundled / "plans.json").unlink()
    with pytest.raises(ModelError, match=r"plans\.json is missing"):
        checkpoint.load_network(bundled)


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("conv_op", "os.system", "this network is built with torch.nn.modules.conv.Conv3d"),
        ("n_conv_per_stage_decoder", [2, 2, 2], "must be 1"),
        ("strides", [[1, 1, 1]], "4 stages but 1 strides"),
        ("kernel_sizes", [[2, 2, 2]] * 4, "must be odd"),
        ("features_per_stage", None, "is no plans.json"),
    ],
)
def test_plans_that_make_no_network_are_refused(bundled: Path, key: str, value: object, sentence: str) -> None:
    path = bundled / "plans.json"
    document = json.loads(path.read_text())
    document["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"][key] = value
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=sentence):
        Plans.read(path)


def test_an_unknown_key_of_the_own_section_is_refused() -> None:
    document = Plans().document()
    document["voxtell"]["text_dims"] = 3
    with pytest.raises(ModelError, match="text_dims"):
        Plans.parse(document)


def test_plans_survive_their_file(tiny_plans: Plans) -> None:
    assert Plans.parse(json.loads(json.dumps(tiny_plans.document()))) == tiny_plans


def test_published_plans_need_no_section_of_their_own() -> None:
    document = json.loads(json.dumps(Plans().document()))
    del document["voxtell"]
    assert Plans.parse(document) == Plans()
