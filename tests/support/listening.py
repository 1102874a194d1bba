"""A listening node without its network: real store, ledger and queue; what arrives is said by the test."""

import time
from pathlib import Path

import redis
from pydicom import dcmread

from dicom_node.origin import Origin
from dicom_node.scp.arrivals import Arrival
from dicom_node.uids import SeriesKey
from tests.support.site import Site
from worker.ledger import Job
from worker.queue.broker import DELIVER_QUEUE, SEGMENT_QUEUE, Broker, celery_app, lists_of
from worker.queue.embedded_server import socket_path
from worker.steps.intake import Intake

QUIET = 10.0  # seconds without an image after which a series is settled


class IntakeSite(Site):
    """A listener's memory without its network: a store, a ledger whose clock can lag, a queue, and the intake."""

    def __init__(self, home: Path, **settings) -> None:
        self.lag = 0.0  # how long ago the ledger believes to be
        super().__init__(home, clock=lambda: time.time() - self.lag, quiet_seconds=QUIET, **settings)
        self.app = celery_app(self.settings)
        self.restart()

    def restart(self) -> None:
        self.intake = Intake(self.settings, self.store, self.ledger, Broker(self.app))

    def receives(self, *paths: Path, ago: float, association: str = "a1", calling_ae: str = "SCANNER") -> None:
        """These images arrived that many seconds ago."""
        self.lag = ago
        for path in paths:
            header = dcmread(path, stop_before_pixels=True)
            uids = {
                "study_uid": str(header.StudyInstanceUID),
                "series_uid": str(header.SeriesInstanceUID),
                "sop_uid": str(header.SOPInstanceUID),
            }
            receipt = self.store.put(path.read_bytes(), **uids)
            self.intake.arrived(
                Arrival(
                    key=SeriesKey(uids["study_uid"], uids["series_uid"]),
                    sop_uid=uids["sop_uid"],
                    sop_class_uid=str(header.SOPClassUID),
                    path=receipt.path,
                    origin=Origin(calling_ae, "VOXTELL", "127.0.0.1"),
                    association_id=association,
                    outcome=receipt.outcome,
                )
            )
        self.lag = 0.0

    def stores(self, *paths: Path) -> None:
        """These images are on the disk, and the listener died before it came to say so."""
        for path in paths:
            header = dcmread(path, stop_before_pixels=True)
            self.store.put(
                path.read_bytes(),
                study_uid=str(header.StudyInstanceUID),
                series_uid=str(header.SeriesInstanceUID),
                sop_uid=str(header.SOPInstanceUID),
            )

    def tick(self, *open_series: SeriesKey) -> list[Job]:
        """The jobs after one look, oldest first."""
        self.intake.tick(frozenset(open_series))
        return self.ledger.jobs.find()[::-1]

    def close(self) -> None:
        self.app.close()
        super().close()

    @property
    def queued(self) -> tuple[int, int]:
        """Messages for segmentation and for delivery."""
        with redis.Redis(unix_socket_path=str(socket_path(self.settings.home))) as client:
            segment, deliver = (sum(map(client.llen, lists_of(queue))) for queue in (SEGMENT_QUEUE, DELIVER_QUEUE))
            return segment, deliver
