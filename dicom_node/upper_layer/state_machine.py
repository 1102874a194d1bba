"""PS3.8's state machine (section 9.2) for an association that is opened to the node: no event ends its thread."""

from typing import Final

from pynetdicom.fsm import ACTIONS, TRANSITION_TABLE, StateMachine

from dicom_node.upper_layer.sockets import CONNECTION_CLOSED

IDLE: Final = "Sta1"  # PS3.8 tables 9-1 to 9-5
AWAITING_REQUEST: Final = "Sta2"
DATA_TRANSFER: Final = "Sta6"
AWAITING_CLOSE: Final = "Sta13"

REQUEST_CAME: Final = "Evt6"  # PS3.8 table 9-10
INVALID_PDU: Final = "Evt19"
TIME_IS_UP: Final = "Evt18"
_ABORT_ASKED: Final = "Evt15"
_ABORTS: Final = ("AA-1", "AA-8")  # actions that send an A-ABORT (PS3.8 table 9-9)


class AcceptorStateMachine(StateMachine):  # type: ignore[misc]
    """Does what PS3.8 table 9-10 says, without pynetdicom's tracebacks; the upper layer answers requests itself.

    At an event that its state does not know it closes the connection; pynetdicom's thread would die of it.
    """

    def do_action(self, event: str) -> None:
        """Does what PS3.8 table 9-10 says for `event` in the present state."""
        if (event, self.current_state) not in TRANSITION_TABLE:
            self.dul.log.closed(f"event {event} came in state {self.current_state}")
            event = CONNECTION_CLOSED
        action = TRANSITION_TABLE.get((event, self.current_state))
        if event == INVALID_PDU:
            self.dul.log.aborted("it sent a message that is not valid")
        elif action in _ABORTS and event != _ABORT_ASKED:
            self.dul.log.aborted(f"event {event} came in state {self.current_state}")
        if (event, self.current_state) == (REQUEST_CAME, AWAITING_REQUEST):
            self.transition(self.dul.answer_request())
        elif action:
            self.transition(ACTIONS[action][1](self.dul))
        else:
            self.dul.kill_dul()  # the connection is closed already
