"""Destinations: where results go. A kind of destination is one module with its fields, `send` and `check`.

```
kinds          the table of kinds, and which kind an entry of VOXTELL_DESTINATIONS is of
dicom          PACS and other DICOM peers: C-STORE, storage commitment
dicomweb       DICOMweb services: STOW-RS
destination    what all kinds have in common
```

Settings, delivery and `doctor` ask the table; none of them knows a kind. docs/contributing.md has the recipe for a new
one. The modules load the libraries that reach a destination only when one is reached.
"""
