"""What the tests of the worker share: the ledger on both of its databases, with a clock that stands still."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_node.synthesis import ct_series
from tests.support.ledger_stories import Clock
from tests.support.looking import InThisProcess
from tests.support.marks import PROCESSES, TORTURE, kind_of
from tests.support.postgres import Postgres, postgres
from worker.ledger import Ledger
from worker.selection import looks


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """One PostgreSQL server for all tests of a run."""
    with postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peers)])
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


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Four slices of a CT."""
    return ct_series(np.zeros((4, 8, 8), np.float32), (3.0, 1.0, 1.0), tmp_path / "ct")


@pytest.fixture(autouse=True)
def the_umask_comes_back() -> Iterator[None]:
    """Commands that work on a home have their process write for its user alone."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(autouse=True)
def headers_are_read_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """Reads headers in this process, unless the test may start processes of the node."""
    if kind_of(mark.name for mark in request.node.iter_markers()) in (PROCESSES, TORTURE):
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(looks, "child", lambda *_: InThisProcess())
        yield
