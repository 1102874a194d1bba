"""Fetches the published weights from the Hugging Face hub, checks them, and describes models without a network.

A fetched model is a directory of the published layout with the embedding bank and a record beside its weights:

    <folder>/voxtell_v1.1/plans.json
    <folder>/voxtell_v1.1/fold_0/checkpoint_final.pth
    <folder>/voxtell_v1.1/text_embeddings.npz
    <folder>/voxtell_v1.1/fetched.json        repository, revision, licence, sha256 of every file
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import HfApi, ModelInfo, snapshot_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]  # of whichever HTTP client the hub uses
    HTTPError,
    RevisionNotFoundError,
)

from voxtell.errors import FetchError, ModelError
from voxtell.integrity import blob_is_whole, compare_digests, digest_of, record_of, write_record
from voxtell.model.checkpoint import load_network
from voxtell.model.limits import read_json
from voxtell.model.network import VoxTell
from voxtell.model.plans import PLANS, Plans
from voxtell.model.weights_file import weights_path
from voxtell.segmenter import BANK
from voxtell.text.encoders import QWEN

REPOSITORY = "mrokuss/VoxTell"
VERSIONS = ("v1.1", "v1.0")
REVISION = "0809ac94c5ed594198bf4e85d63245cf222464d7"
"""The commit that is fetched unless another revision is named; published work on voxtell_v1.1 used this one."""


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
    wanted = revision or record_of(directory).get("revision") or REVISION
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
    write_record(directory, repository=REPOSITORY, revision=info.sha, licence=licence)
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
    """Compares the digests that travel with a model, and runs its self-test; returns file -> "sha256:...".

    Raises:
        ModelError: when a file is missing or has changed, or the self-test fails; names the file, or what was found.
    """
    compared = compare_digests(directory)
    self_test(load_network(directory))
    files = (directory / PLANS, weights_path(directory))
    return compared or {str(path.relative_to(directory)): digest_of(path) for path in files}


def verify_text_model() -> dict[str, str]:
    """Compares the text model in the hub's cache with the digests that its files are named by; returns file -> digest.

    Raises:
        ModelError: when it is not there, a file of it is missing or damaged, or the copy has lost the names.
    """
    again = "copy the folder again, or fetch it with: voxtell-dicom model fetch --text-model"
    try:
        snapshot = Path(snapshot_download(QWEN, local_files_only=True))
    except (OSError, ValueError) as error:
        raise ModelError(
            f"the text model {QWEN} is not in the cache of the hub ({type(error).__name__}); {again}"
        ) from error
    wanted = {path.name for path in snapshot.iterdir()}
    index = snapshot / "model.safetensors.index.json"
    needed = {"config.json", *(read_json(index)["weight_map"].values() if index.is_file() else ("model.safetensors",))}
    if missing := sorted(needed - wanted):
        raise ModelError(f"{snapshot / missing[0]} is missing; {again}")
    compared = {}
    for path in sorted(path for path in snapshot.rglob("*") if not path.is_dir()):
        if not path.exists():
            raise ModelError(f"{path} leads to a file that is missing; {again}")
        if not path.is_symlink():
            raise ModelError(
                f"{path} is no link into the cache any more, so no digest travels with it; copy the folder with its "
                "links (tar, cp -a)"
            )
        blob = path.resolve()
        if not blob_is_whole(blob, blob.name):
            raise ModelError(f"{blob} is damaged; {again}")
        compared[str(path.relative_to(snapshot))] = blob.name
    return compared


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
    plans, record = Plans.read(directory / PLANS), record_of(directory)
    with torch.device("meta"):
        parameters = sum(parameter.numel() for parameter in VoxTell(plans).parameters())
    return {
        "name": plans.card.name,
        "version": plans.card.version,
        "licence": record.get("licence", plans.card.licence),
        "notice": plans.card.notice,
        "knows": ", ".join(plans.card.knows) or "whatever is asked for",
        "digest": digest_of(weights_path(directory)),
        "weights": str(weights_path(directory)),
        "parameters": parameters,
        "patch_size": list(plans.patch_size),
        "text_encoder": plans.card.text_encoder,
        "bank": (directory / BANK).is_file(),
        "repository": record.get("repository"),
        "revision": record.get("revision"),
    }


def _check_version(info: ModelInfo, folder: str, revision: str) -> None:
    if not any(file.rfilename.startswith(f"{folder}/") for file in info.siblings or []):
        raise ModelError(f"{REPOSITORY} at {revision} has no {folder}; name another revision with --revision")


def _check_digest(path: Path, expected: str) -> None:
    found = digest_of(path)
    if found != expected:
        raise ModelError(f"{path} has {found}, expected {expected}; remove it and fetch the model again")
