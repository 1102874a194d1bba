"""Deflated data sets (PS3.5 A.5), inflated as far as a limit allows: a megabyte of them may become gigabytes."""

import zlib
from typing import BinaryIO, Final

from dicom_node.images.structure import LimitError

HEADER_BYTES: Final = 16 * 2**20
"""Inflated bytes that must hold everything before the pixel data of a deflated data set."""

_PIECE_BYTES: Final = 2**16


def inflate(stream: BinaryIO, limit: int) -> tuple[bytes, bool]:
    """The first `limit` bytes of the deflated data set that begins where `stream` stands; whether those are all of it.

    Raises:
        zlib.error: it is no deflated data.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = bytearray()
    while not inflater.eof and len(content) < limit and (piece := stream.read(_PIECE_BYTES)):
        content += inflater.decompress(piece, limit - len(content))
        while inflater.unconsumed_tail and len(content) < limit:
            content += inflater.decompress(inflater.unconsumed_tail, limit - len(content))
    return bytes(content), inflater.eof or len(content) < limit


def inflate_all(stream: BinaryIO, limit: int) -> bytes:
    """The whole deflated data set that begins where `stream` stands.

    Raises:
        LimitError: it has more than `limit` bytes.
        zlib.error: it is no deflated data.
    """
    content, complete = inflate(stream, limit)
    if not complete:
        raise LimitError(f"inflated it has more than {limit} bytes, which is more than its header announces")
    return content
