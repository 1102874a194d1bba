"""The settings of a node: one frozen object, read once, from variables named `VOXTELL_*`.

The defaults serve one machine. pydantic-settings ignores a misspelt variable even with `extra="forbid"`, so `load`
checks the names itself: a misspelt `VOXTELL_` variable stops the start.
"""

import os
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.errors import SettingsError

PREFIX = "VOXTELL_"
NOT_SETTINGS = {"VOXTELL_TEST_DATA"}  # where the tests find their data

AeTitle = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")
]
"""PS3.5 6.2, VR AE: at most 16 characters, no backslash, no control characters."""


def default_home() -> Path:
    """The user's data folder, by the XDG base directory specification."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "voxtell-dicom"


class Destination(BaseModel):
    """A PACS that results go to; protocols name it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("pacs", min_length=1, max_length=64, description="The name protocols use.")
    ae_title: AeTitle | None = Field(None, description="Its AE title; results go there by C-STORE.")
    host: str | None = Field(None, description="Its host name or address.")
    port: int = Field(104, ge=1, le=65535, description="Its TCP port.")
    tls: bool = Field(False, description="Encrypt the connection; its certificate must carry its host name.")
    url: str | None = Field(
        None,
        pattern=r"^https?://",
        description="Its DICOMweb service, the part before /studies: then results go there by STOW-RS.",
    )
    token_file: Path | None = Field(None, description="File with the bearer token for the URL, read at each delivery.")
    user: str | None = Field(None, description="User name for the URL.")
    password_file: Path | None = Field(None, description="File with the user's password, read at each delivery.")
    seg: Literal["binary", "labelmap"] = Field(
        "binary", description="Form of Segmentations; labelmap where segments do not overlap, else binary."
    )
    transfer_syntax: Literal["explicit", "deflated", "rle"] = Field(
        "explicit", description="explicit; deflated; or rle, for images of whole bytes (label maps, previews)."
    )
    commitment: bool = Field(
        False, description="Ask it by storage commitment to keep the results; until it promises, nothing is cleaned."
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.url is None) == (self.ae_title is None) or (self.url is None) != (self.host is not None):
            raise ValueError("a destination is reached by ae_title and host, or else by url")
        if self.url is not None and self.commitment:
            raise ValueError("DICOMweb services are not asked for storage commitment; leave commitment out")
        if self.token_file is not None and self.user is not None:
            raise ValueError("a service gets a token or a user name with a password, not both")
        return self


