"""Rules on who may open an association with the listener, and limits on what a peer may take of the node."""

import ipaddress
from dataclasses import dataclass
from typing import Final

from dicom_node.admission import plain


@dataclass(frozen=True)
class Access:
    """Who may open an association; an empty tuple allows everybody.

    A peer must pass all rules. Those on AE titles and addresses are no proof of who it is; TLS with certificates is.
    """

    called_ae_must_match: bool = False  # reject who calls this node by another AE title
    calling_aes: tuple[str, ...] = ()  # AE titles that may call
    networks: tuple[str, ...] = ()  # addresses or networks such as 10.1.0.0/16
    private_classes: bool = False  # take SOP classes that vendors made up, besides the standard's

    def check(self) -> None:
        """Checks the networks.

        Raises:
            ValueError: when an entry of `networks` is neither an IP address nor a network, such as 10.1.0.5/16.
        """
        for text in self.networks:
            ipaddress.ip_network(text)

    def allows(self, address: str) -> bool:
        """Whether a peer at this IP address may open an association; ::ffff:10.1.0.1 counts as 10.1.0.1."""
        peer = ipaddress.ip_address(plain(address))
        return not self.networks or any(peer in ipaddress.ip_network(text) for text in self.networks)


EVERYBODY: Final = Access()


@dataclass(frozen=True)
class Limits:
    """How much one listener process gives to its peers; processes that share a port have these limits each."""

    associations: int = 64  # at a time; one more is rejected as transient (PS3.8 table 9-21)
    connections: int = 136  # at a time; beyond that the oldest without an association request is closed
    connections_per_address: int = 64  # the same for the connections from one IP address
    pdu_bytes: int = 131072  # largest P-DATA a sender may use; a large one is what makes C-STORE fast
    free_bytes: int = 2**30  # with less room left on the disk nothing is accepted
    idle_seconds: float = 300.0  # an association is aborted after so long without a message, or within one PDU
    request_seconds: float = 10.0  # from connection to the end of A-ASSOCIATE-RQ


DEFAULT_LIMITS: Final = Limits()
