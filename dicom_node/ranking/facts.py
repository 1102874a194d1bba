"""Reads facts from the headers of one volume that bear on whether it is the one to segment. No pixels are read.

Each fact is decided from all slices: a word in the first header alone decides nothing. The attributes are those of
General Series and General Image (PS3.3 C.7.3.1, C.7.6.1), CT and MR Image (C.8.2.1, C.8.3.1), their enhanced forms
(C.8.15, C.8.13), and Contrast/Bolus (C.7.6.4).
"""

import math
import re
import tomllib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final, Literal

import numpy as np
from pydicom import Dataset
from pydicom.multival import MultiValue

from dicom_node.images.frames import Frame
from dicom_node.images.pydicom_errors import PYDICOM_ERRORS
from dicom_node.series import HeaderVolume

Plane = Literal["axial", "coronal", "sagittal"]
Sharpness = Literal["soft", "sharp"]

# The plane for each patient axis (x, y, z in LPS) that its normal lies closest to.
_PLANES: Final[tuple[Plane, Plane, Plane]] = ("sagittal", "coronal", "axial")

# Values of Image Type and Frame Type (PS3.3 C.7.6.1.1.2, C.8.2.1.1.1, C.8.16.1.4) and words of series descriptions.
_PROJECTIONS: Final = {
    *("MIP", "MINIP", "MNIP", "MAXIMUM", "MINIMUM", "MAX_IP", "MIN_IP", "PROJECTION IMAGE", "VOLUME RENDER"),
    *("MAX_IP_IMAGE", "SSD", "VRT", "CSA MIP", "CSA MINIP", "MIP_SUB", "THICK_MIP", "COLLAPSE"),
}
_REFORMATS: Final = {"MPR", "REFORMATTED", "CSA MPR", "CSA RESAMPLED", "RESAMPLED", "CPR", "OBLIQUE_MPR", "MPR_THICK"}
_PROJECTION_WORDS: Final = re.compile(r"(?<![A-Za-z])(MIPs?|min ?IP|VRT|vr_?3d|thick ?mip)(?![A-Za-z])", re.IGNORECASE)
_REFORMAT_WORDS: Final = re.compile(r"(?<![A-Za-z])(MPR|MPVR|reformat\w*)(?![A-Za-z])", re.IGNORECASE)

_NO_AGENT: Final = re.compile(r"^\W*(no|non|none|ohne|without|w/?o|nativ\w*|sans|sin|n/?a|0)?\W*$", re.IGNORECASE)
_WITHOUT: Final = re.compile(
    r"\b(without|w/o|non[- ]?(contrast|enhanced)|no contrast|unenhanced|nativ\w*|pre[- ]?contrast|ohne (km|kontrast))\b"
    r"|(?<!\w)C-(?!\w)",
    re.IGNORECASE,
)
_WITH: Final = re.compile(
    r"\b(contrast|enhanced|post[- ]?(contrast|gad\w*)|arterial|venous|portal\w*|nephrographic|mit (km|kontrast)|\+ ?km"
    r"|ce)\b|(?<!\w)(C\+|\+C|Gd)(?!\w)",
    re.IGNORECASE,
)

