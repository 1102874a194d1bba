"""Servers of the node beside the DICOM listener: STOW-RS, reports over HTTP and MLLP."""
