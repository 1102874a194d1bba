"""Loads the engine of a job. The model directory names the engine, and the engine names its options.

Only a process that loads an engine loads torch, and only then.
"""

import importlib.util
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from voxtell.engine import BUNDLED_MODEL, Engine, Layout, recognise
from worker.engines.devices import device_lock
from worker.errors import EngineMissingError, EngineOptionError
from worker.job_spec import EngineOptions, JobSpec
from worker.settings import Settings

# Options of a protocol that are not the engine's: `exact` chooses defaults, the others are the pipeline's.
_NOT_THE_ENGINES = {"exact", "resample_tilt", "resample_spacing"}
_OPTIONS = tuple(name for name in EngineOptions.model_fields if name not in _NOT_THE_ENGINES)


def load_engine(settings: Settings, *, use_bank: bool = True) -> Engine:
    """Loads the model that the settings name, on their device and with their options. Takes seconds to a minute.

    Raises:
        EngineMissingError: when the node was installed without torch.
        EngineOptionError: when an option has a value that the engine does not take.
        ModelError: when the model's files are missing or not what they should be.
    """
    require_engine()
    directory = _directory(settings)
    layout = recognise(directory)
    return layout.load(
        directory, _device(settings), settings.bank, use_bank=use_bank, options=options_of(settings, layout)
    )


def load_with_device_lock(settings: Settings) -> Engine:
    """Loads as `load_engine`, while no other process of the node computes and takes memory."""
    require_engine()
    with device_lock(settings.home, _device(settings)):
        return load_engine(settings)


def options_of(settings: Settings, layout: Layout) -> Any:
    """Returns the options of an engine, read from the settings of the same names; other settings are not read.

    Raises:
        EngineOptionError: when a value is not valid; names the option and what is wrong with it.
    """
    shared = layout.options.__dataclass_fields__.keys() & Settings.model_fields.keys()
    try:
        return TypeAdapter(layout.options).validate_python({name: getattr(settings, name) for name in shared})
    except ValidationError as error:
        first = error.errors()[0]
        option = ".".join(str(part) for part in first["loc"])
        raise EngineOptionError(
            f"option {option} of engine {layout.engine}: {first['msg']} (got {first['input']!r})"
        ) from None


def settings_for(spec: JobSpec, settings: Settings) -> Settings:
    """Returns the node's settings with the model of a job, and with what its protocol says of the engine.

    Raises:
        EngineOptionError: when the protocol sets an option that the engine of its model does not have.
        ModelError: when the engine of its model cannot be told.
    """
    off = {name: False if isinstance(getattr(settings, name), bool) else None for name in _OPTIONS}
    asked = spec.engine.model_dump(exclude={"exact", "resample_spacing"}, exclude_none=True)
    changed = settings.model_copy(update={"model": spec.model} | (off if spec.engine.exact else {}) | asked)
    if options := asked.keys() & set(_OPTIONS):
        layout = recognise(_directory(changed))
        if beyond := options - layout.options.__dataclass_fields__.keys():
            raise EngineOptionError(
                f"protocol '{spec.protocol}' sets {', '.join(sorted(beyond))} in `engine`, which the engine of its "
                f"model, {layout.engine}, does not have; leave it out"
            )
    return changed


def engine_key(settings: Settings) -> tuple[object, ...]:
    """Returns the settings that decide which engine is loaded, as a key: jobs with the same key share the engine."""
    return settings.model, *(getattr(settings, name) for name in _OPTIONS)


def require_engine() -> None:
    """Checks that the engine is installed; does not load it.

    Raises:
        EngineMissingError: when the node was installed without torch.
    """
    if importlib.util.find_spec("torch") is None:
        raise EngineMissingError


def _directory(settings: Settings) -> Path:
    """Returns the directory of the model that the settings name."""
    return Path(settings.model) if settings.model else BUNDLED_MODEL


def _device(settings: Settings) -> str:
    """Returns the device by torch's name, with `auto` decided. Loads torch."""
    from voxtell.inference.runner import pick_device

    return str(pick_device(settings.device))
