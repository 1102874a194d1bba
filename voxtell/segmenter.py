"""Segments in four steps: embed the prompts, prepare the image, run the windows, threshold the logits.

`load` returns a `Segmenter`; use it from one thread at a time. Axes are (S, A, R): index 0 grows to superior, 1 to
anterior, 2 to the patient's right. P is the number of prompts, E the number of values per embedding.
"""

import os
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from voxtell.engine import BUNDLED_MODEL, Ask, Cancelled, ModelInfo, Part, Precision, Progress, Spacing, check_asks
from voxtell.errors import ImageWarning, ModelError
from voxtell.inference import preprocess
from voxtell.inference.assembly import Convert
from voxtell.inference.axes import CHECK, axes_doubt
from voxtell.inference.hounsfield import hounsfield_doubt
from voxtell.inference.memory import shortage_said
from voxtell.inference.runner import Runner, dtype_of, pick_device
from voxtell.inference.shortcuts import EXACT, Shortcuts
from voxtell.integrity import digest_of
from voxtell.model import checkpoint
from voxtell.model.network import VoxTell
from voxtell.model.plans import ENGINE, PLANS, Plans
from voxtell.model.weights_file import weights_path
from voxtell.text.encoders import Bank, QwenEncoder, TextEncoder
from voxtell.text.lexical import NgramEncoder

BANK = "text_embeddings.npz"  # an embedding bank beside the weights is used without being named

MEANS_THE_SAME = 0.8
"""Two embeddings with at least this cosine mean the same structure."""
REMEMBERED_PROMPTS = 4096  # embeddings kept between calls; 10 kB each


def load(
    model: str | Path | None = None,
    device: str = "cpu",
    bank: str | Path | None = None,
    *,
    use_bank: bool = True,
    precision: Precision = "auto",
    shortcuts: Shortcuts = EXACT,
    compiled: bool = False,
) -> "Segmenter":
    """Returns the model of a directory, or the bundled one, ready on a device.

    Args:
        model: model directory; None for the bundled model.
        device: "cpu", "cuda", "cuda:1", or "auto", the first GPU if there is one.
        bank: .npz of embeddings that is asked before the text model; None takes the one beside the weights, if any.
        use_bank: False uses no bank at all.
        precision: "auto" is float16 on CUDA and float32 elsewhere; the digest names it unless it is float32.
        shortcuts: approximations, none by default.
        compiled: let torch compile the encoder, which takes minutes at the first window.

    Raises:
        ModelError: when a file is missing, damaged or describes another network, the device is not there, or there is
            no C compiler for `compiled`.
        OutOfMemoryError: when the device has too little free memory now.
    """
    if compiled and not any(map(shutil.which, (os.environ.get("CC", ""), "cc", "gcc", "clang"))):
        raise ModelError("to compile the encoder torch needs a C compiler; install gcc, or leave compile_encoder off")
    directory = Path(model) if model is not None else BUNDLED_MODEL
    place = pick_device(device)
    network = checkpoint.load_network(directory)
    plans = network.plans
    text = _text_encoder(plans, str(place))
    found = bank_of(directory, bank) if use_bank else None
    if found is not None:
        text = Bank(found, text)
    digest = digest_of(weights_path(directory))
    with shortage_said():
        return Segmenter(
            network.to(place),
            text,
            digest,
            plans_digest=digest_of(directory / PLANS),
            precision=precision,
            shortcuts=shortcuts,
            compiled=compiled,
        )


def bank_of(model: str | Path | None, bank: str | Path | None = None) -> Path | None:
    """Returns the embedding bank that a model is used with: the one named, else the one beside its weights."""
    if bank is not None:
        return Path(bank)
    beside = (Path(model) if model is not None else BUNDLED_MODEL) / BANK
    return beside if beside.is_file() else None


