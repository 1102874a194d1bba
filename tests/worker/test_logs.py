"""What a role writes to stderr: one event a line, and no value of a patient's header."""

import io
import json
import logging
import subprocess
import sys
import time

import pytest

from worker import repeated_lines
from worker.repeated_lines import RepeatsHandler

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


FORGED = f"""
import logging, structlog
from worker import logs
from worker.settings import Settings

{CONFIGURED.replace("json", "text")}
evil = "CT1\\r\\n2026-01-01T00:00:00Z [info] all is well\\x1b[2J\\u2028\\u202e\\x9b"
refused = {{"calling_ae": evil, "reason": "x level=info", "file": "\\x1b[2J"}}
logging.getLogger("dicom_node.listener").warning("association_refused", extra=refused)
logging.getLogger("some.library").error(evil)
structlog.get_logger().error("report_unreadable", problem=evil, names=[evil])
try:
    raise ValueError(evil)
except ValueError:
    structlog.get_logger().exception("unexpected_error")
"""


def test_no_value_forges_a_line_a_field_or_a_terminal() -> None:
    log = said(FORGED)
    assert not any(character in log for character in "\r\x1b\u2028\u202e\x9b")
    lines = log.split("\n")
    starts = [line for line in lines if line and not line.startswith(" ")]
    assert len(starts) == 4
    assert not [line for line in starts if line.startswith("2026-01-01")]
    assert "\\r\\n2026-01-01T00:00:00Z" in starts[0]
    assert "'x level=info'" in starts[0]
    assert any("ValueError" in line for line in lines)


REPEATED = f"""
import logging, structlog
from worker import logs
from worker.settings import Settings

{CONFIGURED}
node = logging.getLogger("dicom_node.upper_layer")
for number in range(500):
    node.warning("connection_closed", extra={{"address": "10.1.2.3", "reason": str(number)}})
    structlog.get_logger().warning("http_connection_closed", address="10.1.2.3", reason=str(number))
node.warning("connection_closed", extra={{"address": "10.1.2.4", "reason": "another peer"}})
for _ in range(3):
    node.error("connection_closed", extra={{"address": "10.1.2.3"}})
    node.warning("instance_conflict", extra={{"sop_uid": "1.2"}})
"""


def test_what_one_peer_causes_over_and_over_is_one_line_with_a_count() -> None:
    lines = [json.loads(line) for line in said(REPEATED).splitlines()]
    told = [(line["event"], line.get("reason"), line.get("repeated")) for line in lines]
    others = [("connection_closed", None, None), ("instance_conflict", None, None)] * 3
    assert told == [
        ("connection_closed", "0", None),
        ("http_connection_closed", "0", None),
        ("connection_closed", "another peer", None),
        *others,
        ("connection_closed", "499", 499),
        ("http_connection_closed", "499", 499),
    ]


def warn(log: logging.Logger, number: int, address: str = "10.1.2.3") -> None:
    log.warning("connection_closed", extra={"address": address, "number": number})


def test_a_fault_that_goes_on_is_told_at_each_interval_though_nothing_else_is_logged() -> None:
    stream = io.StringIO()
    handler = RepeatsHandler(stream, interval_seconds=0.2)
    handler.setFormatter(logging.Formatter("%(number)s %(repeated)s", defaults={"repeated": None}))
    log = logging.Logger("peers")
    log.addHandler(handler)
    for number in range(3):
        warn(log, number)
    time.sleep(0.5)
    assert stream.getvalue().splitlines() == ["0 None", "2 2"]
    time.sleep(0.3)
    warn(log, 3)  # a quiet interval lies between: it is news again
    assert stream.getvalue().splitlines()[2:] == ["3 None"]
    handler.close()


def test_addresses_without_number_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repeated_lines, "MOST_PEERS", 10)
    stream = io.StringIO()
    handler = RepeatsHandler(stream)
    log = logging.Logger("peers")
    log.addHandler(handler)
    for number in range(1000):
        warn(log, number, f"fe80::{number:x}")
    assert len(stream.getvalue().splitlines()) == 11
    handler.close()
    assert len(stream.getvalue().splitlines()) == 12
