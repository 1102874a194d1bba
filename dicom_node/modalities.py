"""The modalities whose images may form a volume: one row each, with all that others ask about it.

Which SOP classes are read as slices, which objects may hold many frames, what the values of an image are and in which
unit, what the procedure is called: all of it is read here. docs/contributing.md has the recipe for a new one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import (
    UID,
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRColorImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    LegacyConvertedEnhancedMRImageStorage,
    LegacyConvertedEnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)

Quantity = tuple[Code, Code]
"""What the values of an image are, and their UCUM unit."""


@dataclass(frozen=True)
class Modality:
    """One modality by its row; `name` is the value of Modality (0008,0060)."""

    name: str
    label: str  # what people call it
    single_frame: tuple[UID, ...]  # SOP classes with one slice per object (PS3.4 B.5)
    multi_frame: tuple[UID, ...]  # those with many slices
    procedure: Code  # what the SR says was done (PS3.16 CID 100)
    quantity: Callable[[Sequence[Dataset]], Quantity | None]  # of the values, by the headers; None where not known
    pictures: tuple[UID, ...] = ()  # classes with many frames that are no slices of a volume


def _attenuation(headers: Sequence[Dataset]) -> Quantity | None:
    """Returns Hounsfield units, unless a Rescale Type says otherwise.

    Maps of iodine or of effective atomic numbers are CT images too (PS3.3 C.11.1.1.2).
    """
    if not all(_rescale_types(header) <= {"HU"} for header in headers):
        return None
    return codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit


def _rescale_types(header: Dataset) -> set[str]:
    """Returns what a CT header says its rescaled values are, in any frame; HU where it says nothing."""
    frames = (*header.get("SharedFunctionalGroupsSequence", ()), *header.get("PerFrameFunctionalGroupsSequence", ()))
    items = [item for frame in frames for item in frame.get("PixelValueTransformationSequence", ())]
    return {str(item.get("RescaleType") or "HU") for item in (header, *items)}


def _signal(_headers: Sequence[Dataset]) -> Quantity:
    """Returns signal intensity, which has no unit."""
    return codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits


_ACTIVITY: Final = (codes.DCM.NuclearMedicineTomographicActivity, codes.UCUM.BecquerelsPerMilliliter)
_UPTAKES: Final = {
    ("GML", ""): (codes.DCM.Suvbw, codes.UCUM.StandardizedUptakeValueBodyWeight),
    ("GML", "BW"): (codes.DCM.Suvbw, codes.UCUM.StandardizedUptakeValueBodyWeight),
    ("GML", "LBM"): (codes.DCM.Suvlbm, codes.UCUM.StandardizedUptakeValueLeanBodyMassJames),
    ("GML", "LBMJAMES128"): (
        codes.DCM.SuvlbmJames128,
        codes.UCUM.StandardizedUptakeValueLeanBodyMassJames128Multiplier,
    ),
    ("GML", "LBMJANMA"): (codes.DCM.SuvlbmJanma, codes.UCUM.StandardizedUptakeValueLeanBodyMassJanma),
    ("GML", "IBW"): (codes.DCM.Suvibw, codes.UCUM.StandardizedUptakeValueIdealBodyWeight),
    ("CM2ML", ""): (codes.DCM.Suvbsa, codes.UCUM.StandardizedUptakeValueBodySurfaceArea),
    ("CM2ML", "BSA"): (codes.DCM.Suvbsa, codes.UCUM.StandardizedUptakeValueBodySurfaceArea),
    ("BQML", ""): _ACTIVITY,
}


def _uptake(headers: Sequence[Dataset]) -> Quantity | None:
    """Reads what Units and SUV Type say (PS3.3 C.8.9.1, PS3.16 CID 84, 85); None for other units."""
    units, kind = str(headers[0].get("Units", "")), str(headers[0].get("SUVType", ""))
    return _UPTAKES.get((units, kind if units != "BQML" else ""))


MODALITIES: Final[dict[str, Modality]] = {
    row.name: row
    for row in (
        Modality(
            name="CT",
            label="CT",
            single_frame=(CTImageStorage,),
            multi_frame=(EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage),
            procedure=codes.cid100.CTUnspecifiedBodyRegion,
            quantity=_attenuation,
        ),
        Modality(
            name="MR",
            label="MR",
            single_frame=(MRImageStorage,),
            multi_frame=(EnhancedMRImageStorage, LegacyConvertedEnhancedMRImageStorage),
            pictures=(EnhancedMRColorImageStorage,),
            procedure=codes.cid100.MRIUnspecifiedBodyRegion,
            quantity=_signal,
        ),
        Modality(
            name="PT",
            label="PET",
            single_frame=(PositronEmissionTomographyImageStorage,),
            multi_frame=(EnhancedPETImageStorage, LegacyConvertedEnhancedPETImageStorage),
            procedure=codes.cid100.PETUnspecifiedBodyRegion,
            quantity=_uptake,
        ),
    )
}
"""All modalities by name."""


def is_image(sop_class: str) -> bool:
    """Returns whether objects of this SOP class may be slices of a volume."""
    return any(sop_class in (*row.single_frame, *row.multi_frame) for row in MODALITIES.values())


def may_hold_many(sop_class: str) -> bool:
    """Returns whether objects of this SOP class may hold many frames: a series may have more images than objects."""
    return any(sop_class in (*row.multi_frame, *row.pictures) for row in MODALITIES.values())


def labels() -> str:
    """Returns what people call the modalities: "CT, MR or PET"."""
    *others, last = (row.label for row in MODALITIES.values())
    return f"{', '.join(others)} or {last}"


def quantity_of(modality: str, headers: Sequence[Dataset]) -> Quantity | None:
    """Returns what the values of images of a modality are, and their unit; None where that is not known."""
    row = MODALITIES.get(modality)
    return row.quantity(headers) if row else None


def procedure_of(modality: str) -> Code:
    """Returns what a report says was done."""
    row = MODALITIES.get(modality)
    return row.procedure if row else codes.cid100.ImagingProcedure
