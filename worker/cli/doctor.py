"""`doctor`: checks that everything is in place, and says what to do where something is not.

A check is a function from settings to one sentence that says what was found. It raises NotHereError for what need not
be on this machine (marked `note`), and another error of the node for what is wrong (marked `FAIL`). It only looks:
besides making the home and the folder of shipped protocols, opening associations (C-ECHO, and a probe of what a
destination takes), and writing a key to the queue that is gone after a second, it changes nothing.
"""

import shutil
import socket
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Literal

import typer

from dicom_node.conflicts import conflicts_in
from dicom_node.errors import DicomNodeError, PeerError
from dicom_node.scp.access import Access
from dicom_node.scu.association import Peer, echo
from dicom_node.storage.part10 import IMPLEMENTATION_VERSION_NAME
from worker.cli.printing import Json, print_json
from worker.destinations.destination import Destination
from worker.engines import models
from worker.engines.loading import load_engine, require_engine
from worker.engines.whole_models import problem_with
from worker.errors import BrokerError, EngineMissingError, NotHereError, WorkerError
from worker.ledger import JobState, Ledger
from worker.maintenance.presence import DELIVER, LISTEN, SEGMENT, is_at_work
from worker.private_home import load_privately, open_to_others
from worker.protocols import Protocol, inactive, read_as_at_a_start, ship_protocols, unknown_destinations
from worker.protocols.on_this_node import senders_of, unnamed_senders
from worker.queue.embedded_server import queue_answers, queue_problem, socket_path
from worker.servers.tls import tls_to_itself
from worker.settings import Settings

GIB = 1024**3

Mark = Literal["ok", "note", "FAIL"]


def doctor(as_json: Json = False) -> None:
    """Checks disk, ledger, queue, protocols, reports, models, listener, workers, quarantine and destinations.

    The exit code is 1 if a check fails.
    """
    settings = load_privately()
    checks: dict[str, Callable[[Settings], str]] = {
        "home": _home,
        "ledger": _ledger,
        "queue": _queue,
        "protocols": _protocols,
        "reports": _reports,
        "models": _models,
        "engine": _engine,
        "listener": _listener,
        "workers": _workers,
        "quarantine": _quarantine,
    }
    results = [_checked(name, check, settings) for name, check in checks.items()]
    if not settings.destinations:
        results.append(_checked("destinations", _no_destination, settings))
    results += [_checked(one.name, partial(_destination, destination=one), settings) for one in settings.destinations]
    if as_json:
        print_json(
            [{"check": name, "ok": mark != "FAIL", "mark": mark, "message": said} for name, mark, said in results]
        )
    else:
        for name, mark, message in results:
            typer.echo(f"{mark:<4} {name:<12} {message}")
    if any(mark == "FAIL" for _, mark, _ in results):
        raise typer.Exit(1)


def _checked(name: str, check: Callable[[Settings], str], settings: Settings) -> tuple[str, Mark, str]:
    """Runs one check; returns its name, its mark, and its sentence or that of its error."""
    try:
        return name, "ok", check(settings)
    except NotHereError as error:
        return name, "note", str(error)
    except (WorkerError, DicomNodeError, OSError) as error:
        return name, "FAIL", str(error)


def _home(settings: Settings) -> str:
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=settings.home):
        free = shutil.disk_usage(settings.home).free
    if free < settings.min_free_bytes:
        least = settings.min_free_bytes / GIB
        raise WorkerError(
            f"{settings.home} has {free / GIB:.1f} GiB free, images are refused below {least:.1f}; free some"
        )
    if mode := open_to_others(settings.home):
        raise WorkerError(
            f"{settings.home} is open to other users of this machine (mode {mode:04o}), and holds patients' data; "
            f"chmod 0700 it, as the start of the node does"
        )
    return f"{settings.home} is writable, {free / GIB:.1f} GiB free"


def _quarantine(settings: Settings) -> str:
    """Checks that no instance came again with other content: a corrected study changes nothing, and one must know."""
    if found := conflicts_in(settings.home):
        raise NotHereError("; ".join(one.sentence for one in found))
    return "no image came again with other content"


def _ledger(settings: Settings) -> str:
    """Checks that the database answers; its URL is shown without user and password."""
    ledger = Ledger(settings.ledger_url)
    failed = len(ledger.jobs.find(JobState.FAILED))
    if unreadable := ledger.series.unreadable():
        studies = ", ".join(dict.fromkeys(series.study_uid for series in unreadable[:3]))
        raise WorkerError(
            f"{len(unreadable)} series cannot be read, as of study {studies}: {unreadable[0].reason}; "
            "`voxtell-dicom ledger look-again STUDY` has one looked at again"
        )
    return f"{settings.ledger_url} answers; {failed} failed jobs"


def _queue(settings: Settings) -> str:
    """Checks that the queue takes messages; an embedded one need not run yet."""
    if not settings.redis_url and not queue_answers(settings):
        return "embedded, not running; `voxtell-dicom up` starts it"
    if problem := queue_problem(settings):
        raise BrokerError(problem)
    return f"{settings.redis_url or socket_path(settings.home)} takes messages"


