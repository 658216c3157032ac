import contextlib

from augscale.searching.phases import PhaseClock


class _Time:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_each_moment_counts_for_the_innermost_phase_so_that_phases_add_up():
    time = _Time()
    clock = PhaseClock(time)
    time.now += 1
    with clock.phase("telling"):
        time.now += 2
        with clock.phase("trials"):
            time.now += 4
        time.now += 8
    with clock.phase("trials"):
        time.now += 16
    time.now += 32
    assert clock.seconds() == {"other": 33.0, "telling": 10.0, "trials": 20.0}
    assert sum(clock.seconds().values()) == time.now - 100


def test_a_phase_that_is_left_by_an_exception_is_counted_and_left():
    time = _Time()
    clock = PhaseClock(time)
    with contextlib.suppress(ValueError), clock.phase("trials"):
        time.now += 3
        raise ValueError("pruned")
    time.now += 1
    assert clock.seconds() == {"other": 1.0, "trials": 3.0}
