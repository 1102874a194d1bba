"""Who may talk to the listener, and how much of it a peer may take."""

import ipaddress
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Access:
    """Who may open an association; an empty tuple allows everybody."""

    called_ae_must_match: bool = False
    calling_aes: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()  # addresses or networks such as 10.1.0.0/16
    private_classes: bool = False  # take SOP classes that vendors made up

    def check(self) -> None:
        """Raises ValueError for a network that is none."""
        for text in self.networks:
            ipaddress.ip_network(text)

    def allows(self, address: str) -> bool:
        """True when a peer at this IP address may talk."""
        peer = ipaddress.ip_address(address)
        peer = getattr(peer, "ipv4_mapped", None) or peer
        return not self.networks or any(peer in ipaddress.ip_network(text) for text in self.networks)


EVERYBODY: Final = Access()


@dataclass(frozen=True)
class Limits:
    """What one listener process lends to its peers."""

    associations: int = 64
    pdu_bytes: int = 131072  # largest P-DATA a sender may use; a large one is what makes C-STORE fast
    free_bytes: int = 2**30  # with less room left on the disk nothing is accepted
    idle_seconds: float = 300.0  # an association is aborted after so long without a message, or within one PDU
    request_seconds: float = 30.0  # from connection to the end of A-ASSOCIATE-RQ


DEFAULT_LIMITS: Final = Limits()
