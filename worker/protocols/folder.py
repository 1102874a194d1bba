"""A folder of protocol files: read again when they change; a bad edit keeps the last good version in force."""

import shutil
from collections.abc import Callable
from importlib.resources import as_file, files
from pathlib import Path

import structlog

from worker.errors import ProtocolError
from worker.protocols.protocol import Protocol
from worker.protocols.reading import protocol_files, read_protocol

log = structlog.get_logger(__name__)


def read_folder(folder: Path) -> list[Protocol]:
    """Every protocol of a folder.

    Raises:
        ProtocolError: a file is not valid, or two protocols have one name.
    """
    protocols: dict[str, Protocol] = {}
    for path in protocol_files(folder):
        protocol = read_protocol(path)
        if protocol.name in protocols:
            raise ProtocolError(f"{path}: another file already has a protocol named '{protocol.name}'; rename one")
        protocols[protocol.name] = protocol
    return list(protocols.values())


def ship_protocols(folder: Path) -> None:
    """Makes the folder with the shipped protocols if there is none; what a site has is never touched."""
    if folder.exists():
        return
    folder.mkdir(parents=True)
    with as_file(files("worker.protocols") / "shipped") as shipped:
        for path in protocol_files(shipped):
            shutil.copy(path, folder / path.name)


class ProtocolFolder:
    """The protocols in force. `current` looks at the files again; on an error the last good ones stay in force.

    Raises:
        ProtocolError: on the first reading only: a node does not start with protocols that it cannot read.
    """

    def __init__(self, folder: Path, on_error: Callable[[ProtocolError], None] | None = None) -> None:
        self._folder = folder
        self._on_error = on_error or (lambda error: log.error("protocols kept as they were", problem=str(error)))
        self._seen = self._fingerprint()
        self._protocols = read_folder(folder)

    def current(self) -> list[Protocol]:
        """The protocols in force now."""
        fingerprint = self._fingerprint()
        if fingerprint != self._seen:
            self._seen = fingerprint
            try:
                self._protocols = read_folder(self._folder)
                log.info("protocols read again", names=[protocol.name for protocol in self._protocols])
            except ProtocolError as error:
                self._on_error(error)
        return self._protocols

    def _fingerprint(self) -> list[tuple[str, int, int]]:
        stats = [(path.name, path.stat()) for path in protocol_files(self._folder)]
        return [(name, stat.st_mtime_ns, stat.st_size) for name, stat in stats]
