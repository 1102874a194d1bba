"""The commands of `voxtell-dicom`, a module per group."""
