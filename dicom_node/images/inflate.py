"""Inflates deflated data sets (PS3.5 A.5) up to a limit: a megabyte of them may become gigabytes."""

import zlib
from typing import BinaryIO, Final

from dicom_node.images.header_limits import LimitError

HEADER_BYTES: Final = 16 * 2**20
"""Inflated bytes that must hold everything before the pixel data of a deflated data set."""

_PIECE_BYTES: Final = 2**16


def inflate(stream: BinaryIO, limit: int) -> tuple[bytes, bool]:
    """Returns at most `limit` bytes of the deflated data set where `stream` stands, and whether they are all of it.

    Raises:
        zlib.error: when it is not deflated data.
    """
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = bytearray()
    while not inflater.eof and len(content) < limit and (piece := stream.read(_PIECE_BYTES)):
        content += inflater.decompress(piece, limit - len(content))
        while inflater.unconsumed_tail and len(content) < limit:
            content += inflater.decompress(inflater.unconsumed_tail, limit - len(content))
    return bytes(content), inflater.eof or len(content) < limit


def inflate_all(stream: BinaryIO, limit: int) -> bytes:
    """Returns the whole deflated data set that begins where `stream` stands.

    Raises:
        LimitError: when it has more than `limit` bytes.
        zlib.error: when it is not deflated data.
    """
    content, complete = inflate(stream, limit)
    if not complete:
        raise LimitError(f"inflated it has more than {limit} bytes, which is more than its header announces")
    return content
