"""Series: what arrived, what is settled, and why a protocol took it or not.

Tables `series` (written when an image arrives, an association ends, or the series is settled), `decisions` and
`decision_texts` (written when a protocol was asked). Receiving threads and the intake thread write at once: `settle`
changes nothing if an image has arrived since the series was read.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa

from dicom_node.origin import Origin
from dicom_node.uids import SeriesKey
from worker.findings import VolumeFindings, reason_of
from worker.ledger.database import Database, upsert
from worker.ledger.decisions import packed, texts_of, unpacked
from worker.ledger.records import Decision, Series
from worker.ledger.schema import decision_texts, decisions, series
from worker.ledger.states import SeriesState, those

_ASKED_ABOUT: Final = those(SeriesState, lambda state: state.is_complete)
_MOST_IDS: Final = 10_000  # in one query: databases take some 32,000 parameters


class SeriesLedger:
    """Notes series and their images, settles them, and keeps what each protocol decided."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def image_arrived(self, key: SeriesKey, origin: Origin) -> None:
        """Notes that an image of the series has arrived, and from whom; any state -> RECEIVING."""
        now = self._database.now()
        row = {
            **key._asdict(),
            "state": SeriesState.RECEIVING,
            **asdict(origin),
            "first_at": now,
            "last_at": now,
            "store_id": self._database.store_id,
        }
        renewed = {name: row[name] for name in ("state", "calling_ae", "called_ae", "address", "last_at", "store_id")}
        self._database.upsert(series, row, renewed)

    def quiet_from_now(self, key: SeriesKey) -> None:
        """Starts the quiet time of a series anew, since an association that brought it has ended."""
        self._database.update(sa.update(series).where(_is(key), is_unsettled()).values(last_at=self._database.now()))

    def unsettled(self) -> list[Series]:
        """Returns the series of this store that are RECEIVING or FULL."""
        return self._database.select(Series, sa.select(series).where(is_unsettled(), self._database.mine(series)))

    def of_study(self, study_uid: str) -> list[Series]:
        """Returns the series of a study that have arrived, in the order of their UIDs."""
        return self._database.select(
            Series, sa.select(series).where(series.c.study_uid == study_uid).order_by(series.c.series_uid)
        )

    def known(self) -> set[SeriesKey]:
        """Returns the key of every series that has ever arrived, whether its images are still here or not."""
        with self._database.read() as connection:
            rows = connection.execute(sa.select(series.c.study_uid, series.c.series_uid))
            return {SeriesKey(str(row.study_uid), str(row.series_uid)) for row in rows}

    def settle(self, found: Series) -> bool:
        """Marks the series SETTLED unless an image has arrived since `found` was read; returns whether it did."""
        return self._decided(found, state=SeriesState.SETTLED)

    def mark_full(self, found: Series, images: int) -> bool:
        """Marks the series FULL with so many images, under the same condition; returns whether it did."""
        return self._decided(found, state=SeriesState.FULL, full_with=images)

    def look_begins(self, key: SeriesKey) -> int:
        """Counts a look at the headers of a series before it is taken; returns how many in a row have not ended."""
        counted = sa.update(series).where(_is(key)).values(looks=series.c.looks + 1)
        found = self._database.update_returning(Series, counted)
        return found[0].looks if found else 1

    def look_ended(self, key: SeriesKey) -> None:
        """Notes that the look came to its end, whatever was seen."""
        self._database.update(sa.update(series).where(_is(key)).values(looks=0))

    def mark_unreadable(self, key: SeriesKey, reason: str) -> bool:
        """Marks the series UNREADABLE: its headers are not read any more. Returns whether it was not before."""
        mine = sa.update(series).where(_is(key), is_unsettled())
        return self._database.update(mine.values(state=SeriesState.UNREADABLE, reason=reason)) == 1

    def asked_about_since(self, seconds: float) -> list[Series]:
        """Returns the SETTLED and FULL series of this store that got an image or a decision since a time.

        `seconds`: since 1970-01-01 UTC.
        """
        mine = (decisions.c.study_uid == series.c.study_uid) & (decisions.c.series_uid == series.c.series_uid)
        decided = sa.select(decisions.c.at).where(mine, decisions.c.at >= seconds).exists()
        late = series.c.state.in_(_ASKED_ABOUT) & (decided | (series.c.last_at >= seconds))
        here = sa.select(series).where(late, self._database.mine(series))
        return self._database.select(Series, here.order_by(series.c.last_at))

    def open_again(self, key: SeriesKey) -> bool:
        """Marks such a series RECEIVING, so that the protocols are asked about it again; returns whether it was one."""
        mine = sa.update(series).where(_is(key), series.c.state.in_(_ASKED_ABOUT))
        return self._database.update(mine.values(state=SeriesState.RECEIVING, full_with=0)) == 1

    def look_again(self, study_uid: str) -> list[Series]:
        """Opens the series of a study that could not be read, as if they had just come; returns them."""
        mine = (series.c.study_uid == study_uid) & (series.c.state == SeriesState.UNREADABLE)
        opened = {"state": SeriesState.RECEIVING, "looks": 0, "reason": "", "last_at": self._database.now()}
        return self._database.update_returning(Series, sa.update(series).where(mine).values(opened))

    def unreadable(self) -> list[Series]:
        """Returns the series that cannot be read, the one without an image for longest first."""
        query = sa.select(series).where(series.c.state == SeriesState.UNREADABLE).order_by(series.c.last_at)
        return self._database.select(Series, query)

    def _decided(self, found: Series, **values: Any) -> bool:
        """Sets columns of a series that is as it was when it was read; returns whether it still was."""
        unchanged = (series.c.state == found.state) & (series.c.last_at == found.last_at)
        mine = (series.c.study_uid == found.study_uid) & (series.c.series_uid == found.series_uid)
        return self._database.update(sa.update(series).where(mine, unchanged).values(values)) == 1

    def decide(self, study_uid: str, series_uid: str, protocol: str, volumes: Sequence[VolumeFindings]) -> None:
        """Writes what a protocol found of the volumes of a series, in place of its earlier decision on it."""
        texts, answers = packed(volumes)
        key = {"study_uid": study_uid, "series_uid": series_uid, "protocol": protocol}
        taken = any(one.taken for one in volumes)
        values = {"taken": taken, "reason": "", "answers": answers, "at": self._database.now()}
        with self._database.write() as connection:
            for text_id, text in sorted(texts.items()):
                upsert(connection, decision_texts, {"id": text_id, "text": text}, {})
            upsert(connection, decisions, key | values, values)

    def decisions_on(self, study_uid: str) -> list[Decision]:
        """Returns the decisions of the protocols on each series of a study."""
        mine = sa.select(decisions).where(decisions.c.study_uid == study_uid)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(mine).mappings()]
            texts = _texts(connection, sorted(texts_of(row["answers"] for row in rows)))
        found = []
        for row in rows:
            volumes = unpacked(row.pop("answers"), texts)
            reason = reason_of(volumes) if volumes else row["reason"]
            found.append(Decision(**row | {"reason": reason, "volumes": volumes}))
        return found

    def newest(self) -> Series | None:
        """Returns the series of any study that got an image last; None when none has ever arrived."""
        found = self._database.select(Series, sa.select(series).order_by(series.c.last_at.desc()).limit(1))
        return found[0] if found else None


