"""What every test may ask for: the real data next to the project, and free loopback ports."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

DATA = Path(os.environ.get("VOXTELL_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


@pytest.fixture(scope="session")
def shared_data() -> Callable[..., Path]:
    """`shared_data("openkbp", "index.json")` is a file of the test data; without it the test is skipped, in CI it fails."""

    def find(*parts: str) -> Path:
        path = DATA.joinpath(*parts)
        if not path.exists():
            message = f"test data {'/'.join(parts)} is not in {DATA} (set VOXTELL_TEST_DATA)"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        return path

    return find


@pytest.fixture()
def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
