"""`python -m worker.report_language evaluate FOLDER ...`: scores on labelled reports, printed with every miss."""

import argparse
import sys
from pathlib import Path

from worker.report_language.errors import ReportError
from worker.report_language.evaluation.scores import evaluate
from worker.report_language.language.data_files import DEFAULT_LANGUAGE, load_language


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; returns the exit code: 0 done, 1 when a folder or a language could not be read."""
    parser = argparse.ArgumentParser(prog="python -m worker.report_language", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("evaluate", help="score prompts on folders of labelled reports")
    command.add_argument("folder", nargs="+", type=Path)
    command.add_argument("--language", default=DEFAULT_LANGUAGE, help="of the reports; default %(default)s")
    command.add_argument("--language-folder", type=Path, help="folder with a site's own language files")
    given = parser.parse_args(arguments)
    try:
        language = load_language(given.language, given.language_folder)
        for folder in given.folder:
            for score in evaluate(folder, language):
                sys.stdout.writelines(f"{line}\n" for line in score.lines())
    except ReportError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
