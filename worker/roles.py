"""The roles of a node, one process each: listener, segmentation worker, delivery worker; and `up`, which starts all.

The commands `listen`, `segment-worker`, `deliver-worker` and `up` call these functions, which return when the process
is told to stop.

```
up
├─ embedded queue (Valkey), unless VOXTELL_REDIS_URL names one
├─ listen           × VOXTELL_LISTENERS   association threads, intake thread, retention thread; HTTP and HL7 ports
├─ segment-worker   one Celery worker, a child process per segmentation at one time
└─ deliver-worker   one Celery worker, a child process per destination, eight at most
```

The processes share the home (store and ledger) and the queue, and nothing else. `up` starts a role again that dies. On
Linux the roles end with `up` even when it is killed; an embedded queue that outlives it is adopted at the next start.
"""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from types import FrameType

from dicom_node.commitment import Commitment
from dicom_node.listener import Listener
from dicom_node.scp.access import Access, Limits
from dicom_node.store import Store
from worker import logs
from worker.destinations import listener_tls, peer_by_ae_title
from worker.engines.devices import processes_for
from worker.errors import BrokerError, WorkerError
from worker.ledger import Ledger
from worker.logs import get_logger
from worker.maintenance.retention import Retention
from worker.maintenance.storage_commitment import Commitments
from worker.protocols import ship_protocols
from worker.queue.broker import DELIVER_QUEUE, SEGMENT_QUEUE, Broker, celery_app
from worker.queue.celery_worker import STOP_SECONDS, end_with_parent, work
from worker.queue.embedded_server import revive_queue, running_queue
from worker.reports.inbox import ReportInbox
from worker.settings import Settings
from worker.steps.intake import Intake

log = get_logger(__name__)

ROLES = ("listen", "segment-worker", "deliver-worker")
# A role that ends within this time of the start has settings that cannot work. On a busy machine a role may need a
# third of this time before it finds that out.
SETTLING_SECONDS = 45.0
RESTART_SECONDS = 2.0  # a role that dies is started again after this long
SPARE_CONNECTIONS = 8  # to the DICOM port, for those that never ask for an association, such as checks of the port
MOST_DELIVERING = 8  # processes; each takes some 80 MB


class RoleError(WorkerError):
    """A role of the node ended at once."""

    retry = "usage"


def listen(settings: Settings) -> None:
    """Receives images and reports, decides and enqueues, until SIGTERM or SIGINT.

    Runs the DICOM listener, the intake thread, the retention thread, and the HTTP and HL7 ports that the settings name.
    It starts without a queue, too: the ledger remembers the jobs, and the sweep enqueues them later.

    Raises:
        ListenerError: when a port is in use.
        ProtocolError: when a protocol file is not valid.
        SettingsError, TlsError: when a setting or a certificate cannot be used.
    """
    logs.configure(settings, "listen")
    ship_protocols(settings.protocols_folder)
    store, ledger = Store(settings.home), Ledger(settings.ledger_url)
    intake = Intake(settings, store, ledger, Broker(celery_app(settings)))
    listener = Listener(
        store,
        ae_title=settings.ae_title,
        host=settings.host,
        port=settings.port,
        on_arrival=intake.arrived,
        on_association_end=intake.association_ended,
        access=Access(
            called_ae_must_match=settings.require_called_ae,
            calling_aes=settings.allowed_calling_aets,
            networks=settings.allowed_addresses,
            private_classes=settings.private_classes,
        ),
        limits=_limits(settings),
        tls=listener_tls(settings),
        share_port=settings.share_port or settings.listeners > 1,
        services=[
            Commitment(
                store,
                ae_title=settings.ae_title,
                on_report=Commitments(settings, ledger, store).reported,
                peer_of=partial(peer_by_ae_title, settings=settings),
            )
        ],
    )
    inbox = ReportInbox.of(settings, ledger)
    servers = _other_servers(settings, store, listener, inbox)
    with _stop_on_signal() as stop, running_queue(settings, needed=False), listener, servers:
        log.info("dicom_listening", ae_title=settings.ae_title, host=settings.host, port=listener.port)
        retention = threading.Thread(target=Retention(settings, store, ledger).run, args=(stop,), name="retention")
        retention.start()
        try:
            intake.run(stop, listener.open_series)
        finally:  # also after an error: a listener without its intake has to end, so that it is started again
            stop.set()
            retention.join()
    ledger.close()


