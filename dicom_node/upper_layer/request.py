"""Reads an A-ASSOCIATE-RQ PDU (PS3.8 section 9.3.2) as devices send them, and writes it again as pynetdicom takes it.

pynetdicom 3.0 dies of a request that breaks the standard in a detail. Here a request is refused only where nothing can
come of it; else what is odd is put right (padding, characters, even context IDs), left out (user information that means
nothing to this node) or, with its presentation context, refused for itself. A request whose items do not fit into
each other is not valid.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dicom_node.uids import MAX_LENGTH, is_uid
from dicom_node.upper_layer.pdata import MalformedPduError

_FIXED: Final = struct.Struct(">BxLHxx16s16s32x")  # table 9-11, up to the variable items
_ITEM: Final = struct.Struct(">BxH")
_APPLICATION_CONTEXT: Final = b"1.2.840.10008.3.1.1.1"

# Types of items: section 9.3.2, annex D.
_APPLICATION_CONTEXT_ITEM: Final = 0x10
_CONTEXT_ITEM: Final = 0x20
_ABSTRACT_SYNTAX_ITEM: Final = 0x30
_TRANSFER_SYNTAX_ITEM: Final = 0x40
_USER_INFORMATION_ITEM: Final = 0x50
_MAXIMUM_LENGTH_ITEM: Final = 0x51
_ROLE_ITEM: Final = 0x54

_DEFAULT_MAXIMUM_LENGTH: Final = 16384  # bytes, of a peer that does not say
_LEAST_MAXIMUM_LENGTH: Final = 7  # bytes: the header of a presentation data value and one byte of it
_MOST_TRANSFER_SYNTAXES: Final = 128  # of one context; more than there are
_LONGEST_SENTENCE: Final = 4  # flawed contexts that are told one by one

# UIDs that stand for what a context lacks, so that it is refused with the right result (table 9-18). No syntax has
# them, and with the standard's root they are no private ones either.
_NO_ABSTRACT_SYNTAX: Final = "1.2.840.10008.0.1"
_NO_TRANSFER_SYNTAX: Final = "1.2.840.10008.0.2"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why a request is rejected for good: source and reason of table 9-21, and a sentence for the log."""

    source: int
    reason: int
    sentence: str

    def encoded(self) -> bytes:
        """Returns the A-ASSOCIATE-RJ PDU (section 9.3.4), "rejected permanent"."""
        return struct.pack(">BxLxBBB", 3, 4, 1, self.source, self.reason)


@dataclass(frozen=True, slots=True)
class ProposedContext:
    """One presentation context of a request; `abstract_syntax` is "" and `transfer_syntaxes` is empty for none."""

    context_id: int
    abstract_syntax: str
    transfer_syntaxes: tuple[str, ...]

    @property
    def flaw(self) -> str:
        """Why it can only be refused, in a few words; "" when it can be negotiated."""
        missing = "transfer" if self.abstract_syntax else "abstract"
        return "" if self.abstract_syntax and self.transfer_syntaxes else f"{self.context_id} has no {missing} syntax"


@dataclass(frozen=True, slots=True)
class UserInformation:
    """What of a request's user information (annex D) this node looks at."""

    maximum_length: int = _DEFAULT_MAXIMUM_LENGTH
    roles: tuple[tuple[str, bool, bool], ...] = ()  # SOP class, as SCU, as SCP (annex D.3.3.4)


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """An A-ASSOCIATE-RQ without what is odd in it; AE titles are printable ASCII without a backslash, or ""."""

    calling_ae: str
    called_ae: str
    contexts: tuple[ProposedContext, ...]
    user: UserInformation
    rejection: Rejection | None

    @property
    def flaws(self) -> str:
        """The contexts that can only be refused and why, in a sentence; "" when there is none."""
        flaws = [context.flaw for context in self.contexts if context.flaw]
        more = f" and {len(flaws) - _LONGEST_SENTENCE} more" if len(flaws) > _LONGEST_SENTENCE else ""
        return f"presentation context {', '.join(flaws[:_LONGEST_SENTENCE])}{more}" if flaws else ""

    def odd_ids(self) -> dict[int, int]:
        """Maps each even context ID of the request to an odd one that is free and stands for it inside the node.

        IDs should be odd (section 9.3.2.2), and pynetdicom knows no others; DCMTK takes all, and so do its peers.
        """
        taken = {context.context_id for context in self.contexts}
        free = (number for number in range(1, 256, 2) if number not in taken)
        even = [context.context_id for context in self.contexts if context.context_id % 2 == 0]
        return dict(zip(even, free, strict=False))

    def encoded(self) -> bytes:
        """Returns the request as an A-ASSOCIATE-RQ PDU that breaks no rule, with odd IDs and stand-in syntaxes.

        A context with an even ID for which no odd one is free is left out.
        """
        odd = self.odd_ids()
        contexts = [
            (odd.get(context.context_id, context.context_id), context)
            for context in self.contexts
            if context.context_id % 2 or context.context_id in odd
        ]
        items = b"".join(
            [
                _item(_APPLICATION_CONTEXT_ITEM, _APPLICATION_CONTEXT),
                *(_context_item(number, context) for number, context in contexts),
                _user_item(self.user),
            ]
        )
        titles = (title.encode("ascii").ljust(16) for title in (self.called_ae, self.calling_ae))
        return _FIXED.pack(1, _FIXED.size - 6 + len(items), 1, *titles) + items


