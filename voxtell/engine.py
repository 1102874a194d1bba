"""Defines what every segmentation engine offers, and finds the engine for a model directory. Nothing here loads torch.

A new engine is a folder with a `layout.py`, whose `LAYOUT` recognises and loads its model directories, and one line in
`LAYOUTS` below.

Axes of every image, mask, index and spacing in `voxtell` are (S, A, R): index 0 grows to superior, 1 to anterior, 2 to
the patient's right. Spacing is in millimetres per voxel. P is the number of prompts.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

from voxtell import integrity
from voxtell.card import Card
from voxtell.errors import ModelError, PromptError
from voxtell.prompt_checks import problem_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


LAYOUTS: tuple[str, ...] = ("voxtell.layout",)
"""One line per engine: the module whose `LAYOUT` knows its model directories."""

BUNDLED_MODEL = Path(__file__).parent / "weights"

Part = Literal["text", "box", "point"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]
Index = tuple[float, float, float]
Spacing = tuple[float, float, float]
Progress = Callable[[float], None]
Cancelled = Callable[[], bool]


@dataclass(frozen=True)
class Box:
    """Marks a structure by a box of voxels: its lowest and highest index (S, A, R), both inside the box.

    Indices count voxels of the image handed over, from 0. An index between two voxels is rounded outwards.

    Raises:
        PromptError: when an index is not finite, or `low` lies above `high`.
    """

    low: Index
    high: Index

    def __post_init__(self) -> None:
        _check_index(self.low, "the low corner of a box")
        _check_index(self.high, "the high corner of a box")
        if any(low > high for low, high in zip(self.low, self.high, strict=True)):
            raise PromptError(f"a box goes from its low corner to its high corner, not from {self.low} to {self.high}")


@dataclass(frozen=True)
class Point:
    """Marks a voxel (S, A, R) of the image handed over as inside the structure, or as outside when not `positive`.

    Raises:
        PromptError: when the index is not finite.
    """

    at: Index
    positive: bool = True

    def __post_init__(self) -> None:
        _check_index(self.at, "a point")


@dataclass(frozen=True)
class Ask:
    """Asks for one structure: by text, by a box, by points, or by several of these together.

    Raises:
        PromptError: when no part is given.
    """

    text: str | None = None
    box: Box | None = None
    points: tuple[Point, ...] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            raise PromptError("a prompt is empty; give a text, a box or points")

    @property
    def parts(self) -> frozenset[Part]:
        """The kinds of part that are given."""
        given: dict[Part, bool] = {
            "text": self.text is not None,
            "box": self.box is not None,
            "point": bool(self.points),
        }
        return frozenset(part for part, there in given.items() if there)


@dataclass(frozen=True)
class ModelInfo:
    """Holds what a result must say about the model that made it."""

    name: str
    version: str
    weights_digest: str  # "sha256:..." of the weights file
    licence: str
    notice: str  # one sentence: what it is not for
    text_encoder: str
    engine: str  # the name of its layout, such as "voxtell"
    # The coarsest grid (S, A, R) that it was trained on, in mm per voxel; None where unknown.
    spacing_max: Spacing | None = None
    # The structures that it was trained on, when it lists them. An empty mask of any other structure says nothing.
    knows: tuple[str, ...] = ()
    # How the weights were used, if not as trained: shortcuts, a precision other than float32, "straightened".
    used: tuple[str, ...] = ()
    # What else decides a mask, each with its digest: plans.json, the embedding bank, the text model.
    # These are part of `identity` and not of `digest`, which people read.
    made_with: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """The weights and how they were used, for people: "sha256:... early-exit=2 float16"."""
        return " ".join((self.weights_digest, *self.used))

    @property
    def identity(self) -> str:
        """Everything about the model that can change a mask. Results with different identities get different UIDs."""
        return " ".join((self.digest, *self.made_with))


class Engine(Protocol):
    """A loaded model: takes an image and prompts, returns masks. Use it from one thread at a time."""

    @property
    def info(self) -> ModelInfo:
        """The model, as results name it."""

    @property
    def device(self) -> str:
        """Where it computes, as torch names it: "cpu", "cuda:0"."""

    @property
    def takes(self) -> frozenset[Part]:
        """The parts of an `Ask` that it can read."""

    def __call__(
        self,
        image: npt.NDArray[np.float32],
        prompts: Sequence[str | Ask],
        *,
        spacing: Spacing | None = None,
        progress: Progress | None = None,
        cancelled: Cancelled | None = None,
    ) -> npt.NDArray[np.bool_]:
        """Segments each prompt: returns bool (P, S, A, R) in the order of the prompts, on the grid of the image.

        Args:
            image: float32 (S, A, R). Units are those of the model's training, HU for CT.
            prompts: texts, or `Ask`s with the parts that the engine takes.
            spacing: mm per voxel (S, A, R); None when unknown.
            progress: called with the share of the work that is done, 0 to 1.
            cancelled: asked often; True ends the work.

        Raises:
            ImageError: when the image cannot be used; no window was run.
            PromptError: when a prompt cannot be used; no window was run.
            CancelledError: when `cancelled` returned True.
            OutOfMemoryError: when the device has too little free memory now.
        """

    def made_by(self, prompts: Sequence[str | Ask]) -> ModelInfo:
        """Returns `info` with what the masks of these prompts were made with. Ask after the masks are computed."""

    def doubts(self, image: npt.NDArray[np.float32]) -> Sequence[str]:
        """Returns reasons why an image (S, A, R) is not of the kind that the model was trained on, one sentence each.

        Where there is one, an empty mask does not say that the structure is not in the image.
        """

    def unlearnt(self, prompts: Sequence[str | Ask]) -> Sequence[str]:
        """Returns the texts that mean no structure in `info.knows`; [] when the model lists none.

        An empty mask of such a text does not say that the structure is not in the image.
        """


class Layout(ABC):
    """Represents one engine by its model directories: recognises, describes and loads them."""

    engine: ClassVar[str]
    """The engine's name."""
    holds: ClassVar[str]
    """What a model directory of this engine holds, for people."""
    options: ClassVar[type[Any]]
    """A dataclass of what can be set when a model is loaded. A node's setting of the same name fills a field."""

    @abstractmethod
    def fits(self, directory: Path) -> bool:
        """Whether the directory is one of this engine's."""

    @abstractmethod
    def card(self, directory: Path) -> Card:
        """Returns what the model says about itself; reads no weights.

        Raises:
            ModelError: when its description is missing or damaged.
        """

    def require_whole(self, directory: Path) -> None:
        """Checks that every file of the model is there to its end; reads little of them, and loads no torch.

        Raises:
            ModelError: when a file is missing or was not copied to its end; names it.
        """
        integrity.require_whole(directory)

    @abstractmethod
    def load(self, directory: Path, device: str, bank: Path | None, *, use_bank: bool, options: Any) -> Engine:
        """Returns the model, ready on a device. `options` is an instance of `self.options`.

        Raises:
            ModelError: when a file is missing or damaged, or the device is not there.
            OutOfMemoryError: when the device has too little free memory now.
        """

    @abstractmethod
    def describe(self, directory: Path) -> dict[str, Any]:
        """Returns facts about the model for people: name, version, licence, digest, sizes, origin.

        Raises:
            ModelError: when a file is missing or damaged.
        """

    @abstractmethod
    def verify(self, directory: Path) -> dict[str, str]:
        """Compares the digests that travel with the model, and runs a self-test; returns file -> "sha256:...".

        Raises:
            ModelError: when a file has changed or the self-test fails; names the file, or what the self-test found.
        """


