"""Checks of the address of a study's database, and its form in messages, without the password.

A text that cannot be parsed may hold a password anywhere. Messages show only its scheme, its user, and its end if that
can only be a host.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from sqlalchemy import URL
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from augscale.errors import ConfigError

SQLITE = "sqlite"
BACKENDS = (SQLITE, "postgresql", "mysql", "mariadb")
"""Databases in which Optuna can keep studies."""
ACCEPTED = "sqlite:///FILE, postgresql+psycopg://USER:PASSWORD@HOST/DB or mysql+pymysql://USER:PASSWORD@HOST/DB"
PERCENT_ENCODE = "percent-encode @ : / ? # % and spaces of a password, e.g. @ as %40 and / as %2F"
_INSTALL = {
    "psycopg": 'pip install "augscale[postgres]"',
    "psycopg2": 'write postgresql+psycopg:// and pip install "augscale[postgres]"',
    "pymysql": "pip install pymysql",
    "MySQLdb": "write mysql+pymysql:// and pip install pymysql",
}
_HARMLESS = {"application_name", "charset", "connect_timeout", "mode", "port", "sslmode", "timeout", "uri"}
"""Options whose values are shown."""
_SECRET = re.compile(r"pass(?!file)|pwd|secret|token", re.IGNORECASE)
PASSWORD_OPTIONS = ("password", "passwd")
"""Options after `?` that the drivers read a password from."""
_NAMES = {"postgres": "postgresql+psycopg", "pg": "postgresql+psycopg", "sqlite3": SQLITE, "file": SQLITE}
"""Schemes of other programs, and how they are written here."""
_SCHEME = re.compile(r"([A-Za-z][\w+.-]*)://")
_WINDOWS_PATH = re.compile(r"/*[A-Za-z]:[\\/]")
_PLACE = re.compile(r"[\w.-]+(:\d+)?(/[\w.-]*)?")
"""A host, its port and a database, in characters that need no encoding."""
_PORT = re.compile(r"\d{1,5}(/[\w.-]*)?")
_HEADER = b"SQLite format 3\0"


def check_shape(text: str, source: str) -> None:
    """Refuses texts that are not URLs, and URLs of databases that cannot store a study.

    Raises:
        ConfigError: as in `parse_storage`.
    """
    scheme = _SCHEME.match(text)
    if scheme is None:
        raise ConfigError(
            f"{source} {shown_text(text)}: not the URL of a database{_of_path(text)}; expected {ACCEPTED}"
        )
    name = scheme[1]
    if name in _NAMES:
        raise ConfigError(f"{source} {shown_text(text)}: write {_NAMES[name]}:// for {name}://; expected {ACCEPTED}")
    if name.partition("+")[0] not in BACKENDS:
        raise ConfigError(f"{source} {shown_text(text)}: no study can be kept in {name}; expected {ACCEPTED}")


def check_server(url: URL | None, text: str, source: str) -> None:
    """Refuses a URL that SQLAlchemy cannot parse, or parses with a part of the password in a wrong place.

    Args:
        url: the text as SQLAlchemy parsed it; None where it could not.
        text: the user's input.
        source: beginning of the message.
    Raises:
        ConfigError: as in `parse_storage`.
    """
    rest = text.partition("://")[2]
    if url is None:
        # A password cannot be the cause where there is no user in front of it.
        hint = f"; {PERCENT_ENCODE}" if "@" in rest or ":" in rest else ""
        raise ConfigError(f"{source} {shown_text(text)}: cannot be read as a URL{hint}; expected {ACCEPTED}")
    if url.get_backend_name() == SQLITE:
        return
    # For a person the last @ separates the password from the host, for SQLAlchemy the first one.
    if "@" in f"{url.host or ''}{url.database or ''}" or (url.password is not None and rest.count("@") > 1):
        raise ConfigError(f"{source} {shown_text(text)}: has an @ besides the one before the host; {PERCENT_ENCODE}")
    if secret := [key for key in url.query if _SECRET.search(key) and key not in PASSWORD_OPTIONS]:
        raise ConfigError(
            f"{source} {shown_url(url)}: the option {secret[0]} would have to be kept in the run folder; expected a "
            "configuration file of the database's client that holds it"
        )


def check_driver(url: URL, source: str) -> None:
    """Checks that the driver of the database is installed.

    Raises:
        ConfigError: the driver is unknown, asynchronous or not installed.
    """
    shown = f"{source} {shown_url(url)}"
    try:
        dialect = url.get_dialect()
        if dialect.is_async:
            raise ConfigError(f"{shown}: {url.drivername} is an asynchronous driver; expected {ACCEPTED}")
        dialect.import_dbapi()
    except (NoSuchModuleError, ArgumentError):
        raise ConfigError(f"{shown}: no driver is called {url.drivername}; expected {ACCEPTED}") from None
    except ModuleNotFoundError as error:
        name = str(error.name).partition(".")[0]
        todo = _INSTALL.get(name, f"pip install {name}")
        raise ConfigError(f"{shown}: its driver {name} is not installed; {todo}; expected {ACCEPTED}") from None
    except ImportError as error:
        reason = (str(error).splitlines() or [""])[0]
        raise ConfigError(f"{shown}: its driver cannot be imported ({reason}); expected {ACCEPTED}") from None


def check_sqlite_file(url: URL, source: str) -> URL:
    """The URL with the absolute path of the file, so that it means the same in every folder.

    Raises:
        ConfigError: no file is named, it cannot be created, or it is not an SQLite file.
    """
    shown = f"{source} {shown_url(url)}"
    form = "expected sqlite:///FILE (relative to the current folder) or sqlite:////PATH/FILE"
    if url.host or url.username or url.password or url.port:
        raise ConfigError(f"{shown}: sqlite:// is followed by a host; {form}")
    name = url.database
    if not name or name == ":memory:" or url.query.get("mode") == "memory":
        raise ConfigError(f"{shown}: memory is not shared by the processes of a search; {form}")
    if str(url.query.get("uri", "")).lower() in ("true", "1", "yes", "on"):
        return url
    if os.name != "nt" and _WINDOWS_PATH.match(name):
        raise ConfigError(f"{shown}: a Windows path, but this system is not Windows; {form}")
    path = Path(os.path.abspath(name))
    if not path.parent.is_dir():
        raise ConfigError(
            f"{shown}: cannot be opened (the folder {path.parent} does not exist); {form} in a folder that does"
        )
    if path.is_dir():
        raise ConfigError(f"{shown}: {path} is a folder; {form}")
    begins = b""
    try:
        with open(path, "rb") as file:
            begins = file.read(len(_HEADER))
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK):
            raise ConfigError(f"{shown}: the folder {path.parent} cannot be written; {form}") from None
    except OSError as error:
        raise ConfigError(f"{shown}: {path} cannot be read ({error.strerror}); {form}") from None
    if begins and begins != _HEADER:
        raise ConfigError(f"{shown}: {path} is not an SQLite file; {form}, a new file or one that Optuna made")
    return url.set(database=str(path))


def check_sqlite_options(text: str, source: str) -> None:
    """Refuses a `?` that is part of a file's name: SQLAlchemy would cut the name there.

    Raises:
        ConfigError: what follows the `?` is not of the form NAME=VALUE.
    """
    name, mark, options = text.partition("?")
    if mark and not all(re.fullmatch(r"\w+=[^=]*", option) for option in options.split("&")):
        raise ConfigError(
            f"{source} {text}: a ? begins options (NAME=VALUE) in a URL; write %3F for one in a file's name, as in "
            f"{name}%3F{options}"
        )


def might_need_encoding(text: str) -> bool:
    """True if the password of a URL contains characters that have a meaning in URLs."""
    userinfo = text.partition("://")[2].rpartition("@")[0]
    return bool(re.search(r"[/?#%\s\[\]:]", userinfo.partition(":")[2]))


def shown_url(url: URL) -> str:
    """A parsed URL for messages: password and values of options are hidden, the path of a file is not."""
    if url.get_backend_name() == SQLITE and not (url.host or url.username or url.password):
        return f"{url.drivername}:///{url.database or ''}" + ("?" if url.query else "") + _options(url)
    plain = url.set(query={}).render_as_string(hide_password=True)
    return plain + ("?" if url.query else "") + _options(url)


def shown_text(text: str) -> str:
    """A text that may not be parsed, for messages, without anything that could be part of a password."""
    scheme, separator, rest = text.rpartition("://") if text.count("://") == 1 else ("", "", text)
    if _WINDOWS_PATH.match(text) or (scheme.startswith(SQLITE) and rest.startswith("/")):
        return text
    user, colon, behind = rest.partition(":")
    if not colon:
        place, mark, _ = text.partition("?")
        return (f"{place}?***" if mark else text) or "(nothing)"
    if separator and _PORT.fullmatch(behind):
        return text
    tail = behind.rpartition("@")[2] if "@" in behind else ""
    # A user name with such characters may be part of the password.
    user = "" if set("/@?") & set(user) else user
    return f"{scheme}{separator}{user}:***" + (f"@{tail}" if _PLACE.fullmatch(tail) else "")


def _options(url: URL) -> str:
    return "&".join(f"{key}={value if key in _HARMLESS else '***'}" for key, value in url.query.items())


def _of_path(text: str) -> str:
    """A hint for a text that looks like a file's name; "" for others."""
    if _WINDOWS_PATH.match(text):
        return f" but a path (of a file: sqlite:///{text.replace(chr(92), '/')})"
    if "@" in text or ":" in text or not text:
        return ""
    if text.endswith((".log", ".journal")):
        return " (Optuna's journal files are not supported)"
    return f" (of a file: sqlite:///{text})"
