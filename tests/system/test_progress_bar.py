import io

from rich.console import Console

from augscale.system import progress_bar as module
from augscale.system.progress_bar import progress_bar, working


def test_off_a_terminal_a_line_comes_now_and_then_and_short_work_is_silent(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with progress_bar(Console(file=out)) as report:
        for second in range(70):
            now[0] = float(second)
            report("embedding [views]", second, 70)
    assert out.getvalue().splitlines() == ["embedding [views]: 30/70", "embedding [views]: 60/70"]


def test_on_a_terminal_the_bar_shows_what_is_done():
    out = io.StringIO()
    with progress_bar(Console(file=out, force_terminal=True, width=100)) as report:
        report("embedding views", 3, 10)
    assert "embedding views" in out.getvalue()


def test_work_that_cannot_be_counted_shows_its_name_on_a_terminal_only():
    for is_terminal, quiet in ((True, False), (True, True), (False, False)):
        out = io.StringIO()
        with working(Console(file=out, force_terminal=is_terminal, width=80), "reading the run", quiet):
            pass
        assert ("reading the run" in out.getvalue()) == (is_terminal and not quiet)
