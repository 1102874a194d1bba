"""Model directories on this node: the bundled model, published weights that were fetched, and a site's own.

Nothing here loads torch except where it says so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from voxtell.card import Card
from voxtell.engine import BUNDLED_MODEL, read_card, recognise
from worker.engines.loading import require_engine
from worker.engines.whole_models import note_verified, problem_with
from worker.errors import WorkerError
from worker.settings import Settings

PUBLISHED, BUNDLED = "published", "bundled"
"""Names of models that are no folders."""

_CHECKPOINT = Path("fold_0") / "checkpoint_final.pth"  # only the published layout has it


class ModelNotHereError(WorkerError):
    """The node does not have the model."""

    retry = "usage"


def folder_of(name: str | None, settings: Settings) -> str | None:
    """Returns the directory of the model that a protocol names, or of the node's model; None is the bundled one.

    Raises:
        ModelNotHereError: when the node does not have the model; says what to do.
    """
    if name is None:
        return _of_the_node(settings)
    if name == BUNDLED:
        return None
    if name == PUBLISHED:
        return _published(settings)
    folder = settings.home / "models" / name  # an absolute path stays what it is
    if not folder.is_dir():
        raise ModelNotHereError(f"its model {folder} is no folder; put it there, or correct `model`")
    return _whole(folder, settings)


def _of_the_node(settings: Settings) -> str | None:
    """Returns the directory of VOXTELL_MODEL, also one that only the segmentation worker sees; None without it."""
    if settings.model is None or not Path(settings.model).exists():
        return settings.model
    return _whole(Path(settings.model), settings)


def _published(settings: Settings) -> str:
    """Returns VOXTELL_MODEL where it is another than the bundled one, or the newest that `model fetch` brought."""
    if settings.model is not None:
        named = Path(settings.model)
        if not named.exists():  # a folder that only the segmentation worker sees
            return settings.model
        if (named / _CHECKPOINT).exists():
            return _whole(named, settings)
    fetched = [path.parents[1] for path in sorted((settings.home / "models").glob(f"voxtell_*/{_CHECKPOINT}"))]
    for folder in reversed(fetched):
        if not problem_with(folder, settings.home):
            return str(folder)
    if fetched:
        return _whole(fetched[-1], settings)
    raise ModelNotHereError(
        "it needs the published weights, and this node has the bundled small model only, which knows seven structures "
        "of the head and neck; get them with: voxtell-dicom model fetch"
    )


def _whole(folder: Path, settings: Settings) -> str:
    """Returns the directory of a model of which every file verifies; raises ModelNotHereError for any other."""
    if problem := problem_with(folder, settings.home):
        raise ModelNotHereError(f"its model is not whole: {problem}")
    return str(folder)


def on_this_node(settings: Settings) -> list[Path]:
    """Returns the model directories that this machine has: VOXTELL_MODEL, and those in the home."""
    named = [Path(settings.model)] if settings.model and Path(settings.model).exists() else []
    there = [*(settings.home / "models").glob("*/*"), *(settings.home / "models").glob("*/*/*")]
    parts = [path for path in there if path.suffix in (".pth", ".safetensors") or path.name == "plans.json"]
    folders = {settings.home / "models" / path.relative_to(settings.home / "models").parts[0] for path in parts}
    return [*named, *sorted(folders - {*named})]


def bundled_card() -> Card:
    """Returns what the bundled model says of itself: its name, its licence, what it knows. Loads no torch."""
    return read_card()


def node_model(settings: Settings) -> Path:
    """Returns the directory of the node's model."""
    return Path(settings.model) if settings.model else BUNDLED_MODEL


def describe(directory: Path) -> dict[str, Any]:
    """Returns facts on a model for people: name, version, licence, digest. Loads torch.

    Raises:
        ModelError: when the model's files are missing or not what they should be.
        EngineMissingError: when the engine is not installed.
    """
    require_engine()
    return recognise(directory).describe(directory)


def verify(directory: Path, settings: Settings) -> dict[str, str]:
    """Compares the digests that travel with a model, and runs its self-test; returns file -> digest. Loads torch.

    A model that verifies is in force at once: the node need not read it again.

    Raises:
        ModelError: when a file has changed, or the self-test fails.
        EngineMissingError: when the engine is not installed.
    """
    require_engine()
    digests = recognise(directory).verify(directory)
    note_verified(directory, settings.home)
    return digests


def verify_text_model() -> dict[str, str]:
    """Compares the text model with the digests that its files are named by; returns file -> digest. Loads torch.

    Raises:
        ModelError: when it is not here, or a file is missing or damaged.
        EngineMissingError: when the engine is not installed.
    """
    require_engine()
    from voxtell import hub

    return hub.verify_text_model()


def fetch(
    settings: Settings, version: str, revision: str | None, *, text_model: bool, announce: Callable[[str], None]
) -> Path:
    """Fetches published weights, and with `text_model` the text model, into the node's home. Loads torch.

    Raises:
        FetchError: when the hub cannot be reached.
        ModelError: when the hub does not have them, or a file is damaged.
        EngineMissingError: when the engine is not installed.
    """
    require_engine()
    from voxtell import hub

    folder = hub.fetch(settings.home / "models", version, revision=revision, announce=announce)
    note_verified(folder, settings.home)
    if text_model:
        hub.fetch_text_model(announce)
    return folder


def bank_labels(settings: Settings) -> list[str] | None:
    """Returns the prompts in the embedding bank of the node's model; None where there is no bank. Loads torch.

    Raises:
        EngineMissingError: when the engine is not installed.
    """
    require_engine()
    from voxtell.segmenter import bank_of
    from voxtell.text import encoders

    found = bank_of(settings.model, settings.bank)
    return None if found is None else list(encoders.bank_labels(found))
