"""Protocols: what is segmented in which volumes, and where the results go. One YAML file each.

```
yaml_file      YAML in, a Protocol out, or one sentence that names the file, the line and the field
protocol       the fields of a protocol and its digest
  conditions   what its `match` asks of DICOM attributes;  attributes: the values that a series has for them
  described    which region its words name, and what else they say;  words, words.toml: the lists
  preferences  how it chooses among the volumes that match
  structure_checks, snomed   whether its structures, names and codes make sense
folder         the protocols in force: files are read again when they change
on_this_node   what a protocol comes to with this node's models and destinations
```

docs/reference/protocols.md describes the files for people.
"""

from worker.protocols.attributes import Candidate
from worker.protocols.conditions import Match
from worker.protocols.folder import files_by_name, problems_in, read_folder, ship_protocols
from worker.protocols.on_this_node import (
    beyond_bundled,
    inactive,
    open_protocol_folder,
    read_as_at_a_start,
    routes_of,
    unknown_destinations,
)
from worker.protocols.protocol import Protocol
from worker.protocols.yaml_file import protocol_files, read_protocol

__all__ = [
    "Candidate",
    "Match",
    "Protocol",
    "beyond_bundled",
    "files_by_name",
    "inactive",
    "open_protocol_folder",
    "problems_in",
    "protocol_files",
    "read_as_at_a_start",
    "read_folder",
    "read_protocol",
    "routes_of",
    "ship_protocols",
    "unknown_destinations",
]
