"""Associations byte by byte (PS3.8 section 9.3), with whatever is wrong in them."""

import socket
import struct
from collections.abc import Sequence

from pydicom.uid import ImplicitVRLittleEndian

VERIFICATION = b"1.2.840.10008.1.1"
CT = b"1.2.840.10008.5.1.4.1.1.2"
IMPLICIT = str(ImplicitVRLittleEndian).encode()

Context = tuple[int, bytes | None, Sequence[bytes]]
"""ID, abstract syntax, transfer syntaxes."""

ECHO: Context = (1, VERIFICATION, [IMPLICIT])
RELEASE = struct.pack(">BxLL", 5, 4, 0)


def item(kind: int, content: bytes) -> bytes:
    """An item of an A-ASSOCIATE PDU, or an item within one."""
    return struct.pack(">BxH", kind, len(content)) + content


def context_item(number: int, abstract_syntax: bytes | None, transfer_syntaxes: Sequence[bytes]) -> bytes:
    """A presentation context of a request."""
    abstract = b"" if abstract_syntax is None else item(0x30, abstract_syntax)
    return item(0x20, bytes([number, 0, 0, 0]) + abstract + b"".join(item(0x40, uid) for uid in transfer_syntaxes))


def request(
    *contexts: Context,
    called: bytes = b"VOXTELL",
    calling: bytes = b"ODD",
    version: int = 1,
    application: bytes | None = b"1.2.840.10008.3.1.1.1",
    longest: bytes | None = struct.pack(">L", 16384),
    implementation: bytes | None = b"1.2.3",
    name: bytes | None = b"ODD 1",
    more: bytes = b"",
    user: bool = True,
) -> bytes:
    """An A-ASSOCIATE-RQ; `more` are further items of the user information, None leaves an item out."""
    told = ((0x51, longest), (0x52, implementation), (0x55, name))
    information = b"".join(item(kind, value) for kind, value in told if value is not None) + more
    body = struct.pack(">Hxx16s16s32x", version, called.ljust(16), calling.ljust(16))
    body += b"" if application is None else item(0x10, application)
    body += b"".join(context_item(*context) for context in contexts or (ECHO,))
    body += item(0x50, information) if user else b""
    return struct.pack(">BxL", 1, len(body)) + body


def echo_command(context: int = 1) -> bytes:
    """A C-ECHO request in one P-DATA-TF PDU."""
    elements = b"".join(
        struct.pack("<HHL", 0, element, len(value)) + value
        for element, value in [
            (0x0002, VERIFICATION + b"\0"),
            (0x0100, struct.pack("<H", 0x0030)),
            (0x0110, struct.pack("<H", 7)),
            (0x0800, struct.pack("<H", 0x0101)),
        ]
    )
    command = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BxLLBB", 4, len(command) + 6, len(command) + 2, context, 3) + command


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection to a port of this machine, from one of its addresses 127.x.x.x."""
    return socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))


def answer(connection: socket.socket) -> tuple[int, bytes]:
    """Type and content of the next PDU; (0, b"") when the connection ends."""
    try:
        head = received(connection, 6)
        return (head[0], received(connection, int.from_bytes(head[2:], "big"))) if len(head) == 6 else (0, b"")
    except ConnectionError:
        return 0, b""


def received(connection: socket.socket, count: int) -> bytes:
    """So many bytes, or fewer when the connection ends."""
    content = b""
    while len(content) < count and (more := connection.recv(count - len(content))):
        content += more
    return content


def results(accepted: bytes) -> dict[int, int]:
    """The result of each presentation context in the content of an A-ASSOCIATE-AC (PS3.8 table 9-18)."""
    found, place = {}, 68
    while place < len(accepted):
        kind, length = struct.unpack_from(">BxH", accepted, place)
        if kind == 0x21:
            found[accepted[place + 4]] = accepted[place + 6]
        place += 4 + length
    return found


def echoed(connection: socket.socket, context: int = 1) -> bool:
    """True when a C-ECHO is answered with success in its context, and a release with a release."""
    connection.sendall(echo_command(context))
    said, last = b"", False
    while not last:
        kind, content = answer(connection)
        if kind != 4 or content[4] != context:
            return False
        said += content[6:]
        last = bool(content[5] & 2)
    connection.sendall(RELEASE)
    return struct.pack("<HHLH", 0, 0x0900, 2, 0) in said and answer(connection)[0] == 6