# Words for phantoms and for tests of a machine, in English, German, French and Spanish. Excluded are words that occur
# with patients: phantom limb and phantom tumour, the "QA CT" that verifies a radiotherapy plan, registers of the ACR,
# and the water images of MR. Patient names and IDs are not searched.
_PHANTOM: Final = re.compile(
    r"(?<![^\W_])([^\W\d_]*phantoms?(?![\W_]*(limb|pain|sensation|tumou?r|bone|schmerz))"
    r"|(?<!membre )fant[oô]mes?|fantomas?|catphan\w*|qc|qa(?![\W_]*(ct|mr|scan))|quality[\W_](assurance|control|check)"
    r"|qualit[aä]tssicherung|konstanzprüfung|contrôle (de )?qualité|control de calidad)(?![^\W\d_])"
    r"|\A\W*acr(\W+(ct|mri?))?\W*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class VolumeFacts:
    """Describes one volume. Lengths are millimetres; None where the headers do not say.

    thickness_mm: the largest Slice Thickness (0018,0050). kernel: the Convolution Kernels of its slices.
    projection: an intensity projection (MIP and the like). reformatted: computed from another volume (MPR), also where
    only the description says so. contrast: None where neither agent nor description tells. body_part: Body Part
    Examined.
    """

    modality: str
    plane: Plane  # the nearest
    oblique_degrees: float  # between the slices' normal and that of the plane
    slices: int
    spacing_mm: float  # between slices along the normal, the widest, from their positions and not from Slice Thickness
    thickness_mm: float | None
    coverage_mm: float  # slices x spacing, where that does not change
    field_mm: float  # Reconstruction Diameter, or else what the columns cover
    kernel: str
    sharpness: Sharpness | None
    image_type: tuple[str, ...]  # every value that stands in any header of it
    original: bool  # ORIGINAL PRIMARY, neither projection nor reformatted
    projection: bool
    reformatted: bool
    contrast: bool | None
    contrast_said: str  # the words that say so
    body_part: str
    acquired: str  # YYYYMMDDHHMMSS of the earliest slice
    phantom_said: str = ""  # what says that it is a phantom and no patient; "" where nothing does
    resampled_mm: float | None = None  # spacing of the grid that a spacing which changes was made even on


@dataclass(frozen=True)
class _Geometry:
    """The facts of a volume that follow from where its slices lie; as in VolumeFacts."""

    plane: Plane
    oblique_degrees: float
    slices: int
    spacing_mm: float
    coverage_mm: float
    field_mm: float
    resampled_mm: float | None = None


def facts_of(outline: HeaderVolume) -> VolumeFacts:
    """Returns the facts of one volume.

    Attributes that are absent or unreadable give None or "": only geometry is required.

    Raises:
        SeriesError: when it is not a regular grid; names the slice.
    """
    grid = outline.grid
    frames, headers = grid.frames, [file.header for file in outline.files]
    normal = np.cross(*grid.orientation)
    axis = int(np.abs(normal).argmax())
    field = _numbers(headers, "ReconstructionDiameter")
    geometry = _Geometry(
        plane=_PLANES[axis],
        oblique_degrees=float(np.degrees(np.arccos(min(1.0, abs(normal[axis]) / np.linalg.norm(normal))))),
        slices=len(frames),
        spacing_mm=grid.widest_mm,
        coverage_mm=grid.step_mm * (grid.places[-1] + 1),
        field_mm=max(field) if field else frames[0].spacing[1] * frames[0].size[1],
        resampled_mm=None if grid.widest_mm == grid.step_mm else grid.step_mm,
    )
    kernel = " ".join(sorted({frame.facts.get("ConvolutionKernel", "") for frame in frames} - {""}))
    return _facts(headers, geometry, _image_types(frames), kernel, _thicknesses(frames))


def listed_facts(header: Dataset, images: int) -> VolumeFacts:
    """Returns the facts of a series of which a list tells some attributes, and no image is here.

    The plane is that of Image Orientation (Patient), else axial. The spacing is Spacing Between Slices, else Slice
    Thickness, else 0.0 mm, and then the extent is 0.0 mm too: series of which neither is told are equal in both.
    """
    types = {value.strip().upper() for value in _text(header, "ImageType").replace("\\", " ").split()}
    thick = _numbers([header], "SliceThickness")
    spacing = next(iter(_numbers([header], "SpacingBetweenSlices") + thick), 0.0)
    field = _numbers([header], "ReconstructionDiameter")
    cosines = [float(value) for value in header.get("ImageOrientationPatient") or ()]
    normal = np.cross(cosines[:3], cosines[3:]) if len(cosines) == 6 else np.array([0.0, 0.0, 1.0])
    plane = _PLANES[int(np.abs(normal).argmax())]
    geometry = _Geometry(plane, 0.0, images, spacing, spacing * images, max(field, default=0.0))
    return _facts([header], geometry, types, _text(header, "ConvolutionKernel"), set(thick))


def _facts(
    headers: Sequence[Dataset], geometry: _Geometry, types: set[str], kernel: str, thicknesses: set[float]
) -> VolumeFacts:
    """Returns the facts of a volume from its geometry, its image types, its kernel, and the words of its headers."""
    words = " ".join(_texts(headers, "SeriesDescription"))
    projection = bool(types & _PROJECTIONS) or bool(_PROJECTION_WORDS.search(words))
    reformatted = bool(types & _REFORMATS) or bool(_REFORMAT_WORDS.search(words))
    contrast, said = _contrast(headers)
    return VolumeFacts(
        modality=" ".join(_texts(headers, "Modality")),
        plane=geometry.plane,
        oblique_degrees=geometry.oblique_degrees,
        slices=geometry.slices,
        spacing_mm=geometry.spacing_mm,
        thickness_mm=max(thicknesses, default=None),
        coverage_mm=geometry.coverage_mm,
        field_mm=geometry.field_mm,
        kernel=kernel,
        sharpness=sharpness_of(kernel, " ".join(_texts(headers, "Manufacturer"))),
        image_type=tuple(sorted(types)),
        original={"ORIGINAL", "PRIMARY"} <= types and "DERIVED" not in types and not (projection or reformatted),
        projection=projection,
        reformatted=reformatted,
        contrast=contrast,
        contrast_said=said,
        body_part=" ".join(_texts(headers, "BodyPartExamined")),
        acquired=min(map(_moment, headers)),
        phantom_said=_phantom(headers),
        resampled_mm=geometry.resampled_mm,
    )


def sharpness_of(kernel: str, manufacturer: str) -> Sharpness | None:
    """Returns whether a Convolution Kernel (0018,1210) is soft or sharp by `kernels.toml`; None if no rule names it.

    The first rule whose patterns fit manufacturer and kernel decides.
    """
    for makers, names, sharpness in _kernel_rules():
        if makers.search(manufacturer) and names.search(kernel):
            return sharpness
    return None


@cache
def _kernel_rules() -> list[tuple[re.Pattern[str], re.Pattern[str], Sharpness]]:
    """Returns the rules of kernels.toml in order: manufacturer's pattern, kernel's pattern, sharpness."""
    table = tomllib.loads((files("dicom_node.ranking") / "kernels.toml").read_text(encoding="utf-8"))
    return [
        (re.compile(rule["manufacturer"], re.I), re.compile(rule["kernel"], re.I), rule["sharpness"])
        for rule in table["rule"]
    ]


def _image_types(frames: Iterable[Frame]) -> set[str]:
    """Returns every value of Image Type, and of Frame Type where the frames of one file have their own.

    Values are in upper case. A value in a single slice counts for the volume.
    """
    values: set[str] = set()
    for frame in frames:
        for text in (frame.facts.get("ImageType", ""), *map(str, frame.header.get("ImageType") or ())):
            values |= {value.strip().upper() for value in text.split("\\")}
    return values - {""}


def _contrast(headers: Iterable[Dataset]) -> tuple[bool | None, str]:
    """Returns whether a contrast agent was given (None: unknown), and the words that say so.

    The agent decides (C.7.6.4), else words of the series' description or the protocol's name.
    """
    headers = list(headers)
    agents = _texts(headers, "ContrastBolusAgent")
    if agents:
        return not all(_NO_AGENT.match(agent) for agent in agents), f"agent {', '.join(agents)}"
    if any("ContrastBolusAgentSequence" in header for header in headers):
        return True, "a Contrast/Bolus Agent Sequence"
    for keyword in ("SeriesDescription", "ProtocolName"):
        for text in _texts(headers, keyword):
            if found := _WITHOUT.search(text):
                return False, f"'{found.group().strip()}' in {keyword}"
            if found := _WITH.search(text):
                return True, f"'{found.group().strip()}' in {keyword}"
    return None, "nothing in the headers"


def _phantom(headers: Sequence[Dataset]) -> str:
    """Returns the words that say that these are images of a phantom; "" where nothing does.

    The attributes made for it decide (Quality Control Subject and Image, C.7.1.1, C.7.6.1), else words of descriptions.
    """
    for keyword in ("QualityControlSubject", "QualityControlImage"):
        if "YES" in _texts(headers, keyword):
            return f"{keyword} is YES"
    for keyword in ("StudyDescription", "SeriesDescription", "ProtocolName"):
        for text in _texts(headers, keyword):
            if found := _PHANTOM.search(text):
                return f"'{found.group().strip()}' in {keyword}"
    return ""


def _moment(header: Dataset) -> str:
    """Returns the time of the acquisition as YYYYMMDDHHMMSS, else that of the series; "" without either."""
    pairs = (("AcquisitionDateTime", ""), ("AcquisitionDate", "AcquisitionTime"), ("SeriesDate", "SeriesTime"))
    for date, time in pairs:
        if day := _digits(_text(header, date)):
            return (day + (_digits(_text(header, time)) if time else ""))[:14].ljust(14, "0")
    return ""


def _digits(text: str) -> str:
    """Returns the digits of a date or time. Pre-DICOM forms have points and colons, and some values hold no digit."""
    return re.sub(r"[^0-9]", "", text)


def _texts(headers: Iterable[Dataset], keyword: str) -> list[str]:
    """Returns the distinct texts of an attribute over all headers, in their order."""
    return [text for text in dict.fromkeys(_text(header, keyword) for header in headers) if text]


def _text(header: Dataset, keyword: str) -> str:
    """Returns a value as text; "" where it is absent or unreadable: a missing fact is no reason to refuse a volume."""
    try:
        value = header.get(keyword)
    except PYDICOM_ERRORS:
        return ""
    text = " ".join(map(str, value)) if isinstance(value, MultiValue) else str("" if value is None else value)
    return text.strip()


def _numbers(headers: Iterable[Dataset], keyword: str) -> list[float]:
    """Returns the finite numbers that an attribute has in any header."""
    found: list[float] = []
    for header in headers:
        with suppress(ValueError):
            found.append(float(_text(header, keyword)))
    return [number for number in found if math.isfinite(number)]


def _thicknesses(frames: Iterable[Frame]) -> set[float]:
    """Returns the distinct Slice Thicknesses in millimetres."""
    found: set[float] = set()
    for frame in frames:
        with suppress(ValueError):
            found.add(float(frame.facts.get("SliceThickness", "")))
    return set(filter(math.isfinite, found))
