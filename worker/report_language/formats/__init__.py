"""File formats of reports: `table` lists them, `read` reads with them.

    read > table > dicom_sr, oru, fhir, plain_text > report_format, markup > report_file, links

A format is a module that says three things in a `ReportFormat`: how it is recognised, how its text is read, and what
links it to a study. Adding one touches two files: the new module, and its line in `table`.
"""
