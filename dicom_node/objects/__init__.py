"""Makes DICOM objects from masks: SEG, RTSTRUCT, SR and preview, planned together and verified before they are kept.

Which function fills which modules of PS3.3:

    patient.carry_patient     Patient, General Study, Patient Study, Clinical Trial (C.7.1.1, C.7.2.1, C.7.2.2, C.7.1.3)
    common.result_dataset     General Series, General Equipment, SOP Common (C.7.3.1, C.7.5.1, C.12.1)
    common.refer              Common Instance Reference, General Reference (C.12.2, C.12.4)
    seg.write_seg             Segmentation Series and Image, Multi-frame Functional Groups and Dimension
                              (C.8.20.1, C.8.20.2, C.7.6.16, C.7.6.17)
    rtstruct.write_rtstruct   RT Series, Structure Set, ROI Contour, RT ROI Observations
                              (C.8.8.1, C.8.8.5, C.8.8.6, C.8.8.8)
    sr.write_sr               SR Document Series, General, Content (C.17.1 to C.17.3), with PS3.16 TID 1500
    preview.write_preview     SC Equipment, General Image, Image Pixel, SC Image (C.8.6.1, C.7.6.1, C.7.6.3, C.8.6.2)

`result_set` plans and writes, `kinds` is the table of all kinds of object, `provenance` has what they say about the job
that made them, and `verify` decodes them again.
"""

from typing import Literal

Form = Literal["binary", "labelmap"]
"""How a SEG tells structures apart: one bit plane each, or one number per voxel (PS3.3 C.8.20.2.3).

A report has the form of the SEG that it measures."""
