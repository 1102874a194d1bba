"""The socket of an association: closed whenever it is given up, and waited for by poll()."""

import select
import ssl

from pynetdicom.transport import AssociationSocket

CONNECTION_CLOSED = "Evt17"  # PS3.8 table 9-5


class OwnSocket(AssociationSocket):  # type: ignore[misc]
    """What pynetdicom 3.0 leaves to the garbage is closed here, and no descriptor is too large to be waited for."""

    @property
    def ready(self) -> bool:
        """True when there is something to read; a connection that is closed says so as an event.

        By poll(), since select() knows no descriptor above 1023.
        """
        if self.socket is None or not self._is_connected:
            return False
        news = select.poll()
        try:
            news.register(self.socket, select.POLLIN)
        except (OSError, ValueError):
            self.event_queue.put(CONNECTION_CLOSED)
            return False
        decrypted = self.socket.pending() if isinstance(self.socket, ssl.SSLSocket) else 0
        return bool(decrypted or news.poll(0))

    def _shutdown_socket(self) -> None:
        """Close also where shutting down fails, because the peer is gone or was never there."""
        connection = self.socket
        super()._shutdown_socket()
        if connection is not None:
            connection.close()
