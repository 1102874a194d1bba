"""The inner parts of pynetdicom 3.0 that this package relies on, each with the reason; nothing else is relied upon.

pynetdicom promises none of them: a release may rename one without a word. `moved` names those that the installed
release lacks, or that take other parameters, so that an upgrade begins with a list and not with a search. Names that
begin with an underscore are private to pynetdicom; the others are attributes of objects that its guide does not treat.
"""

import contextlib
import importlib
import inspect
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.pdu import P_DATA_TF
from pynetdicom.timer import Timer
from pynetdicom.transport import AssociationSocket


@dataclass(frozen=True)
class PrivateName:
    """One name that upper_layer reads, sets, calls or overrides."""

    owner: str  # module, or module and class
    name: str
    why: str
    parameters: tuple[str, ...] | None = None  # of a method behind self; None for an attribute, which may be anything

    def __str__(self) -> str:
        return f"{self.owner}.{self.name}"


_AE: Final = "pynetdicom.ae.ApplicationEntity"
_ASSOCIATION: Final = "pynetdicom.association.Association"
_DIMSE: Final = "pynetdicom.dimse.DIMSEServiceProvider"
_DUL: Final = "pynetdicom.dul.DULServiceProvider"
_AC: Final = "pynetdicom.pdu.A_ASSOCIATE_AC"
_P_DATA: Final = "pynetdicom.pdu.P_DATA_TF"
_RQ: Final = "pynetdicom.pdu.A_ASSOCIATE_RQ"
_SERVER: Final = "pynetdicom.transport.ThreadedAssociationServer"
_SOCKET: Final = "pynetdicom.transport.AssociationSocket"
_STATES: Final = "pynetdicom.fsm.StateMachine"
_TIMER: Final = "pynetdicom.timer.Timer"

