"""Options that several commands share, functions that parse them, and JSON output."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from augscale.cli import completion

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", help='Folder, table (CSV, TSV, Excel) or "synthetic"; may be given more than once.'),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option("--exclude", help="Leave files out by path below the source or name: '*_mask.png'; repeatable."),
]
PatientsFrom = Annotated[
    str | None,
    typer.Option(
        "--patients-from",
        metavar="REGEX",
        help="Take patient ids from file names: a regular expression with one group, e.g. '(P\\d+)_[LR]'.",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        "--max-memory", help="GPU memory of each process (on a CPU, main memory), e.g. 8GB; free memory if not given."
    ),
]
StudySettings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        help="Any setting of the study, e.g. --set pretrain.steps=500.",
        autocompletion=completion.study_settings,
    ),
]
Init = Annotated[
    str | None,
    typer.Option(
        help="imagenet, none or a weights file; the study's if not given.",
        autocompletion=completion.words("imagenet", "none"),
    ),
]
DataRoot = Annotated[
    Path | None,
    typer.Option("--data-root", help="Folder of prepared datasets; $AUGSCALE_DATA or ~/.local/share/augscale."),
]
Method = Annotated[
    str | None,
    typer.Option("--method", help="dino, simclr, mocov3 or dinov2; the study's if not given."),
]
Device = Annotated[
    str,
    typer.Option(help="auto, cpu, cuda or cuda:N.", autocompletion=completion.words("auto", "cpu", "cuda", "cuda:0")),
]
CropToField = Annotated[
    bool | None, typer.Option("--crop-to-field/--whole", help="Cut photographs to the field of view.")
]
GreyRange = Annotated[
    str | None,
    typer.Option(
        "--range", help="LOW,HIGH or auto: values shown as black and white in files of more than 8 bits, as data.range."
    ),
]
AllowBad = Annotated[bool, typer.Option("--allow-bad", help="Go on although many files are unusable or odd.")]
Untrained = Annotated[
    bool, typer.Option("--untrained/--no-untrained", help="Also measure the same network before training.")
]
Arch = Annotated[str | None, typer.Option(help="timm's name of the model, if the file does not determine it.")]
Key = Annotated[str | None, typer.Option(help="Network to take from a training checkpoint, e.g. student.")]
Size = Annotated[
    int | None, typer.Option(min=8, help="Side of the views, pixels; the first checkpoint's if not given.")
]
Statistics = Annotated[
    str | None,
    typer.Option(
        help="Batch norm statistics: own, or data (gathered on these images); by default data for networks "
        "of augscale, else own.",
        autocompletion=completion.words("own", "data"),
    ),
]


Datasets = Annotated[
    list[str] | None,
    typer.Option(
        "--datasets",
        help="all, or names, folders and tables, with commas; may be given more than once.",
        autocompletion=completion.datasets,
    ),
]
Unlabelled = Annotated[
    list[str] | None,
    typer.Option("--unlabelled", help="A label that means no label, e.g. -1; may be given more than once."),
]


def split_datasets(values: list[str] | None) -> list[str]:
    """Names from `--datasets`, or "all" if not given; an existing path may contain commas."""
    names = []
    for value in values or ["all"]:
        parts = value.split(",")
        while parts:
            # Try the longest existing path first; a single part may be a name.
            end = next((n for n in range(len(parts), 1, -1) if _exists(",".join(parts[:n]).strip())), 1)
            names.append(",".join(parts[:end]).strip())
            parts = parts[end:]
    return [name for name in names if name]


def _exists(path: str) -> bool:
    try:
        return bool(path.strip(", ")) and Path(path).expanduser().exists()
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, no home folder
        return False


def split_names(text: str) -> list[str]:
    """`a, b,c` as a list."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_range(text: str | None) -> Literal["auto"] | tuple[float, float] | None:
    """`LOW,HIGH` or `auto`; None if not given.

    Raises:
        ConfigError: anything else.
    """
    from augscale.config import DataConfig
    from augscale.settings import parse_settings

    if text is None:
        return None
    parts = text.split(",")
    try:
        value: Any = [float(part) for part in parts]
    except ValueError:
        value = text.strip()
    return parse_settings(DataConfig, {"range": value}, "--range").range


def parse_assignments(assignments: list[str] | None, flags: dict[str, Any] | None = None) -> dict[str, Any]:
    """Settings by dotted key, from `--set` and from dedicated flags.

    Args:
        assignments: `key=value` pairs with TOML values; a bare word is text.
        flags: values that override the assignments; None and empty lists are ignored.
    Raises:
        ConfigError: no equals sign.
    """
    import tomllib

    from augscale.errors import ConfigError

    values: dict[str, Any] = {}
    for assignment in assignments or []:
        key, equals, text = assignment.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {assignment}: expected KEY=VALUE, e.g. pretrain.steps=500")
        try:
            values[key.strip()] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            values[key.strip()] = text.strip()
    return values | {key: value for key, value in (flags or {}).items() if value is not None and value != []}


def print_json(value: Any) -> None:
    """Prints to standard output; values that JSON does not know become text."""
    print(json.dumps(value, indent=1, default=str))
