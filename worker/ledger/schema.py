"""The tables of the ledger (SQLAlchemy). Times are seconds since 1970-01-01 UTC; UIDs are DICOM UIDs (PS3.5 9.1).

A change here needs a migration in `migrations/versions`; docs/contributing.md has the steps.
"""

import sqlalchemy as sa

from worker.masking import masked

metadata = sa.MetaData()


class CleanString(sa.types.TypeDecorator[str]):
    """Text from outside, such as a header's value, made fit for every database.

    NUL is removed, since PostgreSQL stores none in text, and what is longer than the column is cut, since PostgreSQL
    would refuse the row.
    """

    impl = sa.String
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002 (the base class)
        """Cleans a value that is written, and a value that a query compares with it."""
        return None if value is None else value.replace("\0", "")[: getattr(self.impl, "length", None)]


class CleanText(CleanString):
    """The same for text of any length. It may be the error of a library that quotes a URL: passwords are masked."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Cleans and masks a value that is written, and a value that a query compares with it."""
        return super().process_bind_param(None if value is None else masked(value), dialect)


series = sa.Table(
    "series",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("series_uid", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("calling_ae", CleanString(16), nullable=False),  # of the last association that brought an image
    sa.Column("called_ae", CleanString(16), nullable=False),
    sa.Column("address", CleanString(64), nullable=False),
    sa.Column("first_at", sa.Float, nullable=False),
    sa.Column("last_at", sa.Float, nullable=False),  # last image; quiet time counts from here
    sa.Column("full_with", sa.Integer, nullable=False, default=0),  # images when it was last proved complete
    sa.Column("looks", sa.Integer, nullable=False, default=0, server_default="0"),  # in a row, without an end
    sa.Column("reason", CleanText, nullable=False, default="", server_default=""),  # why it is UNREADABLE
    sa.Column("store_id", sa.String(32), nullable=True),  # that holds its images; NULL: written by an older version
)

jobs = sa.Table(
    "jobs",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # derived from the work: the same work is the same job
    sa.Column("study_uid", sa.String(64), nullable=False, index=True),
    sa.Column("series_uid", sa.String(64), nullable=False, index=True),
    sa.Column("protocol", sa.String(64), nullable=False),
    sa.Column("work", sa.JSON, nullable=False),  # worker.job_spec: prompts, instances, model, outputs, destinations
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # counted before the work; from 0 again by a retry
    sa.Column("claims", sa.Integer, nullable=False, default=0),  # only ever grows: its value names the holder
    sa.Column("reason", CleanText, nullable=False, default=""),  # why it is FAILED, CANCELLED, or waits
    sa.Column("result", sa.JSON, nullable=False, default=dict),  # what was found, with volumes; what was not
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Column("next_try_at", sa.Float, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False, default=0.0),  # SEGMENTING only
    sa.Column("superseded_by", sa.String(32), nullable=True),
    sa.Column("priority", sa.Integer, nullable=False, default=1),  # worker.job_spec.Priority: smaller goes first
    sa.Column("cleaned_at", sa.Float, nullable=True),  # when retention removed its images and results
    sa.Column("store_id", sa.String(32), nullable=True),  # that holds its images and results; NULL as in series
)

deliveries = sa.Table(
    "deliveries",
    metadata,
    sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), primary_key=True),
    sa.Column("destination", sa.String(64), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),  # as in jobs
    sa.Column("claims", sa.Integer, nullable=False, default=0),  # as in jobs
    sa.Column("reason", CleanText, nullable=False, default=""),
    sa.Column("next_try_at", sa.Float, nullable=False),
    sa.Column("lease_until", sa.Float, nullable=False, default=0.0),
    sa.Column("transaction_uid", sa.String(64), nullable=True),  # of the storage commitment asked for (PS3.4 J)
    sa.Column("stands_in_for", sa.String(64), nullable=True),  # the destination whose fallback this one is
    sa.Column("taken", sa.JSON, nullable=False, default=list, server_default="[]"),  # names of files that it has
)

decisions = sa.Table(
    "decisions",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("series_uid", sa.String(64), primary_key=True),
    sa.Column("protocol", sa.String(64), primary_key=True),
    sa.Column("taken", sa.Boolean, nullable=False),
    sa.Column("reason", CleanText, nullable=False, default="", server_default=""),  # where it is all that is known
    sa.Column("answers", sa.JSON, nullable=False, default=list),  # what was found of each volume (ledger.decisions)
    sa.Column("at", sa.Float, nullable=False),
    sqlite_with_rowid=False,  # or the key, which is most of a row, would be stored twice
)

decision_texts = sa.Table(
    "decision_texts",
    metadata,
    sa.Column("id", sa.String(16), primary_key=True),  # a digest of the text
    sa.Column("text", sa.Text, nullable=False),  # conditions of a protocol, or a long sentence of what was found
    sqlite_with_rowid=False,
)

