"""Files that people hand to commands: NIfTI images and model directories, read in a child process with limits.

They are no doors of the node. A command reads them in a process of its own, as here.
"""

import gzip
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Final

import numpy as np

from tests.fuzz.door import Case, FindingError
from tests.fuzz.mutations import mutated, mutated_json
from tests.support.nifti_files import write_image
from voxtell.nifti import GZIP_MAGIC
from worker.selection.child import Child, LookError
from worker.settings import Settings

MEMORY_BYTES: Final = 2 * 1024**3
SECONDS: Final = 120.0  # for one file; the first one brings the libraries, on a machine that may be loaded

_KINDS: Final = (np.float32, np.int16, np.uint8, np.float64, np.int32)


class Files:
    """A command's way to a file: the input is written, and a function of the child reads it."""

    is_port = False

    def __init__(self, name: str, folder: Path, read: Callable[[Path], None]) -> None:
        self.name = name
        self._folder, self._read = folder, read
        self._child = Child(MEMORY_BYTES, SECONDS)
        folder.mkdir(parents=True)

    def close(self) -> None:
        """Ends the child."""
        self._child.close()

    def _said(self, case: Case, path: Path) -> str:
        try:
            self._child.ask(self._read, path)
        except LookError as error:
            raise FindingError(f"the command's process: {error}") from None
        except Exception as error:  # noqa: BLE001 (judged as the command line would)
            if case.sound or _is_unforeseen(error):
                raise FindingError(f"{type(error).__name__}: {error}"[:500]) from None
            return "refused"
        return "read"


def _is_unforeseen(error: Exception) -> bool:
    """Whether the command line has no sentence of its own for it."""
    from worker.__main__ import _sentence

    return _sentence(error).startswith("unexpected ")


class Nifti(Files):
    """Images as `predict` and `nifti-to-dicom` read them."""

    def __init__(self, folder: Path) -> None:
        super().__init__("NIfTI", folder / "nifti", read_nifti)
        self._images = []
        for kind in _KINDS:
            write_image(path := self._folder / "sound.nii", kind=kind)
            self._images.append(path.read_bytes())

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """A small image, its header and its stream with something wrong."""
        content = chance.choice(self._images)
        if not sound:
            near = chance.choice((100, 352, None))
            content = mutated(chance, content, words=(b"n+1\0", b"ni1\0", b"n+2\0", b"\x5c\x01\0\0"), near=near)
        if sound or chance.random() < 0.6:
            return content
        content += bytes(chance.choice((0, 0, 0, 1000, 50_000_000)))
        packed = gzip.compress(content, 1, mtime=0)
        return mutated(chance, packed) if chance.random() < 0.4 else packed

    def send(self, case: Case) -> str:
        """Says whether it was read or refused."""
        path = self._folder / ("image.nii.gz" if case.content[:2] == GZIP_MAGIC else "image.nii")
        path.write_bytes(case.content)
        return self._said(case, path)


def read_nifti(path: Path) -> None:
    """What the two commands do with an image before anything else."""
    from voxtell.nifti import read_image
    from worker.steps.nifti_series import series_from_nifti

    read_image(path)
    shutil.rmtree(folder := path.with_suffix(".series"), ignore_errors=True)
    series_from_nifti(path, folder)


class Models(Files):
    """Model directories as `model info` and `model verify` read them. An input is a zip file of one."""

    def __init__(self, folder: Path) -> None:
        super().__init__("models", folder / "models", read_model)
        (self._folder / "home").mkdir()
        self._layouts = _layouts(self._folder / "sound")

    def make(self, chance: random.Random, number: int, *, sound: bool) -> bytes:
        """A directory of one of the two layouts, in which a file is spoilt or missing."""
        files = dict(chance.choice(self._layouts))
        if not sound:
            name = chance.choice(sorted(files))
            match chance.randrange(4):
                case 0 | 1:
                    files["plans.json"] = mutated_json(chance, json.loads(files["plans.json"]))
                case 2:
                    files[name] = mutated(chance, files[name], near=chance.choice((8, 300, None)))
                case 3:
                    del files[name]
            if chance.random() < 0.1:
                files["fetched.json"] = mutated_json(chance, {"revision": "x", "files": {"plans.json": "sha256:0"}})
        return _zipped(files)

    def send(self, case: Case) -> str:
        """Says whether it was read or refused."""
        shutil.rmtree(folder := self._folder / "model", ignore_errors=True)
        folder.mkdir()
        with zipfile.ZipFile(BytesIO(case.content)) as files:
            files.extractall(folder)
        return self._said(case, folder)


def read_model(folder: Path) -> None:
    """What the two commands do with a directory; the second sees also what the first refuses."""
    from worker.engines import models

    settings = Settings(home=folder.with_name("home"))
    refusals = []
    for read in (models.describe, partial(models.verify, settings=settings)):
        try:
            read(folder)
        except Exception as error:
            if _is_unforeseen(error):
                raise
            refusals.append(error)
    if refusals:
        raise refusals[0]


def _layouts(folder: Path) -> list[dict[str, bytes]]:
    """The files of a model as it is bundled, and as it is published."""
    import torch
    from safetensors.torch import load_file

    from tests.support.models import write_random_model
    from voxtell.model.plans import PLANS

    write_random_model(folder)
    bundled = {name: (folder / name).read_bytes() for name in (PLANS, "model.safetensors")}
    checkpoint = BytesIO()
    torch.save({"network_weights": load_file(folder / "model.safetensors")}, checkpoint)
    return [bundled, {PLANS: bundled[PLANS], "fold_0/checkpoint_final.pth": checkpoint.getvalue()}]


def _zipped(files: Mapping[str, bytes]) -> bytes:
    target = BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), content)
    return target.getvalue()