def read_request(pdu: bytes) -> AssociationRequest:
    """Reads a whole A-ASSOCIATE-RQ PDU.

    Raises:
        MalformedPduError: when it is cut off, or an item does not fit into what holds it.
    """
    if len(pdu) < _FIXED.size:
        raise MalformedPduError(f"an association request of {len(pdu)} bytes")
    _, _, version, called, calling = _FIXED.unpack_from(pdu)
    application_context, contexts, user = b"", dict[int, ProposedContext](), UserInformation()
    for kind, content in _items(pdu[_FIXED.size :]):
        if kind == _APPLICATION_CONTEXT_ITEM:
            application_context = application_context or content.rstrip(b"\0 ")
        elif kind == _CONTEXT_ITEM:
            context = _context(content)
            contexts.setdefault(context.context_id, context)  # the first of two with one ID counts
        elif kind == _USER_INFORMATION_ITEM:
            user = _user(content)
    titles = {"calling_ae": _words(calling), "called_ae": _words(called)}
    rejection = _rejection(version, application_context, tuple(titles.values()), len(contexts), user.maximum_length)
    return AssociationRequest(contexts=tuple(contexts.values()), user=user, rejection=rejection, **titles)


def _rejection(
    version: int, application_context: bytes, titles: tuple[str, ...], contexts: int, maximum_length: int
) -> Rejection | None:
    calling, called = titles
    if not version & 1:  # all that is to be looked at: section 9.3.2
        return Rejection(2, 2, f"it knows protocol version 1 not (0x{version:04X})")
    if application_context != _APPLICATION_CONTEXT:
        return Rejection(1, 2, "its application context is not that of DICOM")
    if not calling:
        return Rejection(1, 3, "it gives no AE title of its own")
    if not called:
        return Rejection(1, 7, "it gives no AE title that it calls")
    if not contexts:
        return Rejection(1, 1, "it proposes no presentation context")
    if 0 < maximum_length < _LEAST_MAXIMUM_LENGTH:
        return Rejection(2, 1, f"its longest PDU, {maximum_length} bytes, can hold nothing")
    return None


def _items(content: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(content):
        if len(content) < place + _ITEM.size:
            raise MalformedPduError("an association request ends within the head of an item")
        kind, length = _ITEM.unpack_from(content, place)
        place += _ITEM.size
        if length > len(content) - place:
            raise MalformedPduError(
                f"an item 0x{kind:02X} of {length} bytes in an association request, where "
                f"{len(content) - place} are left"
            )
        yield kind, content[place : place + length]
        place += length


def _context(content: bytes) -> ProposedContext:
    if len(content) < 4:
        raise MalformedPduError(f"a presentation context of {len(content)} bytes")
    abstract_syntax, transfer_syntaxes = "", dict[str, None]()
    for kind, value in _items(content[4:]):
        if kind == _ABSTRACT_SYNTAX_ITEM:
            abstract_syntax = abstract_syntax or _uid(value)
        elif kind == _TRANSFER_SYNTAX_ITEM and len(transfer_syntaxes) < _MOST_TRANSFER_SYNTAXES:
            transfer_syntaxes[_uid(value)] = None
    transfer_syntaxes.pop("", None)
    return ProposedContext(content[0], abstract_syntax, tuple(transfer_syntaxes))


def _user(content: bytes) -> UserInformation:
    """Reads maximum length and roles; the peer's software and what else it offers to negotiate change nothing."""
    length = b""
    roles: dict[str, tuple[bool, bool]] = {}
    for kind, value in _items(content):
        if kind == _MAXIMUM_LENGTH_ITEM:
            length = length or value
        elif kind == _ROLE_ITEM and len(value) > 4 and int.from_bytes(value[:2], "big") == len(value) - 4:
            roles.setdefault(_uid(value[2:-2]), (bool(value[-2]), bool(value[-1])))
    roles.pop("", None)
    return UserInformation(
        maximum_length=int.from_bytes(length, "big") if len(length) == 4 else _DEFAULT_MAXIMUM_LENGTH,
        roles=tuple((uid, *role) for uid, role in roles.items()),
    )


def _uid(value: bytes) -> str:
    """Returns a UID without its padding; "" when it is not valid (PS3.5 section 9.1)."""
    text = value[: MAX_LENGTH + 2].rstrip(b"\0 ").decode("latin-1")
    return text if is_uid(text) else ""


def _words(value: bytes) -> str:
    """Returns text up to a NUL, without blanks around it; "?" for what AE titles may not have (PS3.5 section 6.2)."""
    text = value.partition(b"\0")[0].decode("latin-1")
    return "".join(letter if " " <= letter <= "~" and letter != "\\" else "?" for letter in text).strip()


def _item(kind: int, content: bytes) -> bytes:
    return _ITEM.pack(kind, len(content)) + content


def _context_item(number: int, context: ProposedContext) -> bytes:
    syntaxes = context.transfer_syntaxes or (_NO_TRANSFER_SYNTAX,)
    return _item(
        _CONTEXT_ITEM,
        bytes([number, 0, 0, 0])
        + _item(_ABSTRACT_SYNTAX_ITEM, (context.abstract_syntax or _NO_ABSTRACT_SYNTAX).encode())
        + b"".join(_item(_TRANSFER_SYNTAX_ITEM, syntax.encode()) for syntax in syntaxes),
    )


def _user_item(user: UserInformation) -> bytes:
    items = [_item(_MAXIMUM_LENGTH_ITEM, user.maximum_length.to_bytes(4, "big"))]
    for uid, as_scu, as_scp in user.roles:
        items.append(_item(_ROLE_ITEM, len(uid).to_bytes(2, "big") + uid.encode() + bytes([as_scu, as_scp])))
    return _item(_USER_INFORMATION_ITEM, b"".join(items))
