"""What must hold in the end: the ledger, the store and the PACS are compared with what the modalities were told."""

import hashlib
import io
from collections import Counter
from collections.abc import Collection, ItemsView, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
from pydicom.filereader import read_file_meta_info

from dicom_node.store import Store
from tests.support.peers import Orthanc
from tests.torture.sending import Study
from worker.ledger import Delivery, DeliveryState, Job, JobState, Ledger, Series

INSTEAD = "delivered to spare instead of"  # in the reason of a job whose fallback has its results
UNFORESEEN = "the worker's log has the traceback"  # in the reason of a job that failed by an error without a name
DIED = "died or fell silent during attempt"  # the reason of a job that kills its worker


@dataclass(frozen=True)
class Evidence:
    """What each side holds. A data set is known by its digest, whatever stands in the file before it."""

    studies: Sequence[Study]
    poison: Collection[str]  # Study Instance UIDs of which the segmentation dies
    jobs: Sequence[Job]
    deliveries: Sequence[Delivery]
    receiving: Sequence[Series]
    stored: Mapping[str, str]  # digest by SOP Instance UID
    results: Mapping[str, Mapping[str, str]]  # digest by SOP Instance UID, by job
    pacs: Sequence[tuple[str, str]]  # SOP Instance UID, digest
    arrivals: int  # how many instances the PACS has ever added


@dataclass
class Verdict:
    """What was counted, and what is wrong."""

    counts: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def taken(job: Job) -> bool:
    """Whether its results have come to their end: promised, or delivered where nobody is asked for a promise."""
    by_web = any(route.to == "web" for route in job.spec.routes)
    return job.state is (JobState.DELIVERED if by_web else JobState.COMMITTED)


def ended(job: Job) -> bool:
    """Whether nothing more will happen to it by itself."""
    return taken(job) or job.state in (JobState.FAILED, JobState.CANCELLED)


def digest_of(file: bytes) -> str:
    """SHA-256 of the data set of a DICOM file, without the file meta information (PS3.10 section 7.1)."""
    length = int.from_bytes(file[140:144], "little")  # value of (0002,0000), the length of what follows in group 0002
    return hashlib.sha256(file[144 + length :]).hexdigest()


def gather(studies: Sequence[Study], poison: Collection[str], ledger: Ledger, store: Store, pacs: Orthanc) -> Evidence:
    """Reads all sides; the node should be idle, and may be gone."""
    jobs = ledger.jobs.find(limit=1_000_000)
    return Evidence(
        studies=studies,
        poison=poison,
        jobs=jobs,
        deliveries=[delivery for job in jobs for delivery in ledger.deliveries.of_job(job.id)],
        receiving=ledger.series.unsettled(),
        stored={one.sop_uid: digest_of(one.path.read_bytes()) for one in store.walk()},
        results={job.id: _results(store.result_paths(job.id)) for job in jobs},
        pacs=_held(pacs),
        arrivals=_arrivals(pacs),
    )


def judge(evidence: Evidence) -> Verdict:
    """Holds the sides against each other."""
    verdict = Verdict()
    _images(evidence, verdict)
    _work(evidence, verdict)
    _rest(evidence, verdict)
    _results_delivered(evidence, verdict)
    return verdict


def _images(evidence: Evidence, verdict: Verdict) -> None:
    acknowledged = missing = changed = removed = 0
    cleaned = {job.study_uid for job in evidence.jobs if job.cleaned_at and taken(job)}
    for study in evidence.studies:
        if study.leaves and study.uid not in cleaned:
            verdict.faults.append(f"the images of study {study.uid} were to be removed, and no job says that they were")
        for uid in sorted(study.acknowledged):
            acknowledged += 1
            if study.leaves and study.uid in cleaned and uid not in evidence.stored:
                removed += 1
            elif uid not in evidence.stored:
                missing += 1
                verdict.faults.append(f"image {uid} of study {study.uid} was acknowledged and is not in the store")
            elif evidence.stored[uid] != digest_of(study.images[uid].read_bytes()):
                changed += 1
                verdict.faults.append(f"image {uid} of study {study.uid} is not what was sent")
    verdict.counts |= {"images acknowledged": acknowledged, "images lost": missing, "images changed": changed}
    verdict.counts |= {"images removed by retention": removed}


