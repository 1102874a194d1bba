"""Protocols: what is segmented in which volumes, and where the results go. One YAML file each."""

from worker.protocols.attributes import Candidate
from worker.protocols.conditions import Answer, Condition, Finding, Match, decisive
from worker.protocols.folder import ProtocolFolder, problems_in, read_folder, ship_protocols
from worker.protocols.on_this_node import (
    InactiveError,
    beyond_bundled,
    inactive,
    model_of,
    routes_of,
    unknown_destinations,
    watched,
    work_facts,
)
from worker.protocols.preferences import Choose
from worker.protocols.protocol import FromReport, Protocol
from worker.protocols.yaml_file import protocol_files, read_protocol

__all__ = [
    "Answer",
    "Candidate",
    "Choose",
    "Condition",
    "Finding",
    "FromReport",
    "InactiveError",
    "Match",
    "Protocol",
    "ProtocolFolder",
    "beyond_bundled",
    "decisive",
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
