"""`echo`: asks a peer whether it is there, and says why not; and how commands name peers."""

import re
from typing import Annotated

import typer

from dicom_node.scu.association import Peer
from dicom_node.scu.association import echo as c_echo
from worker.cli.printing import Json, print_json
from worker.destinations.dicom import peer_of
from worker.errors import SettingsError
from worker.settings import Settings, load

_WRITTEN_OUT = re.compile(r"(?P<ae_title>[^@]+)@(?P<host>[^@:]+|\[[^@\]]+\]):(?P<port>\d{1,5})")

LONGEST_AE_TITLE = 16  # PS3.5 6.2, VR AE


def echo(
    peer: Annotated[str, typer.Argument(help="AE@HOST:PORT, or the name of a destination.")],
    as_json: Json = False,
) -> None:
    """Sends a C-ECHO to a peer; without an answer, says why and what to check."""
    settings = load()
    report = c_echo(peer_named(peer, settings), calling_ae=settings.ae_title)
    if as_json:
        facts = {"peer": str(report.peer), "seconds": report.seconds, "implementation": report.implementation}
        print_json(facts | {"pdu_bytes": report.pdu_bytes})
        return
    typer.echo(f"{report.peer} answered in {report.seconds * 1000:.0f} ms; it is {report.implementation}")


def peer_named(text: str, settings: Settings) -> Peer:
    """Returns the peer that AE@HOST:PORT or the name of a destination stands for; the latter with its TLS.

    Raises:
        SettingsError: when the text is neither, or the destination is reached by DICOMweb.
        TlsError: when a certificate cannot be used.
    """
    written = _WRITTEN_OUT.fullmatch(text)
    if written and len(written["ae_title"]) > LONGEST_AE_TITLE:
        raise SettingsError(
            f"'{written['ae_title']}' is too long: an AE title has {LONGEST_AE_TITLE} characters at most"
        )
    if written:
        return Peer(written["ae_title"], written["host"].strip("[]"), int(written["port"]))
    if "@" in text or ":" in text:
        raise SettingsError(f"'{text}' is no peer; write AE@HOST:PORT, such as ORTHANC@127.0.0.1:4242")
    return peer_of(settings.destination(text), settings)
