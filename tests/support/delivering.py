"""A job with results, and a PACS of our own that takes them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dicom_node.listener import Listener
from dicom_node.scp.access import Access
from dicom_node.scp.arrivals import Arrival
from dicom_node.store import Store
from dicom_node.synthesis import ct_series
from worker.job_spec import JobSpec, Prompt, Route
from worker.ledger import Job
from worker.result import Result
from worker.steps.delivery import DeliveryWorker


def pacs(
    folder: Path,
    port: int,
    *,
    knows: tuple[str, ...] = (),
    on_arrival: Callable[[Arrival], object] = lambda _arrival: None,
) -> Listener:
    """A PACS that keeps what it is sent, from callers that it knows."""
    access = Access(calling_aes=knows)
    settings = {"ae_title": "PACS", "host": "127.0.0.1", "port": port, "on_arrival": on_arrival}
    return Listener(Store(folder), access=access, **settings)  # type: ignore[arg-type]


def segmented(sender: DeliveryWorker, *destinations: str | Route) -> Job:
    """A job whose results, two objects, lie in the store."""
    work = JobSpec.of(
        study_uid="1.2.3",
        series_uid="1.2.3.4",
        instances=["1.2.3.4.1"],
        protocol="test",
        protocol_digest="d",
        prompts=(Prompt(text="liver"),),
        model=None,
        routes=tuple(Route(to=one) if isinstance(one, str) else one for one in destinations),
    )
    sender.ledger.jobs.add(work)
    claimed = sender.ledger.jobs.claim(work.job_id, 60)
    assert claimed is not None
    with sender.store.results(work.job_id) as folder:
        ct_series(np.zeros((2, 8, 8)), (1.0, 1.0, 1.0), folder)
        (folder / "result.json").write_text(json.dumps({}))
    sender.ledger.jobs.segmented(claimed, Result.model_validate({"files": ["0001.dcm", "0002.dcm"]}))
    return sender.ledger.jobs.get(work.job_id)
