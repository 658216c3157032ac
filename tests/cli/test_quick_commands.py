"""Commands that only read answer without the libraries that train: on a busy machine those take a minute to load."""

import subprocess
import sys

import pytest

HEAVY = ("torch", "torchvision", "timm", "scipy", "sklearn", "faiss", "plotly")


@pytest.mark.parametrize(
    "modules",
    [
        ("searching.display", "searching.read_run"),  # status
        ("searching.compare_runs", "reporting.search.comparison_terminal"),  # compare
        ("augmentation.export_scales", "augmentation.scales", "runs.files"),  # export
    ],
)
def test_a_command_that_only_reads_loads_nothing_that_trains(modules):
    code = "import sys\n" + "".join(f"import augscale.{name}\n" for name in modules)
    code += f"print(*sorted({{*{HEAVY!r}}} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
