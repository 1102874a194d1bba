"""Makes the home that lies in this folder, with the code of the version before job ids left their defaults out.

`home.tar.gz` holds its store (images, results), `ledger.sql` a dump of its ledger, `messages.json` what lay on its
queue, `expected.json` what that version derived from facts that are written here. Only dates and times within the
results differ when it is made again, from the root of the repository:

    git worktree add ../before 244afa2
    cd ../before && PYTHONPATH=. python ../REPOSITORY/tests/worker/old_home/make.py FOLDER

The imports below are those of that version.
"""

import io
import json
import sqlite3
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import redis
import yaml
from pydicom import dcmread
from worker.broker import Broker, celery_app, lists_of
from worker.jobs import Derived, Engine, Finish, Plausible, Prompt, Route, Work
from worker.queue_server import running_queue, socket_path
from worker.results.outputs import objects_named, write_outputs
from worker.segmentation import segment

from dicom_node.store import Store
from dicom_node.synthesis import Subject, ct_series
from voxtell import ModelInfo
from worker.ledger import DeliveryState, Ledger
from worker.protocols import Protocol
from worker.settings import Settings

LEASE = 60.0
PROTOCOL = yaml.safe_load(Path(__file__).with_name("protocol.yaml").read_text(encoding="utf-8"))
RICH = {
    "prompts": (
        Prompt(
            text="above 300",
            name="Bone",
            code="272673000",
            tg263="Bone",
            colour=(200, 180, 90),
            roi_type="ORGAN",
            finish=Finish(largest_component=True, min_volume_ml=0.01),
            expect=Plausible(volume_ml=(0.1, 10.0), inside_view=True),
        ),
        Prompt(text="above 600", sentence="Dense lesion in the bone."),
        Prompt(text="nothing"),
    ),
    "derived": (Derived(name="Shell", union=("Bone",), subtract=("above 600",), margin_mm=0.0),),
    "engine": Engine(exact=True, resample_tilt=True),
    "outputs": ("seg", "rtstruct", "sr", "preview", "nifti"),
    "holes": "xor",
}


class Clock:
    """Seconds since 1970 that pass only when told to."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


class Thresholds:
    """An engine that segments what a prompt says: "above 300" is every voxel above 300, "nothing" is empty."""

    device = "cpu"
    info = ModelInfo("threshold", "1", "sha256:" + "0" * 64, "none", "Thresholds for tests; no network.", "none")

    def __call__(self, image, prompts, **_options):
        limits = [float(text.split()[-1]) if text.startswith("above") else np.inf for text in prompts]
        return np.stack([image > limit for limit in limits])


class Home:
    """A store and a ledger in which jobs are brought as far as a story needs."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, Clock()
        self.store = Store(folder)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}", self.clock)
        self.number = 0

    def series(self, settled: bool = True):
        """Four images of a new study: a cube of 400 HU with a core of 700 HU."""
        self.number += 1
        image = np.full((4, 12, 12), -1000.0)
        image[1:4, 2:9, 3:10] = 400
        image[2, 4:7, 5:8] = 700
        subject = Subject(patient_id=f"P{self.number}", accession_number=f"A{self.number}")
        with tempfile.TemporaryDirectory() as folder:
            headers = []
            for path in ct_series(image, (3.0, 2.0, 1.5), Path(folder), subject=subject, seed=self.number):
                header = dcmread(path)
                uids = {"study_uid": header.StudyInstanceUID, "series_uid": header.SeriesInstanceUID}
                self.store.put(path.read_bytes(), sop_uid=header.SOPInstanceUID, **uids)
                self.ledger.image_arrived(**uids, calling_ae="CT", called_ae="VOXTELL", address="192.0.2.1")
                headers.append(header)
        self.ledger.know_accession(uids["study_uid"], subject.accession_number)
        if settled:
            (seen,) = (one for one in self.ledger.receiving() if one.series_uid == uids["series_uid"])
            self.ledger.settle(seen)
        return uids, [header.SOPInstanceUID for header in headers]

    def queued(self, *destinations: str | Route, images: int = 4, of=None, **facts) -> Work:
        """A job on the first `images` images of a new series, or of the series `of`."""
        uids, instances = of or self.series()
        routes = tuple(Route(to=one) if isinstance(one, str) else one for one in destinations)
        facts = {"prompts": (Prompt(text="above 300"), Prompt(text="nothing"))} | facts
        digest = Protocol(**PROTOCOL).digest
        common = {"protocol": "bones", "protocol_digest": digest, "model": None, "routes": routes}
        work = Work.of(instances=instances[:images], **uids, **common, **facts)
        assert self.ledger.add_job(work)
        self.ledger.decide(**uids, protocol="bones", taken=True, reason="taken", conditions=[])
        return work

    def segmented(self, *destinations: str | Route, **facts) -> Work:
        """A job with its results, as a segmentation worker leaves it."""
        work = self.queued(*destinations, **facts)
        job = self.ledger.claim(work.job_id, LEASE)
        paths = {path.stem: path for path in self.store.series_paths(work.study_uid, work.series_uid)}
        done = segment(
            [paths[uid] for uid in work.instances],
            work.prompts,
            Thresholds(),
            derived=work.derived,
            volume=work.volume,
            straighten=bool(work.engine.resample_tilt),
        )
        before = self.ledger.predecessor(job)
        with self.store.results(job.id) as folder:
            result = write_outputs(done, work, folder, predecessors=objects_named(before.result) if before else ())
        assert self.ledger.segmented(job, result)
        return work

    def ended(self, work: Work, destination: str, state: DeliveryState, reason: str = "", **more) -> None:
        delivery = self.ledger.claim_delivery(work.job_id, destination, LEASE)
        self.ledger.end_delivery(delivery, state, reason, **more)


