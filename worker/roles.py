"""The roles of a node, one process each: listener, reports, segmentation, delivery; and `up`, which starts all.

The commands of these names and `up` call these functions, which return when the process is told to stop.

```
up
├─ embedded queue (Valkey), unless VOXTELL_REDIS_URL names one
├─ listen           × VOXTELL_LISTENERS   association threads, intake thread, retention thread; STOW-RS
│  └─ receive-reports                     HL7 and HTTP ports for reports, where the settings name them
├─ segment-worker   one Celery worker, a child process per segmentation at one time
└─ deliver-worker   one Celery worker, a child process per destination, eight at most
```

The processes share the home (store and ledger) and the queue, and nothing else. `up` starts a role again that dies. On
Linux the roles end with `up` even when it is killed; an embedded queue that outlives it is adopted at the next start.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from socket import gethostname
from types import FrameType

from dicom_node.commitment import StorageCommitment
from dicom_node.listener import Listener
from dicom_node.store import Store
from worker import logs
from worker.child_processes import RESTART_SECONDS, ChildProcesses, RoleError, limit_arenas
from worker.destinations.dicom import peer_by_ae_title
from worker.engines.devices import processes_for
from worker.errors import BrokerError
from worker.ledger import Ledger
from worker.logs import get_logger
from worker.maintenance.presence import DELIVER, LISTEN, SEGMENT, alone_up, at_work
from worker.maintenance.retention import Retention
from worker.maintenance.storage_commitment import CommitmentRequests
from worker.private_home import keep_private
from worker.protocols import ship_protocols
from worker.queue.broker import DELIVER_QUEUE, SEGMENT_QUEUE, Broker, celery_app
from worker.queue.celery_worker import work
from worker.queue.embedded_server import revive_queue, running_queue
from worker.reports.inbox import ReportInbox
from worker.servers.dicom import access_to_dicom, dicom_limits
from worker.servers.tls import listener_tls
from worker.settings import Settings
from worker.steps.intake import Intake

log = get_logger(__name__)

ROLES = (LISTEN, SEGMENT, DELIVER)
REPORTS_ROLE = "receive-reports"  # a child of each listener
RECEIVING_ARENAS = 2  # of malloc, in processes with a thread for each connection
MOST_DELIVERING = 8  # processes; each takes some 80 MB


def listen(settings: Settings) -> None:
    """Receives images and reports, decides and enqueues, until SIGTERM or SIGINT.

    Runs the DICOM listener, the intake thread, the retention thread, STOW-RS, and a child process for reports, each
    where the settings name a port.
    It starts without a queue, too: the ledger remembers the jobs, and the sweep enqueues them later.

    Raises:
        ListenerError: when a port is in use.
        SettingsError: when a setting cannot be used.
        TlsError: when a certificate cannot be used.
        RoleError: when the process for reports ended at once; its own message, above this one, says why.
    """
    _begin(settings, LISTEN)
    limit_arenas(RECEIVING_ARENAS)
    ship_protocols(settings.protocols_folder)
    store = Store(settings.home, newer_wins=settings.conflict == "newer")
    ledger = Ledger(settings.ledger_url, store_id=store.id)
    for other in ledger.stores.note(gethostname()):
        log.info("ledger_of_several_stores", store=other.id, host=other.host)
    intake = Intake(settings, store, ledger, Broker(celery_app(settings)))
    listener = _dicom_listener(settings, store, ledger, intake)
    stow = _stow(settings, store, listener)
    with (
        _stop_on_signal() as stop,
        running_queue(settings, needed=False),
        listener,
        at_work(settings.home, LISTEN),
        stow,
        _reports(settings, stop),
    ):
        log.info("dicom_listening", ae_title=settings.ae_title, host=settings.host, port=listener.port)
        retention = threading.Thread(target=Retention(settings, store, ledger).run, args=(stop,), name="retention")
        retention.start()
        try:
            intake.run(stop, listener.open_series)
        finally:  # also after an error: a listener without its intake has to end, so that it is started again
            stop.set()
            retention.join()
    ledger.close()


def _dicom_listener(settings: Settings, store: Store, ledger: Ledger, intake: Intake) -> Listener:
    """Returns the listener of the DICOM port, not started: C-STORE, and storage commitment."""
    return Listener(
        store,
        ae_title=settings.ae_title,
        host=settings.host,
        port=settings.port,
        on_arrival=intake.arrived,
        on_association_end=intake.association_ended,
        access=access_to_dicom(settings),
        limits=dicom_limits(settings),
        tls=listener_tls(settings),
        share_port=settings.share_port or settings.listeners > 1,
        services=[
            StorageCommitment(
                store,
                ae_title=settings.ae_title,
                on_report=CommitmentRequests(settings, ledger, store).reported,
                peer_of=partial(peer_by_ae_title, settings=settings),
            )
        ],
    )


def _begin(settings: Settings, role: str) -> None:
    """Configures the log and makes HOME private."""
    logs.configure(settings, role)
    keep_private(settings.home)


def _stow(settings: Settings, store: Store, listener: Listener) -> AbstractContextManager[None]:
    """Serves STOW-RS where the settings name a port; the HTTP libraries are imported only then."""
    if settings.stow_port is None:
        return nullcontext()
    from worker.servers.ports import serving_stow

    return serving_stow(settings, store, listener.sessions)


@contextmanager
def _reports(settings: Settings, stop: threading.Event) -> Iterator[None]:
    """Runs the process for reports until the block ends, where the settings name a port for them.

    What comes there takes neither memory nor descriptors of the listener. A thread starts it again when it dies.

    Raises:
        RoleError: when it ended at once; raised at the end of the block.
    """
    if settings.hl7_port is None and settings.reports_http_port is None:
        yield
        return
    failed: list[RoleError] = []
    children = ChildProcesses([REPORTS_ROLE], settings.stop_seconds)

    def watch() -> None:
        try:
            while not stop.wait(RESTART_SECONDS):
                children.look()
        except RoleError as error:
            failed.append(error)
            stop.set()

    watching = threading.Thread(target=watch, name="reports")
    watching.start()
    try:
        yield
    finally:
        stop.set()
        watching.join()
        children.end()
    if failed:
        raise failed[0]


def receive_reports(settings: Settings) -> None:
    """Receives reports over HL7 and HTTP until SIGTERM or SIGINT. The listener starts it.

    Raises:
        ReceiverError: when the port for HL7 is in use.
        ListenerError: when the port for reports over HTTP is in use.
        SettingsError: when a setting cannot be used.
        TlsError: when a certificate cannot be used.
    """
    from worker.servers.ports import serving_reports

    _begin(settings, REPORTS_ROLE)
    limit_arenas(RECEIVING_ARENAS)
    _let_it_go_first()
    ledger = Ledger(settings.ledger_url)
    with _stop_on_signal() as stop, serving_reports(settings, ReportInbox.of(settings, ledger)):
        stop.wait()
    ledger.close()


def _let_it_go_first() -> None:
    """Has Linux end this process and not the listener when memory runs out."""
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")


def segment_worker(settings: Settings) -> None:
    """Segments until told to stop, in child processes. Celery replaces one that dies; its job is tried again.

    Raises:
        BrokerError: when the queue does not answer.
        RoleError: when Celery's worker ended by an error.
    """
    processes = settings.segment_processes or processes_for(settings.device)
    _celery_worker(settings, SEGMENT, SEGMENT_QUEUE, "worker.steps.segmentation", processes=processes)


def deliver_worker(settings: Settings) -> None:
    """Delivers until told to stop, in one child process per destination, two at least and eight at most.

    A destination that hangs holds up its child and no other.

    Raises:
        BrokerError: when the queue does not answer.
        RoleError: when Celery's worker ended by an error.
    """
    children = min(max(2, len(settings.destinations)), MOST_DELIVERING)
    _celery_worker(settings, DELIVER, DELIVER_QUEUE, "worker.steps.delivery", processes=children)


def _celery_worker(settings: Settings, role: str, queue: str, module: str, *, processes: int) -> None:
    """Runs a Celery worker on one queue; `module` holds its tasks and is imported by Celery, not by this module."""
    _begin(settings, role)
    with running_queue(settings), at_work(settings.home, role):
        app = celery_app(settings, takes=True)
        app.conf.include = [module]
        code = work(
            app,
            role,
            queue,
            processes=processes,
            log_level=settings.log_level,
            stop_seconds=settings.stop_seconds,
        )
    if code:
        raise RoleError(f"{role} ended by an error: see its message above")


def up(settings: Settings) -> None:
    """Runs all roles as child processes until SIGTERM or SIGINT, and starts a role again that dies.

    A role that exits with an error within the first 45 s is taken for a wrong setting, and ends the node.

    Raises:
        AlreadyUpError: when a node is up on this home; nothing there is touched then, its queue neither.
        BrokerError: when the embedded queue does not start.
        RoleError: when a role ended at once; its own message, above this one, says why.
    """
    with alone_up(settings.home):
        _begin(settings, "up")
        _run_roles(settings)


def _run_roles(settings: Settings) -> None:
    """Runs the queue and the roles until SIGTERM or SIGINT."""
    with _stop_on_signal() as stop, running_queue(settings, ours=True):
        children = ChildProcesses([LISTEN] * settings.listeners + list(ROLES[1:]), settings.stop_seconds)
        try:
            while not stop.wait(RESTART_SECONDS):
                _see_to_the_queue(settings)
                children.look()
        finally:
            children.end()


def _see_to_the_queue(settings: Settings) -> None:
    """Starts the embedded queue again if it died; if that fails, so does the next round. Jobs wait in the ledger."""
    try:
        if revive_queue(settings):
            log.error("queue_restarted")
    except BrokerError as error:
        log.error("queue_not_restarted", problem=str(error))


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """Yields an event that SIGTERM and SIGINT set; puts the earlier handlers back. For the main thread only."""
    stop = threading.Event()

    def handle(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
