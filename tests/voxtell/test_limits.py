"""Files of a model directory that ask for more than a model does are refused before the work."""

import json
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from voxtell.errors import ModelError
from voxtell.model import checkpoint, limits
from voxtell.model.plans import Plans
from voxtell.text.encoders import bank_labels

ENCODER = ("configurations", "3d_fullres", "architecture", "arch_kwargs")


def plans_with(path: Path, *place: str, value: object) -> Path:
    document = json.loads(json.dumps(Plans().document()))
    inner = document
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ((*ENCODER, "features_per_stage"), [0] * 6, "features_per_stage is 0"),
        ((*ENCODER, "features_per_stage"), [2**40] * 6, "features_per_stage is 1099511627776"),
        ((*ENCODER, "strides"), [[1, 1, 1]] + [[0, 2, 2]] * 5, "strides is 0"),
        ((*ENCODER, "strides"), [[-1, -1, -1]] * 6, "strides is -1"),
        ((*ENCODER, "kernel_sizes"), [[-3, 3, 3]] * 6, "kernel_sizes is -3"),
        ((*ENCODER, "n_blocks_per_stage"), [10**9] * 6, "n_blocks_per_stage is 1000000000"),
        (("configurations", "3d_fullres", "patch_size"), [0, 192, 192], "patch_size is 0"),
        (("configurations", "3d_fullres", "patch_size"), [2**30, 192, 192], "patch_size is 1073741824"),
        (("configurations", "3d_fullres", "patch_size"), [float("inf")] * 3, "no plans.json"),
        (("voxtell", "knows"), 7, "lists of texts"),
        (("voxtell", "knows"), "liver", "lists of texts"),
        (("voxtell", "refused"), ["liver", ["spleen"]], "lists of texts"),
        (("voxtell", "name"), None, "must be texts"),
        (("voxtell", "heads"), 0, "heads is 0"),
        (("voxtell", "query_dim"), -2048, "query_dim is -2048"),
        (("voxtell", "layers"), 10**9, "layers is 1000000000"),
        (("voxtell", "text_dim"), "many", "text_dim is 'many'"),
        (("voxtell", "memory_stage"), 9, "memory_stage is 9, there are 6 stages"),
        (("voxtell", "std"), float("nan"), "std is nan"),
        (("voxtell", "spacing"), [0, 1, 1], "spacing is 0"),
    ],
)
def test_plans_with_figures_that_no_model_has_are_refused(tmp_path, place, value, says):
    path = plans_with(tmp_path / "plans.json", *place, value=value)
    with pytest.raises(ModelError, match=says) as refused:
        Plans.read(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize(
    ("content", "says"),
    [("[" * 200_000, "nested without end"), (" " * (limits.JSON_BYTES + 1), "bytes, and at most")],
)
def test_a_json_file_without_end_is_refused(tmp_path, content, says):
    (tmp_path / "plans.json").write_text(content)
    with pytest.raises(ModelError, match=says):
        Plans.read(tmp_path / "plans.json")


def test_the_published_and_the_bundled_figures_are_within_the_limits(tmp_path):
    (tmp_path / "plans.json").write_text(json.dumps(Plans().document()))
    assert Plans.read(tmp_path / "plans.json") == Plans()


def bank(path: Path, shape: tuple[int, ...], content: bytes) -> Path:
    """A bank whose labels announce a shape, and have these bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("labels.npy", "w") as entry:
        np.lib.format.write_array_header_1_0(entry, {"descr": "<U1", "fortran_order": False, "shape": shape})
        entry.write(content)
    return path


@pytest.mark.parametrize(
    ("shape", "content", "says"),
    [((2**40,), b"abcd", "announces 4398046511104 bytes"), ((2**24,), b"abcd", "announces 67108864 bytes and has ")],
)
def test_an_array_that_is_not_there_gets_no_memory(tmp_path, shape, content, says):
    path = bank(tmp_path / "bank.npz", shape, content)
    tracemalloc.start()
    with pytest.raises(ModelError, match=says):
        bank_labels(path)
    assert tracemalloc.get_traced_memory()[1] < 2**24
    tracemalloc.stop()


def test_an_array_that_unpacks_to_more_than_any_bank_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "ARRAY_BYTES", 2**20)
    with pytest.raises(ModelError, match="at most 1048576 are read"):
        bank_labels(bank(tmp_path / "bank.npz", (2**19,), bytes(4 * 2**19)))


def weights(path: Path, tensors: dict | bytes, data: bytes = bytes(64), *, length: int | None = None) -> Path:
    """A .safetensors file with this header, whatever it announces."""
    header = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    path.write_bytes((len(header) if length is None else length).to_bytes(8, "little") + header + data)
    return path


def tensor(shape: list, *offsets: int, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize(
    ("header", "more", "says"),
    [
        ({"a": tensor([4, 4], 0, 64)}, {"length": 2**60}, r"announces \d+ bytes of itself"),
        (b" " * (limits.TENSOR_HEADER_BYTES + 1), {}, "at most 4194304 are read"),
        ({str(number): tensor([], 0, 4) for number in range(limits.MOST_TENSORS + 1)}, {}, "20001 tensors"),
        ({"a": tensor([2**40, 2**20], 0, 64)}, {}, "a announces the shape"),
        ({"a": tensor([4, 4], 0, 2**40)}, {}, "0 to 1099511627776, and the file has 64"),
        ({"a": tensor([4, 4], 64, 0)}, {}, "bytes 64 to 0"),
        ({"a": tensor([-4, -4], 0, 64)}, {}, "a announces the shape"),
        ({"a": tensor([True] * 4, 0, 4)}, {}, "a announces the shape"),
        ({"a": tensor([4, 4], 0, 64, dtype="F4096")}, {}, "cannot be read"),
        ({"a": []}, {}, "cannot be read"),
        (b"[" * 100_000, {}, "cannot be read"),
        (b"[]", {}, "cannot be read"),
        (b"\xff\xfe", {}, "cannot be read"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_weights_that_announce_what_is_not_there_are_refused_by_their_header(tmp_path, monkeypatch, header, more, says):
    path = weights(tmp_path / "model.safetensors", header, **more)
    monkeypatch.setattr(checkpoint, "load_file", lambda _path: pytest.fail("a tensor was read"))
    with pytest.raises(ModelError, match=says) as refused:
        checkpoint.read_bundled(path, {"a": (4, 4)})
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 500


@pytest.mark.parametrize("shapes", [{"a": (4, 5)}, {"a": (4, 4), "b": (1,)}, {}])
def test_weights_of_another_network_are_refused_by_their_header(tmp_path, monkeypatch, shapes):
    path = weights(tmp_path / "model.safetensors", {"a": tensor([4, 4], 0, 64), "__metadata__": {"format": "pt"}})
    monkeypatch.setattr(checkpoint, "load_file", lambda _path: pytest.fail("a tensor was read"))
    with pytest.raises(ModelError, match=r"plans\.json"):
        checkpoint.read_bundled(path, shapes)


@pytest.mark.long
def test_a_checkpoint_that_is_packed_is_refused_before_it_is_unpacked(tmp_path):
    """torch inflates what is packed: 64 MB come out of some 64 kB here."""
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"network_weights": {"a": torch.zeros(2**24)}}, plain)
    with zipfile.ZipFile(plain) as before, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as after:
        for entry in before.infolist():
            after.writestr(entry.filename, before.read(entry))
    assert packed.stat().st_size < 2**20
    assert checkpoint.read_published(plain)["a"].shape == (2**24,)
    with pytest.raises(ModelError, match="it is packed, and a checkpoint is not"):
        checkpoint.read_published(packed)
