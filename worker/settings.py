"""The settings of a node: one frozen object, read from environment variables named `VOXTELL_*`.

Each process reads them once, at its start, with `load`, and passes them on; nothing else reads the environment. A
changed variable takes effect at the next start. The defaults serve a node on one machine.

The `description` of each field is a text for administrators: docs/reference/settings.md is made of them. Rules that
span two settings are validators of the classes.
"""

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints, ValidationError, ValidationInfo
from pydantic.functional_validators import field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from worker.destinations.destination import Destination
from worker.destinations.dicom import AeTitle
from worker.destinations.kinds import KINDS, AnyDestination
from worker.errors import SettingsError
from worker.masking import SecretUrl, WellFormed
from worker.value_faults import json_fault, nearest, setting_fault

PREFIX = "VOXTELL_"
PARTS = {name: field for kind in KINDS for name, field in kind.model_fields.items()}  # of VOXTELL_DESTINATIONS
NOT_SETTINGS = {"VOXTELL_TEST_DATA"}  # the folder of the tests' images; the node does not read it


def _known_character_set(value: str) -> str:
    """Refuses a name that neither DICOM nor Python has for a character set."""
    from dicom_node.images.character_sets import codec_of  # brings pydicom, which most nodes need not load here

    codec_of(value)
    return value


def _network(value: str) -> str:
    """Refuses what is neither an IP address nor a network."""
    try:
        ipaddress.ip_network(value)
    except ValueError:
        raise ValueError(
            "is neither an IP address nor a network; write 10.1.0.7 or 10.1.0.0/16 (no bits beyond the mask), or IPv6"
        ) from None
    return value


Network = Annotated[str, AfterValidator(_network)]
CharacterSet = Annotated[str, AfterValidator(_known_character_set)]
QueueUrl = Annotated[SecretUrl, WellFormed("redis://", "rediss://")]


