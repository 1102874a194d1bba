"""`echo`: asks a peer whether it is there, and says why not; and how commands name peers."""

import re
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from dicom_node.scu.association import Peer
from dicom_node.scu.association import echo as c_echo
from worker.cli.printing import Json, print_json
from worker.destinations.dicom import AeTitle, peer_of
from worker.settings import Settings, load

_WRITTEN_OUT = re.compile(r"(?P<ae_title>[^@]+)@(?P<host>[^@:\s\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,9})")

HIGHEST_PORT = 65535


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
        BadParameter: when the text is neither (wrong usage).
        SettingsError: when there is no such destination, or it is reached by DICOMweb.
        TlsError: when a certificate cannot be used.
    """
    if "@" not in text and ":" not in text and text.strip():
        return peer_of(settings.destination(text), settings)
    written = _WRITTEN_OUT.fullmatch(text)
    if not written:
        example = "ORTHANC@127.0.0.1:4242 or ORTHANC@[::1]:4242"
        raise typer.BadParameter(f"'{text}' is no peer; write AE@HOST:PORT, such as {example}.")
    if not 1 <= int(written["port"]) <= HIGHEST_PORT:
        raise typer.BadParameter(f"'{text}': a port is a number from 1 to {HIGHEST_PORT}.")
    try:
        ae_title = TypeAdapter(AeTitle).validate_python(written["ae_title"])
    except ValidationError:
        raise typer.BadParameter(
            f"'{written['ae_title']}' is no AE title: it has 1 to 16 characters of ASCII, and no backslash."
        ) from None
    return Peer(ae_title, written["host"].strip("[]"), int(written["port"]))