def _protocols(settings: Settings) -> str:
    """Checks that there are protocols, all valid, whose destinations are all set; says which are inactive."""
    folder = settings.protocols_folder
    ship_protocols(folder)
    now = read_as_at_a_start(settings)
    if now.problems:
        raise WorkerError("; ".join(now.problems))
    protocols = now.current()
    if not protocols:
        raise WorkerError(f"{folder} holds no protocol: nothing will be segmented; add a YAML file")
    if unknown := [problem for protocol in protocols for problem in unknown_destinations(protocol, settings)]:
        raise WorkerError("; ".join(unknown))
    idle = [protocol.name for protocol in protocols if inactive(protocol, settings)]
    active = ", ".join(protocol.name for protocol in protocols if protocol.name not in idle) or "none is active"
    why = f"; inactive for want of their model: {', '.join(idle)} (see voxtell-dicom protocols check)" if idle else ""
    return f"{folder}: {active}{why}"


def _reports(settings: Settings) -> str:
    """Checks that the words and rules of the report language can be loaded."""
    from worker.report_language import LanguageError
    from worker.reports.reported import language_of

    try:
        lexicon = language_of(settings).lexicon.file
    except LanguageError as error:
        raise WorkerError(f"{error}; see VOXTELL_REPORT_LANGUAGE") from None
    return f"language {lexicon.language}: {len(lexicon.findings)} kinds of findings are known"


def _models(settings: Settings) -> str:
    """Checks that every model on this machine is whole: a half-copied one counts as not there."""
    found = models.on_this_node(settings)
    problems = {folder: problem for folder in found if (problem := problem_with(folder, settings.home))}
    if problems:
        raise WorkerError("; ".join(f"{folder.name} counts as not here: {said}" for folder, said in problems.items()))
    return f"{', '.join(str(folder) for folder in found)}: every file verifies" if found else "the bundled one alone"


def _engine(settings: Settings) -> str:
    """Checks that the node's model can be loaded on its device, which takes as long as it does in the worker."""
    try:
        require_engine()
    except EngineMissingError as error:
        raise NotHereError(f"not here; the machine of the segmentation worker needs it. {error}") from None
    from voxtell.errors import VoxTellError

    try:
        model = load_engine(settings).info
    except VoxTellError as error:
        raise WorkerError(str(error)) from None
    return f"{model.name} {model.version} ({model.digest[:19]})"


def _listener(settings: Settings) -> str:
    """Checks that the node's own listener answers a C-ECHO, and no other program or node that has its port.

    It asks by an AE title that may send. Where this machine's address may not, it says so instead of asking.
    """
    peer = Peer(settings.ae_title, settings.host, settings.port, tls_to_itself(settings))
    works = is_at_work(settings.home, LISTEN)
    if works and (address := _shut_out(settings)):
        raise NotHereError(
            f"{peer} is at work and takes connections; it is not asked by C-ECHO, since VOXTELL_ALLOWED_ADDRESSES has "
            f"no {address}, from where doctor asks"
        )
    allowed = settings.allowed_calling_aets
    calling = settings.ae_title if not allowed or settings.ae_title in allowed else allowed[0]
    try:
        report = echo(peer, calling_ae=calling)
    except PeerError as error:
        if works:
            raise
        raise WorkerError(
            f"no listener works on {settings.home}: start the node with `voxtell-dicom up`, or `voxtell-dicom listen` "
            f"alone ({error})"
        ) from None
    if report.implementation != IMPLEMENTATION_VERSION_NAME:
        raise WorkerError(
            f"another program has the port: {peer} answers and is {report.implementation}; end it, or set another "
            "VOXTELL_PORT"
        )
    if not works:
        raise WorkerError(
            f"another node has the port: {peer} answers, and no listener works on {settings.home}; correct "
            "VOXTELL_HOME or set another VOXTELL_PORT; a listener that an older version started has to be started again"
        )
    return f"{peer} answers{' by TLS' if peer.tls else ''}"


def _shut_out(settings: Settings) -> str | None:
    """Returns the address from which doctor reaches the listener, where that may not send; None where it may.

    Raises:
        OSError: when nothing takes the connection.
    """
    if not settings.allowed_addresses:
        return None
    with socket.create_connection((settings.host, settings.port), timeout=10) as connection:
        address = str(connection.getsockname()[0])
    return None if Access(networks=settings.allowed_addresses).allows(address) else address


def _workers(settings: Settings) -> str:
    """Checks that a segmentation worker and a delivery worker live; without them jobs wait."""
    missing = [role for role in (SEGMENT, DELIVER) if not is_at_work(settings.home, role)]
    if missing:
        raise WorkerError(
            f"no {' and no '.join(missing)} works on {settings.home}: jobs wait; `voxtell-dicom up` starts all, "
            f"`voxtell-dicom {missing[0]}` one alone"
        )
    return f"{SEGMENT} and {DELIVER} are at work"


def _no_destination(settings: Settings) -> str:
    """Notes that without a destination nothing leaves the node, which may be what is wanted."""
    raise NotHereError(f"none is set: results are kept in {settings.home / 'results'} and not sent")


def _destination(settings: Settings, destination: Destination) -> str:
    """Checks that a destination answers and takes what is sent there; says which protocols send it all they make."""
    active = _active(settings)
    unnamed = unnamed_senders(destination, active)
    gets = f"; it gets everything from {', '.join(unnamed)}, without being named" if unnamed else ""
    try:
        return destination.check(settings, senders_of(destination, active, settings)) + gets
    except NotHereError as note:
        raise NotHereError(f"{note}{gets}") from None


def _active(settings: Settings) -> list[Protocol]:
    """Returns the active protocols among those that can be read; the check of protocols tells the others."""
    return [protocol for protocol in read_as_at_a_start(settings).current() if not inactive(protocol, settings)]
