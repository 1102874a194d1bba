"""Loads a model's weights strictly and safely.

A model directory has one of two layouts:

    published   plans.json, fold_0/checkpoint_final.pth (nnU-Net's checkpoint; the weights are its `network_weights`)
    bundled     plans.json, model.safetensors

Nothing in a file is executed: the pickle is read with an allow-list, layer classes come from `plans.LAYERS`. Every key
and shape must be that of the network which plans.json describes.
"""

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
from voxtell.model.limits import require_stored, tensor_shapes
from voxtell.model.network import UNUSED, VoxTell
from voxtell.model.plans import PLANS, Plans
from voxtell.model.prompt_decoder import from_published_order
from voxtell.model.weights_file import weights_path

Shape = tuple[int, ...]

# A published checkpoint holds the same tensor under several names: the encoder again as part of the decoder, and the
# parts of every convolution block again in the order in which they run. Both kinds of alias are dropped; what remains
# must be the network, key for key.
ALIAS = re.compile(r"^decoder\.encoder\.|\.all_modules\.")

# nnU-Net writes numpy scalars and arrays beside the weights (log, best score). Older numpy had them at another path.
_SCALAR, _ARRAY = np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]
_HARMLESS: list[Any] = [
    np.dtype,
    np.ndarray,
    *{type(np.dtype(kind)) for kind in "?bBhHiIlLfd"},
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_ARRAY, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]


def load_network(directory: Path) -> VoxTell:
    """Returns the network of a model directory: on the CPU, float32, in evaluation mode, without gradients.

    Weights that nothing reads (`UNUSED`) are left out. The network is built without memory for its weights and takes
    over the tensors of the file, so the weights are held once.

    Raises:
        ModelError: when a file is missing or damaged, would run code, or does not fit its plans.json.
    """
    path = weights_path(directory)
    plans = Plans.read(directory / PLANS)
    with torch.device("meta"):
        network = VoxTell(plans)
    network.drop_unused()
    expected = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    state = read_bundled(path, expected) if path.suffix == ".safetensors" else read_published(path)
    state = {key: tensor for key, tensor in state.items() if not UNUSED.match(key)}
    check_keys(path, expected, {key: tuple(tensor.shape) for key, tensor in state.items()})
    if path.suffix != ".safetensors":
        state["pos_embed"] = from_published_order(state["pos_embed"], plans.memory_grid)
    network.load_state_dict(state, strict=True, assign=True)
    return network.float().eval().requires_grad_(False)


def read_bundled(path: Path, expected: Mapping[str, Shape]) -> dict[str, Tensor]:
    """Returns the tensors of a .safetensors file by their keys; none is read unless all are as `expected`.

    Raises:
        ModelError: when the file is damaged, or holds other tensors.
    """
    try:
        shapes = tensor_shapes(path)
        check_keys(path, expected, {key: shape for key, shape in shapes.items() if not UNUSED.match(key)})
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is truncated or damaged; put the whole file in its place ({error})") from error


def read_published(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of an nnU-Net checkpoint, each under its one name (see `ALIAS`).

    Raises:
        ModelError: when the file is damaged, holds anything but plain data, or is not a network's checkpoint.
    """
    require_stored(path)
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


def check_keys(path: Path, expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> None:
    """Checks that the shapes of the tensors found are those expected, key for key.

    path: the weights file, for the message.

    Raises:
        ModelError: when a key is missing, unknown or of another shape; names the first.
    """
    for key, shape in expected.items():
        if key not in found:
            raise ModelError(f"{path} lacks {key}; its plans.json describes another network")
        if found[key] != shape:
            raise ModelError(f"{path}: {key} is {found[key]}, plans.json says {shape}")
    if unknown := found.keys() - expected.keys():
        raise ModelError(f"{path} holds {len(unknown)} keys that plans.json does not describe, such as {min(unknown)}")
