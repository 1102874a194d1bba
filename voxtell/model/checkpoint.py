"""A model's files, loaded strictly and safely.

Two layouts of a model directory:

    published   plans.json, fold_0/checkpoint_final.pth (nnU-Net's checkpoint; the weights are its `network_weights`)
    bundled     plans.json, model.safetensors

Nothing in a file is executed: the pickle is read with an allow-list, layer classes come from `plans.LAYERS`.
"""

import hashlib
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from voxtell.errors import ModelError
from voxtell.model.network import UNUSED, VoxTell
from voxtell.model.plans import PLANS, Plans
from voxtell.model.prompt_decoder import from_published_order

PUBLISHED_WEIGHTS = Path("fold_0", "checkpoint_final.pth")
BUNDLED_WEIGHTS = Path("model.safetensors")

# A published checkpoint holds tensors under several names: the encoder again as part of the decoder, and every
# convolution block's parts again in the order in which they run. Both kinds are dropped; what remains must be the
# network, key for key.
ALIAS = re.compile(r"^decoder\.encoder\.|\.all_modules\.")

# numpy scalars and arrays: nnU-Net writes them beside the weights (log, best score). Old numpy had another path.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
_HARMLESS: list[Any] = [
    np.dtype,
    np.ndarray,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLfd"},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]


def weights_path(directory: Path) -> Path:
    """The weights file of a model directory, or `ModelError` saying what is missing."""
    if not directory.is_dir():
        raise ModelError(f"{directory} is no model directory; it must hold {PLANS} and {PUBLISHED_WEIGHTS}")
    for name in (BUNDLED_WEIGHTS, PUBLISHED_WEIGHTS):
        if (directory / name).is_file():
            return directory / name
    raise ModelError(f"{directory} holds no weights: neither {PUBLISHED_WEIGHTS} nor {BUNDLED_WEIGHTS}")


def weights_digest(path: Path) -> str:
    """Its "sha256:..." over all bytes, as `sha256sum` prints it."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def load_network(directory: Path) -> VoxTell:
    """The network of a model directory on the CPU, in evaluation mode, float32; without `UNUSED` weights."""
    path = weights_path(directory)
    plans = Plans.read(directory / PLANS)
    state = read_bundled(path) if path.suffix == ".safetensors" else read_published(path)
    state = {key: tensor for key, tensor in state.items() if not UNUSED.match(key)}
    with torch.device("meta"):
        network = VoxTell(plans)
    network.drop_unused()
    check_keys(path, {key: tensor.shape for key, tensor in network.state_dict().items()}, state)
    if path.suffix != ".safetensors":
        state["pos_embed"] = from_published_order(state["pos_embed"], plans.memory_grid)
    network.load_state_dict(state, strict=True, assign=True)
    return network.float().eval().requires_grad_(False)


def read_bundled(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is truncated or damaged; put the whole file in its place ({error})") from error


def read_published(path: Path) -> dict[str, Tensor]:
    """The tensors of an nnU-Net checkpoint, each under its one name."""
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it asks to run {wanted[1]}" if wanted else "its content is no plain data"
        raise ModelError(f"{path} is refused: {reason}; a checkpoint holds weights and nothing that runs") from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError) as error:
        raise ModelError(f"{path} is truncated or no checkpoint; fetch it again") from error
    weights = checkpoint.get("network_weights") if isinstance(checkpoint, Mapping) else None
    if not isinstance(weights, Mapping) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ModelError(f"{path} has no 'network_weights'; it is not the checkpoint of a VoxTell model")
    return {key: tensor for key, tensor in weights.items() if not ALIAS.search(key)}


def check_keys(path: Path, expected: Mapping[str, torch.Size], found: Mapping[str, Tensor]) -> None:
    """Raise `ModelError` naming the first key that is missing, unknown or of another shape."""
    for key, shape in expected.items():
        if key not in found:
            raise ModelError(f"{path} lacks {key}; its plans.json describes another network")
        if found[key].shape != shape:
            raise ModelError(f"{path}: {key} is {tuple(found[key].shape)}, plans.json says {tuple(shape)}")
    if unknown := found.keys() - expected.keys():
        raise ModelError(f"{path} holds {len(unknown)} keys that plans.json does not describe, such as {min(unknown)}")
