"""Headers read in the process of the test: only a test of processes may start the child that reads them on a node."""

from collections.abc import Callable
from typing import Any


class InThisProcess:
    """Answers as `worker.selection.child.Child` does, without its limits."""

    def start(self) -> None:
        """There is nothing to start."""

    def ask(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """What the function returns or raises."""
        return function(*arguments, **named)
