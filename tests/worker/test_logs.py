"""What a role writes to stderr: one event a line, and no value of a patient's header."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes

CONFIGURED = 'logs.configure(Settings(log_format="json"), "test")'
ROLE = f"""
import warnings
from pydicom import Dataset
from worker import logs
from worker.settings import Settings

{CONFIGURED}
Dataset().BodyPartExamined = "ROE^JANE"  # a code string takes no circumflex
warnings.warn("something else is deprecated", DeprecationWarning, stacklevel=1)
"""


def said(script: str) -> str:
    """What a process writes to stderr that shows every warning."""
    run = [sys.executable, "-W", "always", "-c", script]
    return subprocess.run(run, capture_output=True, text=True, check=True).stderr


def test_warnings_of_libraries_are_lines_of_the_log_and_quote_no_header() -> None:
    assert "ROE" in said(ROLE.replace(CONFIGURED, ""))  # pydicom does quote it
    log = said(ROLE)
    assert "ROE" not in log
    (line,) = (json.loads(line) for line in log.splitlines())
    assert line["role"] == "test"
    assert "something else is deprecated" in line["event"]


FIELDS = f"""
import logging
from worker import logs
from worker.settings import Settings

{CONFIGURED}
logging.getLogger("dicom_node.listener").warning("association_refused", extra={{"address": "10.1.2.3"}})
logging.getLogger("some.library").warning("some words", extra={{"patient": "ROE^JANE"}})
"""


def test_fields_of_dicom_node_are_fields_and_those_of_libraries_are_left_out() -> None:
    ours, theirs = (json.loads(line) for line in said(FIELDS).splitlines())
    assert (ours["event"], ours["address"], ours["level"]) == ("association_refused", "10.1.2.3", "warning")
    assert (theirs["event"], "patient" in theirs) == ("some words", False)
