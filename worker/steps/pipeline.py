"""One segmentation without ledger, queue and results folder: read, reorient, ask, reorient back, finish, name.

The node's worker and `voxtell-dicom run` both call `segment`. It reads files and computes; it writes nothing and keeps
nothing between calls.
"""

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import highdicom

from dicom_node.masks.body import body
from dicom_node.masks.packed import Mask, Masks, PackedMask
from dicom_node.objects.provenance import Review
from dicom_node.objects.verify import check_way_back
from dicom_node.series import ImageSeries, read_series, read_volume
from dicom_node.volume import from_network, to_network
from voxtell.engine import Engine, ModelInfo
from voxtell.errors import ImageWarning
from worker.job_spec import Derived, Prompt
from worker.results.plausibility import grid_reviews, reviews, shows_trunk_alone, tissue_reviews
from worker.results.structures import Structure, finished, structures_of
from worker.results.write import Segmented


def segment(
    paths: Sequence[Path],
    prompts: Sequence[Prompt],
    engine: Engine,
    *,
    derived: Sequence[Derived] = (),
    volume: str | None = None,
    straighten: bool = False,
    even: bool = False,
    character_set: str = "",
    turn: AbstractContextManager[None] | None = None,
    progress: Callable[[float], None] = lambda _part: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Segmented:
    """Reads a volume, asks the engine for each prompt, brings the masks back to the source frames, finishes them.

    Args:
        paths: the files of one series, in any order; the engine gets their image float32 (S, A, R), its spacing in mm.
        derived: structures made from finished masks.
        volume: the volume's name in a series of several; None where the series is one volume.
        straighten: resample a tilted gantry's slices to where they lie before the network sees them.
        even: add slices for the network where the spacing changes by design; results lie on those of the files.
        character_set: of texts whose file declares none.
        turn: held while the engine computes, such as a device lock.
        progress: called with the part that is done, 0 to 1.
        cancelled: asked often; True ends the computation with CancelledError.

    Raises:
        SeriesError: when the files are not one regular volume; names the slice.
        VoxTellError: when the engine cannot do it; its `retry` says whether another attempt makes sense.
        ResultError: when a mask on the slices does not lie where the network saw it.
        StructureError: when a structure needs one that is not there.
    """
    clock = _Clock()
    read = read_series if volume is None else partial(read_volume, name=volume)
    series = read(paths, even=even, character_set=character_set)
    network = to_network(series, straighten=straighten)
    clock.lap("read")
    doubts = engine.doubts(network.array)
    with turn or nullcontext(), warnings.catch_warnings():
        warnings.simplefilter("ignore", ImageWarning)  # the result says it
        clock.lap("turn")
        texts = [prompt.text for prompt in prompts]
        found = engine(network.array, texts, spacing=network.spacing, progress=progress, cancelled=cancelled)
    clock.lap("network")
    back = Masks(_back(prompt, seen, network, series) for prompt, seen in zip(prompts, found, strict=True))
    del found
    clock.lap("back")
    hounsfield = series.modality == "CT" and not doubts
    outline = partial(body, series.volume.array, series.affine, hounsfield=hounsfield)
    masks = _on_files(finished(back, prompts, derived, series.affine, outline), series)
    unlearnt = engine.unlearnt(texts) if engine.info.knows else ()
    structures = structures_of(masks, prompts, derived, series.affine, unlearnt, judged=not doubts)
    clock.lap("finish")
    review = (*map(Review, doubts), *_of_grid(network, series, engine))
    review += tuple(reviews(structures, masks))
    if hounsfield:
        review += _of_tissue(series, network, structures, masks)
    info = _on_other_grid(engine.made_by(texts), series, straighten)
    return Segmented(series, structures, masks, info, clock.seconds, review)


def _of_grid(network: highdicom.Volume, series: ImageSeries, engine: Engine) -> tuple[Review, ...]:
    """Says what a person should know of the grid that the network sees: what it lacks, what was interpolated."""
    review = tuple(grid_reviews(network.affine, network.spacing, engine.info.spacing_max))
    return (*review, Review(series.notes[-1])) if series.interpolated else review


def _on_other_grid(info: ModelInfo, series: ImageSeries, straighten: bool) -> ModelInfo:
    """Notes in a model's description that it saw another grid than that of the slices: other masks, other UIDs."""
    changes = {"straightened": straighten and series.tilt_degrees, "spacing made even": series.interpolated}
    return replace(info, used=(*info.used, *(name for name, is_so in changes.items() if is_so)))


def _on_files(masks: Masks, series: ImageSeries) -> Masks:
    """Empties masks that lie on interpolated slices alone: no object could show them."""
    if not series.interpolated:
        return masks
    return Masks(
        one if len(one.without(series.interpolated).held) else one.without(range(one.shape[0])) for one in masks.packed
    )


def _of_tissue(
    series: ImageSeries, network: highdicom.Volume, structures: Sequence[Structure], masks: Masks
) -> tuple[Review, ...]:
    """Says what the Hounsfield units of a CT say against its masks (slices, rows, columns)."""
    trunk_alone = shows_trunk_alone(network.array, network.spacing)
    return tuple(tissue_reviews(structures, masks, series.volume.array, trunk_alone=trunk_alone))


def _back(prompt: Prompt, seen: Mask, network: highdicom.Volume, series: ImageSeries) -> PackedMask:
    """Packs one mask bool (S, A, R) as (slices, rows, columns), checked to lie where the network saw it.

    `segment` converts one prompt's mask at a time: a second set of unpacked masks might not fit in memory.
    """
    (mask,) = from_network(seen[None], network, series)
    check_way_back(prompt.label, seen, network.get_geometry(), mask, series)
    return PackedMask.of(mask)


class _Clock:
    """Measures the seconds of each step; the result reports them."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, step: str) -> None:
        """Books the time since the last call (or since the start) to `step`."""
        now = time.perf_counter()
        self.seconds[step], self._last = now - self._last, now
