"""What the tests of the network side share: small instances, a listener that notes what it is told, real series."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dicom_node.listener import Listener
from dicom_node.scp.arrivals import Arrival, AssociationEnd
from dicom_node.store import Store
from tests.support.listeners import RunningListener
from tests.support.waiting import wait_until


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., Any]:
    """`with site(access=...) as here:` runs a listener on a free port; keywords go to the Listener."""

    @contextmanager
    def run(home: Path = tmp_path / "home", **options: Any) -> Iterator[RunningListener]:
        store = options.pop("store", None) or Store(home)
        arrivals: list[Arrival] = []
        ends: list[AssociationEnd] = []
        callbacks = {"on_arrival": arrivals.append, "on_association_end": ends.append}
        settings = {"ae_title": "VOXTELL", "host": "127.0.0.1", "port": 0, **callbacks, **options}
        with Listener(store, **settings) as listener:
            yield RunningListener(listener, store, arrivals, ends)
        # Their last steps, after the listener has let go of them, may take a moment; a leak lasts.
        wait_until(lambda: not any("AcceptorThread" in thread.name for thread in threading.enumerate()))

    return run
