"""The character set of a site's images that declare none (PS3.3 C.12.1.1.2).

Some systems write texts in the code page of their country and declare nothing, or something that is no character set.
A PACS there shows them right because it was told; this node is told by a setting.
"""

import codecs
import re
from typing import Any, Final

from pydicom import Dataset
from pydicom.charset import default_encoding, python_encoding
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue


def _bare(term: str) -> str:
    """Returns a defined term as it is compared: "ISO-IR 100" and "ISO_IR 100" are one."""
    return re.sub(r"[^A-Z0-9]", "", term.upper())


TEXTS: Final = ("SH", "LO", "LT", "PN")
"""Value representations of texts in the character set of a file."""
_ASCII: Final = frozenset(map(_bare, ("", "ISO_IR 6", "ISO 2022 IR 6")))
_CODECS: Final = {_bare(term): codec for term, codec in python_encoding.items() if _bare(term) not in _ASCII}


def codec_of(name: str) -> str:
    """Returns Python's name of a character set that is named by a defined term of DICOM or in a usual way.

    Raises:
        ValueError: when it is neither, or has other letters than ASCII for ASCII's codes.
    """
    try:
        codec = codecs.lookup(_CODECS.get(_bare(name), name)).name
        if bytes(range(0x20, 0x7F)).decode(codec) == bytes(range(0x20, 0x7F)).decode("ascii"):
            return codec
    except (LookupError, UnicodeDecodeError):
        pass
    raise ValueError(f"{name!r} is no character set for texts, such as ISO_IR 144, GB18030 or cp1251")


def read_as_site(header: Dataset, character_set: str) -> None:
    """Has the texts of a header that declares no character set read in the site's; "" leaves it as it is.

    To be called before any value is read: pydicom decodes a value once.
    """
    if not character_set or _declares_one(header):
        return
    implicit, little_endian = header.original_encoding
    header.set_original_encoding(implicit, little_endian, codec_of(character_set))


def undeclared_text(header: Dataset, keyword: str) -> str | None:
    """Returns text whose bytes the declared character set lacks, read as UTF-8, else Latin-1; None for other text.

    pydicom would put question marks into a name that archives then take for another patient's. To be called before the
    value is read.
    """
    raw: Any = header.get_item(keyword)
    declared = str(header.get("SpecificCharacterSet") or "")
    if (
        not isinstance(raw, RawDataElement)
        or declared not in ("", "ISO_IR 6", "ISO_IR 192")
        or _is_read_as_site(header)
    ):
        return None
    content = raw.value or b""
    if content.isascii() or dictionary_VR(keyword) not in TEXTS:
        return None
    try:
        return content.decode().rstrip()
    except UnicodeDecodeError:
        return content.decode("latin-1").rstrip()


def _is_read_as_site(header: Dataset) -> bool:
    """Whether the header is read in the site's character set: pydicom itself gives a list where one is declared."""
    return isinstance(header.original_character_set, str) and header.original_character_set != default_encoding


def _declares_one(header: Dataset) -> bool:
    """Whether Specific Character Set names one that has more than ASCII."""
    declared = header.get("SpecificCharacterSet")
    values = list(declared) if isinstance(declared, MultiValue) else [declared or ""]
    return any(_has_more_than_ascii(str(value)) for value in values)


def _has_more_than_ascii(term: str) -> bool:
    """Whether a term names a character set with more than ASCII; pydicom takes usual names ("ISO-8859-1") too."""
    try:
        return _bare(term) in _CODECS or codec_of(term) != "ascii"
    except ValueError:
        return False
