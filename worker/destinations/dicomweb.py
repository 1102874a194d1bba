"""DICOMweb services: results go there by STOW-RS.

Files of tokens and passwords are read at each call, so that a renewed one is used without a restart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self
from urllib.parse import unquote, urlsplit

from pydantic import Field, model_validator

from worker.destinations.destination import Destination, Senders
from worker.errors import NotHereError, SettingsError
from worker.masking import SecretUrl, WellFormed

if TYPE_CHECKING:
    from dicom_node.scu.c_store import SendOutcome
    from dicom_node.scu.stow import WebPeer
    from worker.settings import Settings

WebUrl = Annotated[SecretUrl, WellFormed("http://", "https://")]


class WebDestination(Destination):
    """A DICOMweb service: results go there by STOW-RS. It is not asked for storage commitment."""

    reached_by: ClassVar = ("url",)

    url: WebUrl = Field(description="The service, the part before /studies.")
    token_file: Path | None = Field(None, description="File with the bearer token for the URL, read at each delivery.")
    user: str | None = Field(None, description="User name for the URL.")
    password_file: Path | None = Field(None, description="File with the user's password, read at each delivery.")

    @model_validator(mode="after")
    def _one_secret(self) -> Self:
        """Refuses a token beside a user."""
        user = self.user or urlsplit(self.url.get_secret_value()).username
        if self.token_file is not None and user is not None:
            raise ValueError("a service gets a token or a user name with a password, not both")
        return self

    @property
    def address(self) -> str:
        """Its URL, without user and password."""
        return str(self.url)

    def peer(self, settings: "Settings") -> "WebPeer":
        """Returns how to reach it, with token or password.

        Raises:
            SettingsError: when the file of the token or password cannot be read.
        """
        from dicom_node.scu.stow import WebPeer

        parts = urlsplit(self.url.get_secret_value())
        user, password = self.user, _secret(self.password_file) or ""
        if user is None and parts.username is not None:
            user, password = unquote(parts.username), unquote(parts.password or "")
        return WebPeer(
            parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),  # a peer's URL is in every message on it
            token=_secret(self.token_file),
            user=user,
            password=password,
            authorities=settings.tls_authorities,
        )

    def send(self, paths: Sequence[Path], settings: "Settings") -> "list[SendOutcome]":
        """Sends the files in one request; see `dicom_node.scu.stow.send_to_web`."""
        from dicom_node.scu.stow import send_to_web

        return send_to_web(paths, self.peer(settings))

    def check(self, settings: "Settings", senders: Senders) -> str:  # noqa: ARG002 (another kind needs them)
        """Says that nothing was asked: a service need not offer any request but STOW-RS."""
        raise NotHereError(f"{self.address} is a DICOMweb service: it is asked by the first delivery")


def _secret(path: Path | None) -> str | None:
    """Reads the text of a file without surrounding white space; None where no file is named."""
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read ({error}); VOXTELL_DESTINATIONS names it") from None