def default_home() -> Path:
    """Returns the home where none is set, in the user's data folder (XDG base directory specification)."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "voxtell-dicom"


class Settings(BaseSettings):
    """Everything that an administrator can set, each by the variable VOXTELL_<NAME IN CAPITALS>.

    Lists and destinations are given as JSON. The object is never changed; `model_copy` makes the variants that a job's
    protocol asks for (`worker.engines.loading.settings_for`).
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", hide_input_in_errors=True)

    home: Path = Field(default_factory=default_home, description="Folder of store, ledger and queue.")
    protocols: Path | None = Field(None, description="Folder of protocol files; default HOME/protocols.")
    database_url: SecretUrl | None = Field(None, description="SQLAlchemy URL of the ledger; default SQLite in HOME.")
    redis_url: QueueUrl | None = Field(None, description="URL of the queue; default an embedded server in HOME.")

    ae_title: AeTitle = Field("VOXTELL", description="AE title of the node, called and calling.")
    host: str = Field("127.0.0.1", description="Address that the ports listen on; :: takes IPv6 and IPv4.")
    port: int = Field(11112, ge=0, le=65535, description="TCP port of the listener; 0 picks a free one.")
    allowed_calling_aets: tuple[AeTitle, ...] = Field((), description="AE titles that may send; empty means all.")
    allowed_addresses: tuple[Network, ...] = Field(
        (), description="Addresses or networks (10.1.0.0/16) that may send; empty means all."
    )
    require_called_ae: bool = Field(False, description="Reject peers that call this node by another AE title.")
    private_classes: bool = Field(False, description="Accept private SOP classes of vendors.")
    share_port: bool = Field(False, description="Let several listener processes take turns on the port.")
    listeners: int = Field(1, ge=1, le=64, description="Listener processes that `up` starts on the one port.")
    max_associations: int = Field(50, ge=1, description="Most associations at one time, in each listener process.")
    max_connections: int | None = Field(
        None,
        ge=1,
        description="Most connections to the DICOM port at one time, in each listener process; beyond that the oldest "
        "without an association request is closed. Default: twice VOXTELL_MAX_ASSOCIATIONS and 8.",
    )
    max_connections_per_address: int | None = Field(
        None,
        ge=1,
        description="The same for the connections from one IP address, on this port and each for reports and STOW-RS. "
        "Default: four fifths of VOXTELL_MAX_ASSOCIATIONS, or of a port's connections, so that no peer can take all.",
    )
    association_request_seconds: float = Field(
        10.0, gt=0, description="A connection without a complete association request after this long is closed, in s."
    )
    association_idle_seconds: float = Field(
        300.0, gt=0, description="An association is aborted after this long without a message, or within one PDU, in s."
    )
    max_pdu_bytes: int = Field(131072, ge=4096, description="Largest PDU the listener accepts, in bytes.")
    stow_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port that receives instances by STOW-RS; default none."
    )
    stow_token_file: Path | None = Field(None, description="File with the bearer token that STOW-RS senders must give.")
    conflict: Literal["keep", "newer"] = Field(
        "keep",
        description="An image that comes again with other content, such as a corrected Patient ID. keep: the first "
        "stands, the other lies in quarantine. newer: the later one takes its place, and its content makes new jobs.",
    )
    character_set: CharacterSet | None = Field(
        None,
        description="Character set of images that declare none (or none that DICOM knows), by DICOM's name or a usual "
        "one: ISO_IR 144, GB18030, cp1251. Default: UTF-8, else Latin-1.",
    )
    min_free_bytes: int = Field(
        2 * 1024**3, ge=0, description="Free disk in bytes below which images are refused (status 0xA700)."
    )

    tls_certificate: Path | None = Field(None, description="The node's certificate (PEM); then the port is TLS only.")
    tls_key: Path | None = Field(None, description="The private key of the certificate (PEM).")
    tls_authorities: Path | None = Field(
        None, description="Certificates of the authorities that sign those of peers (PEM); other peers are rejected."
    )

    hl7_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port for reports as HL7 v2 ORU over MLLP; default none."
    )
    hl7_max_connections: int = Field(64, ge=1, description="Connections at one time on the port for HL7 v2.")
    hl7_accession_fields: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9]{2}-\d{1,2}$")], ...] = Field(
        ("OBR-18", "OBR-3", "ORC-3", "OBR-2"),
        min_length=1,
        description="Fields of an ORU that may hold the accession number, the surest first, as a JSON list.",
    )
    report_language: str = Field("en", description="Language of the reports; docs/contributing.md says how to add one.")
    report_language_folder: Path | None = Field(
        None,
        description="Folder with lexicon.LANGUAGE.toml and rules.LANGUAGE.yaml; a file that is not there is taken from "
        "those that come with the node.",
    )
    reports_http_port: int | None = Field(
        None, ge=0, le=65535, description="TCP port for reports over HTTP (POST /reports); default none."
    )
    reports_token_file: Path | None = Field(
        None, description="File with the bearer token that senders of reports over HTTP must give."
    )

    destinations: tuple[AnyDestination, ...] = Field(
        (), description="PACS and other places that results go to, as a JSON list."
    )

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
        None,
        ge=0,
        description="Approximate: compute fine windows only where a pass at half resolution is above minus this logit.",
    )
    resample: bool = Field(
        False, description="Approximate: resample unusual spacing to 1.5 mm, for weights that take every spacing."
    )
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of the network; auto: float16 on a GPU, float32 on a CPU. bfloat16 may halve a "
        "CPU's time.",
    )
    compile_encoder: bool = Field(
        False, description="Let torch compile the encoder; needs a C compiler and is worth it on a busy GPU."
    )
    resample_tilt: bool = Field(
        False, description="Straighten the slices of a tilted gantry for the network; results lie on the source slices."
    )
    roi_name_length: int = Field(
        64,
        ge=16,
        le=64,
        description="Most characters of a structure's name in an RTSTRUCT; 16 if planning systems cut longer names.",
    )

    quiet_seconds: float = Field(10.0, gt=0, description="A series is settled after this long without an image, in s.")
    series_counts_from: str | None = Field(
        None, description="Destination asked by C-FIND how many images a series has; one that has them all is settled."
    )
    look_seconds: float = Field(
        120.0, gt=0, description="Longest time for reading the headers of a series, in a process of its own, in s."
    )
    look_memory_bytes: int = Field(
        1024**3, ge=64 * 1024**2, description="Memory in bytes that this process may take beyond what it starts with."
    )
    tick_seconds: float = Field(1.0, gt=0, description="How often the listener looks for settled series, in s.")
    sweep_seconds: float = Field(60.0, gt=0, description="How often unfinished jobs are put on the queue again, in s.")
    segment_processes: int | None = Field(
        None,
        ge=1,
        le=8,
        description="Segmentations at one time; one computes, others read and write. Default: 2 with a GPU, else 1.",
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
    stop_seconds: float = Field(
        20.0,
        ge=1,
        description="How long a worker that is told to stop may go on with what it is at; then it gives it back, in s.",
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
        0.0,
        ge=0,
        description="The same for results in HOME/results; those without a destination are removed, too. 0 keeps them.",
    )
    keep_unused_days: float = Field(
        0.0,
        ge=0,
        description="Studies that no protocol took, and reports without a study, are removed after this many days. "
        "0 keeps them.",
    )
    keep_failed_days: float = Field(
        0.0, ge=0, description="Images and results of FAILED jobs are removed after this many days. 0 keeps them."
    )
    keep_quarantine_days: float = Field(
        0.0,
        ge=0,
        description="What was put into quarantine is removed after this many days; refused files may go earlier. "
        "0 keeps it.",
    )
    quarantine_bytes: int = Field(
        10 * 1024**3, ge=0, description="Size of the quarantine in bytes beyond which the oldest refused files go."
    )
    quarantine_files: int = Field(10_000, ge=0, description="Files in quarantine beyond which the oldest refused go.")
    quarantine_files_per_sender: int = Field(
        1000, ge=0, description="Refused files of one AE title and address beyond which its oldest go."
    )
    clean_below_free_bytes: int = Field(
        0,
        ge=0,
        description="Free disk in bytes below which the oldest studies and delivered results are removed before their "
        "days are over, by the same rule; must be more than VOXTELL_MIN_FREE_BYTES. 0: never.",
    )

    keep_names: bool = Field(
        True,
        description="Note in the ledger, for `jobs`, each study's patient, accession number, date and description, "
        "until its images are removed. false: the list of jobs has none of it. What protocols find in headers that "
        "they ask for, such as descriptions, stands in the decisions either way.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level to log.")
    log_format: Literal["text", "json"] = Field("text", description="text for people, json for machines.")

    @field_validator("destinations")
    @classmethod
    def _distinct(cls, value: tuple[Destination, ...]) -> tuple[Destination, ...]:
        """Refuses two destinations of one name."""
        if len({destination.name for destination in value}) != len(value):
            raise ValueError("two destinations have one name; protocols and the ledger tell them apart by it")
        return value

    @field_validator("clean_below_free_bytes")
    @classmethod
    def _before_images_are_refused(cls, value: int, info: ValidationInfo) -> int:
        """Refuses a limit at which room would be made only after images have been refused."""
        if 0 < value <= info.data.get("min_free_bytes", 0):
            raise ValueError("must be more than VOXTELL_MIN_FREE_BYTES, or images are refused before room is made")
        return value

    @property
    def protocols_folder(self) -> Path:
        """The folder of protocol files: the one set, or `protocols` in the home."""
        return self.protocols or self.home / "protocols"

    @property
    def ledger_url(self) -> SecretUrl:
        """The SQLAlchemy URL of the ledger: the one set, or an SQLite file in the home."""
        return self.database_url or SecretUrl(f"sqlite:///{self.home / 'ledger.sqlite'}")

    def destination(self, name: str) -> Destination:
        """Returns the destination of that name.

        Raises:
            SettingsError: when there is no such destination; lists those that are set.
        """
        for destination in self.destinations:
            if destination.name == name:
                return destination
        known = ", ".join(d.name for d in self.destinations) or "none is set"
        raise SettingsError(f"destination '{name}' is not in VOXTELL_DESTINATIONS ({known}); add it there")


def load(**overrides: object) -> Settings:
    """Reads the settings from the environment; keyword arguments win.

    A misspelt variable stops the start: pydantic-settings would ignore it even with `extra="forbid"`, so the names are
    checked here.

    Raises:
        SettingsError: when a value is not valid, or a VOXTELL_ variable is no setting; names the variable.
    """
    known = {PREFIX + name.upper() for name in Settings.model_fields} | NOT_SETTINGS
    for variable in sorted(os.environ):
        if variable.upper().startswith(PREFIX) and variable.upper() not in known:
            raise SettingsError(f"{variable} is no setting of this node{nearest(variable.upper(), known)}")
    try:
        return Settings(**overrides)  # type: ignore[arg-type]
    except ValidationError as error:
        raise SettingsError(setting_fault(error.errors()[0], PREFIX, Settings.model_fields, PARTS)) from None
    except ValueError as error:  # pydantic-settings could not parse a JSON value, and says of which field
        raise SettingsError(json_fault(error, PREFIX)) from None
