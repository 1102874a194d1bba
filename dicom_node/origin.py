"""Who an instance came from: the part of a result's history that routing and access rules look at."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Origin:
    """The two AE titles and the address of an association or of a DICOMweb request; all empty for files of a folder."""

    calling_ae: str = ""  # how the peer names itself; STOW-RS has no AE title and gives a fixed one
    called_ae: str = ""  # how the peer names this node
    address: str = ""  # the peer's IP address


FROM_A_FOLDER: Final = Origin()
