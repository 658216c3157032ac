"""Shell commands, paths and links of the documents and studies: every flag, setting, file and anchor exists."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator, Sequence

import pytest
import typer
import yaml
from document_blocks import DOCUMENTS, ROOT, Block, anchors, blocks, inline_code, links

import augscale
from augscale.cli.app import app
from augscale.cli.options import parse_assignments
from augscale.config import StudyConfig, apply_overrides, load_study
from augscale.evaluation.protocol_config import ProtocolConfig
from augscale.settings import flatten

LANGUAGES = {"sh", "python", "toml", "text"}
"""`text` is output or a picture: it is not run."""
FLAGS_OF_OTHERS = {
    "--signals-to-handle", "--node-rank", "--nnodes", "--nproc-per-node", "--signal=USR1@60", "--checkpoint_key"
}  # fmt: skip
OTHER_PROGRAMS = (
    ".",
    "apptainer",
    "docker",
    "git",
    "mkdocs",
    "mypy",
    "pipx",
    "pytest",
    "python3",
    "ruff",
    "sbatch",
    "uvx",
)
"""Programs in the documents whose arguments are not checked."""
COMMANDS = typer.main.get_command(app)


def _named(document) -> str:
    return document.name


def _options(command, path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Every command by path, with its flags."""
    yield path, {flag for parameter in command.params for flag in (*parameter.opts, *parameter.secondary_opts)}
    for name, inner in getattr(command, "commands", {}).items():
        yield from _options(inner, f"{path} {name}".strip())


def _parse(words: Sequence[str], *, complete: bool) -> None:
    """Parses an augscale command line as Typer does, and checks the names of its settings; runs nothing.

    Args:
        complete: False allows that required arguments and values are missing, as in a sentence about a command.
    """
    command, words = COMMANDS, [word for word in words if word not in ("...", "--debug")]
    while words and hasattr(command, "commands"):
        if words[0].startswith("--"):
            assert words[0] in {flag for parameter in command.params for flag in parameter.opts}, words[0]
            return
        assert words[0] in command.commands, f"no command {words[0]!r}"
        command, words = command.commands[words[0]], words[1:]
    if hasattr(command, "commands"):
        return
    try:
        values = command.make_context(command.name, list(words)).params
    except Exception as error:
        if complete or type(error).__name__ not in ("MissingParameter", "BadOptionUsage"):
            raise AssertionError(f"{' '.join(words)}: {getattr(error, 'message', error)}") from error
        return
    _check_settings(command.name, values)


def _check_settings(command: str, values: dict) -> None:
    settings = parse_assignments([text for text in values.get("set_") or [] if text != "KEY=VALUE"])
    if command in ("search", "pretrain", "preview"):
        study = values["study"]
        load_study("default" if study.endswith(".toml") else study, settings)
    elif settings:
        ProtocolConfig.model_validate(apply_overrides({}, settings))


def _command_lines(block: Block) -> list[list[str]]:
    joined = block.text.replace("\\\n", " ")
    lines = (shlex.split(line, comments=True) for line in joined.splitlines())
    return [words for line in lines for words in _simple_commands(line)]


def _simple_commands(words: list[str]) -> Iterator[list[str]]:
    """The commands of one line, without `&&`, brackets, `cd` and variables in front."""
    start = 0
    if words and words[0].startswith("("):
        words = [words[0][1:], *words[1:-1], words[-1].removesuffix(")")]
    for end in [index for index, word in enumerate(words) if word == "&&"] + [len(words)]:
        command = words[start:end]
        while command and re.fullmatch(r"[A-Z_]+=.*", command[0]):
            command = command[1:]
        if command and command[0] != "cd":
            yield [command[0].removeprefix(".venv/bin/"), *command[1:]]
        start = end + 1


