"""From free text to embeddings: the published text model, and the bank of embeddings that is asked before it."""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from voxtell.errors import ModelError
from voxtell.inference.memory import CPU, free_bytes

QWEN = "Qwen/Qwen3-Embedding-4B"
QWEN_DIM = 2560
INSTRUCTION = "Given an anatomical term query, retrieve the precise anatomical entity and location it represents"
MAX_TOKENS = 8192
BATCH = 32  # prompts embedded at once


class TextEncoder(Protocol):
    """Turns prompts into embeddings."""

    @property
    def dim(self) -> int:
        """Numbers per embedding."""

    @property
    def name(self) -> str:
        """What to call it in a log or a report."""

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> float32 (P, dim) on the CPU, in the order of the prompts."""

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """What the embeddings of these prompts come from, each with its digest or revision."""


class QwenEncoder:
    """Qwen3-Embedding: last hidden state of the last token, after the instruction it was asked with in training.

    The model is loaded at the first prompt and held on the CPU between calls, so that the image network has the GPU.
    """

    name = "qwen3"

    def __init__(self, model: str | Path = QWEN, device: str = "cpu", dim: int = QWEN_DIM) -> None:
        self.dim = dim
        self._source = str(model)
        self._device = torch.device(device)
        self._loaded: tuple[Any, Any] | None = None
        self._revision = "not loaded"

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 (all come from one model)
        """The text model with the commit that was loaded; a folder that is no snapshot of a hub tells none."""
        return (f"text={self._source}@{self._revision}",)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> float32 (P, dim). `ModelError` when the text model is not on this machine."""
        texts = [f"Instruct: {INSTRUCTION}\nQuery: {prompt.lower()}" for prompt in prompts]
        try:
            return self._embed_on(self._device, texts)
        except torch.OutOfMemoryError:  # of a GPU; slower on the CPU, but done
            if self._device.type == "cpu":
                raise
        return self._embed_on(torch.device("cpu"), texts)

    def _embed_on(self, device: torch.device, texts: list[str]) -> Tensor:
        tokenizer, model = self._load()
        parts = []
        try:
            model.to(device)
            for first in range(0, len(texts), BATCH):
                tokens = tokenizer(
                    texts[first : first + BATCH],
                    padding=True,
                    truncation=True,
                    max_length=MAX_TOKENS,
                    return_tensors="pt",
                )
                with torch.inference_mode():
                    states: Tensor = model(**tokens.to(device)).last_hidden_state
                parts.append(states[:, -1].float().cpu())  # padding is on the left: the last token is the prompt's last
        finally:
            model.to("cpu")
            if device.type == "cuda":
                torch.cuda.empty_cache()
            # Its embeddings are remembered; where it takes the memory that volumes need, it is loaded again instead.
            if free_bytes(CPU) < sum(weight.nbytes for weight in model.parameters()):
                self._loaded = None
        return torch.cat(parts)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            # transformers imports torchvision where it is installed, and one built for another torch would stop it.
            sys.modules.setdefault("torchvision", None)  # type: ignore[arg-type]
            from transformers import AutoModel, AutoTokenizer

            dtype = torch.bfloat16 if self._device.type == "cuda" else torch.float32
            try:
                tokenizer = AutoTokenizer.from_pretrained(self._source, padding_side="left")
                model = AutoModel.from_pretrained(self._source, dtype=dtype).eval()
            except (OSError, ValueError) as error:
                raise ModelError(
                    f"the text model {self._source} cannot be loaded; fetch it while there is a network, "
                    f"or use prompts of an embedding bank ({str(error).splitlines()[0]})"
                ) from error
            if model.config.hidden_size != self.dim:
                raise ModelError(f"{self._source} gives {model.config.hidden_size} numbers per prompt, not {self.dim}")
            self._loaded = tokenizer, model
            self._revision = str(getattr(model.config, "_commit_hash", None) or "unknown")
        return self._loaded


class Bank:
    """Embeddings computed beforehand, in one `.npz`: `labels` (N texts) and `embeddings` float16 (N, dim).

    Only prompts that the bank lacks go to the other encoder, so common prompts never load a language model.
    """

    def __init__(self, path: Path, fallback: TextEncoder) -> None:
        self.dim = fallback.dim
        self.name = fallback.name
        self._fallback = fallback
        labels, self._embeddings = _read_bank(path, "labels", "embeddings")
        if self._embeddings.shape != (len(labels), self.dim):
            raise ModelError(
                f"the bank {path} holds {self._embeddings.shape}, this model needs ({len(labels)}, {self.dim})"
            )
        self._rows = {str(label).lower(): row for row, label in enumerate(labels)}
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def labels(self) -> list[str]:
        """The prompts that the bank answers, in lower case."""
        return list(self._rows)

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """The bank, if it knows one of the prompts, and the other encoder's sources, if it does not know them all."""
        unknown = [prompt for prompt in prompts if prompt.lower() not in self._rows]
        mine = (f"bank=sha256:{self._digest}",) if len(unknown) < len(prompts) else ()
        return (*mine, *(self._fallback.sources(unknown) if unknown else ()))

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> float32 (P, dim), from the bank where it knows them."""
        texts = [prompt.lower() for prompt in prompts]
        unknown = [text for text in dict.fromkeys(texts) if text not in self._rows]
        embedded = dict(zip(unknown, self._fallback.embed(unknown), strict=True)) if unknown else {}
        rows = [
            embedded[text] if text in embedded else torch.from_numpy(self._embeddings[self._rows[text]]).float()
            for text in texts
        ]
        return torch.stack(rows)


def bank_labels(path: Path) -> list[str]:
    """The prompts that an embedding bank answers, in lower case and in the order of the file."""
    (labels,) = _read_bank(path, "labels")
    return [str(label).lower() for label in labels]


def _read_bank(path: Path, *names: str) -> list[npt.NDArray[Any]]:
    """Arrays of a bank by their names, or `ModelError` saying what is wrong with the file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return [file[name] for name in names]
    except FileNotFoundError:
        raise ModelError(f"the embedding bank {path} does not exist") from None
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise ModelError(f"{path} is no embedding bank (.npz with labels and embeddings): {error}") from error
