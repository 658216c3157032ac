"""The command line: parse, call one function, print; errors become one line and an exit code.

Exit codes: 0 done; 1 other error; 2 wrong setting or flag; 3 images unusable; 4 checkpoint unusable; 5 diverged;
6 the study cannot go on; 128 + number stopped by a signal with everything saved (SIGINT 130, SIGTERM 143, on Linux
SIGUSR1 138 and SIGUSR2 140).
Heavy libraries are imported inside the commands, so that `augscale --help` answers quickly.
"""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Annotated

import typer

from augscale.cli import completion
from augscale.cli.data import data_app
from augscale.cli.diagnose import diagnose
from augscale.cli.evaluate import evaluate, promote
from augscale.cli.options import (
    AllowBad,
    Data,
    Exclude,
    GreyRange,
    Json,
    PatientsFrom,
    parse_range,
    print_json,
    split_names,
)
from augscale.cli.pretrain import pretrain
from augscale.cli.search import compare, report, search, status, worker
from augscale.cli.validate import validate
from augscale.errors import AugscaleError, InterruptedRun, StudyError
from augscale.system.passwords import without_passwords
from augscale.system.signals import ignore_further

app = typer.Typer(
    name="augscale",
    help="Finds the augmentation scales for self-supervised pre-training on your own medical images.\n\n"
    "`docs: PAGE, SECTION` in a message is a page of the documentation, in the folder docs of the source code.",
    epilog="Exit codes: 0 done, 1 other error, 2 wrong setting, 3 images unusable, 4 checkpoint unusable, "
    "5 diverged, 6 study cannot go on, 130/138/140/143 stopped by a signal with everything saved.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(data_app, name="data")
for command in (search, status, report, compare, promote, pretrain, diagnose, evaluate, validate):
    app.command()(command)
app.command(hidden=True)(worker)

WEIGHT_LAYOUTS = {"dino-checkpoint": "dino", "timm": "timm"}
"""Name of the layout in `export_weights` by the value of `export --to`."""


def run() -> None:
    """Entry point: turns AugscaleError into one line and its exit code; AUGSCALE_DEBUG or --debug shows tracebacks."""
    if "--debug" in sys.argv:  # accepted anywhere on the line
        sys.argv.remove("--debug")
        os.environ["AUGSCALE_DEBUG"] = "1"
    for stream in (sys.stdout, sys.stderr):
        # Names of files need not be UTF-8; such bytes are shown as \xNN.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except KeyboardInterrupt:
        ignore_further()
        print("augscale: stopped by SIGINT", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of the pipe (head, less) has ended, which is not an error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if isinstance(error, InterruptedRun):
            ignore_further()
        message, exit_code = _message(error)
        if _debug():
            print(without_passwords(traceback.format_exc()), file=sys.stderr, end="")
        if isinstance(error, AugscaleError) or not _debug():
            # Messages of other libraries may repeat a password.
            print(f"augscale: {without_passwords(message)}", file=sys.stderr)
        sys.exit(exit_code)


def _message(error: Exception) -> tuple[str, int]:
    """The line for the user, and the exit code."""
    if isinstance(error, AugscaleError):
        return str(error), error.exit_code
    text = str(error).splitlines()[0] if str(error) else "no message"
    if type(error).__name__ == "StorageInternalError":
        cause = (str(error.__cause__ or "").splitlines() or [""])[0] or text
        message = f"the study's storage is out of reach ({cause}); give the same command once it answers"
        return message, StudyError.exit_code
    return f"{type(error).__name__}: {text} (run again with --debug for the traceback)", 1


def _debug() -> bool:
    return os.environ.get("AUGSCALE_DEBUG", "") not in ("", "0")


def _version(show: bool) -> None:
    if show:
        from augscale import __version__

        print(f"augscale {__version__}")
        raise typer.Exit


@app.callback()
def main(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error; accepted anywhere on the line.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """`run` handles `--debug` and removes it from the command line; it is declared here for the help text."""


@app.command()
def preview(
    data: Data = None,
    exclude: Exclude = None,
    patients_from: PatientsFrom = None,
    scales: Annotated[
        str,
        typer.Option(help="Names or cards, with commas: strong,weak,best.toml.", autocompletion=completion.scales),
    ] = "strong,weak",
    study: Annotated[
        str,
        typer.Option(
            "--study",
            help="Study whose crop sizes and decode settings are used.",
            autocompletion=completion.studies,
        ),
    ] = "default",
    images: Annotated[int, typer.Option(min=1, max=64, help="Photographs shown.")] = 6,
    seed: Annotated[int, typer.Option(help="Seed of the photographs and views.")] = 0,
    grey_range: GreyRange = None,
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("preview.png"),
    allow_bad: AllowBad = False,
    as_json: Json = False,
) -> None:
    """Write a contact sheet: the same photographs at each scale."""
    from rich.console import Console

    from augscale.system.progress_bar import decoding_bar, working

    console = Console(stderr=True)
    with working(console, "loading libraries"):
        from augscale.cli.preview import preview as write_preview

    with decoding_bar(console) as on_progress:
        result = write_preview(
            list(data) if data else None,
            split_names(scales),
            study=study,
            images=images,
            seed=seed,
            grey_range=parse_range(grey_range),
            out=out,
            allow_bad=allow_bad,
            exclude=exclude,
            patient_pattern=patients_from,
            on_progress=on_progress,
        )
    for line in result.remarks:
        print(line, file=sys.stderr)
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.path)


@app.command()
def export(
    card: Annotated[
        str, typer.Argument(metavar="CARD", help="best.toml, a name such as weak or strong@0.5, or a weights file.")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Scales: torchvision, dino, lightly, lightly-train or solo-learn. Weights: dino-checkpoint or timm.",
            autocompletion=completion.words(
                "torchvision", "dino", "lightly", "lightly-train", "solo-learn", "dino-checkpoint", "timm"
            ),
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File to write; without it, scales are printed.")] = None,
    as_json: Json = False,
) -> None:
    """Print scales as the flags, config or code of another library, or write weights in its layout."""
    if to in WEIGHT_LAYOUTS:
        from augscale.networks.export_weights import export_weights

        written = export_weights(card, WEIGHT_LAYOUTS[to], out)
        if as_json:
            print_json(written.to_dict())
        else:
            print(written.path)
            for note in written.notes:
                print(f"note: {note}", file=sys.stderr)
        return
    from augscale.augmentation.export_scales import export_scales
    from augscale.augmentation.scales import card_warning, load_scales
    from augscale.runs.files import write_text_atomic

    text = export_scales(load_scales(card), to)
    if warning := card_warning(card):
        print(f"warning: {warning}", file=sys.stderr)
    text += "" if text.endswith("\n") else "\n"
    if out is not None:
        write_text_atomic(out, text)
    if as_json:
        print_json({"to": to, "text": text} | ({"path": str(out)} if out else {}))
    else:
        print(out or text, end="\n" if out else "")


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine: versions, device, faiss build, storage, free disk."""
    from augscale.cli.system_check import examine

    findings = examine()
    if as_json:
        print_json([vars(finding) for finding in findings])
    else:
        # A terminal wraps between words, a pipe has one line for each finding.
        width = min(shutil.get_terminal_size().columns, 100) if sys.stdout.isatty() else 10_000
        for finding in findings:
            line = f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name}: {finding.detail}"
            print(textwrap.fill(line, width, subsequent_indent=" " * 6, break_on_hyphens=False, break_long_words=False))
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)
