"""Frames that cannot be one volume are parted by what differs; what is one volume stays one."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import MRImageStorage

from dicom_node.errors import SeriesError
from dicom_node.series import read_series, split_series
from dicom_node.synthesis import ct_series
from tests.support.images import edit

Change = dict[str, object]


@pytest.fixture
def first(tmp_path: Path) -> list[Path]:
    """Eight slices of 6 x 5 pixels, 2 mm apart."""
    return ct_series(np.arange(8 * 6 * 5, dtype=np.float32).reshape(8, 6, 5), (2.0, 1.5, 1.0), tmp_path / "ct")


def again(files: list[Path], *, up: float = 0.0, **values: object) -> list[Path]:
    """Copies with pixels 500 higher, moved along the patient by `up` mm; a callable value is asked for each slice."""
    copies = []
    for index, path in enumerate(files):
        copies.append(path.with_name(f"again-{path.name}"))
        shutil.copy(path, copies[-1])
        image = dcmread(path)
        x, y, z = map(float, image.ImagePositionPatient)
        changes = {key: value(index) if callable(value) else value for key, value in values.items()}
        pixels = (image.pixel_array + 500).tobytes()
        edit(
            copies[-1],
            PixelData=pixels,
            SOPInstanceUID=f"2.25.{index + 10}",
            ImagePositionPatient=[x, y, z + up],
            **changes,
        )
    return copies


def change(files: list[Path], **values: object) -> None:
    """Edits all files; a callable value is asked for each slice."""
    for index, path in enumerate(files):
        edit(path, **{key: value(index) if callable(value) else value for key, value in values.items()})


def volumes(files: list[Path]) -> list[tuple[str, int, bool]]:
    """Name, number of slices, and whether they are those of `again`, of each volume."""
    return [(one.name, one.volume.spatial_shape[0], one.volume.array.min() >= 500) for one in split_series(files)]


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ({"FlipAngle": "5"}, {"FlipAngle": "15"}, ("FlipAngle=5", "FlipAngle=15")),
        ({"RepetitionTime": "500"}, {"RepetitionTime": "3000"}, ("RepetitionTime=500", "RepetitionTime=3000")),
        ({"KVP": "80"}, {"KVP": "140"}, ("KVP=80", "KVP=140")),
        ({"EchoNumbers": 1}, {"EchoNumbers": 2}, ("EchoNumber=1", "EchoNumber=2")),
        (
            {"FrameReferenceTime": "0"},
            {"FrameReferenceTime": "900"},
            ("FrameReferenceTime=0", "FrameReferenceTime=900"),
        ),
        ({"SliceThickness": "2"}, {"SliceThickness": "5"}, ("SliceThickness=2", "SliceThickness=5")),
        ({"SequenceName": "*ep_b0"}, {"SequenceName": "*ep_b50"}, ("SequenceName=*ep_b0", "SequenceName=*ep_b50")),
        ({"ContrastBolusAgent": None}, {"ContrastBolusAgent": "agent"}, ("ContrastAgent=", "ContrastAgent=agent")),
        ({"AcquisitionDateTime": "20260101101010"}, {"AcquisitionDateTime": "20260101101020"}, ()),
        ({}, {"InstanceNumber": lambda index: index + 101}, ()),
    ],
)
def test_volumes_at_one_place_are_named_by_what_differs(
    first: list[Path], before: Change, after: Change, names: tuple[str, ...]
) -> None:
    change(first, **before)
    one, other = names or ("repetition=1", "repetition=2")
    assert volumes([*again(first, **after), *first]) == [(one, 8, False), (other, 8, True)]


def test_a_fact_that_changes_from_slice_to_slice_orders_the_passes_and_tears_none_apart(first: list[Path]) -> None:
    change(first, SOPClassUID=MRImageStorage, TriggerTime=lambda index: str(10 * index))
    assert volumes(first) == [("", 8, False)]
    second = again(first, TriggerTime=lambda index: str(1000 + 10 * index))
    assert volumes([*second, *first]) == [("repetition=1", 8, False), ("repetition=2", 8, True)]


def test_an_acquisition_number_of_every_slice_tears_no_pass_apart(first: list[Path]) -> None:
    change(first, AcquisitionNumber=lambda index: index + 1, AcquisitionTime=lambda index: f"1000{index:02d}")
    second = again(first, AcquisitionNumber=lambda index: index + 101, AcquisitionTime=lambda index: f"1010{index:02d}")
    assert volumes([*second, *first]) == [("repetition=1", 8, False), ("repetition=2", 8, True)]


@pytest.mark.parametrize("up", [0.02, 0.3, 10.0, 10.3, 14.0])
def test_acquisitions_that_reach_into_each_other_are_volumes_of_their_own(first: list[Path], up: float) -> None:
    change(first, AcquisitionNumber=1)
    parts = [("AcquisitionNumber=1", 8, False), ("AcquisitionNumber=2", 8, True)]
    assert volumes([*again(first, up=up, AcquisitionNumber=2), *first]) == parts


def test_packages_of_slices_between_each_other_are_one_volume_and_two_echoes_are_not(first: list[Path]) -> None:
    change(first, AcquisitionNumber=1)
    second = again(first, up=1.0, AcquisitionNumber=2)
    assert volumes([*first, *second]) == [("", 16, False)]
    change(first, EchoTime="5")
    change(second, EchoTime="90")
    assert volumes([*first, *second]) == [("EchoTime=5", 8, False), ("EchoTime=90", 8, True)]


def test_a_slice_missing_between_two_acquisitions_is_not_passed_over(first: list[Path]) -> None:
    change(first, AcquisitionNumber=1)
    with pytest.raises(SeriesError, match=r"a slice is missing between 0008\.dcm .* and again-0001\.dcm .* 4\.000 mm"):
        split_series([*first, *again(first, up=18.0, AcquisitionNumber=2)])


def test_passes_that_are_alike_where_nothing_is_seen_are_no_doubles(first: list[Path]) -> None:
    change(first, AcquisitionTime="101010")
    second = again(first, AcquisitionTime="101020")
    for path in (*first[:2], *second[:2]):
        edit(path, PixelData=bytes(60))
    assert [(name, slices) for name, slices, _ in volumes([*first, *second])] == [
        ("repetition=1", 8),
        ("repetition=2", 8),
    ]


def test_one_image_more_at_one_place_is_no_second_volume(first: list[Path]) -> None:
    with pytest.raises(SeriesError, match=r"two images at one place and nothing .* apart: again-0003\.dcm at .*, 0003"):
        read_series([*first, again(first, InstanceNumber=99)[2]])


def test_what_was_left_out_is_said_with_the_slice_that_is_missing(first: list[Path], tmp_path: Path) -> None:
    edit(first[2], SamplesPerPixel=3)
    with pytest.raises(
        SeriesError, match=r"a slice is missing between .*; 0003\.dcm is left out: it is a colour image"
    ):
        read_series(first)
