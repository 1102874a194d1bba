"""What a role writes to stderr: one event a line, and nothing of a patient."""

import json
import subprocess
import sys
from pathlib import Path

from pydicom import config, dcmread
from pydicom.data import get_testdata_file

PRIVATE = "ROE^JANE 1931"

CONFIGURED = 'logs.configure(Settings(log_format="json"), "test")'
ROLE = f"""
import sys, warnings
from pydicom import dcmread
from worker import logs
from worker.settings import Settings

{CONFIGURED}
for element in dcmread(sys.argv[1]):
    element.value
warnings.warn("something else is deprecated", DeprecationWarning, stacklevel=1)
"""


def wrong_values(path: Path) -> Path:
    """An image whose header has values that their representations do not allow."""
    image = dcmread(str(get_testdata_file("CT_small.dcm")))
    validation, config.settings.reading_validation_mode = config.settings.reading_validation_mode, config.IGNORE
    try:
        image.PatientBirthDate = PRIVATE
        image.PatientAge = PRIVATE
        image.AccessionNumber = PRIVATE * 3
        image.save_as(path)
    finally:
        config.settings.reading_validation_mode = validation
    return path


def said(script: str, path: Path) -> str:
    """What a process writes to stderr that shows every warning."""
    run = [sys.executable, "-W", "always", "-c", script, str(path)]
    return subprocess.run(run, capture_output=True, text=True, check=True).stderr


def test_warnings_of_libraries_are_lines_of_the_log_and_quote_no_header(tmp_path: Path) -> None:
    path = wrong_values(tmp_path / "ct.dcm")
    assert "ROE" in said(ROLE.replace(CONFIGURED, ""), path)  # pydicom does quote them
    log = said(ROLE, path)
    assert "ROE" not in log
    (line,) = (json.loads(line) for line in log.splitlines())
    assert line["role"] == "test"
    assert "something else is deprecated" in line["event"]