def reopen(connection: sa.Connection, study_uid: str) -> None:
    """Makes the series of a study RECEIVING, so that the protocols are asked once more; their quiet time stays over.

    `settle` changes a series only if the time of its last image is the one that was read. The millisecond added here
    makes a `settle` fail that is under way and has not seen the new report. Part of the caller's transaction.
    """
    opened = {"state": SeriesState.RECEIVING, "last_at": series.c.last_at + 0.001}
    connection.execute(sa.update(series).where(series.c.study_uid == study_uid).values(opened))


def _texts(connection: sa.Connection, wanted: Sequence[str]) -> dict[str, str]:
    """Returns the texts of decisions by their ids."""
    found: dict[str, str] = {}
    for start in range(0, len(wanted), _MOST_IDS):
        part = decision_texts.c.id.in_(wanted[start : start + _MOST_IDS])
        found |= {str(row.id): str(row.text) for row in connection.execute(sa.select(decision_texts).where(part))}
    return found


def is_unsettled() -> sa.ColumnElement[bool]:
    """Returns a condition: the series is RECEIVING or FULL, so it may have images that no decision has seen."""
    return series.c.state.in_(those(SeriesState, lambda state: state.is_unsettled))


def _is(key: SeriesKey) -> sa.ColumnElement[bool]:
    return (series.c.study_uid == key.study_uid) & (series.c.series_uid == key.series_uid)
