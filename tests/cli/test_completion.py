"""What the shell proposes at Tab, from the functions to the installed script."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from augscale.cli import completion
from augscale.cli.app import app


def test_built_in_studies_are_completed():
    assert set(completion.studies("fundus-v")) == {"fundus-vits16", "fundus-vits16-dinov2"}
    assert {"fundus-cpu", "fundus-cpu-resnet"} < set(completion.studies("fundus-c"))
    assert completion.studies("nothing") == []


def test_names_after_a_comma_keep_what_stands_before_it():
    assert completion.scales("none,wea") == ["none,weak", "none,weak+med"]
    assert completion.protocols("knn,li") == ["knn,linear"]
    assert completion.datasets("IDRiD,JS") == ["IDRiD,JSIEC"]


def test_settings_are_completed_and_after_the_equals_sign_their_words():
    assert completion.study_settings("search.samp") == ["search.sampler="]
    assert "probe.score=pair_auroc" in completion.study_settings("probe.score=")
    assert completion.study_settings("search.prune=f") == ["search.prune=false"]
    assert completion.study_settings("pretrain.steps=") == [], "numbers have no words"
    assert "knn.temperature=" in completion.protocol_settings("knn.")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("augscale search --study smo", "smoke"),
        ("augscale search --set probe.sco", "probe.score="),
        ("augscale export weak --to light", "lightly-train"),
        ("augscale evaluate --protocol linear,fine", "linear,finetune"),
        ("augscale diagnose a.pth --statistics o", "own"),
        ("augscale comp", "compare"),
    ],
)
def test_a_shell_gets_the_words(words, expected):
    environment = os.environ | {
        "_AUGSCALE_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    code = "import sys; sys.argv[0] = 'augscale'; from augscale.cli.app import run; run()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, env=environment)
    assert expected in done.stdout.split(), done.stderr


def test_completion_imports_no_heavy_library():
    heavy = ["torch", "timm", "optuna", "faiss"]
    code = (
        "import sys; from augscale.cli import completion as c; "
        "[f('') for f in (c.studies, c.scales, c.protocols, c.datasets, c.study_settings, c.protocol_settings)]; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.stdout.strip() == "[]", done.stderr


def test_completion_can_be_installed():
    assert "--install-completion" in CliRunner().invoke(app, ["--help"]).output
