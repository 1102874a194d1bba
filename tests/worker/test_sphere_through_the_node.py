"""One sentence, the whole way: a sphere at a known millimetre comes back from the PACS at that millimetre."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.listener import Listener
from dicom_node.scu.association import Peer
from dicom_node.scu.c_store import send
from dicom_node.store import Store
from dicom_node.synthesis import write_slices
from dicom_node.uids import SeriesKey
from tests.support.images import affine_of, axis_orders, rotation, segment_points
from tests.support.twins import ThresholdSegmenter
from worker.job_spec import JobSpec, Prompt
from worker.results.write import write_outputs
from worker.steps.pipeline import segment

pytestmark = pytest.mark.peers

SHAPE = (9, 14, 19)
SPACING = (2.6, 1.7, 1.1)  # millimetres between slices, rows, columns
RADIUS = 6.5  # millimetres
PROMPT = Prompt(text="above 300")

Affine = np.ndarray[Any, np.dtype[np.float64]]


class NodeAndPacs:
    """A node's listener and a PACS, each with a store, joined by real associations."""

    def __init__(self, folder: Path) -> None:
        self.node, self.pacs = Store(folder / "node"), Store(folder / "pacs")
        self.seen: set[tuple[str, str]] = set()
        settings = {"host": "127.0.0.1", "port": 0, "on_arrival": lambda _arrival: None}
        self.node_listener = Listener(self.node, ae_title="VOXTELL", **settings)  # type: ignore[arg-type]
        self.pacs_listener = Listener(self.pacs, ae_title="PACS", **settings)  # type: ignore[arg-type]

    def there_and_back(self, files: list[Path]) -> Path:
        """Sends a series in shuffled order, segments what was stored, sends the SEG; the SEG as the PACS has it."""
        np.random.default_rng(0).shuffle(files)  # type: ignore[arg-type]
        sent = send(files, Peer("VOXTELL", "127.0.0.1", self.node_listener.port), calling_ae="CT")
        assert {outcome.result for outcome in sent} == {"ok"}
        (study_uid, series_uid), *_ = {(s.study_uid, s.series_uid) for s in self.node.walk()} - self.seen
        self.seen.add((study_uid, series_uid))
        paths = self.node.series_paths(SeriesKey(study_uid, series_uid))
        work = JobSpec.of(
            study_uid=study_uid,
            series_uid=series_uid,
            instances=[path.stem for path in paths],
            protocol="sphere",
            protocol_digest="",
            prompts=(PROMPT,),
            model=None,
        )
        done = segment(paths, work.prompts, ThresholdSegmenter())  # type: ignore[arg-type]
        with self.node.results(work.job_id) as folder:
            write_outputs(done, work, folder)
        results = [path for path in self.node.result_paths(work.job_id) if path.suffix == ".dcm"]
        back = send(results, Peer("PACS", "127.0.0.1", self.pacs_listener.port), calling_ae="VOXTELL")
        assert {outcome.result for outcome in back} == {"ok"}
        return next(s.path for s in self.pacs.walk() if s.sop_uid == back[0].sop_uid)


@pytest.mark.parametrize("angles", [(0, 0, 0), (17, -23, 31)], ids=["straight", "oblique"])
def test_a_sphere_comes_back_at_its_millimetre_in_all_48_axis_orders(tmp_path: Path, angles: tuple[float, ...]) -> None:
    site = NodeAndPacs(tmp_path)
    with site.node_listener, site.pacs_listener:
        for number, directions in enumerate(axis_orders()):
            affine = affine_of(rotation(*angles) @ directions, SPACING, (-31.0, 47.0, 1003.0))
            centre = (affine @ [*(np.array(SHAPE) / 2 + (0.3, -0.2, 0.4)), 1])[:3]
            inside = np.linalg.norm(millimetres(affine) - centre, axis=-1) < RADIUS
            files = write_slices(np.where(inside, 700.0, -500.0), affine, tmp_path / str(number), seed=number)
            points = segment_points(site.there_and_back(files))
            off = np.linalg.solve(affine[:3, :3], points.mean(axis=0) - millimetres(affine)[inside].mean(axis=0))
            assert len(points) == inside.sum()
            assert np.abs(off).max() < 0.01, f"{off} voxels off"
            assert np.linalg.norm(points - centre, axis=1).max() < RADIUS + 1e-3


def millimetres(affine: Affine) -> Affine:
    """LPS millimetres (slices, rows, columns, 3) of every voxel."""
    indices = np.moveaxis(np.indices(SHAPE), 0, -1)
    return np.asarray(indices @ affine[:3, :3].T + affine[:3, 3])
