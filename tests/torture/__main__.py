"""python -m tests.torture [--studies 200] [--seed 1] [--minutes M] [--database NAME] [--folder DIR]"""

import argparse
import math
import sys
import tempfile
from pathlib import Path

from tests.torture.plan import seeded
from tests.torture.run import torture

DATABASES = {"both": ("sqlite", "postgresql"), "sqlite": ("sqlite",), "postgresql": ("postgresql",)}


def main() -> int:
    """The studies divided among the databases, a run for each, with its table; exit code 1 if anything is at fault."""
    parser = argparse.ArgumentParser(prog="make torture", description=__doc__)
    parser.add_argument("--studies", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=math.inf, help="per database; then no further study is sent")
    parser.add_argument("--database", choices=DATABASES, default="both")
    parser.add_argument("--folder", type=Path, help="where logs and sent studies stay")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="torture-"))
    faults = 0
    databases = DATABASES[options.database]
    for database in databases:
        plan = seeded(
            options.seed,
            options.studies // len(databases),
            without=[] if database == "postgresql" else ["database restarted"],
        )
        facts = {"database": database, "wide": database == "postgresql"}
        report = torture(folder / database, plan, seed=options.seed, minutes=options.minutes, **facts)
        print(f"\n{database}, seed {options.seed}\n{report.table()}\nlogs: {folder / database}", flush=True)  # noqa: T201
        faults += len(report.verdict.faults)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