reports = sa.Table(
    "reports",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),  # of its bytes (worker.reports.inbox): sent twice it is one
    sa.Column("study_uid", sa.String(64), nullable=True, index=True),
    sa.Column("accession", CleanString(64), nullable=True, index=True),
    sa.Column("source", sa.String(16), nullable=False),  # dicom, hl7, http
    sa.Column("path", sa.Text, nullable=False),  # of its bytes in the store; the text is never in the ledger
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("read_at", sa.Float, nullable=True),  # when prompts were made of it
)

studies = sa.Table(
    "studies",
    metadata,
    sa.Column("study_uid", sa.String(64), primary_key=True),
    sa.Column("accession", CleanString(64), nullable=False, index=True),  # normalised (report_language.formats)
    # For people, as the first header says; empty where VOXTELL_KEEP_NAMES is off, and when the images are removed.
    sa.Column("patient_id", CleanString(64), nullable=False, default="", server_default=""),
    sa.Column("patient_name", CleanString(324), nullable=False, default="", server_default=""),
    sa.Column("accession_number", CleanString(64), nullable=False, default="", server_default=""),
    sa.Column("study_date", CleanString(16), nullable=False, default="", server_default=""),
    sa.Column("description", CleanString(64), nullable=False, default="", server_default=""),
)

stores = sa.Table(
    "stores",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),  # dicom_node.storage.home_id
    sa.Column("host", CleanString(255), nullable=False),  # of the listener that was started last
    sa.Column("seen_at", sa.Float, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(12), primary_key=True),
    sa.Column("name", CleanString(64), nullable=False, unique=True),
    sa.Column("source", sa.JSON, nullable=False),  # a PACS, folders, archives, a list or another run
    sa.Column("filters", sa.JSON, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),  # worker.archive.limits
    sa.Column("protocols", sa.JSON, nullable=False),  # digests by name, as they were at the start
    sa.Column("outputs", sa.JSON, nullable=False),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", CleanText, nullable=False, default="", server_default=""),  # why it is PAUSED
    sa.Column("store_id", sa.String(32), nullable=True),  # as in series: where its studies are fetched to
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("started_at", sa.Float, nullable=True),
    sa.Column("ended_at", sa.Float, nullable=True),
)

listing_windows = sa.Table(
    "windows",
    metadata,
    sa.Column("run_id", sa.String(12), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("lo", sa.String(14), primary_key=True),  # YYYYMMDDHHMMSS, both ends included; "": studies without a date
    sa.Column("hi", sa.String(14), primary_key=True),
    sa.Column("keys", CleanString(255), primary_key=True),  # JSON: further keys of the query
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("matches", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("reason", CleanText, nullable=False, default="", server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("next_try_at", sa.Float, nullable=False, default=0.0, server_default="0"),
)

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("run_id", sa.String(12), sa.ForeignKey("runs.id"), primary_key=True),
    sa.Column("study_uid", CleanString(64), primary_key=True),
    sa.Column("accession", CleanString(64), nullable=False, default="", server_default=""),
    sa.Column("study_date", CleanString(16), nullable=False, default="", server_default=""),
    sa.Column("modalities", CleanString(64), nullable=False, default="", server_default=""),
    sa.Column("series", sa.JSON, nullable=False, default=list, server_default="[]"),  # uid, modality, images of each
    sa.Column("images_expected", sa.Integer, nullable=True),
    sa.Column("source_ref", sa.Text, nullable=False, default="", server_default=""),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", CleanText, nullable=False, default="", server_default=""),
    sa.Column("attempts", sa.Integer, nullable=False, default=0, server_default="0"),  # as in jobs
    sa.Column("claims", sa.Integer, nullable=False, default=0, server_default="0"),  # as in jobs
    sa.Column("lease_until", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.Column("next_try_at", sa.Float, nullable=False, default=0.0, server_default="0"),
    sa.Column("images", sa.Integer, nullable=False, default=0, server_default="0"),
    sa.Column("bytes", sa.BigInteger, nullable=False, default=0, server_default="0"),
    sa.Column("fetch_s", sa.Float, nullable=True),
    sa.Column("listed_at", sa.Float, nullable=False),
    sa.Column("fetched_at", sa.Float, nullable=True),
    sa.Column("ended_at", sa.Float, nullable=True),
    sa.Column("outcome", sa.String(16), nullable=True),  # written together with the state DONE
    sa.Column("outcome_detail", sa.JSON, nullable=False, default=dict, server_default="{}"),
    sa.Index("ix_entries_run_id_state", "run_id", "state"),
    sa.Index("ix_entries_study_uid", "study_uid"),
)