def _limits(settings: Settings) -> Limits:
    """What the listener gives to its peers; limits of connections follow that of associations unless they are set."""
    most = settings.max_associations
    return Limits(
        associations=most,
        connections=settings.max_connections or 2 * most + SPARE_CONNECTIONS,
        connections_per_address=settings.max_connections_per_address or max(4 * most // 5, 1),
        request_seconds=settings.association_request_seconds,
        pdu_bytes=settings.max_pdu_bytes,
        free_bytes=settings.min_free_bytes,
    )


def _other_servers(
    settings: Settings, store: Store, listener: Listener, inbox: ReportInbox
) -> AbstractContextManager[None]:
    """Serves STOW-RS and reports on the ports that the settings name.

    The HTTP libraries are imported only then: a listener without such ports starts sooner and needs less memory.
    """
    if settings.stow_port is None and settings.hl7_port is None and settings.reports_http_port is None:
        return nullcontext()
    from worker.servers.ports import serving_ports

    return serving_ports(settings, store, listener.sessions, inbox)


def segment_worker(settings: Settings) -> None:
    """Segments until told to stop, in child processes. Celery replaces one that dies; its job is tried again.

    Raises:
        BrokerError: when the queue does not answer.
        RoleError: when Celery's worker ended by an error.
    """
    processes = settings.segment_processes or processes_for(settings.device)
    _celery_worker(settings, "segment-worker", SEGMENT_QUEUE, "worker.steps.segmentation", processes=processes)


def deliver_worker(settings: Settings) -> None:
    """Delivers until told to stop, in one child process per destination, two at least and eight at most.

    A destination that hangs holds up its child and no other.

    Raises:
        BrokerError: when the queue does not answer.
        RoleError: when Celery's worker ended by an error.
    """
    children = min(max(2, len(settings.destinations)), MOST_DELIVERING)
    _celery_worker(settings, "deliver-worker", DELIVER_QUEUE, "worker.steps.delivery", processes=children)


def _celery_worker(settings: Settings, role: str, queue: str, module: str, *, processes: int) -> None:
    """Runs a Celery worker on one queue; `module` holds its tasks and is imported by Celery, not by this module."""
    logs.configure(settings, role)
    with running_queue(settings):
        app = celery_app(settings, takes=True)
        app.conf.include = [module]
        code = work(app, role, queue, processes=processes, log_level=settings.log_level)
    if code:
        raise RoleError(f"{role} ended by an error: see its message above")


def up(settings: Settings) -> None:
    """Runs all roles as child processes until SIGTERM or SIGINT, and starts a role again that dies.

    A role that exits with an error within the first 45 s is taken for a wrong setting, and ends the node.

    Raises:
        BrokerError: when the embedded queue does not start.
        RoleError: when a role ended at once; its own message, above this one, says why.
    """
    logs.configure(settings, "up")
    with _stop_on_signal() as stop, running_queue(settings, ours=True):
        children = [(role, _start_role(role)) for role in ["listen"] * settings.listeners + list(ROLES[1:])]
        settled_at = time.monotonic() + SETTLING_SECONDS
        try:
            while not stop.wait(RESTART_SECONDS):
                _see_to_the_queue(settings)
                for place, (role, child) in enumerate(children):
                    if child.poll() is None:
                        continue
                    if child.returncode > 0 and time.monotonic() < settled_at:  # a signal is no wrong setting
                        raise RoleError(f"{role} ended at once (exit code {child.returncode}): see its message above")
                    log.error("role_ended", child=role, exit_code=child.returncode)
                    try:
                        children[place] = (role, _start_role(role))
                    except OSError as error:  # no room for one more process: there may be at the next look
                        log.error("role_not_started", child=role, problem=str(error))
        finally:
            _end([child for _, child in children])


def _see_to_the_queue(settings: Settings) -> None:
    """Starts the embedded queue again if it died; if that fails, so does the next round. Jobs wait in the ledger."""
    try:
        if revive_queue(settings):
            log.error("queue_restarted")
    except BrokerError as error:
        log.error("queue_not_restarted", problem=str(error))


def _start_role(role: str) -> subprocess.Popen[bytes]:
    """Starts a role as a child that Linux ends when this process dies."""
    return subprocess.Popen([sys.executable, "-m", "worker", role], preexec_fn=end_with_parent)


def _end(children: Sequence[subprocess.Popen[bytes]]) -> None:
    """Asks the roles to end, the listener first, so that nothing new comes in; kills what is left after 20 s."""
    for child in children:
        child.terminate()
    deadline = time.monotonic() + STOP_SECONDS
    for child in children:
        try:
            child.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


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
