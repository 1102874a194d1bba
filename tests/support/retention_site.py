"""A node of which retention is asked: a store, a ledger, and a disk that is as full as a test says."""

from pathlib import Path

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from tests.support.ledger_stories import LEASE, Clock, deliver, work
from tests.support.site import Site
from worker.job_spec import Route
from worker.ledger import DeliveryState, Job, JobState, Ledger
from worker.maintenance.retention import ASIDE_SECONDS, Retention
from worker.result import Result
from worker.settings import Settings

ARRIVAL = Origin("CT", "VOXTELL", "10.0.0.1")


class RetentionSite(Site):
    """A store, a ledger whose clock stands still, and a disk that is as full as a test says."""

    def __init__(self, home: Path, ledger: Ledger, clock: Clock) -> None:
        super().__init__(home, ledger=ledger)
        self.clock = clock
        self.free = 10**12

    def retention(self, **days: float) -> Retention:
        keeper = Retention(Settings(home=self.home, **days), self.store, self.ledger)  # type: ignore[arg-type]
        self.store.free_bytes = lambda: self.free  # type: ignore[method-assign]
        return keeper

    def rounds(self, keeper: Retention) -> None:
        """What is set aside in the first round goes in the second."""
        keeper.tidy()
        self.clock.passes(ASIDE_SECONDS + 1)
        keeper.tidy()

    def arrived(self, study: str, uid: str, *, settled: bool = True) -> None:
        """One image of a series."""
        self.store.put(f"image of {uid}".encode() * 1000, study_uid=study, series_uid=uid, sop_uid=f"{uid}.0")
        self.ledger.series.image_arrived(SeriesKey(study, uid), ARRIVAL)
        if settled:
            (seen,) = (one for one in self.ledger.series.unsettled() if one.series_uid == uid)
            assert self.ledger.series.settle(seen)

    def segmented(self, uid: str, *routes: Route) -> Job:
        """A series of study 1.2.3, and a job on it with one result."""
        self.arrived("1.2.3", uid)
        task = work(series=uid, images=1).model_copy(update={"routes": routes})
        assert self.ledger.jobs.add(task)
        job = self.ledger.jobs.claim(task.job_id, LEASE)
        assert job is not None
        self.results(job.id)
        assert self.ledger.jobs.segmented(job, Result.model_validate({"files": ["seg.dcm"]}))
        return self.ledger.jobs.get(job.id)

    def delivered(self, uid: str = "1.2.3.4") -> Job:
        job = self.segmented(uid, Route(to="pacs"))
        assert deliver(self.ledger, job, "pacs", DeliveryState.DELIVERED) is JobState.DELIVERED
        return self.ledger.jobs.get(job.id)

    def results(self, job_id: str) -> None:
        with self.store.results(job_id) as folder:
            (folder / "seg.dcm").write_bytes(b"a result" * 1000)

    def has_images(self, study: str, uid: str) -> bool:
        return len(self.store.series_paths(SeriesKey(study, uid))) == 1

    def has_results(self, job: Job) -> bool:
        return len(self.store.result_paths(job.id)) == 1
