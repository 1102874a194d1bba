"""Embeds free text: with the published text model, or from a bank of embeddings computed beforehand.

A `Bank` is asked first and passes on only what it lacks. Embeddings are float32 (P, dim) on the CPU.
"""

import hashlib
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy.typing as npt
import torch
from torch import Tensor

from voxtell.errors import ModelError
from voxtell.inference.memory import CPU, free_bytes
from voxtell.model.limits import read_arrays

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
        """Name of the encoder for logs and reports."""

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings float32 (P, dim) on the CPU, in the order of the prompts."""

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Returns what the embeddings of these prompts were computed from, each with its digest or revision."""


class QwenEncoder:
    """Embeds with Qwen3-Embedding: the last hidden state of the last token, after the instruction used in training.

    The model is loaded at the first prompt and held on the CPU between calls, so that the image network has the GPU.
    Loaded, it takes 8 GB in bfloat16 and 16 GB in float32.
    """

    name = "qwen3"

    def __init__(self, model: str | Path = QWEN, device: str = "cpu", dim: int = QWEN_DIM) -> None:
        self.dim = dim
        self._source = str(model)
        self._device = torch.device(device)
        self._loaded: tuple[Any, Any] | None = None
        self._revision = "not loaded"

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:  # noqa: ARG002 (all come from one model)
        """Returns the text model with the commit that was loaded, "unknown" for a folder without one."""
        return (f"text={self._source}@{self._revision}",)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings float32 (P, dim) of the prompts. A GPU that is too full is replaced by the CPU.

        Raises:
            ModelError: when the text model is not on this machine, or gives another number of values.
        """
        texts = [f"Instruct: {INSTRUCTION}\nQuery: {prompt.lower()}" for prompt in prompts]
        try:
            return self._embed_on(self._device, texts)
        except torch.OutOfMemoryError:  # of a GPU; slower on the CPU, but done
            if self._device.type == "cpu":
                raise
        return self._embed_on(torch.device("cpu"), texts)

    def _embed_on(self, device: torch.device, texts: list[str]) -> Tensor:
        """Embeds complete texts in batches on a device, then brings the model back to the CPU or lets it go."""
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
            # Where little more memory than the model's own is free, volumes need it more: embeddings are remembered,
            # and the model is loaded again for the next unknown prompt.
            if free_bytes(CPU) < sum(weight.nbytes for weight in model.parameters()):
                self._loaded = None
        return torch.cat(parts)

    def _load(self) -> tuple[Any, Any]:
        """Returns the tokenizer and the model, loaded at the first call. Raises `ModelError`."""
        if self._loaded is None:
            # transformers imports torchvision where it is installed; one that was built for another torch would fail.
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
    """Holds embeddings computed beforehand, from one .npz: `labels` (N texts) and `embeddings` float16 (N, dim).

    Only prompts that the bank lacks go to the fallback encoder, so common prompts never load a language model. Upper
    and lower case are the same.

    Raises:
        ModelError: when the file is missing or damaged, or its embeddings are of another width than the fallback's.
    """

    def __init__(self, path: Path, fallback: TextEncoder) -> None:
        self.dim = fallback.dim
        self.name = fallback.name
        self._fallback = fallback
        labels, self._embeddings = _read_bank(path, "labels", "embeddings")
        if self._embeddings.shape != (len(labels), self.dim):
            raise ModelError(
                f"the bank {path} holds {self._embeddings.shape}, this model needs ({len(labels)}, {self.dim}); "
                "use the bank that was made for it"
            )
        self._rows = {str(label).lower(): row for row, label in enumerate(labels)}
        with path.open("rb") as file:
            self._digest = hashlib.file_digest(file, "sha256").hexdigest()

    @property
    def labels(self) -> list[str]:
        """The prompts that the bank answers, in lower case."""
        return list(self._rows)

    def sources(self, prompts: Sequence[str]) -> tuple[str, ...]:
        """Returns the bank if it has one of the prompts, followed by the fallback's sources if it lacks any."""
        unknown = [prompt for prompt in prompts if prompt.lower() not in self._rows]
        mine = (f"bank=sha256:{self._digest}",) if len(unknown) < len(prompts) else ()
        return (*mine, *(self._fallback.sources(unknown) if unknown else ()))

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings float32 (P, dim), from the bank where it has them. Raises what the fallback raises."""
        texts = [prompt.lower() for prompt in prompts]
        unknown = [text for text in dict.fromkeys(texts) if text not in self._rows]
        embedded = dict(zip(unknown, self._fallback.embed(unknown), strict=True)) if unknown else {}
        rows = [
            embedded[text] if text in embedded else torch.from_numpy(self._embeddings[self._rows[text]]).float()
            for text in texts
        ]
        return torch.stack(rows)


def bank_labels(path: Path) -> list[str]:
    """Returns the prompts that an embedding bank answers, in lower case and in the order of the file.

    Raises:
        ModelError: when the file is missing or not an embedding bank.
    """
    (labels,) = _read_bank(path, "labels")
    return [str(label).lower() for label in labels]


def _read_bank(path: Path, *names: str) -> list[npt.NDArray[Any]]:
    """Returns arrays of a bank by their names. Raises `ModelError` that says what is wrong with the file."""
    try:
        return read_arrays(path, names)
    except FileNotFoundError:
        raise ModelError(f"the embedding bank {path} does not exist; name one that does, or leave it out") from None
    except (OSError, ValueError, KeyError, EOFError, RuntimeError, BadZipFile, zlib.error) as error:
        raise ModelError(f"{path} is no embedding bank (.npz with labels and embeddings): {error}") from error
