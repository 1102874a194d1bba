"""What the tests of the worker share: a clock that stands still, and the ledger on both of its databases."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.postgres import Postgres, postgres
from worker.jobs import Prompt, Work
from worker.ledger import Ledger


class Clock:
    """Seconds since 1970 that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests of a run."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    return request.getfixturevalue("postgres_server").new_database()


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def ledger(ledger_url: str, clock: Clock) -> Iterator[Ledger]:
    """An empty ledger on each kind of database."""
    opened = Ledger(ledger_url, clock)
    yield opened
    opened.close()


def work(
    *, series: str = "1.2.3.4", images: int = 3, protocol: str = "liver", destinations: tuple[str, ...] = ()
) -> Work:
    """The work on the first `images` images of a series."""
    return Work.of(
        study_uid="1.2.3",
        series_uid=series,
        instances=[f"{series}.{number}" for number in range(images)],
        protocol=protocol,
        protocol_digest="0" * 16,
        prompts=(Prompt(text="liver"),),
        model=None,
        destinations=destinations,
    )
