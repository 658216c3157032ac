"""The database of the Optuna study: its address is checked before anything is trained, then it is opened.

An address is a URL, built and parsed by SQLAlchemy only. Its password is never printed, logged or written into the run
folder. Workers get it through the environment (`PASSWORD_VARIABLE`), and so can later `status`, `report` or `promote`
commands. The drivers' own ways to pass a password (~/.pgpass, PGPASSWORD) work as well.
"""

from __future__ import annotations

import itertools
import os
import random
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from augscale.errors import ConfigError, StudyError
from augscale.runs.folders import RunFolder
from augscale.searching.storage_checks import (
    PASSWORD_OPTIONS,
    PERCENT_ENCODE,
    SQLITE,
    check_driver,
    check_server,
    check_shape,
    check_sqlite_file,
    check_sqlite_options,
    might_need_encoding,
    shown_url,
)
from augscale.system.passwords import keep_out_of_messages, without_passwords

PASSWORD_VARIABLE = "AUGSCALE_STORAGE_PASSWORD"
"""Environment variable with the password of a storage whose URL has none; not used for SQLite."""
WAIT_SECONDS = 120
"""Longest time that a worker waits for the lock of an SQLite file to which several workers write."""
CONNECTION_ATTEMPTS = 6
_CREATION_RACE = ("already exists", "UniqueViolation", "UNIQUE constraint", "Duplicate entry")
"""Found in the error messages if two processes create the tables of a new storage at the same time."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """A checked address of a study's database."""

    url: URL
    """Includes the password, if one is known; the path of an SQLite file is absolute."""
    hint: str = ""
    """Added to the message if the server refuses the password."""

    @property
    def shown(self) -> str:
        """The URL for messages, with options and password hidden."""
        return shown_url(self.url)

    @property
    def stored(self) -> str:
        """The URL for the manifest, without the password."""
        return _with_password(self.url, None).render_as_string(hide_password=False)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that a worker needs besides the manifest."""
        return {PASSWORD_VARIABLE: str(self.url.password)} if self.url.password else {}

    @property
    def file(self) -> Path | None:
        """The file of an SQLite storage without options; None for others."""
        plain = self.url.get_backend_name() == SQLITE and not self.url.query and self.url.database
        return Path(str(self.url.database)) if plain else None


def parse_storage(text: str, *, source: str = "--storage") -> Storage:
    """Checks a URL that a user gave, without opening anything.

    Args:
        text: e.g. sqlite:///runs/study.db (relative to the current folder), sqlite:////data/study.db or
            postgresql+psycopg://USER:PASSWORD@HOST/DB.
        source: beginning of the message.
    Raises:
        ConfigError: not a URL, a database or driver that cannot be used here, a folder that does not exist, or signs
            of a password that is not percent-encoded. The message never holds the password or a part of it.
    """
    check_shape(text, source)
    if text.startswith(SQLITE):
        check_sqlite_options(text, source)
    try:
        url: URL | None = make_url(text)
    except (ArgumentError, ValueError):
        # The library's own message repeats the part that it could not read, which may be part of the password.
        url = None
    check_server(url, text, source)
    assert url is not None
    check_driver(url, source)
    if url.get_backend_name() == SQLITE:
        return Storage(url=check_sqlite_file(url, source))
    given = url.password or next((url.query[name] for name in PASSWORD_OPTIONS if name in url.query), None)
    url = url.difference_update_query(PASSWORD_OPTIONS)
    password = str(given) if given else os.environ.get(PASSWORD_VARIABLE)
    keep_out_of_messages(password)
    return Storage(url=_with_password(url, password), hint=PERCENT_ENCODE if might_need_encoding(text) else "")


def sqlite_storage(path: Path) -> Storage:
    """The storage in an SQLite file, whose path may contain any characters."""
    return Storage(url=URL.create(SQLITE, database=str(path.resolve())))


def run_storage(run: RunFolder, stored: str | None) -> Storage:
    """The storage of a run.

    Args:
        run: the run folder.
        stored: `storage` of its manifest; None: study.db in the run folder.
    Raises:
        ConfigError: the manifest names a storage that cannot be used here.
    """
    if stored is None:
        return sqlite_storage(run.database)
    return parse_storage(stored, source=f"{run.manifest_file}: storage")


def open_storage(storage: Storage | str) -> optuna.storages.RDBStorage:
    """Opens the storage of a study, and creates its tables where there are none.

    Args:
        storage: an address, or the URL of one.
    Raises:
        StudyError: the storage cannot be opened; the message says why, without the password.
    """
    try:
        address = parse_storage(storage) if isinstance(storage, str) else storage
    except ConfigError as error:
        raise StudyError(str(error)) from None
    for attempt in itertools.count(1):
        try:
            return optuna.storages.RDBStorage(_for_optuna(address.url), engine_kwargs=_engine_arguments(address))
        except Exception as error:
            if attempt < CONNECTION_ATTEMPTS and any(sign in str(error) for sign in _CREATION_RACE):
                time.sleep(random.uniform(0.1, 0.5) * attempt)
                continue
            lines = str(error).strip().splitlines()
            reason = without_passwords(lines[0] if lines else type(error).__name__)
            # `from None`, because a traceback would print the library's error, which may hold the password.
            raise StudyError(f"--storage {address.shown}: cannot be opened ({reason}){_advice(address)}") from None
    raise AssertionError


def merge_write_ahead_log(run: RunFolder) -> None:
    """Moves everything committed into study.db itself, so that the file can be copied alone."""
    if run.database.exists():
        with suppress(sqlite3.OperationalError), closing(sqlite3.connect(run.database, timeout=5)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Connection(sqlite3.Connection):
    """SQLite with a write-ahead log: commits do not wait for the disk, and Optuna makes twenty per trial.

    Committed values survive any death of the process. A power cut may lose the entries of the last trials, never the
    file; those trials then run again.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Fails while another connection writes to a file without the log; the file then works without it.
        with suppress(sqlite3.OperationalError):
            (mode,) = self.execute("PRAGMA journal_mode=WAL").fetchone()
            if mode == "wal":
                self.execute("PRAGMA synchronous=NORMAL")


def _engine_arguments(storage: Storage) -> dict[str, Any]:
    file = storage.file
    if file is not None:
        # Connects by path, because SQLAlchemy 2.0 writes some paths into a URL that it cannot read back.
        def connect() -> sqlite3.Connection:
            return sqlite3.connect(file, timeout=WAIT_SECONDS, check_same_thread=False, factory=Connection)

        return {"creator": connect}
    if storage.url.get_backend_name() == SQLITE:
        return {"connect_args": {"timeout": WAIT_SECONDS, "factory": Connection}}
    return {"pool_pre_ping": True}


def _with_password(url: URL, password: str | None) -> URL:
    """`URL.set` cannot remove a password."""
    return URL.create(url.drivername, url.username, password, url.host, url.port, url.database, url.query)


def _for_optuna(url: URL) -> str:
    """Braces are doubled, because Optuna treats a URL as a template of `str.format`."""
    return url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")


def _advice(storage: Storage) -> str:
    if storage.url.get_backend_name() == SQLITE:
        return "; expected a new file, or one that Optuna made"
    if storage.url.password is None:
        return f"; if it wants a password: passwords are not kept in run folders, set {PASSWORD_VARIABLE}"
    return f"; {storage.hint}" if storage.hint else ""
