"""A node without its processes: what the tests of its steps share."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dicom_node.store import Store
from worker.ledger import Ledger
from worker.settings import Settings


class Site:
    """A home with its settings, store and ledger; `clock` is what the ledger takes for the time."""

    def __init__(
        self, home: Path, *, ledger: Ledger | None = None, clock: Callable[[], float] = time.time, **settings: Any
    ) -> None:
        self.home = home
        self.settings = Settings(home=home, **settings)
        self.store = Store(home, newer_wins=self.settings.conflict == "newer")
        self.ledger = ledger or Ledger(self.settings.ledger_url, clock, store_id=self.store.id)

    def close(self) -> None:
        """Lets go of the ledger."""
        self.ledger.close()
