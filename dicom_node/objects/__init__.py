"""DICOM objects made from masks: SEG, RTSTRUCT, SR and preview, planned together and verified before they are kept."""