class Segmenter:
    """Segments what free-text prompts name; VoxTell's `Engine`."""

    takes: frozenset[Part] = frozenset({"text"})

    def __init__(
        self,
        network: VoxTell,
        text: TextEncoder,
        weights_digest: str,
        *,
        plans_digest: str = "",
        precision: Precision = "auto",
        shortcuts: Shortcuts = EXACT,
        compiled: bool = False,
    ) -> None:
        """Takes over a network that is on its device already.

        weights_digest, plans_digest: "sha256:..." of the two files, for the identity of results.

        Raises:
            ModelError: when the text encoder's embeddings are not as wide as the network expects.
        """
        if text.dim != network.plans.prompt.text_dim:
            raise ModelError(
                f"{text.name} gives {text.dim} numbers per prompt, the network takes {network.plans.prompt.text_dim}"
            )
        card = network.plans.card
        self.plans = replace(network.plans, input=shortcuts.applied_to(network.plans.input))
        place = network.pos_embed.device
        computes_in = str(dtype_of(precision, place)).removeprefix("torch.")
        precise = "" if computes_in == "float32" else computes_in
        self.info = ModelInfo(
            card.name,
            card.version,
            weights_digest,
            card.licence,
            card.notice,
            card.text_encoder,
            ENGINE,
            network.plans.input.spacing_max,
            card.knows,
            used=tuple(part for part in (str(shortcuts), precise) if part),
            made_with=(f"plans={plans_digest}",) if plans_digest else (),
        )
        self._runner = Runner(network, precision, shortcuts=shortcuts, compiled=compiled)
        self.device = str(place)  # as torch names it: "cpu", "cuda:0"
        self._air = shortcuts.skip_below
        self._text = text
        self._embeddings: dict[str, Tensor] = {}

    def __call__(
        self,
        image: npt.NDArray[np.float32],
        prompts: Sequence[str | Ask],
        *,
        spacing: Spacing | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Returns bool masks (P, S, A, R) of the prompts, in their order, on the grid of the image.

        Args:
            image: float32 (S, A, R), HU for models trained on CT.
            prompts: texts; an `Ask` must have a text only.
            spacing: mm per voxel (S, A, R); models that were trained at one spacing resample by it.
            progress: called with the share of the work that is done, 0 to 1.
            cancelled: asked before every window; True ends the work.

        Warns with `ImageWarning` of what `doubts` says, and where every structure that the model knows comes out empty.

        Raises:
            ImageError: when `image` is not a float32 volume of finite numbers.
            PromptError: when a prompt cannot be used.
            CancelledError: when `cancelled` returned True.
            NumbersError: when the network gives values that are no finite numbers.
            OutOfMemoryError: when the device has too little free memory now.
        """
        image, texts = preprocess.check_image(image), [text.lower() for text in self._texts(prompts)]
        for doubt in self.doubts(image):
            warnings.warn(doubt, ImageWarning, stacklevel=2)
        masks = np.zeros((len(texts), *image.shape), dtype=np.bool_)
        self._segment(image, texts, masks, _positive, spacing, progress, cancelled)
        if not masks.any() and (doubt := self._nothing_found(image.shape, texts, spacing)):
            warnings.warn(f"Nothing was found: every mask is empty. {doubt}", ImageWarning, stacklevel=2)
        return masks

    def __repr__(self) -> str:
        """Returns what it is, where it computes and what it knows, in one line."""
        known = ", ".join(self.info.knows) or "free text"
        return f"<Segmenter {self.info.name} {self.info.version} on {self.device}: {known}>"

    def logits(
        self,
        image: npt.NDArray[np.float32],
        prompts: Sequence[str | Ask],
        *,
        spacing: Spacing | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> npt.NDArray[np.float32]:
        """Returns float32 logits (P, S, A, R), positive inside a mask, -inf outside the crop to the foreground.

        Arguments and errors are those of a call; it does not warn. Memory: four bytes per voxel and prompt.
        """
        image, texts = preprocess.check_image(image), [text.lower() for text in self._texts(prompts)]
        logits = np.full((len(texts), *image.shape), -np.inf, dtype=np.float32)
        self._segment(image, texts, logits, _as_is, spacing, progress, cancelled)
        return logits

    def made_by(self, prompts: Sequence[str | Ask]) -> ModelInfo:
        """Returns `info`, extended by the sources of the prompts' embeddings: the bank, the text model, or both.

        Ask after the masks: the revision of a text model is known only once it is loaded.
        """
        card = self.plans.card
        compared = card.knows + card.taught + card.refused if card.refused else ()
        sources = self._text.sources([text.lower() for text in (*self._texts(prompts, to_draw=False), *compared)])
        return replace(self.info, made_with=(*self.info.made_with, *sources))

    def doubts(self, image: npt.NDArray[np.float32]) -> list[str]:
        """Returns why an image (S, A, R) does not suit the model's normalization: one sentence, or an empty list.

        A model that normalizes by the image's own mean and deviation takes every scale; one that clips to a window of
        Hounsfield units takes no other.

        Raises:
            ImageError: when the image is not a volume of finite numbers.
        """
        doubt = hounsfield_doubt(preprocess.check_image(image)) if self.plans.input.normalization == "ct" else ""
        advice = f"{self.info.name} was trained on nothing else; check the rescaling of the image."
        return [f"{doubt} {advice}"] if doubt else []

    def unlearnt(self, prompts: Sequence[str | Ask]) -> list[str]:
        """Returns the prompts that mean none of the structures in `info.knows`; [] when the model lists none.

        Known is a prompt that is close to words which the training answered with a mask (cosine of `MEANS_THE_SAME` or
        more), and closer to them than to words which it answered with an empty one. An empty mask of any other prompt
        does not say that the structure is not in the image.

        Raises:
            PromptError: when a prompt is empty or is not a text.
        """
        if not self.info.knows or not prompts:
            return []
        texts = self._texts(prompts, to_draw=False)
        closest, refused = self._closeness(texts)
        learnt = (closest >= MEANS_THE_SAME) & (closest > refused)
        return [text for text, known in zip(texts, learnt.tolist(), strict=True) if not known]

    def _nothing_found(self, shape: Sequence[int], texts: Sequence[str], spacing: Spacing | None) -> str:
        """Returns what to check when every mask is empty; "" where that may well be right.

        A model that lists what it knows should find it; one that lists nothing may have been asked for a finding.
        """
        known = len(self.unlearnt(texts)) < len(texts)
        return (
            axes_doubt(shape, spacing, self.plans.input.spacing) or (CHECK if self.info.knows else "") if known else ""
        )

    def _texts(self, prompts: Sequence[str | Ask], *, to_draw: bool = True) -> list[str]:
        """Returns the texts of the prompts. Raises `PromptError` as `check_asks` does."""
        return [str(ask.text) for ask in check_asks(prompts, self.takes, self.info.name, to_draw=to_draw)]

    def _refused(self, texts: Sequence[str]) -> set[str]:
        """Returns the prompts that are closest to words which the model was taught to refuse.

        Their masks are left empty, whatever the network would draw for a sentence that it has never seen ("the gland
        that makes insulin").
        """
        if not self.plans.card.refused:
            return set()
        unique = list(dict.fromkeys(texts))
        closest, refused = self._closeness(unique)
        return {text for text, no in zip(unique, (refused >= closest).tolist(), strict=True) if no}

    def _closeness(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Returns two cosines (P,) of each prompt: with the closest word taught, and with the closest refused."""
        card = self.plans.card
        return self._likeness(prompts, card.knows + card.taught), self._likeness(prompts, card.refused)

    def _likeness(self, prompts: Sequence[str], words: Sequence[str]) -> Tensor:
        """Returns the cosine (P,) of each prompt with the closest of the words; -1 when there are no words."""
        if not words:
            return torch.full((len(prompts),), -1.0)
        meant, others = (functional.normalize(self.embed([t.lower() for t in texts])) for texts in (prompts, words))
        return (meant @ others.T).amax(dim=1)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Returns embeddings float32 (P, E) of lower-case prompts; keeps the last `REMEMBERED_PROMPTS` of them."""
        new = [text for text in dict.fromkeys(prompts) if text not in self._embeddings]
        found = {text: self._embeddings[text] for text in prompts if text in self._embeddings}
        if new:
            found.update(zip(new, self._text.embed(new), strict=True))
            self._embeddings.update((text, found[text]) for text in new)
            while len(self._embeddings) > REMEMBERED_PROMPTS:
                del self._embeddings[next(iter(self._embeddings))]
        return torch.stack([found[text] for text in prompts])

    def _segment(
        self,
        image: npt.NDArray[np.float32],
        texts: list[str],
        out: npt.NDArray[Any],
        convert: Convert,
        spacing: Spacing | None,
        progress: Progress | None,
        cancelled: Cancelled | None,
    ) -> None:
        """Fills `out` (P, S, A, R) inside the crop with the converted logits. A prompt given twice is decoded once."""
        report = progress or _ignore
        refused = self._refused(texts)
        drawn = [text for text in dict.fromkeys(texts) if text not in refused]
        field = preprocess.prepare(image, self.plans, preprocess.check_spacing(spacing), air=self._air)
        if field is not None and drawn:
            with shortage_said():
                embeddings = self.embed(drawn)
            inside = out[(slice(len(drawn)), *field.crop)]
            self._runner.fill(field, embeddings, inside, convert, report, cancelled or _never)
            nothing = convert(torch.tensor(-torch.inf)).item()
            # The rows of `drawn` lie at the front of `out`. From the back, each row is read before it is overwritten.
            for p in reversed(range(len(texts))):
                if drawn[p : p + 1] != [texts[p]]:
                    out[p] = out[drawn.index(texts[p])] if texts[p] in drawn else nothing
        report(1.0)


def _positive(logits: Tensor) -> Tensor:
    """Returns where sigmoid(x) > 0.5, which is where x > 0."""
    return logits > 0


def _as_is(logits: Tensor) -> Tensor:
    return logits


def _ignore(_: float) -> None:
    """Stands in for the progress callback that nobody gave."""


def _never() -> bool:
    return False


def _text_encoder(plans: Plans, device: str) -> TextEncoder:
    """Returns the text encoder that the model's card names."""
    if plans.card.text_encoder == "ngrams":
        return NgramEncoder(plans.prompt.text_dim)
    return QwenEncoder(device=device, dim=plans.prompt.text_dim)
