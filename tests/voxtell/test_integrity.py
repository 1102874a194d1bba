"""A model that was copied in part is told from a whole one, before anything of it is loaded."""

import contextlib
import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tests.support.examples import examples
from tests.support.model_files import looks_published, write_safetensors
from voxtell.errors import ModelError
from voxtell.integrity import (
    RECORD,
    blob_is_whole,
    compare_digests,
    digest_of,
    model_files,
    record_of,
    require_whole,
    write_record,
)

EACH_ITS_OWN = examples(60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(params=["with digests", "without digests"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model of both kinds of weights, as it was sent on its way."""
    folder = looks_published(tmp_path / "model")
    write_safetensors(folder / "model.safetensors")
    if request.param == "with digests":
        write_record(folder, revision="r1")
    return folder


def test_the_files_made_here_are_what_they_say(tmp_path: Path) -> None:
    assert load_file(write_safetensors(tmp_path / "a.safetensors"))["a"].shape == (20,)


def test_a_whole_copy_is_whole(model: Path) -> None:
    require_whole(model)
    compared = compare_digests(model)
    assert set(compared) == (
        set() if not record_of(model) else {str(p.relative_to(model)) for p in model_files(model)} - {RECORD}
    )


@EACH_ITS_OWN
@given(data=st.data())
def test_a_file_that_was_not_copied_to_its_end_is_named(model: Path, tmp_path: Path, data: st.DataObject) -> None:
    weights = [path for path in model_files(model) if path.name not in ("plans.json", RECORD)]
    path = data.draw(st.sampled_from(weights))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    try:
        with pytest.raises(ModelError, match=f"^{path} .*it was not copied to its end"):
            require_whole(model)
    finally:
        path.write_bytes(whole)


@EACH_ITS_OWN
@given(data=st.data())
def test_a_byte_that_changed_on_the_way_is_found(model: Path, data: st.DataObject) -> None:
    """By the digests, and where none travel by the checksums of an archive."""
    checked = [path for path in model_files(model) if record_of(model) or path.suffix in (".pth", ".npz")]
    path = data.draw(st.sampled_from([path for path in checked if path.name != RECORD]))
    whole = bytearray(path.read_bytes())
    place = data.draw(st.integers(100, 130)) if not record_of(model) else data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :]))
    try:
        with pytest.raises(ModelError, match=f"^{path} "):
            compare_digests(model)
    finally:
        path.write_bytes(bytes(whole))


@EACH_ITS_OWN
@given(at=st.integers(4, 400), size=st.integers(0, 80), put=st.binary(max_size=8))
def test_whatever_is_missing_within_an_archive_is_a_sentence(tmp_path: Path, at: int, size: int, put: bytes) -> None:
    path = tmp_path / "text_embeddings.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("labels.npy", "vectors.npy"):
            archive.writestr(name, bytes(range(256)) * 4)
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + put + whole[at + size :])
    with contextlib.suppress(ModelError):
        compare_digests(tmp_path)


def test_a_file_that_is_missing_is_named_where_digests_travel(model: Path) -> None:
    (model / "text_embeddings.npz").unlink()
    if not record_of(model):
        require_whole(model)
        return
    with pytest.raises(ModelError, match=r"text_embeddings\.npz is missing; copy the whole directory"):
        require_whole(model)


def test_a_checkpoint_of_before_archives_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "checkpoint_final.pth").write_bytes(b"\x80\x02 an older pickle")
    require_whole(tmp_path)
    assert compare_digests(tmp_path) == {}


@pytest.mark.parametrize("content", ["{", "[]", '{"files": 3}', '{"files": {"a": "b"}, "bytes": []}', "[" * 100_000])
def test_a_damaged_record_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(ModelError, match=r"fetched\.json is damaged"):
        require_whole(tmp_path)


def test_a_record_of_before_sizes_were_noted_is_read(tmp_path: Path) -> None:
    folder = looks_published(tmp_path / "model")
    digests = {str(path.relative_to(folder)): digest_of(path) for path in model_files(folder)}
    (folder / RECORD).write_text(json.dumps({"revision": "r1", "files": digests}))
    assert compare_digests(folder) == digests
    shutil.copy(folder / "plans.json", folder / "fold_0" / "checkpoint_final.pth")
    with pytest.raises(ModelError, match=r"has sha256:.*, expected sha256:"):
        compare_digests(folder)


def test_files_of_the_hubs_cache_are_known_by_their_names(tmp_path: Path) -> None:
    content = b"a small file\n"
    path = tmp_path / "blob"
    path.write_bytes(content)
    assert blob_is_whole(path, hashlib.sha256(content).hexdigest())
    assert blob_is_whole(path, "6dce2b5f1f2ae8cd0b9f7a3d6f6fa16d1a3f3f0f") is False
    assert blob_is_whole(path, hashlib.sha1(b"blob 13\0" + content).hexdigest())
