"""SR: volume, intensity and longest diameter of every segment as a measurement report (PS3.16 TID 1500, TID 1411)."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from highdicom.sr import (
    AlgorithmIdentification,
    DeviceObserverIdentifyingAttributes,
    EnhancedSR,
    FindingSite,
    Measurement,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
    ReferencedSegment,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import EnhancedSRStorage
from pydicom.valuerep import DA, TM

from dicom_node.measures import Measures, measure
from dicom_node.regions import Region, one_line
from dicom_node.results import Work, describe, item, result_dataset
from dicom_node.seg import Segmentation
from dicom_node.series import ImageSeries
from dicom_node.uids import derived_uid

_MILLILITRE: Final = Code("ml", "UCUM", "milliliter")
_PROCEDURES: Final = {
    "CT": codes.cid100.CTUnspecifiedBodyRegion,
    "MR": codes.cid100.MRIUnspecifiedBodyRegion,
    "PT": codes.cid100.PETUnspecifiedBodyRegion,
}
# What the image values are, and their unit. PET values may be many things, so no intensity is reported for them.
_INTENSITIES: Final = {
    "CT": (codes.DCM.AttenuationCoefficient, codes.UCUM.HounsfieldUnit),
    "MR": (codes.DCM.MRSignalIntensity, codes.UCUM.NoUnits),
}


def write_sr(series: ImageSeries, masks: NDArray[np.bool_], segmentation: Segmentation, work: Work) -> Dataset | None:
    """Measures of the segments of `segmentation` as one Enhanced SR; None when no segment was found.

    `masks` bool (P, slices, rows, columns) are those that `write_seg` was given, the empty ones among them.
    """
    if segmentation.dataset is None:
        return None
    regions = [*segmentation.found, *segmentation.not_found]
    found = [mask for mask in masks if mask.any()]
    groups = [
        _group(number, region, measure(mask, series.affine, series.volume.array), series, segmentation.dataset, work)
        for number, (region, mask) in enumerate(zip(segmentation.found, found, strict=True), start=1)
    ]
    observer = ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=DeviceObserverIdentifyingAttributes(
            uid=derived_uid("device", work.algorithm.name, work.algorithm.digest),
            name=work.algorithm.name,
            manufacturer_name="voxtell-dicom",
            model_name=work.algorithm.name,
            serial_number=work.algorithm.digest,
        ),
    )
    report = MeasurementReport(
        observation_context=ObservationContext(observer_device_context=observer),
        procedure_reported=_PROCEDURES.get(series.modality, codes.cid100.ImagingProcedure),
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    return _document(report, series, segmentation.dataset, work, regions)


def _group(
    number: int, region: Region, measures: Measures, series: ImageSeries, seg: Dataset, work: Work
) -> VolumetricROIMeasurementsAndQualitativeEvaluations:
    """TID 1411: one segment with its tracking identifiers, codes and numbers."""
    algorithm = AlgorithmIdentification(
        name=work.algorithm.name,
        version=work.algorithm.version,
        parameters=[f"prompt={one_line(region.prompt)}", f"weights={work.algorithm.digest}"],
    )
    values = [
        Measurement(name=codes.SCT.Volume, value=_digits(measures.volume_ml), unit=_MILLILITRE),
        Measurement(
            name=codes.SCT.Diameter,
            value=_digits(measures.diameter_mm),
            unit=codes.UCUM.Millimeter,
            derivation=codes.SCT.Maximum,
        ),
    ]
    if series.modality in _INTENSITIES:
        name, unit = _INTENSITIES[series.modality]
        for derivation, value in (
            (codes.SCT.Mean, measures.mean),
            (codes.SCT.StandardDeviation, measures.deviation),
        ):
            values.append(Measurement(name=name, value=_digits(value), unit=unit, derivation=derivation))
    segment = seg.SegmentSequence[number - 1]
    place = region.site or (region.type if region.coded and region.laterality else None)
    sites = [FindingSite(anatomic_location=place, laterality=region.laterality)] if place else None
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
        referenced_segment=ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=SourceSeriesForSegmentation(series.series_uid),
        ),
        finding_category=region.category,
        finding_type=region.type,
        algorithm_id=algorithm,
        finding_sites=sites,
        measurements=values,
    )


def _document(
    report: MeasurementReport, series: ImageSeries, seg: Dataset, work: Work, regions: Sequence[Region]
) -> Dataset:
    """The report as an object: highdicom's document modules on the header that all results share."""
    sop_uid, series_uid = work.uid("SR", series, regions), work.uid("SR series", series, regions)
    blank = dict.fromkeys(
        ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"), ""
    )
    named = {key: seg[key].value for key in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")}
    document = EnhancedSR(
        # highdicom takes the patient from the first piece of evidence; the shared header fills it in below.
        evidence=[item(**named, **blank, StudyDate="", StudyTime=""), *series.headers],
        content=report[0],
        series_instance_uid=series_uid,
        series_number=work.series_number,
        sop_instance_uid=sop_uid,
        instance_number=1,
        is_complete=True,
    )
    shared = result_dataset(
        series, work, sop_class_uid=EnhancedSRStorage, modality="SR", sop_uid=sop_uid, series_uid=series_uid
    )
    document.update(shared)
    document.file_meta = shared.file_meta
    document.SeriesDescription = "Measurements, UNAPPROVED"
    document.ContentDate, document.ContentTime = DA(work.made.date()), TM(work.made.time())
    document.CompletionFlagDescription = describe(work)[:64]
    return document


def _digits(value: float) -> float:
    """Six significant digits: more than the mask knows, few enough for a Decimal String."""
    return float(f"{value:.6g}")
