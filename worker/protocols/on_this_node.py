"""What a protocol comes to on this node: its model, its destinations, and why it may be inactive.

A protocol that needs the published weights must not run with the bundled model: that one knows seven structures of the
head and neck, and everything else would come back empty, as if it had been looked for.
"""

from collections.abc import Callable, Iterator, Sequence

from dicom_node.regions import region_for
from dicom_node.uids import SeriesKey
from worker.destinations.destination import Destination
from worker.engines.models import ModelNotHereError, bundled_card, folder_of
from worker.errors import WorkerError
from worker.job_spec import JobSpec, Prompt, Route
from worker.logs import get_logger
from worker.protocols.folder import ProtocolFolder
from worker.protocols.protocol import Protocol
from worker.settings import Settings

log = get_logger(__name__)


class InactiveError(WorkerError):
    """The protocol cannot run on this node."""

    retry = "usage"


def model_of(protocol: Protocol, settings: Settings) -> str | None:
    """Returns the folder of the model that the protocol runs with; None is the bundled one.

    Raises:
        InactiveError: when the node does not have the model; says what to do.
    """
    try:
        return folder_of(protocol.model, settings)
    except ModelNotHereError as error:
        raise InactiveError(f"protocol '{protocol.name}' is inactive: {error}") from None


def inactive(protocol: Protocol, settings: Settings) -> str:
    """Returns one sentence on why the protocol takes nothing on this node; "" when it is active."""
    try:
        model_of(protocol, settings)
    except InactiveError as error:
        return str(error)
    return ""


def beyond_bundled(protocol: Protocol, settings: Settings) -> str:
    """Returns one sentence on the prompts that the bundled model has not learnt; "" if there are none, or another model
    is used."""
    if inactive(protocol, settings) or model_of(protocol, settings) is not None:
        return ""
    known = {region_for(name).type for name in bundled_card().knows}
    beyond = [prompt.text for prompt in protocol.prompts if region_for(prompt.text).type not in known]
    if not beyond:
        return ""
    return (
        f"protocol '{protocol.name}' runs with the bundled model, which has not learnt {', '.join(beyond)}: "
        "looked for, this will not be found; set model: published"
    )


def routes_of(protocol: Protocol, settings: Settings) -> tuple[Route, ...]:
    """Returns where results go: the protocol's `destinations`, or every one that need not be named."""
    if protocol.destinations is not None:
        return protocol.destinations
    return tuple(Route(to=one.name) for one in settings.destinations if not one.only_when_named)


def unnamed_senders(destination: Destination, protocols: Sequence[Protocol]) -> list[str]:
    """Returns the protocols that send everything they make to a destination, because they name none."""
    if destination.only_when_named:
        return []
    return [one.name for one in protocols if one.destinations is None and not one.shadow]


def senders_of(destination: Destination, protocols: Sequence[Protocol], settings: Settings) -> dict[str, list[str]]:
    """Returns for each output the names of the protocols that send it to a destination, also as another's fallback.

    Protocols in shadow mode send nothing.
    """
    from dicom_node.objects.kinds import KINDS, with_brought  # brings highdicom

    found: dict[str, list[str]] = {kind.output: [] for kind in KINDS.values()}
    for protocol in protocols:
        if protocol.shadow:
            continue
        made = with_brought(protocol.outputs)
        for route in routes_of(protocol, settings):
            if destination.name in (route.to, route.fallback):
                for output in made & found.keys() & set(route.outputs or made):
                    found[output] = list(dict.fromkeys([*found[output], protocol.name]))
    return found


def where_to(protocol: Protocol, settings: Settings) -> Iterator[str]:
    """Yields a sentence on where the results of a protocol go that names no destination."""
    if protocol.destinations is not None or protocol.shadow:
        return
    if to := [route.to for route in routes_of(protocol, settings)]:
        yield f"names no destination: everything that it makes goes to {', '.join(to)}"
    elif settings.destinations:
        yield "names no destination, and every destination is only_when_named: its results are kept, not sent"


def unknown_destinations(protocol: Protocol, settings: Settings) -> list[str]:
    """Returns one sentence for each destination or fallback of the protocol that the settings do not have."""
    known = [destination.name for destination in settings.destinations]
    named = [name for route in protocol.destinations or () for name in (route.to, route.fallback) if name is not None]
    there = ", ".join(known) or "none is set"
    return [
        f"protocol '{protocol.name}' sends to '{name}', which is not in VOXTELL_DESTINATIONS ({there}); add it there"
        for name in dict.fromkeys(named)
        if name not in known
    ]


def job_spec(
    protocol: Protocol,
    settings: Settings,
    series: SeriesKey,
    instances: Sequence[str],
    prompts: Sequence[Prompt],
    *,
    volume: str | None = None,
    frames: str | None = None,
) -> JobSpec:
    """Returns the job of a protocol on one volume, with these prompts.

    Args:
        series: the UIDs of its study and series.
        instances: its SOP Instance UIDs, in any order.
        prompts: the protocol's own and those of a report.
        volume: its name, where the series holds several.
        frames: the digest of its frames, where a multi-frame image holds frames of other volumes, too.

    Raises:
        InactiveError: when the node does not have the protocol's model.
    """
    return JobSpec(
        study_uid=series.study_uid,
        series_uid=series.series_uid,
        volume=volume,
        instances=tuple(sorted(instances)),
        frames=frames,
        protocol=protocol.name,
        protocol_digest=protocol.digest,
        prompts=tuple(prompts),
        derived=protocol.derived,
        model=model_of(protocol, settings),
        engine=protocol.engine,
        outputs=protocol.outputs,
        holes=protocol.holes,
        tilted_rtstruct=protocol.tilted_rtstruct,
        structure_set_label=protocol.structure_set_label,
        routes=routes_of(protocol, settings),
        priority=protocol.priority,
        window=protocol.window,
        release=protocol.release,
        shadow=protocol.shadow,
    )


def read_as_at_a_start(settings: Settings) -> ProtocolFolder:
    """Reads the node's folder of protocols as a node that starts now would, and keeps nothing: for commands."""
    return ProtocolFolder(settings.protocols_folder, lambda _problem: None, home=settings.home, keeps=False)


def open_protocol_folder(settings: Settings, on_return: Callable[[float], None] | None = None) -> ProtocolFolder:
    """Opens the node's folder of protocols, and logs at the start and at each change which are in force or inactive.

    `on_return` is called when a file that was off can be read again (see `ProtocolFolder`).
    """

    def announce(protocols: Sequence[Protocol]) -> None:
        log.info("protocols_in_force", protocols={protocol.name: protocol.digest for protocol in protocols})
        if not protocols:
            log.error("no_protocol_in_force", folder=str(settings.protocols_folder))
        for destination in settings.destinations:
            if unnamed := unnamed_senders(destination, protocols):
                log.info("destination_gets_everything", destination=destination.name, protocols=unnamed)
        for protocol in protocols:
            for problem in unknown_destinations(protocol, settings):
                log.error("protocol_destination_unknown", problem=problem)
            if problem := beyond_bundled(protocol, settings):
                log.warning("protocol_beyond_model", problem=problem)
        idle = {protocol.name: why for protocol in protocols if (why := inactive(protocol, settings))}
        if idle:  # mostly all for the same reason; `protocols check` tells the reason of each
            log.warning("protocol_inactive", names=list(idle), problem=next(iter(idle.values())))

    return ProtocolFolder(settings.protocols_folder, on_change=announce, on_return=on_return, home=settings.home)
