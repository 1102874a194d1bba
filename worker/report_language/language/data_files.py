"""A report language: its lexicon and its rules, loaded from two data files.

`lexicon.en.toml` and `rules.en.yaml` come with the package. A site may put files of its own, for another language or
in place of one of these, into the folder that VOXTELL_REPORT_LANGUAGE_FOLDER names.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from worker.report_language.errors import LanguageError
from worker.report_language.language.lexicon import Lexicon, load_lexicon
from worker.report_language.language.rules import Rules, load_rules

DEFAULT_LANGUAGE = "en"

_BUNDLED = Path(__file__).parent
_NAME = re.compile(r"[A-Za-z0-9]+(?:[-_][A-Za-z0-9]+)*")


@dataclass(frozen=True, slots=True)
class ReportLanguage:
    """The words of one language and the rules of their context."""

    lexicon: Lexicon
    rules: Rules


@lru_cache(maxsize=8)
def load_language(name: str = DEFAULT_LANGUAGE, folder: Path | None = None) -> ReportLanguage:
    """Loads the language `name` from `lexicon.<name>.toml` and `rules.<name>.yaml`.

    Each of the two files is taken from `folder` where it is there, else from those that come with the package: a site
    may add a language, or replace only the lexicon of one. The files are read once in the life of the process.

    Raises:
        LanguageError: when a file is missing, is not valid, or says that it is of another language.
    """
    lexicon, rules = _file("lexicon", name, "toml", folder), _file("rules", name, "yaml", folder)
    language = ReportLanguage(load_lexicon(lexicon), load_rules(rules))
    for path, told in ((lexicon, language.lexicon.file.language), (rules, language.rules.file.language)):
        if told != name:
            raise LanguageError(f"{path}: language: is '{told}', and the file is named '{name}'; make them the same")
    return language


def known_languages(folder: Path | None = None) -> list[str]:
    """Returns the names of the languages whose two data files are there, in `folder` or in the package."""
    lexicons, rules = (set(_names(kind, folder)) for kind in ("lexicon.*.toml", "rules.*.yaml"))
    return sorted(lexicons & rules)


def _names(pattern: str, folder: Path | None) -> Iterator[str]:
    """Yields the language of each file of that pattern: "en" of `lexicon.en.toml`."""
    for place in _places(folder):
        yield from (path.name.split(".")[1] for path in place.glob(pattern))


def _places(folder: Path | None) -> tuple[Path, ...]:
    """Returns the folders to look in, the site's first."""
    return (_BUNDLED,) if folder is None else (folder, _BUNDLED)


def _file(kind: str, name: str, ending: str, folder: Path | None) -> Path:
    """Returns the path of one data file.

    Raises:
        LanguageError: when there is none; it lists the known languages.
    """
    if _NAME.fullmatch(name):  # no way out of the folder
        for place in _places(folder):
            path = place / f"{kind}.{name}.{ending}"
            if path.is_file():
                return path
    known = ", ".join(known_languages(folder))
    where = f" in {folder}" if folder else ""
    raise LanguageError(f"report language '{name}' has no {kind}.{name}.{ending}{where}; known languages: {known}")
