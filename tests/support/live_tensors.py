"""Counts the bytes that tensors would hold: on torch's meta device a layer says what it makes, and makes nothing."""

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from voxtell.model.network import VoxTell
from voxtell.model.plans import Plans


class LiveTensors(TorchDispatchMode):
    """`now` and `peak`: bytes of all storages that operations within the block made and nobody has let go of."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self,
        function: Callable[..., Any],
        _types: Sequence[type],
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        made = function(*arguments, **(options or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._hold(tensor.untyped_storage())
        return made

    def _hold(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:  # a view has the storage of what it shows
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._let_go, key, size)

    def _let_go(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def window_bytes(plans: Plans, prompts: int, number: torch.dtype) -> int:
    """Most bytes held at once while a window is encoded and decoded for some prompts, on any device but the CPU."""
    with torch.device("meta"):
        network = VoxTell(plans).eval().to(number).to("meta")
        window = torch.empty(1, 1, *plans.patch_size, dtype=number).contiguous(memory_format=torch.channels_last_3d)
        texts = torch.empty(1, prompts, plans.prompt.text_dim, dtype=number)
    for parameter in network.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    with torch.inference_mode(), LiveTensors() as live:
        kernels = network.decoder.kernels()
        skips = network.encoder(window)
        guidance, shared = network.guidance(skips, texts), network.decoder.share(skips, kernels)
        del skips
        for p in range(prompts):
            network.decoder(shared, [scale[0, p] for scale in guidance], kernels, None)
    return live.peak
