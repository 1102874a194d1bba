"""What the command line costs before it does anything: processor time of a few commands, as a ratio.

python -m bench.startup            # prints: command, seconds of user and system time, ratio to the imports below

The measure is a process that imports typer, rich and pydantic and nothing else. All are run in turn, several times; the
least counts, since whatever else runs on the machine only adds.

Two further lines are floors: the measure and the library that a command cannot do without. `jobs` reads the ledger by
SQLAlchemy, `echo` speaks DICOM by pynetdicom, which imports pydicom and with it numpy. Commands import without garbage
collection (`worker.cli.lazy`) and may so come out under their floor. On two shared cores of an AMD EPYC, Python 3.11,
both versions in turn within one run, the least of nine:

| seconds of processor time (ratio) | before | now | floor |
|---|---|---|---|
| typer, rich, pydantic | 0.17 | 0.17 | |
| `--help` | 0.26 (1.6) | 0.21 (1.2) | |
| `jobs` | 0.90 (5.4) | 0.49 (2.9) | SQLAlchemy 0.47 (2.8) |
| `echo` | 0.92 (5.5) | 0.75 (4.4) | pynetdicom 0.73 (4.4) |

Reading the settings makes 2.2 times the measure, most of it pydantic's first model.
"""

import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

RUNS = 7
BARE = "import typer, rich.console, rich.table, pydantic"
FLOORS = ("sqlalchemy", "pynetdicom")
COMMANDS = (("--version",), ("--help",), ("jobs",), ("echo", "NOBODY@127.0.0.1:1"))
MAIN = "import sys; sys.argv = ['voxtell-dicom', *sys.argv[1:]]; from worker.__main__ import main; main()"


def seconds(code: str, words: Sequence[str], home: Path) -> float:
    """The processor time of one run, user and system."""
    environment = {"PATH": "/usr/bin:/bin", "VOXTELL_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Prints the table."""
    lines: dict[str, tuple[str, Sequence[str]]] = {"typer, rich, pydantic": (BARE, ())}
    lines |= {f"... and {name}": (f"{BARE}, {name}", ()) for name in FLOORS}
    lines |= {f"voxtell-dicom {' '.join(words)}": (MAIN, words) for words in COMMANDS}
    least = dict.fromkeys(lines, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(RUNS):
            for name, (code, words) in lines.items():
                least[name] = min(least[name], seconds(code, words, Path(folder)))
    bare = next(iter(least.values()))
    for name, found in least.items():
        print(f"{name:<30.30} {found:6.2f} s  {found / bare:.1f} times")


if __name__ == "__main__":
    main()
