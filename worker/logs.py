"""Logs: one event per line on standard error, as text for people or as JSON for machines.

An event is a stable snake_case name with fields, such as the job or series that it is about. Alert rules look for these
names: docs/reference/log-events.md lists them, and a test holds that list against the code.

`worker` logs by structlog. `dicom_node` does not know structlog: its message is the event's name, and its fields are
given by `extra`. UIDs, counts and reasons go into a log; patient names, report texts and pixel data never do.
"""

import logging
import sys
import warnings
from typing import Any

import structlog
from structlog.typing import EventDict

from worker.masking import masked
from worker.repeated_lines import RepeatsHandler
from worker.settings import Settings

if not structlog.is_configured():  # a command that is no role: its standard output is for facts
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))

get_logger = structlog.get_logger
"""The only way to a logger in `worker`, so that no line goes to standard output, and commands that log nothing import
no structlog."""

_QUOTED = set(" \t=\r\n\"'")  # a value with one of them is quoted by structlog's console renderer
_extra_fields = structlog.stdlib.ExtraAdder()


def configure(settings: Settings, role: str) -> None:
    """Sets up structlog and the standard library's logging (Celery, pynetdicom) to write the same lines to stderr.

    Called once per process, by its role; replaces earlier handlers. `role` becomes a field of every line.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _masked_fields,
    ]
    renderers: list[structlog.typing.Processor] = (
        [structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [_printable, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    )
    handler = RepeatsHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[:-1], _fields_of_dicom_node, _masked_fields],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(settings.log_level.upper())
    for chatty in ("alembic", "celery", "highdicom", "kombu", "redis"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    logging.captureWarnings(True)  # a line like all others
    # pydicom warns twice about everything, and quotes the value that it does not like, which may be a patient's name.
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"pydicom\.")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(role=role)


def _printable(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escapes what could forge a line or steer a terminal; a traceback keeps its lines, indented."""
    for field, value in event.items():
        if not isinstance(value, str) or (field not in ("event", "exception") and _QUOTED & set(value)):
            continue  # the renderer writes it as repr() does
        if field == "exception":
            event[field] = "\n".join("  " + _escaped(line) for line in value.split("\n"))
        else:
            event[field] = _escaped(value)
    return event


def _escaped(line: str) -> str:
    return line if line.isprintable() else repr(line)[1:-1]


def _masked_fields(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Masks passwords of URLs in every text of a line, tracebacks and lines of other libraries among them."""
    return {name: masked(value) if isinstance(value, str) else value for name, value in event.items()}


def _fields_of_dicom_node(logger: Any, method: str, event: EventDict) -> EventDict:
    """Adds the fields that dicom_node gives by `extra`; those of other libraries may quote a patient's data."""
    if event["_record"].name.partition(".")[0] == "dicom_node":
        return _extra_fields(logger, method, event)
    return event
