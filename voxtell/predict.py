"""The upstream NIfTI command: prompts on image files, masks under upstream's file names, one outcome per file."""

import hashlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from voxtell.engine import Engine
from voxtell.errors import FileError, ImageWarning, PromptError, VoxTellError
from voxtell.nifti import PLAIN, ReadAs, is_nifti_name, read_image, stem, write_mask
from voxtell.prompt_checks import check_prompts

NAME_BYTES: Final = 150  # of a prompt in a file name; a longer one is cut and ends in a hash of the whole
HASH_DIGITS: Final = 8

Masks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class FileJob:
    """One image file and the prompts to segment in it."""

    image: Path
    prompts: tuple[str, ...]

    @property
    def case(self) -> str:
        """The file's name without its ending."""
        return stem(self.image)


@dataclass(frozen=True)
class FileOutcome:
    """What became of one image file.

    files: where its masks lie; kept: they were there before and nothing was segmented; problem: why there are none;
    doubts: why the masks mean little, and empty ones nothing.
    """

    job: FileJob
    files: tuple[Path, ...] = ()
    kept: bool = False
    problem: VoxTellError | None = None
    doubts: tuple[str, ...] = ()


def jobs_for(inputs: Sequence[Path], prompts: Sequence[str]) -> list[FileJob]:
    """Returns a job for every image; `inputs` is one folder (all NIfTI files in it) or any number of files."""
    files = list(inputs)
    if len(files) == 1 and files[0].is_dir():
        files = sorted(path for path in files[0].iterdir() if is_nifti_name(path))
        if not files:
            raise FileError(f"there is no .nii or .nii.gz file in {inputs[0]}")
    return [FileJob(path, tuple(prompts)) for path in files]


def read_jobs(source: str) -> list[FileJob]:
    """Reads jobs from JSON, text or the name of a .json file: a list of {"image": path, "prompts": [...]}."""
    try:
        text = source if source.lstrip().startswith("[") else Path(source).read_text(encoding="utf-8")
        return [FileJob(Path(entry["image"]), tuple(entry["prompts"])) for entry in json.loads(text)]
    except OSError as error:
        raise FileError(f"the jobs file {source} cannot be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise FileError(f'jobs must be a JSON list of {{"image": path, "prompts": [...]}}: {error!r}') from error


def predict_files(
    engine: Engine,
    jobs: Sequence[FileJob],
    output: Path,
    *,
    save_combined: bool = False,
    overwrite: bool = True,
    read_as: ReadAs = PLAIN,
    progress: Callable[[FileJob, float], None] | None = None,
) -> Iterator[FileOutcome]:
    """Segments every job's image and writes its masks; yields one outcome per job, in the order of the jobs.

    One `<case>_<prompt>.nii.gz` per prompt (0 and 1), or with `save_combined` one `<case>.nii.gz` with 1, 2, ... in the
    order of the prompts, later ones over earlier ones. With `overwrite` off, a job whose files all exist is left out.
    A file is whole or not there. An image that cannot be read or segmented has its problem as outcome; others go on.

    Raises:
        FileError: when two jobs would write the same file.
        PromptError: when two prompts would, or the prompts cannot be used; nothing is written.
    """
    targets = [output_files(job, output, save_combined) for job in jobs]
    _check_distinct(jobs, targets)
    check_prompts(dict.fromkeys(prompt for job in jobs for prompt in job.prompts))
    output.mkdir(parents=True, exist_ok=True)
    wanted = jobs if overwrite else unfinished(jobs, output, save_combined)

    def outcome(job: FileJob, paths: Sequence[Path]) -> FileOutcome:
        if job not in wanted:
            return FileOutcome(job, tuple(paths), kept=True)
        try:
            image = read_image(job.image, read_as)
            doubts = tuple(engine.doubts(image.array))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ImageWarning)  # the outcome says it
                masks = engine(image.array, job.prompts, spacing=image.spacing, progress=_reporter(job, progress))
        except PromptError:  # of every image alike
            raise
        except VoxTellError as error:
            return FileOutcome(job, problem=error)
        for path, values in zip(paths, [combined(masks)] if save_combined else masks, strict=True):
            write_mask(path, values, image)
        return FileOutcome(job, tuple(paths), doubts=doubts)

    return itertools.starmap(outcome, zip(jobs, targets, strict=True))


def _reporter(job: FileJob, progress: Callable[[FileJob, float], None] | None) -> Callable[[float], None]:
    return lambda done: progress(job, done) if progress is not None else None


def unfinished(jobs: Sequence[FileJob], output: Path, save_combined: bool) -> list[FileJob]:
    """Returns the jobs of which a file is still to be written."""
    return [job for job in jobs if not all(path.exists() for path in output_files(job, output, save_combined))]


def output_files(job: FileJob, output: Path, save_combined: bool) -> list[Path]:
    """Returns where the results of a job go: one file per prompt, or one for all."""
    if save_combined:
        return [output / f"{job.case}.nii.gz"]
    return [output / f"{job.case}_{file_safe(prompt)}.nii.gz" for prompt in job.prompts]


def file_safe(prompt: str) -> str:
    """Turns a prompt into a part of a file name: what is no letter, digit or underscore becomes an underscore."""
    safe = "".join(letter if letter.isalnum() else "_" for letter in prompt)
    if len(safe.encode()) <= NAME_BYTES:
        return safe
    digest = hashlib.sha1(prompt.encode(), usedforsecurity=False).hexdigest()[:HASH_DIGITS]
    return safe.encode()[: NAME_BYTES - HASH_DIGITS - 1].decode(errors="ignore") + "_" + digest


def combined(masks: Masks) -> npt.NDArray[np.uint16]:
    """Masks (P, S, A, R) as one label map (S, A, R): prompt number 1, 2, ..., 0 where there is none."""
    labels = np.zeros(masks.shape[1:], np.uint16)
    for number, mask in enumerate(masks, start=1):
        labels[mask] = number
    return labels


def _check_distinct(jobs: Sequence[FileJob], targets: Sequence[Iterable[Path]]) -> None:
    """Refuses work in which one result would overwrite another."""
    writers: dict[Path, tuple[Path, str]] = {}
    for job, paths in zip(jobs, targets, strict=True):
        for path, prompt in zip(paths, job.prompts, strict=False):
            image, other = writers.setdefault(path, (job.image, prompt))
            if image != job.image:
                raise FileError(f"{image} and {job.image} would both write {path.name}; use two output folders")
            if other.lower() != prompt.lower():
                raise PromptError(f"the prompts {other!r} and {prompt!r} would both write {path.name}; rename one")