def _check(words: list[str]) -> None:
    program, *arguments = words
    if program == "augscale":
        _parse(arguments, complete=True)
    elif program == "torchrun" or arguments[:2] == ["-m", "augscale"]:
        _parse(arguments[arguments.index("augscale") + 1 :], complete=True)
    elif program == "python" and arguments[:1] == ["-m"]:
        module = ROOT / arguments[1].replace(".", "/")
        assert module.is_dir() or module.with_suffix(".py").is_file(), f"no module {arguments[1]}"
    elif program == "python" and arguments[0].startswith("examples/"):
        assert (ROOT / arguments[0]).is_file(), f"no script {arguments[0]}"
    elif program == "python" and arguments[:1] == ["-c"]:
        exec(arguments[1], {})
    elif program == "make":
        assert re.search(rf"^{arguments[0]}:", (ROOT / "Makefile").read_text(), re.MULTILINE), f"no target {arguments}"
    elif program == "pip":
        _check_extra(arguments[-1])
    else:
        assert program in OTHER_PROGRAMS, f"{program} is not checked"


def _check_extra(requirement: str) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert requirement.partition("[")[2].rstrip("]") in extras, requirement


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_every_code_block_names_its_language(document):
    found = blocks(document)
    assert [f"line {block.line}" for block in found if block.language not in LANGUAGES] == []
    prose = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"(?:\n\n) {4,}\S.*", prose) == [], "indented blocks do not say what they hold"


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_every_shell_command_is_accepted_by_the_parser(document):
    for block in blocks(document):
        if block.language == "sh":
            for words in _command_lines(block):
                _check(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_commands_calls_and_flags_within_sentences_exist(document):
    known = {flag for _, flags in _options(COMMANDS) for flag in flags}
    for code in inline_code(document):
        if code.startswith("augscale "):
            _parse(shlex.split(code)[1:], complete=False)
        elif code.startswith("--"):
            flag = re.split(r"[ =]", code)[0]
            assert flag in known or code in FLAGS_OF_OTHERS or flag in FLAGS_OF_OTHERS, code
        elif re.fullmatch(r"augscale\.\w+\(.*\)", code):
            call = ast.parse(code, mode="eval").body
            function = getattr(augscale, call.func.attr)
            if not any(isinstance(value, ast.Constant) and value.value is ... for value in call.args):
                inspect.signature(function).bind(*call.args, **{word.arg: word.value for word in call.keywords})
        elif code.startswith("pip install"):
            _check_extra(shlex.split(code)[-1])
        elif match := re.match(r"python -m (benchmarks[.a-z_0-9]*[a-z0-9])(?= |$)", code):
            _check(["python", "-m", match[1]])


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_every_path_of_the_project_exists(document):
    folders = ("augscale/", "benchmarks/", "docs/", "studies/", "tests/")
    paths = [code.split(":")[0] for code in inline_code(document) if code.startswith(folders)]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    modules = [code for code in inline_code(document) if re.fullmatch(r"augscale(\.[a-z_]+)+", code)]
    assert [name for name in modules if not _is_module(name)] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_every_setting_exists(document):
    known = flatten(StudyConfig().model_dump()) | flatten(ProtocolConfig().model_dump())
    sections = {key.split(".")[0] for key in known if "." in key}
    keys = [code.split(" =")[0] for code in inline_code(document) if re.fullmatch(r"\w+\.\w+( = .*)?", code)]
    assert [key for key in keys if key.split(".")[0] in sections and key not in known and not _is_file(key)] == []


def _is_file(name: str) -> bool:
    """`search.py` and the like."""
    return name.endswith((".py", ".md", ".toml", ".json"))


def _is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file() or name.removeprefix("augscale.") in augscale.__all__


@pytest.mark.parametrize("document", DOCUMENTS, ids=_named)
def test_every_link_leads_somewhere(document):
    for target, anchor in links(document):
        assert target.exists(), f"{target} is not there"
        assert not anchor or anchor in anchors(target), f"{target.name} has no heading {anchor}"


@pytest.mark.parametrize("study", sorted((ROOT / "studies").glob("*.toml")), ids=_named)
def test_every_study_opens_with_its_command_time_result_and_recipe(study):
    head = study.read_text(encoding="utf-8").partition("\nname = ")[0]
    found = dict(re.findall(r"^# (\w+): +(.+)$", head, re.MULTILINE))
    assert list(found) == ["Command", "Time", "Result", "Recipe"]
    _check(shlex.split(found["Command"]))


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == augscale.__version__
    assert citation["license"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["license"]
