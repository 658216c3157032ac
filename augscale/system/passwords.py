"""Passwords that this process knows, so that no message, log line or traceback repeats them."""

from __future__ import annotations

import json
from urllib.parse import quote, quote_plus

STARS = "***"
SHORT = 4
"""Shorter passwords occur in ordinary words, so a text that repeats one is replaced entirely by `WITHHELD`."""
WITHHELD = "(a message that repeats the password; withheld)"

_known: set[str] = set()


def keep_out_of_messages(password: str | None) -> None:
    """Remembers a password for `without_passwords`, in every spelling that a library may use."""
    if password:
        _known.update({password, quote(password, safe=""), quote_plus(password), quote(password)})
        _known.update({repr(password)[1:-1], json.dumps(password)[1:-1]})


def without_passwords(text: str) -> str:
    """The text with every known password replaced by `***`.

    Args:
        text: an error message, a traceback or a log line, perhaps of another library.
    """
    for password in sorted(_known, key=len, reverse=True):
        if len(password) >= SHORT:
            text = text.replace(password, STARS)
        elif f":{password}@" in text or f"'{password}'" in text:
            return WITHHELD
    return text