def stories(home: Home) -> dict[str, str]:
    """By story the id of its job."""
    made = {"queued": home.queued("pacs"), "segmenting": home.queued("pacs")}
    home.ledger.claim(made["segmenting"].job_id, LEASE)
    made["failed"] = home.queued("pacs")
    home.ledger.fail(home.ledger.claim(made["failed"].job_id, LEASE), "slice 3 is missing")
    made["cancelled"] = home.queued("pacs")
    home.ledger.cancel(made["cancelled"].job_id)
    made["segmented"] = home.segmented()
    made["rich"] = home.segmented("pacs", Route(to="planning", outputs=("rtstruct",)), **RICH)
    made["review"] = home.segmented("pacs", release=True)
    made["delivered"] = home.segmented("pacs")
    home.ended(made["delivered"], "pacs", DeliveryState.DELIVERED, transaction_uid="2.25.1234567890")
    made["committed"] = home.segmented("pacs")
    home.ended(made["committed"], "pacs", DeliveryState.DELIVERED, transaction_uid="2.25.1234567891")
    home.ledger.committed(home.ledger.asked_with("2.25.1234567891"))
    made["half sent"] = home.segmented("pacs", outputs=("seg", "sr"))
    delivery = home.ledger.claim_delivery(made["half sent"].job_id, "pacs", LEASE)
    home.ledger.postpone_delivery(delivery, "out of resources", 5.0, taken=["seg.dcm"])
    made["stood in for"] = home.segmented(Route(to="pacs", fallback="archive"))
    home.ended(made["stood in for"], "pacs", DeliveryState.FAILED, "refused")
    made["shadow"] = home.segmented("pacs", shadow=True)
    more = home.series()
    made["superseded"] = home.segmented("pacs", of=more, images=3)
    home.ended(made["superseded"], "pacs", DeliveryState.DELIVERED)
    made["superseding"] = home.segmented("pacs", of=more)
    late = home.series()
    made["cancelled for more images"] = home.queued("pacs", of=late, images=3)
    made["with more images"] = home.queued("pacs", of=late)
    uids, instances = home.series()
    for turn, name in enumerate(("EchoTime=5", "EchoTime=90")):
        made[name] = home.queued("pacs", of=(uids, instances[turn::2]), images=2, volume=name)
    home.ledger.prefer(made["EchoTime=90"])
    home.series(settled=False)
    report = home.folder / "reports" / "one.txt"
    report.parent.mkdir()
    report.write_text("Bone: dense lesion.", encoding="utf-8")
    home.ledger.report_arrived(
        "f" * 64, study_uid=uids["study_uid"], accession="", source="http", path=str(report.relative_to(home.folder))
    )
    return {story: work.job_id for story, work in made.items()}


def messages(folder: Path, jobs: dict[str, str]) -> dict[str, list[str]]:
    """By Redis list what lies on the queue, each as Celery wrote it."""
    settings = Settings(home=folder)
    with running_queue(settings, ours=True):
        broker = Broker(celery_app(settings))
        broker.segment([jobs["queued"]])
        broker.deliver([(jobs["rich"], "pacs")])
        broker.commit([(jobs["delivered"], "pacs")])
        with redis.Redis(unix_socket_path=str(socket_path(folder))) as client:
            names = [name for queue in ("segment", "deliver") for name in lists_of(queue)]
            return {name: [raw.decode() for raw in client.lrange(name, 0, -1)] for name in names if client.llen(name)}


def main(target: Path) -> None:
    """Makes the files of this folder in `target`."""
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "home"
        home = Home(folder)
        jobs = stories(home)
        home.ledger.close()
        (target / "messages.json").write_text(json.dumps(messages(folder, jobs), indent=1), encoding="utf-8")
        with sqlite3.connect(folder / "ledger.sqlite") as ledger:
            (target / "ledger.sql").write_text("\n".join(ledger.iterdump()) + "\n", encoding="utf-8")
        expected = {"jobs": jobs, "protocol": Protocol(**PROTOCOL).digest}
        (target / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
        with tarfile.open(target / "home.tar.gz", "w:gz") as packed:
            for path in sorted(folder.rglob("*")):
                if path.is_file() and path.relative_to(folder).parts[0] in ("studies", "results", "reports"):
                    entry = tarfile.TarInfo(str(path.relative_to(folder)))
                    content = path.read_bytes()
                    entry.size = len(content)
                    packed.addfile(entry, io.BytesIO(content))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