def recognise(directory: Path) -> Layout:
    """Returns the layout, and so the engine, of a model directory.

    Raises:
        ModelError: when there is no such directory, or no layout or several fit it; names the known layouts.
    """
    layouts: list[Layout] = [import_module(name).LAYOUT for name in LAYOUTS]
    known = "; ".join(f"{layout.engine}: {layout.holds}" for layout in layouts)
    if not directory.is_dir():
        raise ModelError(f"{directory} is no model directory; name one that holds the files of a model ({known})")
    fitting = [layout for layout in layouts if layout.fits(directory)]
    if not fitting:
        raise ModelError(f"{directory} holds no model of a known layout; known are {known}")
    if len(fitting) > 1:
        names = " and ".join(layout.engine for layout in fitting)
        raise ModelError(f"{directory} holds models of {names}; give each a directory of its own ({known})")
    return fitting[0]


def check_asks(prompts: Sequence[str | Ask], takes: frozenset[Part], model: str, *, to_draw: bool = True) -> list[Ask]:
    """Returns the prompts as `Ask`s, in their order.

    takes: parts that the model reads. model: its name, for the messages. to_draw: whether each must name a structure
    and say no more (`voxtell.prompt_checks`).

    Raises:
        PromptError: when there is no prompt, one is empty or not a text, one denies, excepts or expands what it names,
            or one has a part that the model does not take; names the prompt by number, the part and the model.
    """
    if isinstance(prompts, str):
        raise PromptError(f"prompts must be a list of texts; write [{prompts!r}] for one prompt")
    given = list(prompts)
    if not given:
        raise PromptError("there is no prompt; name at least one structure to segment")
    asks = [_checked(prompt, number, len(given), takes, model) for number, prompt in enumerate(given, start=1)]
    for number, ask in enumerate(asks, start=1):
        if to_draw and ask.text is not None and (problem := problem_of(ask.text)):
            raise PromptError(f"prompt {number} of {len(given)} ({ask.text!r}) {problem}")
    return asks


def _checked(prompt: object, number: int, count: int, takes: frozenset[Part], model: str) -> Ask:
    """Returns prompt `number` of `count` as an `Ask`, or raises `PromptError`."""
    if not isinstance(prompt, str | Ask):
        raise PromptError(f"prompt {number} is {prompt!r}, not a text")
    ask = Ask(prompt) if isinstance(prompt, str) else prompt
    if ask.text is not None and not ask.text.strip():
        raise PromptError(f"prompt {number} of {count} is empty; name a structure or leave it out")
    called = f"prompt {number} of {count}" + (f" ({ask.text!r})" if ask.text is not None else "")
    if beyond := sorted(ask.parts - takes):
        raise PromptError(f"{called} has a {' and a '.join(beyond)}; {model} takes {' or '.join(sorted(takes))} only")
    return ask


def _check_index(index: Index, what: str) -> None:
    """Raises `PromptError` unless the index is three finite numbers; `what` begins the sentence."""
    if len(index) != 3 or not all(math.isfinite(value) for value in index):
        raise PromptError(f"{what} is {index}; it must be three finite voxel indices (S, A, R)")


def read_card(model: str | Path | None = None) -> Card:
    """Returns the card of a model directory, or of the bundled model when none is given.

    Raises:
        ModelError: when the directory is missing or not a model's, or its description is damaged.
    """
    directory = BUNDLED_MODEL if model is None else Path(model)
    return recognise(directory).card(directory)
