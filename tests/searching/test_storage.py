"""Addresses of databases: files lie where the user said, passwords stay hidden, what cannot be used is named."""

import json
import sqlite3
import traceback
from pathlib import Path

import optuna
import pytest

from augscale.errors import ConfigError, StudyError
from augscale.runs.folders import RunFolder
from augscale.searching import storage as storage_module
from augscale.searching.prepare import _kept_storage
from augscale.searching.storage import (
    PASSWORD_VARIABLE,
    Connection,
    open_storage,
    parse_storage,
    run_storage,
    sqlite_storage,
)
from augscale.system import passwords

optuna.logging.set_verbosity(optuna.logging.ERROR)
ODD = "r%20n?x=1#y a ü'q\"@h:5{z} 50% :memory:"
"""Everything that has a meaning in URLs, or in templates of `str.format`, which Optuna takes URLs for."""


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch):
    monkeypatch.setattr(passwords, "_known", set())
    monkeypatch.delenv(PASSWORD_VARIABLE, raising=False)


@pytest.fixture
def drivers(monkeypatch):
    """As if every driver were installed."""
    monkeypatch.setattr(storage_module, "check_driver", lambda url, source: None)


@pytest.mark.parametrize("name", [ODD, ":memory:"])
def test_a_study_lies_in_the_folder_that_was_named_whatever_its_characters(tmp_path, name):
    run = RunFolder(tmp_path / name)
    run.path.mkdir()
    storage = run_storage(run, None)
    optuna.create_study(storage=open_storage(storage), study_name="kept")
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "study.db").is_file()
    with sqlite3.connect(run.database) as connection:
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("kept",)]
    assert isinstance(open_storage(storage).engine.raw_connection().driver_connection, Connection)


def test_the_url_of_a_run_in_an_odd_folder_leads_to_the_same_file(tmp_path):
    run = RunFolder(tmp_path / ODD)
    run.path.mkdir()
    assert parse_storage(sqlite_storage(run.database).stored).file == run.database.resolve()


def test_a_relative_file_is_kept_by_its_whole_path_and_may_have_odd_characters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("rel db.sqlite", "a#b@c.db", "50%.db"):
        storage = parse_storage(f"sqlite:///{name}")
        assert storage.file == tmp_path / name
        assert parse_storage(storage.stored).file == storage.file, "as a worker reads it in the manifest"
    assert parse_storage("sqlite:///x.db?timeout=5").shown == f"sqlite:///{tmp_path}/x.db?timeout=5"


def test_manifests_of_before_are_read_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run")
    assert run_storage(run, None).file == run.database.resolve()
    assert run_storage(run, "sqlite:///shared.db").file == tmp_path / "shared.db"


@pytest.mark.parametrize(("url", "shown", "says"), [
    ("postgresql+psycopg://user:p@ss:w0rd/x@h/db", "postgresql+psycopg://user:***@h/db", "percent-encode"),
    ("postgresql://user:p@ss@h/db", "postgresql://user:***@h/db", "percent-encode"),
    ("postgresql://user:p@ss/w0rd@h:5432/db", "postgresql://user:***@h:5432/db", "percent-encode"),
    ("postgresql://user:p@ss?w0rd@h/db", "postgresql://user:***@h/db", "percent-encode"),
    ("mysql+pymysql://us/er:w0rd@h/db", "mysql+pymysql://:***@h/db", "percent-encode"),
    ("postgresql://user:w0rd", "postgresql://user:***", "percent-encode"),
    ("postgresql://user:p[w0rd@h:port/db", "postgresql://user:***", "percent-encode"),
    ("postgresql://user@h/db?sslpassword=w0rd", "postgresql://user@h/db?sslpassword=***", "sslpassword"),
    ("postgresql+nothing://user:w0rd@h/db", "postgresql+nothing://user:***@h/db", "no driver is called"),
    ("postgresql+asyncpg://user:w0rd@h/db", "postgresql+asyncpg://user:***@h/db", "asynchronous"),
    ("mysql://user:w0rd@h/db", "mysql://user:***@h/db", "write mysql+pymysql://"),
    ("postgres://user:w0rd@h/db", "postgres://user:***@h/db", "write postgresql+psycopg://"),
    ("redis://:w0rd@h:6379", "redis://:***@h:6379", "no study can be kept in redis"),
    ("redis://h:6379", "redis://h:6379", "no study can be kept in redis"),
    ("oracle://user:w0rd@h", "oracle://user:***@h", "no study can be kept in oracle"),
    ("postgresql:/user:w0rd@h/db", "postgresql:***@h/db", "not the URL of a database"),
    ("user:w0rd@h/db", "user:***@h/db", "not the URL of a database"),
    ("journal.log", "journal.log", "journal files"),
    ("study.db", "study.db", "sqlite:///study.db"),
    ("", "(nothing)", "not the URL of a database"),
    ("C:\\data\\study.db", "C:\\data\\study.db", "sqlite:///C:/data/study.db"),
    ("sqlite:///C:\\data\\study.db", "sqlite:///C:\\data\\study.db", "a Windows path"),
    ("sqlite:////no/such/folder/study.db", "sqlite:////no/such/folder/study.db", "folder /no/such/folder does not"),
    ("sqlite://study.db", "sqlite://study.db", "followed by a host"),
    ("sqlite:///:memory:", "sqlite:///:memory:", "memory is not shared"),
    ("sqlite:///a?b.db", "sqlite:///a?b.db", "sqlite:///a%3Fb.db"),
    ("sqlite:////", "sqlite:////", "is a folder"),
    (f"sqlite:///{__file__}", f"sqlite:///{__file__}", "is not an SQLite file"),
])  # fmt: skip
def test_what_cannot_be_used_is_named_in_one_line_without_the_password(url, shown, says):
    with pytest.raises(ConfigError) as error:
        parse_storage(url)
    said = str(error.value)
    assert said.startswith(f"--storage {shown}: ")
    assert says in said
    assert "\n" not in said
    assert not [part for part in ("w0rd", "p@ss", "ss?", "p[") if part in said]
    assert "w0rd" not in "".join(traceback.format_exception(error.value))


