"""File formats of reports: plain text, DICOM SR, HL7 v2 ORU and FHIR DiagnosticReport."""
