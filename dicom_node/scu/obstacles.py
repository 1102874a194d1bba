"""Says in one sentence why no association came about, and what to check (PS3.8 section 9.3, RFC 8446)."""

import socket
import ssl
from dataclasses import dataclass
from typing import Final

_ABORT: Final = 0x07  # PDU type of A-ABORT
_ABORT_REASONS: Final = {
    1: "it does not know this kind of message",
    2: "it did not expect this message",
    4: "it does not know a parameter of the request",
    5: "it did not expect a parameter of the request",
    6: "a parameter of the request is not valid for it",
}
"""Of an A-ABORT by its service provider (PS3.8 section 9.3.8)."""
_TLS_RECORDS: Final = (0x15, 0x16)  # alert, handshake (RFC 8446 section 5.1)

_EXPIRED, _NOT_YET_VALID, _SELF_SIGNED, _OTHER_NAME, _OTHER_ADDRESS = 10, 9, 18, 62, 64  # X509_V_ERR of OpenSSL
_UNKNOWN_AUTHORITY: Final = (2, 19, 20, 21)
_NO_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "UNEXPECTED_MESSAGE")


@dataclass(frozen=True)
class Heard:
    """What a peer did after the association request was sent, and what the connection ended with.

    first: the first bytes that it sent; failure: of reading them; seconds: how long its answer was waited for.
    """

    first: bytes
    failure: OSError | None
    seconds: float


def no_answer(heard: Heard, patience: float, *, host: str, port: int, tls: bool) -> str:
    """Says what a peer did instead of answering an association request, and what to check.

    `patience` is how long it was waited for, in seconds. Where the peer closed a plain connection without a word, it is
    asked once whether it speaks TLS. The sentence goes on after "took the connection, but".
    """
    first = heard.first
    if first[:1] == bytes([_ABORT]):
        return f"aborted the association request{_why_aborted(first)}; check its log, and whom it allows"
    if first.startswith(b"HTTP/"):
        return "answered as a web server (HTTP) does; check the port"
    if first[:1] and first[0] in _TLS_RECORDS and first[1:2] == b"\x03":
        return "answered in TLS; set TLS for this peer"
    if first:
        return "answered with what is no DICOM; check the port"
    if isinstance(heard.failure, ssl.SSLError):
        reason = heard.failure.reason or "TLS"
        return f"refused this node within TLS ({reason}): it asks for a certificate, or does not know the one it got"
    if heard.seconds >= patience:
        return (
            f"did not answer the association request within {patience:g} s; check that this is a DICOM port, and that "
            "the peer is not overloaded"
        )
    if tls:
        return (
            "closed it without an answer; check that it allows this node's address, and whether it asks for a "
            "certificate of this node that it knows"
        )
    if _speaks_tls(host, port):
        return "closed it without an answer: it expects TLS; set TLS for this peer"
    return "closed it without an answer; check that this is a DICOM port, and that it allows this node's address"


def _why_aborted(pdu: bytes) -> str:
    by_provider = pdu[8:9] == b"\x02"
    reason = _ABORT_REASONS.get(pdu[9]) if by_provider and len(pdu) > 9 else None
    return f" ({reason})" if reason else ""


def _speaks_tls(host: str, port: int, seconds: float = 3.0) -> bool:
    """Whether a TLS handshake with the port succeeds, or fails by an alert of TLS; whoever is there is not trusted."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), seconds) as plain, context.wrap_socket(plain):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def no_connection(host: str, port: int, tls: ssl.SSLContext | None, patience: float) -> str:
    """Says why no connection comes about within `patience` seconds, by trying once more."""
    try:
        with socket.create_connection((host, port), patience) as connection:
            return _no_handshake(connection, host, tls, patience)
    except TimeoutError:
        return f"no answer within {patience:g} s; check host, port and firewall"
    except ConnectionRefusedError:
        return "nothing listens there; check host and port, and that the peer runs"
    except OSError as error:
        return f"{error.strerror or error}; check host and port"


def _no_handshake(connection: socket.socket, host: str, tls: ssl.SSLContext | None, patience: float) -> str:
    """Says why TLS does not come about on a connection that is there."""
    try:
        if tls:
            tls.wrap_socket(connection, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        return _bad_certificate(error, host)
    except TimeoutError:
        return f"no answer to the TLS handshake within {patience:g} s; check that this port expects TLS"
    except (ssl.SSLEOFError, ConnectionError):
        return "it closes the connection during the TLS handshake; check that this port expects TLS"
    except ssl.SSLError as error:
        reason = error.reason or "no reason is given"
        if reason in _NO_TLS:
            return "what answers there is not TLS; leave TLS out for this peer, or check the port"
        return f"TLS fails ({reason}); check the certificates of both sides"
    return "the connection failed and works now; try again"


def _bad_certificate(error: ssl.SSLCertVerificationError, host: str) -> str:
    code = error.verify_code
    if code == _EXPIRED:
        return "its certificate has expired; have it renewed"
    if code == _NOT_YET_VALID:
        return "its certificate is not valid yet; check the clocks of both machines"
    if code == _SELF_SIGNED:
        return "its certificate is self-signed, and not among the authorities that this node trusts; add it there"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"its certificate is for another name than {host}; use the name in it, or have one issued for {host}"
    if code in _UNKNOWN_AUTHORITY:
        return "its certificate is signed by an authority that this node does not trust; add that authority's"
    return f"its certificate is not accepted ({error.verify_message}); check it"
