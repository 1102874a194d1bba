"""A progress bar for commands that work for a while: on standard error, gone when the work is done."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

ReportProgress = Callable[[str, float], None]
"""Takes what is being done and the part of all work that is done, 0 to 1."""


@contextmanager
def progress_bar(first: str) -> Iterator[ReportProgress]:
    """Shows one bar until the block ends; a file or pipe gets nothing. `first` is what is being done at the start."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(first, total=1.0)
        yield lambda what, part: bar.update(task, description=what, completed=part)
