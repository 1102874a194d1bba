"""A series is read whole and exactly, or refused with the slice named."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import dcmread
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
    SecondaryCaptureImageStorage,
    XRayRadiationDoseSRStorage,
)

from dicom_node.errors import SeriesError, UnreadableError
from dicom_node.images import headers
from dicom_node.images.frames import read_files
from dicom_node.series import header_volumes, read_series, read_volume, split_series
from dicom_node.synthesis import ct_series, write_slices
from tests.support.images import affine_of, edit, rotation, series_files

Data = Callable[..., Path]


@pytest.fixture
def ct(tmp_path: Path) -> list[Path]:
    """Eight slices of 6 x 5 pixels, 2 mm apart; each slice has its own values."""
    image = np.arange(8 * 6 * 5, dtype=np.float32).reshape(8, 6, 5)
    return ct_series(image, (2.0, 1.5, 1.0), tmp_path / "ct")


def test_slices_come_in_the_order_of_their_positions_whatever_the_order_of_the_files(ct: list[Path]) -> None:
    expected = read_series(ct)
    shuffled = [ct[index] for index in (5, 0, 7, 2, 6, 1, 4, 3)]
    series = read_series(shuffled)
    assert np.array_equal(series.volume.array, expected.volume.array)
    assert [reference.sop_uid for reference in series.references] == [str(dcmread(path).SOPInstanceUID) for path in ct]
    assert series.volume.spacing == pytest.approx((2.0, 1.5, 1.0))
    assert series.volume.array.dtype == np.float32


@pytest.mark.parametrize("sop_class", [CTImageStorage, PositronEmissionTomographyImageStorage, MRImageStorage])
def test_every_slice_is_rescaled_by_its_own_slope_and_intercept(ct: list[Path], sop_class: str) -> None:
    before = read_series(ct).volume.array
    for index, path in enumerate(ct):
        edit(path, SOPClassUID=sop_class, RescaleSlope=str(1 + index / 4), RescaleIntercept=str(-index))
    after = read_series(ct).volume.array
    for index in range(8):
        assert np.allclose(after[index], before[index] * (1 + index / 4) - index)


def test_a_first_slice_without_negative_values_decides_nothing(tmp_path: Path) -> None:
    image = np.full((4, 3, 3), -1000.0)
    image[0] = 50
    assert read_series(ct_series(image, (1, 1, 1), tmp_path)).volume.array.min() == -1000


def test_a_missing_slice_is_refused_with_its_neighbours_and_the_gap(ct: list[Path]) -> None:
    with pytest.raises(SeriesError, match=r"missing between 0004\.dcm .* and 0006\.dcm .* 4\.000 mm .* usually 2\.000"):
        read_series([path for path in ct if path.name != "0005.dcm"])


def test_uneven_spacing_is_refused_with_the_slice_and_the_figure(ct: list[Path]) -> None:
    position = list(dcmread(ct[3]).ImagePositionPatient)
    edit(ct[3], ImagePositionPatient=[*position[:2], position[2] + 0.5])
    with pytest.raises(SeriesError, match=r"uneven spacing: 0004\.dcm .* lies 0\.\d+ mm off .* 0\.100 mm is accepted"):
        read_series(ct)


def test_positions_rounded_by_the_scanner_are_accepted_and_noted(ct: list[Path]) -> None:
    for index, path in enumerate(ct):
        position = list(dcmread(path).ImagePositionPatient)
        edit(path, ImagePositionPatient=[*position[:2], position[2] + (0.03 if index % 2 else -0.03)])
    series = read_series(ct)
    assert any("jitter by up to 0.03" in note for note in series.notes)
    assert series.positions[1, 2] - series.positions[0, 2] == pytest.approx(2.06)


def test_an_odd_first_orientation_within_tolerance_does_not_turn_the_grid(ct: list[Path]) -> None:
    expected = read_series(ct).volume.affine
    edit(ct[0], ImageOrientationPatient=[1, 0.0008, 0, -0.0008, 1, 0])
    series = read_series(ct)
    assert np.allclose(series.volume.affine, expected, atol=1e-9)
    assert series.tilt_degrees == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ImageOrientationPatient": [0, 1, 0, 0, 0, -1]}, r"mixed orientations: 0003\.dcm"),
        ({"FrameOfReferenceUID": "1.2.3"}, r"mixed frame of reference: 0003\.dcm .* has 1\.2\.3"),
        ({"PatientID": "OTHER"}, r"mixed patients: 0003\.dcm .* has another Patient ID, 7 of 8 have one"),
        ({"StudyInstanceUID": "1.2.3"}, r"mixed study: 0003\.dcm .* has 1\.2\.3"),
        ({"SOPClassUID": MRImageStorage}, r"mixed kind of image: 0003\.dcm"),
        ({"PixelSpacing": [1.5, 1.1]}, r"mixed pixel spacing: 0003\.dcm"),
        ({"Rows": 5, "Columns": 6}, r"mixed size .*: 0003\.dcm .* has \(5, 6\)"),
        ({"ImagePositionPatient": None}, r"0003\.dcm has no ImagePositionPatient"),
        ({"PixelSpacing": [0, 0]}, r"0003\.dcm has no valid geometry"),
        ({"PixelData": b"12"}, r"the pixels of 0003\.dcm cannot be decoded"),
        ({"SeriesInstanceUID": "1.2.3"}, r"the files belong to 2 series"),
        ({"RescaleSlope": "0"}, r"0003\.dcm has no valid rescale: slope 0, intercept 0"),
        ({"RescaleSlope": ["1", "2"]}, r"0003\.dcm has no valid rescale: slope 1\\2"),
        ({"Rows": None}, r"0003\.dcm has no size: its Rows are None, its Columns 5"),
    ],
)
def test_the_slice_that_does_not_belong_is_named(ct: list[Path], change: dict[str, object], message: str) -> None:
    edit(ct[2], **change)
    with pytest.raises(SeriesError, match=message):
        read_series(ct)


@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_a_slice_without_the_rescale_of_the_others_is_refused(ct: list[Path], keyword: str) -> None:
    """It would lie a thousand Hounsfield units off."""
    for path in ct:
        edit(path, RescaleIntercept="-1024")
    edit(ct[2], **{keyword: None})
    with pytest.raises(SeriesError, match=r"mixed rescale slope and intercept: 0003\.dcm .* has not both, 7 of 8 have"):
        read_series(ct)


def test_a_series_without_any_rescale_holds_the_stored_values(ct: list[Path]) -> None:
    expected = read_series(ct).volume.array
    for path in ct:
        edit(path, RescaleSlope=None, RescaleIntercept=None, SamplesPerPixel=None)
    assert np.array_equal(read_series(ct).volume.array, expected)


def test_pixel_spacings_that_differ_by_rounding_are_one(ct: list[Path]) -> None:
    for index, path in enumerate(ct):
        edit(path, PixelSpacing=["0.97655", "0.97655"] if index % 3 else ["0.976549", "0.976549"])
    assert read_series(ct).volume.spacing[1:] == (0.97655, 0.97655)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("high_bit", [11, 13, 15])
def test_overlays_and_noise_beside_the_stored_bits_are_no_part_of_the_values(
    ct: list[Path], signed: int, high_bit: int
) -> None:
    expected = read_series(ct).volume.array - 100 * signed
    for path in ct:
        image = dcmread(path)
        words = (image.pixel_array.astype(np.int64) - 100 * signed & 0xFFF) << high_bit - 11
        words |= ~(0xFFF << high_bit - 11) & 0xFFFF
        bits = {"BitsStored": 12, "HighBit": high_bit, "PixelRepresentation": signed}
        edit(path, PixelData=words.astype("<u2").tobytes(), **bits)
    assert np.array_equal(read_series(ct).volume.array, expected)


def test_values_in_high_bits_that_cannot_be_decoded_are_refused(ct: list[Path]) -> None:
    for path in ct:
        image = dcmread(path)
        image.BitsStored = 12
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        image.save_as(path)
    with pytest.raises(SeriesError, match=r"pixels of 0001\.dcm cannot be decoded: High Bit 15 of 12 Bits Stored"):
        read_series(ct)


@pytest.mark.parametrize("vr", ["FD", "ZZ", "SQ"])
@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "EchoTime", "Rows", "FrameOfReferenceUID", "ImageType"])
def test_a_header_that_cannot_be_converted_is_refused_with_the_file(ct: list[Path], keyword: str, vr: str) -> None:
    image = dcmread(ct[2])
    image._dict[Tag(keyword)] = RawDataElement(Tag(keyword), vr, 4, b"abcd", 0, False, True)
    image.save_as(ct[2])
    with pytest.raises(SeriesError, match=r"header of 0003\.dcm cannot be read"):
        read_series(ct)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about character sets that were cut
def test_a_file_cut_anywhere_is_refused_in_one_sentence(ct: list[Path]) -> None:
    whole = ct[2].read_bytes()
    for end in range(0, len(whole), 41):
        ct[2].write_bytes(whole[:end])
        with pytest.raises(SeriesError, match=r"0003\.dcm|two images|missing between|belong to 2 series|mixed"):
            read_series(ct)


@pytest.mark.parametrize("step", ["headers", "pixels"])
def test_a_file_that_the_disk_does_not_give_may_be_read_later(
    ct: list[Path], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Its content is not to blame, as it is for every other SeriesError."""

    def refuse(*_args: object, **_options: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(*((headers, "dcmread") if step == "headers" else (np, "fromfile")), refuse)
    with pytest.raises(UnreadableError, match=r"0001\.dcm cannot be read: Too many open files") as raised:
        read_series(ct)
    assert raised.value.retry == "later"


def test_files_that_are_no_dicom_and_single_slices_are_refused(ct: list[Path], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(SeriesError, match=r"notes\.txt is not a readable DICOM file"):
        read_series([*ct, tmp_path / "notes.txt"])
    with pytest.raises(SeriesError, match=r"a single slice is no volume: 0001\.dcm"):
        read_series(ct[:1])
    with pytest.raises(SeriesError, match="no files"):
        read_series([])


@pytest.mark.parametrize(
    ("sop_class", "name"),
    [
        (SecondaryCaptureImageStorage, "a Secondary Capture Image object, no CT, MR or PET image"),
        (XRayRadiationDoseSRStorage, "a X-Ray Radiation Dose SR object, no CT, MR or PET image"),
    ],
)
def test_a_series_of_secondary_captures_or_dose_reports_is_refused(ct: list[Path], sop_class: str, name: str) -> None:
    for path in ct:
        edit(path, SOPClassUID=sop_class)
    with pytest.raises(SeriesError, match=rf"0001\.dcm is left out: it is {name} \(and 7 more files\)"):
        read_series(ct)


def _enhanced(paths: list[Path], folder: Path) -> list[Path]:
    """The same slices as one multi-frame file."""
    for path in paths:
        edit(path, PatientPosition="HFS")
    slices = [dcmread(path) for path in paths]
    image = LegacyConvertedEnhancedCTImage(slices, series_instance_uid="2.25.7", series_number=7, **ENHANCED)
    folder.mkdir(exist_ok=True)
    image.save_as(folder / "enhanced.dcm")
    return [folder / "enhanced.dcm"]


ENHANCED = {
    "sop_instance_uid": "2.25.8",
    "instance_number": 1,
    "transfer_syntax_uid": ExplicitVRLittleEndian,
}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_an_enhanced_ct_is_read_like_its_slices(ct: list[Path], tmp_path: Path, syntax: str) -> None:
    for index, path in enumerate(ct):
        edit(path, RescaleSlope=str(1 + index / 4), RescaleIntercept="-1000", PatientPosition="HFS")
    expected = read_series(ct)
    (file,) = _enhanced(ct, tmp_path / "enhanced")
    image = dcmread(file)
    image.file_meta.TransferSyntaxUID = syntax
    image.save_as(file)
    series = read_series([file])
    assert np.array_equal(series.volume.array, expected.volume.array)
    assert np.allclose(series.affine, expected.affine)
    assert sorted(reference.frame_number or 0 for reference in series.references) == list(range(1, 9))
    assert len(series.headers) == 1


def test_a_volume_may_lie_in_two_enhanced_images(ct: list[Path], tmp_path: Path) -> None:
    expected = read_series(ct)
    files = [*_enhanced(ct[:4], tmp_path / "lower"), *_enhanced(ct[4:], tmp_path / "upper")]
    edit(files[1], SOPInstanceUID="2.25.9")
    series = read_series(files)
    assert np.array_equal(series.volume.array, expected.volume.array)
    assert {reference.sop_uid for reference in series.references[:4]} == {"2.25.8"}
    assert len(series.headers) == 2


def test_a_frame_that_is_missing_in_an_enhanced_ct_is_refused(ct: list[Path], tmp_path: Path) -> None:
    with pytest.raises(
        SeriesError, match=r"missing between enhanced\.dcm frame \d at .* and enhanced\.dcm frame \d at"
    ):
        read_series(_enhanced([*ct[:3], *ct[4:]], tmp_path / "enhanced"))


def test_frames_of_which_nobody_says_where_they_lie_are_refused(ct: list[Path], tmp_path: Path) -> None:
    """A lost functional group would cut off the last slice, and of two frames in a classic image one would be read."""
    (file,) = _enhanced(ct, tmp_path / "enhanced")
    image = dcmread(file)
    image.PerFrameFunctionalGroupsSequence = list(image.PerFrameFunctionalGroupsSequence)[:-1]
    image.save_as(file)
    with pytest.raises(SeriesError, match=r"enhanced\.dcm holds 8 frames and says of 7 where they lie"):
        read_series([file])
    edit(ct[2], NumberOfFrames=2, PixelData=bytes(120))
    with pytest.raises(SeriesError, match=r"0003\.dcm holds 2 frames and says of 0 where they lie"):
        read_series(ct)


def test_frames_of_an_enhanced_ct_may_come_in_any_order(ct: list[Path], tmp_path: Path) -> None:
    expected = read_series(ct).volume.array
    (file,) = _enhanced(ct, tmp_path / "enhanced")
    image = dcmread(file)
    order = [5, 0, 7, 2, 6, 1, 4, 3]
    groups = image.PerFrameFunctionalGroupsSequence
    image.PixelData = image.pixel_array[order].tobytes()
    image.PerFrameFunctionalGroupsSequence = [groups[index] for index in order]
    image.save_as(file)
    assert np.array_equal(read_series([file]).volume.array, expected)


def test_what_a_frame_says_of_itself_wins_over_what_all_share(ct: list[Path], tmp_path: Path) -> None:
    """PS3.3 C.7.6.16: a functional group stands in one place; where a file has it in both, the frame's own counts."""
    (file,) = _enhanced(ct, tmp_path / "enhanced")
    expected = read_series([file]).affine
    image = dcmread(file)
    shared = image.SharedFunctionalGroupsSequence[0]
    for frame in image.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = deepcopy(shared.PlaneOrientationSequence)
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
    image.save_as(file)
    assert np.allclose(read_series([file]).affine, expected)


def test_stacks_of_an_enhanced_image_in_several_orientations_are_volumes_of_their_own(
    ct: list[Path], tmp_path: Path
) -> None:
    for path in ct:
        edit(path, PatientPosition="HFS")
    (file,) = _enhanced(ct, tmp_path / "enhanced")
    image = dcmread(file)
    shared = image.SharedFunctionalGroupsSequence[0]
    axial = shared.PlaneOrientationSequence
    del shared.PlaneOrientationSequence
    for number, frame in enumerate(image.PerFrameFunctionalGroupsSequence):
        frame.FrameContentSequence[0].StackID = "1" if number < 4 else "2"
        frame.PlaneOrientationSequence = deepcopy(axial)
        if number >= 4:
            frame.PlaneOrientationSequence[0].ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
            frame.PlanePositionSequence[0].ImagePositionPatient = [-3, 2 * number, 9]
    image.save_as(file)
    volumes = split_series([file])
    assert [(volume.name, volume.volume.spatial_shape) for volume in volumes] == [
        ("StackID=1", (4, 6, 5)),
        ("StackID=2", (4, 6, 5)),
    ]
    assert np.allclose(volumes[1].affine[:3, 0], [0, 2, 0])
    assert np.array_equal(read_volume([file], "StackID=2").volume.array, volumes[1].volume.array)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_long_private_values_of_a_header_are_there_when_asked_for(ct: list[Path], syntax: str) -> None:
    block = bytes(range(256)) * 256
    expected = read_series(ct).volume.array
    for path in ct:
        image = dcmread(path)
        image.private_block(0x29, "MAKER", create=True).add_new(0x10, "OB", block)
        image.file_meta.TransferSyntaxUID = syntax
        image.save_as(path)
    series = read_series(ct)
    assert np.array_equal(series.volume.array, expected)
    assert {header[0x00291010].value for header in series.headers} == {block}


def test_localizers_and_secondary_captures_are_left_out_with_a_note(ct: list[Path]) -> None:
    expected = read_series(ct[:-2]).volume.array
    edit(ct[-1], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    edit(ct[-2], SOPClassUID=SecondaryCaptureImageStorage)
    series = read_series(ct)
    assert np.array_equal(series.volume.array, expected)
    assert series.notes == (
        "0007.dcm is left out: it is a Secondary Capture Image object, no CT, MR or PET image",
        "0008.dcm is left out: it is a localizer",
    )


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"ImageType": "LOCALIZER"}, "a localizer"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "Localizer"]}, "a localizer"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "a colour image (PALETTE COLOR)"),
        ({"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"}, "a colour image (RGB)"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of pydicom, about small letters
def test_what_is_no_slice_is_left_out_however_it_says_so(ct: list[Path], change: dict[str, object], what: str) -> None:
    edit(ct[-1], **change)
    assert read_series(ct).notes == (f"0008.dcm is left out: it is {what}",)


def test_doubled_files_count_once_and_different_pixels_under_one_uid_are_refused(ct: list[Path]) -> None:
    copy = ct[2].with_name("copy.dcm")
    shutil.copy(ct[2], copy)
    series = read_series([*ct, copy])
    assert series.volume.spatial_shape == (8, 6, 5)
    assert "the same image" in series.notes[0]
    edit(copy, PixelData=bytes(60))
    with pytest.raises(SeriesError, match="carry one SOP Instance UID but different pixels"):
        read_series([*ct, copy])


def test_the_same_image_sent_again_under_a_new_uid_counts_once(ct: list[Path]) -> None:
    copy = ct[2].with_name("copy.dcm")
    shutil.copy(ct[2], copy)
    edit(copy, SOPInstanceUID="2.25.1")
    assert read_series([copy, *ct]).volume.spatial_shape == (8, 6, 5)


def _second_volume(ct: list[Path], **values: object) -> list[Path]:
    """Copies of all slices with other pixels and other attributes."""
    others = []
    for index, path in enumerate(ct):
        others.append(path.with_name(f"other{index}.dcm"))
        shutil.copy(path, others[-1])
        pixels = (dcmread(path).pixel_array + 500).tobytes()
        edit(others[-1], PixelData=pixels, SOPInstanceUID=f"2.25.{index + 10}", **values)
    return others


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ({"EchoTime": "90"}, {"EchoTime": "5.5"}, ["EchoTime=5.5", "EchoTime=90"]),
        ({"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}, ["DiffusionBValue=0.0", "DiffusionBValue=800.0"]),
        (
            {"TemporalPositionIdentifier": 1},
            {"TemporalPositionIdentifier": 2},
            ["TemporalPosition=1", "TemporalPosition=2"],
        ),
        ({"AcquisitionNumber": 3}, {"AcquisitionNumber": 4}, ["AcquisitionNumber=3", "AcquisitionNumber=4"]),
        ({"AcquisitionTime": "101010"}, {"AcquisitionTime": "101011"}, ["repetition=1", "repetition=2"]),
    ],
)
def test_several_volumes_of_one_series_are_split_and_named(
    ct: list[Path], first: dict[str, object], second: dict[str, object], names: list[str]
) -> None:
    for path in ct:
        edit(path, **first)
    files = [*_second_volume(ct, **second), *ct]
    with pytest.raises(SeriesError, match=r"holds 2 volumes \(.*8 slices; .*8 slices\)"):
        read_series(files)
    volumes = split_series(files)
    assert [volume.name for volume in volumes] == names
    means = {volume.name: float(volume.volume.array.mean()) for volume in volumes}
    assert abs(means[names[0]] - means[names[1]]) == pytest.approx(500)


def test_a_volume_is_read_by_its_name_from_the_whole_series_or_from_its_own_files(ct: list[Path]) -> None:
    for path in ct:
        edit(path, EchoTime="5.5")
    others = _second_volume(ct, EchoTime="90")
    whole = read_volume([*others, *ct], "EchoTime=90")
    alone = read_volume(others[::-1], "EchoTime=90")
    assert whole.name == alone.name == "EchoTime=90"
    assert np.array_equal(whole.volume.array, alone.volume.array)
    assert [r.sop_uid for r in whole.references] == [f"2.25.{n + 10}" for n in range(8)]
    with pytest.raises(SeriesError, match=r"hold no volume 'EchoTime=7', but EchoTime=5\.5; EchoTime=90"):
        read_volume([*others, *ct], "EchoTime=7")


def test_an_outline_is_known_before_any_pixels_are_read(ct: list[Path]) -> None:
    for path in ct:
        edit(path, PixelData=b"12")
    (outline,) = header_volumes(read_files(ct))
    assert (outline.name, len(outline.files), outline.grid.affine[2, 0]) == ("", 8, pytest.approx(2))


def test_images_at_one_place_that_nothing_tells_apart_are_refused(ct: list[Path]) -> None:
    with pytest.raises(SeriesError, match=r"two images at one place and nothing in their headers tells them apart"):
        read_series([*ct, *_second_volume(ct)])


def test_a_slice_missing_in_one_echo_is_not_passed_over(ct: list[Path]) -> None:
    others = _second_volume(ct, EchoTime="90")
    with pytest.raises(SeriesError, match="missing between"):
        split_series([*ct, *others[:3], *others[4:]])


def test_a_tilted_gantry_keeps_its_shear(tmp_path: Path) -> None:
    image = np.arange(6 * 4 * 4, dtype=np.float32).reshape(6, 4, 4)
    affine = affine_of(rotation(18.5, 0, 0) @ np.eye(3)[:, ::-1], (3.0, 1.0, 1.0), (0, 0, 0))
    affine[:3, 0] = (0, 0, 3.0)
    series = read_series(write_slices(image, affine, tmp_path))
    assert series.tilt_degrees == pytest.approx(18.5, abs=1e-3)
    assert np.allclose(series.affine, affine, atol=1e-6)
    assert series.volume.spacing[0] == pytest.approx(3 * np.cos(np.radians(18.5)), abs=1e-6)
    assert np.array_equal(series.volume.array, image)
    assert any("gantry tilt 18.50 degrees" in note for note in series.notes)


@pytest.mark.long
def test_an_orientation_of_three_decimals_is_no_tilted_gantry(tmp_path: Path) -> None:
    """Over 700 mm the slices drift by more than a pixel against their rounded normal: the grid follows them."""
    affine = affine_of(rotation(21, -13, 8) @ np.eye(3)[:, ::-1], (12.0, 0.7, 0.7), (0, 0, 0))
    files = write_slices(np.zeros((60, 3, 3)), affine, tmp_path)
    for path in files:
        edit(path, ImageOrientationPatient=[round(float(x), 3) for x in dcmread(path).ImageOrientationPatient])
    series = read_series(files)
    assert series.notes == (
        f"the slices lean by {series.tilt_degrees:.3f} degrees, as their rounded orientation makes them",
    )
    last = dcmread(files[-1]).ImagePositionPatient
    ends = series.affine[:3, 3], series.affine @ [59, 0, 0, 1]
    assert min(float(np.linalg.norm(end[:3] - last)) for end in ends) < 0.01


# Real cases: what comes out, from the folder's own description or as figures that others' tools found.
READ = {
    "ct_abdomen_crlm1004/dicom": (41, 512, 512),
    "ct_totalseg_j2k/dicom": (20, 512, 512),
    "ct_gantry_tilt_phantom/S2010": (54, 512, 512),
    "mr_brain_t1sag/HFDR/dicom": (35, 256, 256),
    "mr_enhanced/siemens_anat_8frames/dicom": (8, 256, 256),
    "mr_enhanced/philips_anat_8frames/dicom": (8, 256, 256),
    "mr_enhanced/hyperfine_anat_8frames/dicom": (8, 138, 112),
    "tiny_cases/failing__gantrytilting__001/dicom": (4, 512, 512),
    "tiny_cases/generic__anatomical__002_non_isotropic/dicom": (4, 28, 64),
    "tiny_cases/hitachi__anatomical__001/dicom": (4, 64, 64),
}
REFUSED = {
    "ct_gantry_tilt_phantom/S1000": "I10 is left out: it is a localizer",
    "ct_gantry_tilt_phantom/S4010": "it is a Secondary Capture Image object",
    "tiny_cases/failing__sliceincrement__001/dicom": r"-0009-0001\.dcm .* and IM-0001-0010-0001\.dcm .* 10\.000 mm",
    "tiny_cases/failing__sliceincrement__002/dicom": r"IM-0001-0003\.dcm .* and IM-0001-0005\.dcm .* 1\.499 mm",
    "tiny_cases/failing__sliceorientation__001/dicom": "mixed orientations",
    "tiny_cases/generic__rgb__001/dicom": "it is a Secondary Capture Image object",
    "mr_enhanced/philips_fieldmap": "holds 2 volumes",
    "dicom_seg/dcmqi_24x38x3/seg": "it is a Segmentation object",
    "rtstruct_sts/STS_002/CT": r"RS\.dcm is left out: it is a RT Structure Set object",
}


@pytest.mark.long
@pytest.mark.parametrize("case", READ)
def test_real_series_are_read(shared_data: Data, case: str) -> None:
    assert read_series(series_files(shared_data(case))).volume.spatial_shape == READ[case]


@pytest.mark.parametrize("case", REFUSED)
def test_real_series_that_are_no_volume_are_refused(shared_data: Data, case: str) -> None:
    with pytest.raises(SeriesError, match=REFUSED[case]):
        read_series(series_files(shared_data(case)))


def test_all_compressions_of_one_image_give_the_same_values(shared_data: Data) -> None:
    plain = read_series(series_files(shared_data("tiny_cases/generic__compressed__001/dicom"))).volume.array
    for kind in ("_j2k", "_jpeg", "_jpegls", "_rle"):
        files = series_files(shared_data(f"tiny_cases/generic__compressed{kind}__001/dicom"))
        assert np.array_equal(read_series(files).volume.array, plain), kind


def test_the_tilt_of_a_real_gantry_is_measured_from_positions(shared_data: Data) -> None:
    files = series_files(shared_data("ct_gantry_tilt_phantom/S2010"))
    series = read_series(files)
    assert series.tilt_degrees == pytest.approx(abs(float(dcmread(files[0]).GantryDetectorTilt)), abs=0.01)
    assert series.volume.spacing[0] == pytest.approx(2.371, abs=1e-3)


def test_the_two_echoes_of_a_real_enhanced_file_come_apart(shared_data: Data) -> None:
    volumes = split_series(series_files(shared_data("mr_enhanced/philips_fieldmap")))
    assert [volume.volume.spatial_shape for volume in volumes] == [(32, 64, 64), (32, 64, 64)]
    expected = json.loads(shared_data("expected_dcm2niix.json").read_text())["mr_enhanced/philips_fieldmap"]["outputs"]
    for volume in volumes:
        assert volume.volume.spatial_shape[0] == expected[0]["shape"][2]
        assert {reference.sop_uid for reference in volume.references} == {str(volume.headers[0].SOPInstanceUID)}
    again = read_volume(series_files(shared_data("mr_enhanced/philips_fieldmap")), volumes[1].name)
    assert np.array_equal(again.volume.array, volumes[1].volume.array)
    numbers = [reference.frame_number for volume in volumes for reference in volume.references]
    assert sorted(number for number in numbers if number) == list(range(1, 65))
