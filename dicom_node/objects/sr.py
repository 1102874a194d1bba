"""Writes volume, intensity and longest diameter of every segment as a measurement report (PS3.16 TID 1500, TID 1411).

The content tree:

    Imaging Measurement Report
      Observer: the model as a device; procedure reported: CT, MR or PET
      Image Library: the source images
      Imaging Measurements
        Measurement Group, one per segment (TID 1411)
          tracking identifier and UID, referenced segment and source series, finding category, type and site, algorithm
          Volume (ml); mean and standard deviation of the intensity, where its unit is known
          Comments: the sentence of the radiology report that asked for it, and reasons for a review
        Measurement Group, one per segment after all of those (TID 1501), with the same tracking identifier
          Diameter, maximum (mm), with its two ends on their images: TID 1411 has no place for coordinates
      Qualitative Evaluations: a comment for each structure that was asked for and has no segment

The ends are SCOORD on images, not SCOORD3D: OHIF draws the former alone, and an Enhanced SR may hold no other.
That a network found nothing is not a finding, and the code for absence would be one: so it is said in words.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    CodeContentItem,
    ContainerContentItem,
    ContentSequence,
    CoordinatesForMeasurement,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    FindingSite,
    ImageContentItem,
    LanguageOfContentItemAndDescendants,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    RelationshipTypeValues,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TextContentItem,
    TrackingIdentifier,
    UIDRefContentItem,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage
from pydicom.valuerep import DA, TM

from dicom_node.masks.measures import Measures, measure
from dicom_node.masks.packed import Masks, PackedMask
from dicom_node.modalities import procedure_of, quantity_of
from dicom_node.objects import Form
from dicom_node.objects.common import coded, describe, documents, item, masks_of, result_dataset, titled
from dicom_node.objects.provenance import LABEL_MAP_STORAGE, ObjectKind, Provenance, Review
from dicom_node.objects.seg import Segmentation
from dicom_node.regions import EmptyMask, Region, asked_by, one_line, shortened
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

SR_KINDS: Final[dict[Form, ObjectKind]] = {
    "binary": ObjectKind("SR", EnhancedSRStorage, codes.DCM.ImagingMeasurementReport),
    "labelmap": ObjectKind("SR labelmap", EnhancedSRStorage, codes.DCM.ImagingMeasurementReport),
}
_MILLILITRE: Final = Code("ml", "UCUM", "milliliter")
_ENGLISH: Final = Code("en-US", "RFC5646", "English (United States)")
_EVALUATIONS: Final = Code("C0034375", "UMLS", "Qualitative Evaluations")  # TID 1500 row 12


def write_sr(
    series: ImageSeries, masks: Masks | NDArray[np.bool_], segmentation: Segmentation, provenance: Provenance
) -> Dataset:
    """Returns the measures of the segments as one Enhanced SR (PS3.3 A.35.2).

    Where nothing was found there are no segments; the report then says what was looked for, and measures nothing.

    Args:
        series: the volume that was segmented; its values give the intensities.
        masks: bool (P, slices, rows, columns), those given to `write_seg`, including the empty ones.
        segmentation: what `write_seg` returned. The report is about it alone: BINARY and LABELMAP each have their own.
        provenance: what the object says about the job.

    Raises:
        ResultError: when masks, regions and slices do not match.
    """
    seg = segmentation.dataset
    found = [mask for mask in masks_of(series, masks, segmentation.regions).packed if len(mask.held)]
    pairs = [
        _groups(number, region, mask, series, seg, provenance)
        for number, (region, mask) in enumerate(zip(segmentation.found, found, strict=True), start=1)
        if seg is not None
    ]
    # One group per segment goes first: 3D Slicer's QuantitativeReporting takes the nth group for the nth segment's.
    groups = [group for kind in zip(*pairs, strict=True) for group in kind]
    content = _content(groups, series, provenance)
    if missing := [region for region in segmentation.not_found if not region.placeholder]:
        content.ContentSequence.append(_not_there(missing, () if groups else provenance.review))
    return _document(content, series, seg, provenance, segmentation.regions)


def _content(
    groups: Sequence[MeasurementsAndQualitativeEvaluations | VolumetricROIMeasurementsAndQualitativeEvaluations],
    series: ImageSeries,
    provenance: Provenance,
) -> Dataset:
    """Returns the root of the content tree with its context and measurements (TID 1500)."""
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", provenance.algorithm.name, provenance.algorithm.digest),
            name=provenance.algorithm.name,
            manufacturer_name="voxtell-dicom",
            model_name=provenance.algorithm.name,
            serial_number=provenance.algorithm.digest,
        ),
    )
    context = ObservationContext(observer_device_context=observer)
    title, procedure = codes.DCM.ImagingMeasurementReport, procedure_of(series.modality)
    if groups:
        report = MeasurementReport(
            observation_context=context, procedure_reported=procedure, imaging_measurements=groups, title=title
        )
        root = report[0]
        root.ContentSequence.insert(len(root.ContentSequence) - 1, _image_library(series))
        return root
    # highdicom makes no report without measurements; of rows 10 and 12 of TID 1500 one is enough.
    root = ContainerContentItem(name=title, template_id="1500")
    root.ContentSequence = ContentSequence()
    root.ContentSequence.extend(LanguageOfContentItemAndDescendants(coded(_ENGLISH)))
    root.ContentSequence.extend(context)
    reported = RelationshipTypeValues.HAS_CONCEPT_MOD
    root.ContentSequence.append(CodeContentItem(codes.DCM.ProcedureReported, procedure, reported))
    root.ContentSequence.append(_image_library(series))
    return root


def _image_library(series: ImageSeries) -> ContainerContentItem:
    """Returns the source images as an Image Library (TID 1600, 1601), with what they have in common."""
    group = ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=RelationshipTypeValues.CONTAINS)
    group.ContentSequence = ContentSequence()
    if series.frame_of_reference_uid:
        acquired = RelationshipTypeValues.HAS_ACQ_CONTEXT
        group.ContentSequence.append(
            UIDRefContentItem(codes.DCM.FrameOfReferenceUID, series.frame_of_reference_uid, acquired)
        )
    for image in dict.fromkeys((one.sop_class_uid, one.sop_uid) for one in series.references):
        group.ContentSequence.append(
            ImageContentItem(codes.SCT.Source, *image, relationship_type=RelationshipTypeValues.CONTAINS)
        )
    library = ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=RelationshipTypeValues.CONTAINS)
    library.ContentSequence = ContentSequence([group])
    return library


def _groups(
    number: int, region: Region, mask: PackedMask, series: ImageSeries, seg: Dataset, provenance: Provenance
) -> tuple[VolumetricROIMeasurementsAndQualitativeEvaluations, MeasurementsAndQualitativeEvaluations]:
    """Returns the measurement groups of one segment: what is of the volume, and the diameter with its ends."""
    measures = measure(mask.mask(), series.affine, series.volume.array)
    segment = next(segment for segment in seg.SegmentSequence if segment.SegmentNumber == number)
    diameter = Measurement(
        name=codes.SCT.Diameter,
        value=_digits(measures.diameter_mm),
        unit=codes.UCUM.Millimeter,
        derivation=codes.SCT.Maximum,
        referenced_coordinates=_ends(measures, series),
    )
    line = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        finding_category=region.category,
        finding_type=region.type,
        measurements=[diameter],
    )
    return _volumetric(segment, region, measures, series, seg, provenance), line


def _ends(measures: Measures, series: ImageSeries) -> list[CoordinatesForMeasurement] | None:
    """Returns the ends of the diameter on the images that hold them; None where one lies on no image.

    Two ends on one image are a line, others a point on each. Image coordinates are column and row; the middle of the
    first pixel is (0.5, 0.5) (PS3.3 C.18.6.1.2).
    """
    inverse = np.linalg.inv(series.affine)
    places = np.rint(measures.diameter_ends @ inverse[:3, :3].T + inverse[:3, 3]).astype(int)
    if not {*places[:, 0].tolist()} <= series.reference_at.keys():
        return None
    points = places[:, :0:-1] + 0.5
    if places[0, 0] == places[1, 0] and measures.diameter_mm > 0:
        return [CoordinatesForMeasurement("POLYLINE", points, _on(series, int(places[0, 0])))]
    distinct = dict.fromkeys(zip(places[:, 0].tolist(), map(tuple, points.tolist()), strict=True))
    return [CoordinatesForMeasurement("POINT", np.array([point]), _on(series, place)) for place, point in distinct]


def _on(series: ImageSeries, place: int) -> SourceImageForRegion:
    """Returns the image, and the frame of it, that is a slice."""
    reference = series.reference_at[place]
    frames = None if reference.frame_number is None else [reference.frame_number]
    return SourceImageForRegion(reference.sop_class_uid, reference.sop_uid, frames)


def _volumetric(
    segment: Dataset, region: Region, measures: Measures, series: ImageSeries, seg: Dataset, provenance: Provenance
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """Returns TID 1411 for one segment: its tracking identifiers, codes, figures and comments."""
    maker = provenance.maker_of(region)
    algorithm = AlgorithmIdentification(
        name=maker.name,
        version=maker.version,
        parameters=[f"prompt={one_line(region.prompt)}", *([f"weights={maker.digest}"] if maker.has_weights else [])],
    )
    values = [Measurement(name=codes.SCT.Volume, value=_digits(measures.volume_ml), unit=_MILLILITRE)]
    if quantity := quantity_of(series.modality, series.headers):
        name, unit = quantity
        for derivation, value in (
            (codes.SCT.Mean, measures.mean),
            (codes.SCT.StandardDeviation, measures.deviation),
        ):
            values.append(Measurement(name=name, value=_digits(value), unit=unit, derivation=derivation))
    place = region.site or (region.type if region.coded and region.laterality else None)
    sites = [FindingSite(anatomic_location=place, laterality=region.laterality)] if place else None
    group = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=segment.SegmentNumber,
            source_series=SourceSeriesForSegmentation(series.series_uid),
        ),
        finding_category=region.category,
        finding_type=region.type,
        algorithm_id=algorithm,
        finding_sites=sites,
        measurements=values,
    )
    if region.sentence:
        group[0].ContentSequence.append(_comment(asked_by(region)))
    for reason in provenance.review:
        if reason.label in (None, region.label):
            group[0].ContentSequence.append(_comment(f"To be reviewed: {reason.sentence}"))
    return group


_NOT_THERE: Final[dict[EmptyMask, str]] = {
    "not found": "Looked for, not found",
    "not known": "Not known to the model, which says nothing of it",
    "not judged": "Not judged, since the image is of another kind than the model was trained on",
}


def _not_there(regions: Sequence[Region], reviews: Sequence[Review]) -> ContainerContentItem:
    """Returns TID 1500 rows 12 and 14: one comment for each region that was asked for and has no segment.

    reviews: reasons for a review that stand with no measurement.
    """
    container = ContainerContentItem(name=_EVALUATIONS, relationship_type=RelationshipTypeValues.CONTAINS)
    container.ContentSequence = ContentSequence()
    for region in regions:
        what = _NOT_THERE[region.empty_means]
        asked = f" {asked_by(region)}" if region.sentence else ""
        container.ContentSequence.append(_comment(f"{what}: {region.label}.{asked}"))
    for reason in reviews:
        container.ContentSequence.append(_comment(f"To be reviewed: {reason.sentence}"))
    return container


def _comment(text: str) -> TextContentItem:
    """Returns a text item with the concept Comment."""
    return TextContentItem(codes.DCM.Comment, text, RelationshipTypeValues.CONTAINS)


def _document(
    content: Dataset,
    series: ImageSeries,
    seg: Dataset | None,
    provenance: Provenance,
    regions: Sequence[Region],
) -> Dataset:
    """Returns the report as an object: highdicom's document modules on the header that all results share.

    The evidence is the SEG, if there is one, and the source images; other objects of the result are Pertinent Other
    Evidence (C.17.2).
    """
    form: Form = "labelmap" if seg is not None and seg.SOPClassUID == LABEL_MAP_STORAGE else "binary"
    reference = provenance.reference(SR_KINDS[form], series, regions)
    document = EnhancedSR(
        # highdicom takes the patient from the first piece of evidence; the shared header fills it in below.
        evidence=[_evidence(series.headers[0] if seg is None else seg), *series.headers],
        content=content,
        series_instance_uid=reference.series_uid,
        series_number=provenance.series_number,
        sop_instance_uid=reference.sop_uid,
        instance_number=1,
        is_complete=True,
    )
    shared = result_dataset(series, provenance, reference, "SR")
    document.update(shared)
    document.file_meta = shared.file_meta
    document.SeriesDescription = titled("Measurements, UNAPPROVED", series)
    document.ContentDate, document.ContentTime = DA(provenance.made.date()), TM(provenance.made.time())
    document.CompletionFlagDescription = shortened(describe(provenance, series), 64)
    measured = [str(seg.SOPInstanceUID)] if seg is not None else []
    if beside := documents(series, [one for one in provenance.others(reference) if one.sop_uid not in measured]):
        document.PertinentOtherEvidenceSequence = beside
    if replaced := documents(series, provenance.predecessor(reference.sop_class_uid)):
        document.PredecessorDocumentsSequence = replaced
    return document


def _evidence(one: Dataset) -> Dataset:
    """Returns an object as highdicom lists evidence, without a patient."""
    blank = dict.fromkeys(
        ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"), ""
    )
    named = {key: one[key].value for key in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    return item(**named, **blank, StudyDate="", StudyTime="")


def _digits(value: float) -> float:
    """Rounds to six significant digits: more than a mask is accurate to, few enough for a Decimal String."""
    return float(f"{value:.6g}")