def test_a_missing_driver_is_named_with_what_installs_it(monkeypatch):
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    def missing(cls):
        raise ModuleNotFoundError("No module named 'psycopg'", name="psycopg")

    monkeypatch.setattr(PGDialect_psycopg, "import_dbapi", classmethod(missing))
    with pytest.raises(ConfigError, match=r'driver psycopg is not installed; pip install "augscale\[postgres\]"'):
        parse_storage("postgresql+psycopg://user:w0rd@h/db")


@pytest.mark.parametrize("url", [
    "postgresql+psycopg://user:p%40ss%2Fw0rd@h/db",
    "postgresql+psycopg://user@h/db?password=p%40ss/w0rd",
])  # fmt: skip
def test_the_password_goes_to_the_workers_and_not_into_the_manifest(tmp_path, monkeypatch, drivers, url):
    storage = parse_storage(url)
    assert storage.environment == {PASSWORD_VARIABLE: "p@ss/w0rd"}
    assert storage.stored == "postgresql+psycopg://user@h/db"
    assert "w0rd" not in storage.shown
    run = RunFolder(tmp_path)
    assert run_storage(run, storage.stored).url.password is None
    monkeypatch.setenv(PASSWORD_VARIABLE, storage.environment[PASSWORD_VARIABLE])
    assert run_storage(run, storage.stored).url == storage.url


def test_a_password_that_an_earlier_version_wrote_into_the_manifest_is_used_and_not_written_again(tmp_path, drivers):
    run, old = RunFolder(tmp_path), "postgresql://user:p%40ss@h/db"
    assert run_storage(run, old).url.password == "p@ss"
    kept = _kept_storage(run, old, parse_storage("postgresql://user:another@h/db"))
    assert kept == _kept_storage(run, old, None) == "postgresql://user@h/db"
    with pytest.raises(ConfigError) as error:
        _kept_storage(run, old, parse_storage("postgresql://user:w0rd@there/db"))
    assert "--storage postgresql://user:***@there/db" in str(error.value)
    assert "keeps its study in postgresql://user:***@h/db" in str(error.value)
    assert _kept_storage(run, None, None) is None


@pytest.mark.parametrize(("password", "advice"), [("w0rd#1", "percent-encode"), ("secretpw", None)])
def test_a_server_that_refuses_is_told_without_the_password_though_the_library_repeats_it(
    monkeypatch, drivers, password, advice
):
    def refuse(url, **_):
        raise RuntimeError(f"cannot connect with {url}: password={password!r}\n{password}")

    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(StudyError) as error:
        open_storage(f"postgresql://user:{password}@h/db")
    said = str(error.value)
    assert said.startswith("--storage postgresql://user:***@h/db: cannot be opened (cannot connect")
    assert ("percent-encode" in said) == (advice is not None)
    assert "\n" not in said
    assert password not in "".join(traceback.format_exception(error.value))


def test_a_missing_password_is_asked_for(monkeypatch, drivers):
    def refuse(url, **_):
        raise RuntimeError("fe_sendauth: no password supplied")

    monkeypatch.setattr(optuna.storages, "RDBStorage", refuse)
    with pytest.raises(StudyError, match=f"not kept in run folders, set {PASSWORD_VARIABLE}"):
        open_storage("postgresql://user@h/db")


def test_the_command_line_hides_the_password_in_tracebacks_and_last_words(monkeypatch, capsys, drivers):
    from augscale.cli import app as cli

    parse_storage("postgresql://user:w0rd%2F1@h/db")

    def fail():
        raise RuntimeError("no connection to postgresql://user:w0rd%2F1@h/db, password w0rd/1")

    monkeypatch.setattr(cli, "app", fail)
    monkeypatch.setattr("sys.argv", ["augscale", "search"])
    for debug in ("", "1"):
        monkeypatch.setenv("AUGSCALE_DEBUG", debug)
        with pytest.raises(SystemExit) as end:
            cli.run()
        assert end.value.code == 1
    errors = capsys.readouterr().err
    assert "Traceback" in errors
    assert "w0rd" not in errors


def test_a_search_with_a_storage_that_cannot_be_used_leaves_no_run_folder(tmp_path, monkeypatch):
    from augscale.searching.search import search

    monkeypatch.chdir(tmp_path)
    for url, kind in (("postgresql://user:p@ss@h/db", ConfigError), ("sqlite:///no/x.db", ConfigError)):
        with pytest.raises(kind):
            search("smoke", storage=url, out="run", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_file_of_a_shared_study_is_used_by_two_run_folders(tmp_path):
    address = sqlite_storage(tmp_path / "shared #1.db")
    for name in ("a", "b"):
        optuna.create_study(storage=open_storage(address), study_name=name)
    assert sorted(optuna.get_all_study_names(open_storage(address))) == ["a", "b"]
    assert json.dumps(address.stored)
    assert Path(str(parse_storage(address.stored).file)) == (tmp_path / "shared #1.db").resolve()
