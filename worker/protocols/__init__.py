"""Protocols: what is segmented in which volumes, and where the results go. One YAML file each."""

from worker.protocols.choosing import Choose
from worker.protocols.folder import ProtocolFolder, problems_in, read_folder, ship_protocols
from worker.protocols.matching import Candidate, Condition, Finding, Match
from worker.protocols.protocol import FromReport, Protocol
from worker.protocols.reading import protocol_files, read_protocol
from worker.protocols.site import (
    InactiveError,
    inactive,
    model_of,
    routes_of,
    unknown_destinations,
    watched,
    work_facts,
)

__all__ = [
    "Candidate",
    "Choose",
    "Condition",
    "Finding",
    "FromReport",
    "InactiveError",
    "Match",
    "Protocol",
    "ProtocolFolder",
    "inactive",
    "model_of",
    "problems_in",
    "protocol_files",
    "read_folder",
    "read_protocol",
    "routes_of",
    "ship_protocols",
    "unknown_destinations",
    "watched",
    "work_facts",
]
