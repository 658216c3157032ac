import os

from augscale.signals import StopFlag


def test_a_worker_stops_when_its_supervisor_is_gone_also_before_it_could_ask():
    """Its parent is then another process from the start; comparing with the parent at start-up would see no change."""
    assert not StopFlag(parent=os.getppid())()
    assert not StopFlag()()
    orphan = StopFlag(parent=os.getpid())
    assert orphan()
    assert orphan.signal_number == 15
