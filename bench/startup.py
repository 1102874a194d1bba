"""What the command line costs before it does anything: processor time of a few commands, as a ratio.

python bench/startup.py            # prints: command, seconds of user and system time, ratio to the imports below

The measure is a process that imports typer, rich and pydantic and nothing else. Each is run several times; the least
counts, since whatever else runs on the machine only adds.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUNS = 7
BARE = "import typer, rich.console, rich.table, pydantic"
COMMANDS = (("--version",), ("--help",), ("jobs",), ("echo", "NOBODY@127.0.0.1:1"))
MAIN = "import sys; sys.argv = ['voxtell-dicom', *sys.argv[1:]]; from worker.__main__ import main; main()"


def seconds(code: str, words: Sequence[str], home: Path) -> float:
    """The least processor time of several runs, user and system."""
    least = float("inf")
    environment = {"PATH": "/usr/bin:/bin", "VOXTELL_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    for _ in range(RUNS):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, check=False)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        least = min(least, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return least


def main() -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        bare = seconds(BARE, (), home)
        print(f"{'typer, rich, pydantic':<30} {bare:6.2f} s")
        for words in COMMANDS:
            found = seconds(MAIN, words, home)
            print(f"{'voxtell-dicom ' + ' '.join(words):<30.30} {found:6.2f} s  {found / bare:.1f} times")


if __name__ == "__main__":
    main()