PRIVATE_NAMES: Final = (
    # an association that the node opens: requestor, sockets
    PrivateName("pynetdicom._config", "STORE_SEND_CHUNKED_DATASET", "files go out as they lie on the disk"),
    PrivateName(_AE, "_create_socket", "called before anything has started", ("assoc", "address", "tls_args")),
    PrivateName(_ASSOCIATION, "_reactor_checkpoint", "set while an answer belongs to the association's own thread"),
    PrivateName(_SOCKET, "_is_connected", "a socket that has not connected yet counts as readable to poll()"),
    PrivateName(_SOCKET, "_shutdown_socket", "leaves sockets open whose peer is gone", ()),
    PrivateName(_SOCKET, "event_queue", "events for the state machine"),
    PrivateName(_SOCKET, "ready", "uses select(), which knows no descriptor above 1023"),
    PrivateName(_SOCKET, "socket", "the connection itself: options, polling, closing"),
    # an association that is opened to the node: server, association, sockets
    PrivateName(_AE, "active_associations", "counts connections that asked for nothing as associations"),
    PrivateName(_ASSOCIATION, "_dul_ready", "what an association's thread waits for before the first event"),
    PrivateName(_ASSOCIATION, "_accepted_cx", "the context in which a message came, by its ID"),
    PrivateName(_ASSOCIATION, "_serve_request", "serves what does not belong to the context", ("msg", "context_id")),
    PrivateName(_ASSOCIATION, "_server", "by it the server finds its associations"),
    PrivateName(_ASSOCIATION, "dul", "replaced by an upper layer that waits for events"),
    PrivateName(_ASSOCIATION, "dimse", "replaced by message queues that wait, and that keep answers"),
    PrivateName(_ASSOCIATION, "acse_timeout", "setting it sets the ARTIM timer of a replaced upper layer"),
    PrivateName(_ASSOCIATION, "network_timeout", "setting it sets the idle timer of a replaced upper layer"),
    PrivateName(_ASSOCIATION, "set_socket", "gives a replaced upper layer its socket", ("socket",)),
    PrivateName(_SERVER, "get_events", "the events that the server has bound", ()),
    PrivateName(_SERVER, "get_handlers", "the functions of an event, bound to each association", ("event",)),
    PrivateName(_SOCKET, "recv", "reads 4 kB at a time, without a limit of time for the PDU", ("nr_bytes",)),
    PrivateName(_SOCKET, "send", "sends a response past the queue of PDUs", ("bytestream",)),
    # the upper layer
    PrivateName(_DUL, "_is_transport_event", "polls the socket; here it waits for it", ()),
    PrivateName(_DUL, "_kill_thread", "set when the thread is to end"),
    PrivateName(_DUL, "_process_recv_primitive", "makes an event of what the association wants sent", ()),
    PrivateName(_DUL, "_read_pdu_data", "dies of PDUs that it does not like; here they are read by this package", ()),
    PrivateName(_DUL, "_recv_pdu", "where the state machine's actions find the PDU of their event"),
    PrivateName(_DUL, "_run_loop_delay", "sleeps 1 ms between looks; 0 here, since waiting is done in poll()"),
    PrivateName(_DUL, "_send", "encodes and sends a PDU; here with the context IDs that the peer gave", ("pdu",)),
    PrivateName(_DUL, "_idle_timer", "restarted once for each PDU; replaced by a timer on the monotonic clock"),
    PrivateName(_DUL, "artim_timer", "replaced by a timer on the monotonic clock"),
    PrivateName(_DUL, "assoc", "the association, with its negotiated lengths and its peer"),
    PrivateName(_DUL, "event_queue", "events of PS3.8 table 9-5 for the state machine"),
    PrivateName(_DUL, "idle_timer_expired", "tells an association that was silent from others that are aborted", ()),
    PrivateName(_DUL, "kill_dul", "ends the thread", ()),
    PrivateName(_DUL, "send_pdu", "wakes the upper layer's thread", ("primitive",)),
    PrivateName(_DUL, "socket", "the association's socket, None before it has one"),
    PrivateName(_DUL, "state_machine", "replaced by one that closes the connection at an event out of place"),
    PrivateName(_DUL, "stop_dul", "wakes the upper layer's thread, so that it sees that it is to end", ()),
    PrivateName(_DUL, "to_provider_queue", "what the association wants sent"),
    PrivateName(_DUL, "to_user_queue", "replaced by a queue that wakes the association's thread"),
    PrivateName("pynetdicom.fsm", "ACTIONS", "the functions of PS3.8 tables 9-6 to 9-9"),
    PrivateName("pynetdicom.fsm", "TRANSITION_TABLE", "the (event, state) pairs that PS3.8 table 9-10 knows"),
    PrivateName(_STATES, "current_state", "Sta6 is data transfer, Sta1 idle (PS3.8 tables 9-1 to 9-5)"),
    PrivateName(_STATES, "do_action", "raises at an event out of place, with a traceback", ("event",)),
    PrivateName(_STATES, "dul", "answers requests and has the log of the association"),
    PrivateName(_STATES, "transition", "moves to the next state", ("state",)),
    # PDUs
    PrivateName(_RQ, "decode", "makes pynetdicom's object of a request that was put right", ("bytestream",)),
    PrivateName(_RQ, "to_primitive", "makes of it what the association hears", ()),
    PrivateName(_AC, "presentation_context", "the contexts of an answer, whose IDs are put back to the peer's"),
    PrivateName(_P_DATA, "presentation_data_value_items", "values, whose context IDs are put back"),
    # messages and timers
    PrivateName(_DIMSE, "assoc", "the association whose checkpoint is looked at"),
    PrivateName(_DIMSE, "dimse_timeout", "how long an answer is waited for, in seconds"),
    PrivateName(_DIMSE, "get_msg", "does not wait for a message; here it does", ("block",)),
    PrivateName(_DIMSE, "msg_queue", "the messages that are complete"),
    PrivateName(_DIMSE, "receive_primitive", "takes the fragments that are none of a C-STORE", ("primitive",)),
    PrivateName(_TIMER, "timeout", "seconds, or None for never"),
    PrivateName(_TIMER, "expired", "goes by the time of day"),
    PrivateName(_TIMER, "remaining", "goes by the time of day"),
    PrivateName(_TIMER, "restart", "calls start"),
    PrivateName(_TIMER, "start", "goes by the time of day", ()),
    PrivateName(_TIMER, "stop", "goes by the time of day", ()),
)


@contextlib.contextmanager
def samples() -> Iterator[dict[str, object]]:
    """Yields an object of the installed pynetdicom for each owner in PRIVATE_NAMES, not started; else the class.

    Raises:
        ImportError: when a module of pynetdicom is not where it was; the error names it.
        AttributeError: when a class of pynetdicom is not where it was; the error names it.
    """
    here, there = socket.socketpair()
    with here, there:
        association = Association(AE(), "acceptor")
        made = {
            _ASSOCIATION: association,
            _DIMSE: association.dimse,
            _DUL: association.dul,
            _SOCKET: AssociationSocket(association, client_socket=here),
            _STATES: association.dul.state_machine,
            _TIMER: Timer(None),
            _P_DATA: P_DATA_TF(),
        }
        yield {owner: made.get(owner) or _found(owner) for owner in {private.owner for private in PRIVATE_NAMES}}


def moved(owners: Mapping[str, object]) -> list[str]:
    """Lists the names that `owners` (see `samples`) lack, or that take other parameters, each with why it is needed."""
    lines = []
    for private in PRIVATE_NAMES:
        owner = owners[private.owner]
        if private.name not in dir(owner):
            lines.append(f"{private} is gone: {private.why}")
        elif private.parameters is not None:
            taken = tuple(name for name in inspect.signature(getattr(owner, private.name)).parameters if name != "self")
            if taken != private.parameters:
                lines.append(f"{private} takes {taken}, not {private.parameters}: {private.why}")
    return lines


def _found(owner: str) -> object:
    """Returns a module, or a class of one, by its dotted name."""
    module, _, name = owner.rpartition(".")
    return getattr(importlib.import_module(module), name) if name[0].isupper() else importlib.import_module(owner)
