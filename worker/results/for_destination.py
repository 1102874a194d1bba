"""The objects of a job that go to one destination, as they lie in the store.

The delivery worker sends them, and names them when it asks for storage commitment.
"""

from pathlib import Path

from pydicom.filereader import read_file_meta_info

from dicom_node.commitment import Reference
from dicom_node.store import Store
from worker.destinations.destination import Destination
from worker.errors import WorkerError
from worker.ledger import Delivery, DeliveryState, Ledger
from worker.ledger.routing import objects_for
from worker.results.forms import in_form_for


class ResultsLostError(WorkerError):
    """Results of a job are not on disk any more."""


def objects_of(delivery: Delivery, ledger: Ledger, store: Store, destination: Destination) -> list[Path]:
    """Returns the files of every object of this delivery, by the job's routes and in the form the destination takes.

    The files are not transcoded yet. All of them must be there: a folder that has lost one must not count as delivered.

    Raises:
        ResultsLostError: when an object is not on the disk.
    """
    job = ledger.jobs.get(delivery.job_id)
    failed = [line.destination for line in ledger.deliveries.of_job(job.id) if line.state is DeliveryState.FAILED]
    objects = in_form_for(destination, objects_for(job.spec, job.result, delivery.destination, failed))
    wanted = [one.file for one in objects]
    stored = {path.name: path for path in store.result_paths(job.id)}
    lost = [name for name in wanted if name not in stored]
    if lost:
        raise ResultsLostError(
            f"{', '.join(lost)} of job {job.id} is not in {store.home / 'results'} any more; "
            f"voxtell-dicom jobs retry {job.id} makes it again if the images are still there"
        )
    return [stored[name] for name in wanted]


def references_of(delivery: Delivery, ledger: Ledger, store: Store, destination: Destination) -> list[Reference]:
    """Returns SOP class and instance UID of every object of this delivery, as storage commitment asks for them.

    Raises:
        ResultsLostError: when an object is not on the disk.
    """
    headers = [read_file_meta_info(path) for path in objects_of(delivery, ledger, store, destination)]
    return [Reference(str(one.MediaStorageSOPClassUID), str(one.MediaStorageSOPInstanceUID)) for one in headers]
