"""Secrets that cannot be printed: a URL whose user and password show as `***`, and the same for text that quotes one.

What a URL in the settings shows is said here alone. `SecretUrl` is the type of those settings: only what opens a
connection asks for its value. `masked` is for text of other libraries, whose errors quote the URL that they were given:
every error of `worker` passes through it, each line of the log, and each reason in the ledger.
"""

import re
from typing import Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Secret

MASK: Final = "***"

# Up to the last @: a password may hold one, or a slash, although it should not. The example in a message stays legible.
_USER_INFO = re.compile(r"\b([a-zA-Z][\w+.-]{0,30}://)(?!USER:PASSWORD@)[^\s/]\S*@")
_SECRET_IN_QUERY = re.compile(r"([?&][\w.-]*(?:pass|pwd|token|secret|key)[\w.-]*=)[^&\s]+", re.IGNORECASE)


def masked(text: str) -> str:
    """Returns the text with `***` for user and password of each URL in it, and for secrets in the query of a URL."""
    if "://" not in text:
        return text
    return _SECRET_IN_QUERY.sub(rf"\g<1>{MASK}", _USER_INFO.sub(rf"\g<1>{MASK}@", text))


class SecretUrl(Secret[str]):
    """A URL that may hold user and password. `str` and `repr` mask them; `get_secret_value` returns the URL itself."""

    def _display(self) -> str:
        scheme, separator, rest = self.get_secret_value().partition("://")
        if "@" in rest and not rest.startswith("/"):
            rest = f"{MASK}@{rest.rpartition('@')[2]}"
        return masked(f"{scheme}{separator}{rest}")


def WellFormed(*schemes: str) -> AfterValidator:  # noqa: N802 (stands in an annotation, as pydantic's own do)
    """Returns the check of a SecretUrl that it begins with one of the schemes and comes apart where its writer meant.

    A library takes a URL with a slash in its password apart within it, and says then of a part of the password that it
    is no port.
    """

    def check(url: SecretUrl) -> SecretUrl:
        value = url.get_secret_value()
        if not value.startswith(schemes):
            raise ValueError(f"must begin with {' or '.join(schemes)}")
        try:
            _ = urlsplit(value).port
        except ValueError:
            raise ValueError("is no URL; write / @ : # ? in a password as %2F %40 %3A %23 %3F") from None
        return url

    return AfterValidator(check)