def _work(evidence: Evidence, verdict: Verdict) -> None:
    """Every study's newest job is on all of its images and came to its end; the others were superseded."""
    for study in evidence.studies:
        newest = [job for job in evidence.jobs if job.study_uid == study.uid and job.superseded_by is None]
        if len(newest) != 1:
            verdict.faults.append(f"study {study.uid} has {len(newest)} jobs that nothing supersedes")
            continue
        (job,) = newest
        if set(job.spec.instances) != study.acknowledged:
            named, sent = len(job.spec.instances), len(study.acknowledged)
            verdict.faults.append(f"job {job.id} is on {named} images, study {study.uid} has {sent}")
        if study.uid in evidence.poison:
            if job.state is not JobState.FAILED or DIED not in job.reason:
                verdict.faults.append(f"job {job.id} on a poison study is {job.state} ({job.reason})")
        elif not taken(job):
            verdict.faults.append(f"job {job.id} on study {study.uid} is {job.state} ({job.reason})")
        if study.reported and len(job.spec.prompts) < 2:
            verdict.faults.append(f"job {job.id} on study {study.uid} knows nothing of its report")
    for job in evidence.jobs:
        failed = job.state is JobState.FAILED and UNFORESEEN not in job.reason  # before it was superseded: its right
        if job.superseded_by and not (failed or taken(job) or job.state is JobState.CANCELLED):
            verdict.faults.append(f"job {job.id}, superseded, is {job.state} ({job.reason})")
    states = Counter(job.state for job in evidence.jobs)
    verdict.counts |= {f"jobs {state}": states[state] for state in JobState if states[state]}
    verdict.counts["jobs that a fallback took"] = sum(taken(job) and INSTEAD in job.reason for job in evidence.jobs)


def _rest(evidence: Evidence, verdict: Verdict) -> None:
    """Nothing is left in a state that somebody should be working on."""
    running = [job for job in evidence.jobs if job.state in (JobState.QUEUED, JobState.SEGMENTING, JobState.SENDING)]
    open_states = (DeliveryState.PENDING, DeliveryState.SENDING)
    sending = [one for one in evidence.deliveries if one.state in open_states]
    verdict.faults += [f"job {job.id} is left {job.state}" for job in running]
    verdict.faults += [f"the delivery of job {one.job_id} to {one.destination} is left {one.state}" for one in sending]
    verdict.faults += [f"series {one.series_uid} is left {one.state}" for one in evidence.receiving]
    verdict.counts["left running"] = len(running) + len(sending) + len(evidence.receiving)


def _results_delivered(evidence: Evidence, verdict: Verdict) -> None:
    held = Counter(uid for uid, _ in evidence.pacs)
    content = dict(evidence.pacs)
    wanted = {uid: digest for job in evidence.jobs if taken(job) for uid, digest in _made(job, evidence, verdict)}
    missing = [uid for uid in wanted if not held[uid]]
    twice = [uid for uid, count in held.items() if count > 1]
    strange = [uid for uid in held if uid not in wanted]
    changed = [uid for uid, digest in wanted.items() if held[uid] and content[uid] != digest]
    verdict.faults += [f"result {uid} is not in the PACS" for uid in missing]
    verdict.faults += [f"result {uid} is in the PACS {held[uid]} times" for uid in twice]
    verdict.faults += [f"the PACS holds {uid}, which is no delivered job's" for uid in strange]
    verdict.faults += [f"result {uid} in the PACS is not what the job made" for uid in changed]
    if evidence.arrivals != len(evidence.pacs):
        verdict.faults.append(f"the PACS holds {len(evidence.pacs)} instances and has added {evidence.arrivals}")
    verdict.counts |= {
        "results made": len(wanted),
        "results in the PACS": len(evidence.pacs),
        "results missing": len(missing),
        "results twice or of no job": len(twice) + len(strange),
        "attempts to segment": sum(job.claims for job in evidence.jobs),
        "attempts to deliver": sum(one.claims for one in evidence.deliveries),
    }


def _made(job: Job, evidence: Evidence, verdict: Verdict) -> ItemsView[str, str]:
    made = evidence.results[job.id]
    objects = [name for name in job.result.files if name.endswith(".dcm")]
    if not objects or len(made) != len(objects):
        verdict.faults.append(f"job {job.id} made {objects}, its folder holds {len(made)} objects")
    return made.items()


def _results(paths: Sequence[Path]) -> dict[str, str]:
    found = [path for path in paths if path.suffix == ".dcm"]
    return {str(read_file_meta_info(path).MediaStorageSOPInstanceUID): content_of(path.read_bytes()) for path in found}


def _held(pacs: Orthanc) -> list[tuple[str, str]]:
    held = []
    for instance in pacs.get("/instances"):
        file = pacs.read(f"/instances/{instance}/file")
        uid = str(pydicom.dcmread(io.BytesIO(file), specific_tags=["SOPInstanceUID"]).SOPInstanceUID)
        held.append((uid, content_of(file)))
    return held


def content_of(file: bytes) -> str:
    """A digest over the values: a PACS may write sequences with other lengths than it got."""
    document = pydicom.dcmread(io.BytesIO(file)).to_json(bulk_data_threshold=1 << 30)
    return hashlib.sha256(document.encode()).hexdigest()


def _arrivals(pacs: Orthanc) -> int:
    """How many instances Orthanc has ever added: one that was overwritten or came back counts again."""
    count, since, done = 0, 0, False
    while not done:
        page = pacs.get(f"/changes?limit=1000&since={since}")
        count += sum(change["ChangeType"] == "NewInstance" for change in page["Changes"])
        since, done = page["Last"], page["Done"]
    return count