class Settings(BaseSettings):
    """Everything an administrator can set, each by the variable VOXTELL_<NAME IN CAPITALS>."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    home: Path = Field(default_factory=default_home, description="Folder of store, ledger and queue.")
    protocols: Path | None = Field(None, description="Folder of protocol files; default HOME/protocols.")
    database_url: str | None = Field(None, description="SQLAlchemy URL of the ledger; default SQLite in HOME.")
    redis_url: str | None = Field(None, description="URL of the queue; default an embedded server in HOME.")

    ae_title: AeTitle = Field("VOXTELL", description="AE title of the node, called and calling.")
    host: str = Field("127.0.0.1", description="Address the listener binds to.")
    port: int = Field(11112, ge=0, le=65535, description="TCP port of the listener; 0 picks a free one.")
    allowed_calling_aets: tuple[AeTitle, ...] = Field((), description="Who may send; empty means everybody.")
    allowed_addresses: tuple[str, ...] = Field((), description="Addresses or networks (10.1.0.0/16); empty means all.")
    require_called_ae: bool = Field(False, description="Reject peers that call this node by another AE title.")
    private_classes: bool = Field(False, description="Take SOP classes that vendors made up.")
    share_port: bool = Field(False, description="Let several listener processes take turns on the port.")
    listeners: int = Field(1, ge=1, le=64, description="Listener processes that `up` starts on the one port.")
    max_associations: int = Field(50, ge=1, description="Associations at one time, in each listener process.")
    max_pdu_bytes: int = Field(131072, ge=4096, description="Largest PDU the listener accepts, in bytes.")
    stow_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port that takes instances by STOW-RS; empty: none."
    )
    stow_token_file: Path | None = Field(None, description="File with the bearer token that STOW-RS senders must give.")
    min_free_bytes: int = Field(2 * 1024**3, ge=0, description="Free disk in bytes under which 0xA700 is answered.")

    tls_certificate: Path | None = Field(None, description="The node's certificate (PEM); then the port is TLS only.")
    tls_key: Path | None = Field(None, description="The private key of the certificate (PEM).")
    tls_authorities: Path | None = Field(None, description="Who signs peers' certificates (PEM); others are rejected.")

    hl7_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port for reports as HL7 v2 ORU over MLLP; default none."
    )
    hl7_accession_fields: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2}-\d{1,2}$")], ...] = Field(
        ("OBR-18", "OBR-3", "ORC-3", "OBR-2"),
        min_length=1,
        description="Fields of an ORU that may hold the accession number, the surest first, as a JSON list.",
    )
    report_language: str = Field("en", description="Language of the reports; docs/contributing.md says how to add one.")
    report_language_folder: Path | None = Field(
        None,
        description="Folder with lexicon.LANGUAGE.toml and rules.LANGUAGE.yaml; what is not there is as it comes with "
        "the node.",
    )
    reports_http_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port for reports over HTTP (POST /reports); default none."
    )
    reports_token_file: Path | None = Field(
        None, description="File with the bearer token that whoever sends reports over HTTP must show."
    )

    destinations: tuple[Destination, ...] = Field((), description="PACS that results go to, as a JSON list.")

    model: str | None = Field(None, description="Folder of a model; default the bundled small one.")
    bank: Path | None = Field(None, description="File of text embeddings (.npz), asked before the text model.")
    device: str = Field("auto", description="cpu, cuda, cuda:N, or auto: the first GPU if there is one.")
    early_exit: float | None = Field(
        None, ge=0, description="Approximate: stop a prompt where coarse logits are below minus this."
    )
    skip_below: float | None = Field(
        None, description="Approximate: skip windows without a voxel above this grey value (HU)."
    )
    coarse_first: float | None = Field(
        None, ge=0, description="Approximate: fine windows only where half resolution is above minus this logit."
    )
    resample: bool = Field(
        False, description="Approximate: unusual spacing to 1.5 mm for weights that take every spacing."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Of the network; auto: float16 on a GPU, float32 on a CPU. bfloat16 may halve a CPU's time."
    )
    compile_encoder: bool = Field(
        False, description="Let torch compile the encoder; needs a C compiler, pays on a GPU that does much."
    )
    resample_tilt: bool = Field(
        False, description="Straighten the slices of a tilted gantry for the network; results lie on the source slices."
    )
    roi_name_length: int = Field(
        64, ge=16, le=64, description="Longest name of a structure in an RTSTRUCT; 16 where planning systems cut there."
    )

    quiet_seconds: float = Field(10.0, gt=0, description="A series is settled after this long without an image, in s.")
    series_counts_from: str | None = Field(
        None, description="Destination asked by C-FIND how many images a series has; one that has them all is settled."
    )
    tick_seconds: float = Field(1.0, gt=0, description="How often the listener looks for settled series, in s.")
    sweep_seconds: float = Field(60.0, gt=0, description="How often unfinished jobs are put on the queue again, in s.")
    segment_processes: int | None = Field(
        None,
        ge=1,
        le=8,
        description="Jobs at work at one time: one computes, the others read and write. Default: 2 with a GPU, else 1.",
    )
    job_time_limit_seconds: int = Field(
        3600, gt=0, description="A segmentation that takes longer, its wait for the device included, is ended, in s."
    )
    lease_seconds: float = Field(
        60.0, gt=0, description="A worker that is silent for this long has lost its job, in s."
    )
    delivery_lease_seconds: float = Field(
        60.0, gt=0, description="A sender that is silent for this long has lost its delivery, in s."
    )
    max_attempts: int = Field(3, ge=1, description="Attempts at a segmentation before it is FAILED.")
    max_deliveries: int = Field(20, ge=1, description="Attempts at a delivery before it is FAILED.")
    commitment_wait_seconds: float = Field(
        600.0, gt=0, description="Ask again for storage commitment after this long; doubles each time, in s."
    )
    max_commitment_requests: int = Field(
        8, ge=1, description="Questions for storage commitment before a delivery stays DELIVERED without a promise."
    )
    backoff_seconds: float = Field(10.0, gt=0, description="Wait before the second attempt; doubles each time, in s.")
    max_backoff_seconds: float = Field(1800.0, gt=0, description="Longest wait between two attempts, in s.")

    keep_images_days: float = Field(
        0.0,
        ge=0,
        description="A study's images are removed this many days after its last job ended: never before every result "
        "is delivered, and promised where the destination is asked for storage commitment. 0 keeps them.",
    )
    keep_results_days: float = Field(
        0.0, ge=0, description="The same for results in HOME/results; results without a destination go too. 0 keeps."
    )
    keep_unused_days: float = Field(
        0.0,
        ge=0,
        description="Studies no protocol took and reports without a study go after this many days. 0 keeps them.",
    )
    keep_failed_days: float = Field(
        0.0, ge=0, description="Images and results of FAILED jobs are removed after this many days. 0 keeps them."
    )
    keep_quarantine_days: float = Field(
        0.0,
        ge=0,
        description="What was put into quarantine is removed after this many days, and not earlier for want of room. "
        "0 keeps it.",
    )
    clean_below_free_bytes: int = Field(
        0,
        ge=0,
        description="Free disk in bytes under which the oldest studies and delivered results go before their days are "
        "over, by the same rule; more than VOXTELL_MIN_FREE_BYTES. 0 never.",
    )

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="What is logged.")
    log_format: Literal["text", "json"] = Field("text", description="Lines for people or for machines.")

    @field_validator("destinations")
    @classmethod
    def _distinct(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        if len({destination.name for destination in value}) != len(value):
            raise ValueError("two destinations have one name; protocols and the ledger tell them apart by it")
        return value

    @field_validator("clean_below_free_bytes")
    @classmethod
    def _before_images_are_refused(cls, value: int, info: ValidationInfo) -> int:
        if 0 < value <= info.data.get("min_free_bytes", 0):
            raise ValueError("must be more than VOXTELL_MIN_FREE_BYTES, or images are refused before room is made")
        return value

    @property
    def protocols_folder(self) -> Path:
        """Where protocol files lie."""
        return self.protocols or self.home / "protocols"

    @property
    def ledger_url(self) -> str:
        """The SQLAlchemy URL of the ledger."""
        return self.database_url or f"sqlite:///{self.home / 'ledger.sqlite'}"

    def destination(self, name: str) -> Destination:
        """The destination of that name.

        Raises:
            SettingsError: no destination is called so.
        """
        for destination in self.destinations:
            if destination.name == name:
                return destination
        known = ", ".join(d.name for d in self.destinations) or "none is set"
        raise SettingsError(f"destination '{name}' is not in VOXTELL_DESTINATIONS ({known}); add it there")


def load(**overrides: object) -> Settings:
    """Reads the settings from the environment; keyword arguments win.

    Raises:
        SettingsError: a value is not valid, or a VOXTELL_ variable is no setting.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise SettingsError(f"{variable} is no setting of this node{_nearest(variable.upper(), known)}")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        first = error.errors()[0]
        field, *inside = (str(part) for part in first["loc"])
        where = PREFIX + field.upper() + (f", {'.'.join(inside)}" if inside else "")
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"setting {where}: {message} (got {first['input']!r})") from None
    except ValueError as error:  # pydantic-settings could not parse a JSON value, and says of which field
        raise SettingsError(f"not valid JSON: {error}: {error.__cause__}; quote the variable's value") from None


def _nearest(variable: str, known: set[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(variable, known, n=1)
    return f"; did you mean {near[0]}?" if near else "; unset it"
