"""Fetches the published weights from the Hugging Face hub, checks them, and describes models without a network.

A fetched model is a directory of the published layout with the embedding bank and a record beside its weights:

    <folder>/voxtell_v1.1/plans.json
    <folder>/voxtell_v1.1/fold_0/checkpoint_final.pth
    <folder>/voxtell_v1.1/text_embeddings.npz
    <folder>/voxtell_v1.1/fetched.json        repository, revision, licence, sha256 of every file
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # of whichever HTTP client the hub uses
    HTTPError,
    RevisionNotFoundError,
)

from voxtell.errors import FetchError, ModelError
from voxtell.model.checkpoint import load_network, weights_digest, weights_path
from voxtell.model.limits import read_json
from voxtell.model.network import VoxTell
from voxtell.model.plans import PLANS, Plans
from voxtell.segmenter import BANK
from voxtell.text.encoders import QWEN

REPOSITORY = "mrokuss/VoxTell"
VERSIONS = ("v1.1", "v1.0")
REVISION = "0809ac94c5ed594198bf4e85d63245cf222464d7"
"""The commit that is fetched unless another revision is named; published work on voxtell_v1.1 used this one."""
RECORD = "fetched.json"


def fetch(
    folder: Path,
    version: str = VERSIONS[0],
    *,
    revision: str | None = None,
    announce: Callable[[str], None],
) -> Path:
    """Fetches published weights, or the files that are still missing, and returns the model directory.

    Args:
        folder: where the model directory is made.
        version: one of `VERSIONS`.
        revision: a commit, tag or branch of the repository. Without it, the one fetched before, else `REVISION`: a
            model never changes under its name.
        announce: is told the licence before anything is downloaded.

    An interrupted download continues where it stopped.

    Raises:
        FetchError: when the hub cannot be reached (retry: later).
        ModelError: when the version is unknown, the hub has no such revision, the revision no such version, or a file
            does not have the digest that the hub names.
    """
    if version not in VERSIONS:
        raise ModelError(f"version {version!r} is unknown; published are {', '.join(VERSIONS)}")
    directory = folder / f"voxtell_{version}"
    bank = f"embeddings/voxtell_{version}/{BANK}"
    wanted = revision or _record(directory).get("revision") or REVISION
    try:
        info = HfApi().model_info(REPOSITORY, revision=wanted, files_metadata=True)
        _check_version(info, directory.name, wanted)
        licence = info.card_data.get("license", "unstated") if info.card_data else "unstated"
        announce(f"{REPOSITORY} at {info.sha}: the licence of the weights is {licence}")
        snapshot_download(
            REPOSITORY, revision=info.sha, local_dir=folder, allow_patterns=[f"{directory.name}/*", bank, "LICENSE*"]
        )
    except RevisionNotFoundError as error:
        raise ModelError(f"{REPOSITORY} has no revision {wanted}; name another with --revision") from error
    except (OSError, HTTPError) as error:
        raise FetchError(
            f"{REPOSITORY} cannot be fetched ({type(error).__name__}: {error}); try again when the hub can be reached, "
            f"or copy a model directory to {directory}"
        ) from error
    for file in info.siblings or []:
        if file.lfs is not None and (folder / file.rfilename).is_file():
            _check_digest(folder / file.rfilename, f"sha256:{file.lfs.sha256}")
    if (folder / bank).is_file():
        (directory / BANK).unlink(missing_ok=True)
        os.link(folder / bank, directory / BANK)
    record = {
        "repository": REPOSITORY,
        "revision": info.sha,
        "licence": licence,
        "files": {str(path.relative_to(directory)): weights_digest(path) for path in _files(directory)},
    }
    (directory / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return directory


def fetch_text_model(announce: Callable[[str], None]) -> None:
    """Fetches the text model (4 billion parameters, 8 GB) into the hub's own cache, for prompts that no bank has.

    Raises:
        FetchError: when the hub cannot be reached (retry: later).
    """
    announce(f"{QWEN} is fetched into the cache of huggingface_hub; its licence is Apache-2.0")
    try:
        snapshot_download(QWEN)
    except (OSError, HTTPError) as error:
        raise FetchError(f"{QWEN} cannot be fetched ({type(error).__name__}: {error}); try again later") from error


def verify(directory: Path) -> dict[str, str]:
    """Recomputes the digests of a model's files and runs its self-test; returns file -> "sha256:...".

    Raises:
        ModelError: when a file has changed since it was fetched or the self-test fails; names the file, or what the
            self-test found.
    """
    for name, digest in _record(directory).get("files", {}).items():
        if not (directory / name).is_file():
            raise ModelError(f"{directory / name} is missing; fetch the model again")
        _check_digest(directory / name, digest)
    self_test(load_network(directory))
    files = (directory / PLANS, weights_path(directory))
    return {str(path.relative_to(directory)): weights_digest(path) for path in files}


def self_test(network: VoxTell) -> None:
    """Runs every part of a network on noise, in a window of two voxels at the coarsest stage.

    Raises:
        ModelError: when logits are not finite, are the same everywhere, or do not depend on the prompt.
    """
    plans = network.plans
    noise = torch.Generator().manual_seed(0)
    coarsest = plans.encoder.reduction(len(plans.encoder.features) - 1)
    with torch.inference_mode():
        skips = network.encoder(torch.randn(1, 1, *(2 * step for step in coarsest), generator=noise))
        memory = torch.randn(1, plans.memory_channels, *plans.memory_grid, generator=noise)
        text = torch.randn(1, 2, plans.prompt.text_dim, generator=noise)
        seen = list(skips)
        seen[plans.prompt.memory_stage] = memory
        guidance, kernels = network.guidance(seen, text), network.decoder.kernels()
        shared = network.decoder.share(skips, kernels)
        first, second = (network.decoder(shared, [scale[0, p] for scale in guidance], kernels)[0] for p in range(2))
    if not bool(torch.isfinite(first).all() and torch.isfinite(second).all()):
        raise ModelError("the self-test of the model failed: its logits are not finite")
    if float(first.std()) == 0 or torch.equal(first, second):
        raise ModelError("the self-test of the model failed: its logits do not depend on image and prompt")


def describe(directory: Path) -> dict[str, Any]:
    """Returns facts about a model directory for people: name, version, licence, structures, digest, sizes, origin.

    Raises:
        ModelError: when a file is missing or damaged.
    """
    plans, record = Plans.read(directory / PLANS), _record(directory)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in VoxTell(plans).parameters())
    return {
        "name": plans.card.name,
        "version": plans.card.version,
        "licence": record.get("licence", plans.card.licence),
        "notice": plans.card.notice,
        "knows": ", ".join(plans.card.knows) or "whatever is asked for",
        "digest": weights_digest(weights_path(directory)),
        "weights": str(weights_path(directory)),
        "parameters": parameters,
        "patch_size": list(plans.patch_size),
        "text_encoder": plans.card.text_encoder,
        "bank": (directory / BANK).is_file(),
        "repository": record.get("repository"),
        "revision": record.get("revision"),
    }


def _record(directory: Path) -> Mapping[str, Any]:
    """Returns what `fetch` wrote down, or {} for a model that came another way.

    Raises:
        ModelError: when it is not what `fetch` writes.
    """
    path = directory / RECORD
    if not path.is_file():
        return {}
    try:
        record: dict[str, Any] = read_json(path)
        texts = [record.get(key) for key in ("repository", "revision", "licence")]
        texts += [text for item in record.get("files", {}).items() for text in item]
        if not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("it holds other values than text")
    except (AttributeError, ValueError) as error:
        raise ModelError(f"{path} is damaged ({error}); remove it and fetch the model again") from error
    return record


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file() and path.name != RECORD)


def _check_version(info: ModelInfo, folder: str, revision: str) -> None:
    if not any(file.rfilename.startswith(f"{folder}/") for file in info.siblings or []):
        raise ModelError(f"{REPOSITORY} at {revision} has no {folder}; name another revision with --revision")


def _check_digest(path: Path, expected: str) -> None:
    found = weights_digest(path)
    if found != expected:
        raise ModelError(f"{path} has {found}, expected {expected}; remove it and fetch the model again")
