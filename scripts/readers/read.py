"""Reads a SEG or RTSTRUCT by one program of others, in the environment of scripts/readers/requirements.txt.

    python read.py READER OBJECT IMAGES OUT.npz

IMAGES is the folder of the source's files. OUT gets one bool mask per structure, named `mask:NAME`, and either `image`,
the image on the grid of the masks as the program itself reads it, or `affine` (4, 4), from the masks' indices to LPS
millimetres.
"""

import contextlib
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK


def pydicom_seg(path: Path, _images: Path) -> dict[str, np.ndarray]:
    """SegmentReader of pydicom-seg."""
    import pydicom_seg as library

    result = library.SegmentReader().read(pydicom.dcmread(path))
    affine = np.eye(4)
    affine[:3, :3] = (result.direction.reshape(3, 3) * result.spacing)[:, ::-1]
    affine[:3, 3] = result.origin
    masks = {result.segment_infos[one].SegmentLabel: result.segment_data(one) for one in result.available_segments}
    return named(masks) | {"affine": affine}


def dcmrtstruct2nii(path: Path, images: Path) -> dict[str, np.ndarray]:
    """dcmrtstruct2nii, by its own files."""
    from dcmrtstruct2nii import dcmrtstruct2nii as convert

    with tempfile.TemporaryDirectory() as folder:
        convert(str(path), str(images), folder)
        read = {one.name.removesuffix(".nii.gz"): array(one) for one in Path(folder).iterdir()}
    image = read.pop("image")
    return named({name.removeprefix("mask_"): mask for name, mask in read.items()}) | {"image": image}


def rt_utils(path: Path, images: Path) -> dict[str, np.ndarray]:
    """rt-utils: its masks are (columns, rows, slices) in shape, and (rows, columns, slices) in meaning."""
    from rt_utils import RTStructBuilder

    structures = RTStructBuilder.create_from(str(images), str(path))
    image = np.stack(
        [one.pixel_array * float(one.RescaleSlope) + float(one.RescaleIntercept) for one in structures.series_data], -1
    )
    return named({name: structures.get_roi_mask_by_name(name) for name in structures.get_roi_names()}) | {
        "image": image
    }


def platipy(path: Path, images: Path) -> dict[str, np.ndarray]:
    """The converter of platipy."""
    from platipy.dicom.io.rtstruct_to_nifti import read_dicom_image, transform_point_set_from_dicom_struct

    image = read_dicom_image(images)
    masks, names = transform_point_set_from_dicom_struct(image, pydicom.dcmread(path))
    masks = map(SimpleITK.GetArrayFromImage, masks)
    return named(dict(zip(names, masks, strict=True))) | {"image": SimpleITK.GetArrayFromImage(image)}


def scikit_rt(path: Path, images: Path) -> dict[str, np.ndarray]:
    """StructureSet of scikit-rt, on its own Image."""
    from skrt import Image, StructureSet

    image = Image(str(images))
    if image.get_data() is None:
        raise SystemExit("error: scikit-rt loads no image")
    structures = StructureSet(str(path), image=image)
    masks = {roi.name: roi.get_mask() for roi in structures.get_rois()}
    return named({name: mask for name, mask in masks.items() if mask is not None}) | {"image": image.get_data()}


def named(masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The masks as the answer names them."""
    return {f"mask:{name}": np.asarray(mask) > 0 for name, mask in masks.items()}


def array(path: Path) -> np.ndarray:
    """An image file as (slices, rows, columns)."""
    return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))


READERS = {
    "pydicom-seg": pydicom_seg,
    "dcmrtstruct2nii": dcmrtstruct2nii,
    "rt-utils": rt_utils,
    "platipy": platipy,
    "scikit-rt": scikit_rt,
}

if __name__ == "__main__":
    reader, path, images, out = sys.argv[1], *map(Path, sys.argv[2:])
    with contextlib.redirect_stdout(io.StringIO()):
        answer = READERS[reader](path, images)
    np.savez(out, **answer)
