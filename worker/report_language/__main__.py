"""`python -m worker.report_language evaluate FOLDER ...`: scores on labelled reports, printed with every miss."""

import argparse
import sys
from pathlib import Path

from worker.report_language.errors import ReportError
from worker.report_language.evaluation.scores import evaluate


def main(arguments: list[str] | None = None) -> int:
    """0 when the folders were scored; 1 with one sentence on stderr when one could not be."""
    parser = argparse.ArgumentParser(prog="python -m worker.report_language", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("evaluate", help="score prompts on folders of labelled reports")
    command.add_argument("folder", nargs="+", type=Path)
    try:
        for folder in parser.parse_args(arguments).folder:
            for score in evaluate(folder):
                sys.stdout.writelines(f"{line}\n" for line in score.lines())
    except ReportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
