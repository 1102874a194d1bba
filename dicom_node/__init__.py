"""DICOM in, DICOM out: receive, store, read, write, send."""
