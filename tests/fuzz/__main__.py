"""python -m tests.fuzz [--seconds 600] [--seed 1] [--case DOOR:NUMBER] [--echo-seconds 2] [--folder DIR]"""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.run import fuzz


def main() -> int:
    """One run with its table; exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", help="one input alone, as a finding names it: DOOR:NUMBER")
    parser.add_argument("--echo-seconds", type=float, default=2.0, help="in which an allowed peer must be answered")
    parser.add_argument("--folder", type=Path, help="where log and findings stay")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="fuzz-"))
    door, _, number = (options.case or "").partition(":")
    only = (door, int(number)) if door else None
    report = fuzz(folder, seconds=options.seconds, seed=options.seed, echo_seconds=options.echo_seconds, only=only)
    print(f"\nseed {options.seed}\n{report.table()}\nlog and inputs: {folder}", flush=True)  # noqa: T201
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
