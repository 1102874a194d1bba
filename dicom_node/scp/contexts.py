"""The presentation contexts that the node takes by C-STORE: SOP classes (PS3.4 section B.5) and transfer syntaxes.

The node must not refuse what a PACS has, so it takes every storage class and every transfer syntax (PS3.5
annex A) that pydicom or pynetdicom can name. Whether the images can be decoded is asked later, of each series.
"""

import functools
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)
from pynetdicom.presentation import AllStoragePresentationContexts, PresentationContext, build_context
from pynetdicom.service_class import StorageServiceClass
from pynetdicom.sop_class import register_uid, uid_to_service_class

_STANDARD_ROOT: Final = "1.2.840.10008."

# Retired but still in archives; pynetdicom knows only current classes.
_FURTHER_CLASS_ROOTS: Final = (
    _STANDARD_ROOT + "5.1.1.27",
    _STANDARD_ROOT + "5.1.1.29",
    _STANDARD_ROOT + "5.1.1.30",
    _STANDARD_ROOT + "5.1.4.1.1.",
    _STANDARD_ROOT + "5.1.4.34.1",
)

# Named by pydicom, but not an encoding of a data set that C-STORE could carry (MIME, XML, real-time video, Papyrus).
_NOT_FOR_STORAGE: Final = (
    _STANDARD_ROOT + "1.2.6.",
    _STANDARD_ROOT + "1.2.7.",
    _STANDARD_ROOT + "1.20",
)

# The acceptor chooses among what a sender offers in one context (PS3.8 section 9.3.3.2). First what every sender can
# make without loss from whatever it has, explicit before implicit because private elements keep their types.
_PREFERRED: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)


@functools.cache
def transfer_syntaxes() -> tuple[UID, ...]:
    """Returns all transfer syntaxes that pydicom can name and C-STORE can carry.

    Uncompressed ones come first, then lossless ones, then the others.
    """
    named = [
        UID(uid)
        for uid, (_, kind, *_rest) in UID_dictionary.items()
        if kind == "Transfer Syntax" and not uid.startswith(_NOT_FOR_STORAGE)
    ]
    compressed = [uid for uid in named if uid not in _PREFERRED]
    return (*_PREFERRED, *sorted(compressed, key=lambda uid: "Lossless" not in uid.name))


@functools.cache
def storage_classes() -> tuple[UID, ...]:
    """Returns the storage SOP classes of patients: the current ones, and retired ones that pydicom can name."""
    current = {UID(context.abstract_syntax) for context in AllStoragePresentationContexts}
    for uid, (name, kind, *_rest) in UID_dictionary.items():
        known_elsewhere = uid_to_service_class(uid).__name__ != "ServiceClass"
        if kind == "SOP Class" and "Storage" in name and uid.startswith(_FURTHER_CLASS_ROOTS) and not known_elsewhere:
            current.add(UID(uid))
    return tuple(sorted(current))


def register_storage_class(uid: UID) -> None:
    """Has pynetdicom serve C-STORE for a SOP class that it does not know, in the whole process; harmless for others."""
    if uid_to_service_class(uid) is not StorageServiceClass:
        register_uid(uid, uid.keyword or "Storage_" + uid.replace(".", "_"), StorageServiceClass)


def is_private_class(uid: UID) -> bool:
    """Whether a vendor made up the SOP class: its UID has a root other than the standard's (PS3.5 section 9.2)."""
    return not uid.startswith(_STANDARD_ROOT)


def storage_context(uid: UID) -> PresentationContext:
    """Returns the presentation context that takes one SOP class in every one of `transfer_syntaxes`."""
    return build_context(uid, list(transfer_syntaxes()))
