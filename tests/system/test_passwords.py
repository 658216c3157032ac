"""Passwords that a library's message repeats are not shown."""

import pytest

from augscale.system import passwords
from augscale.system.passwords import WITHHELD, keep_out_of_messages, without_passwords


@pytest.fixture(autouse=True)
def _forgotten_afterwards(monkeypatch):
    monkeypatch.setattr(passwords, "_known", set())


@pytest.mark.parametrize(
    "written", ["p@ss wörd/x", "p%40ss%20w%C3%B6rd%2Fx", "p%40ss+w%C3%B6rd%2Fx", "p@ss w\\u00f6rd/x"]
)
def test_a_password_is_hidden_in_every_way_of_writing_it(written):
    keep_out_of_messages("p@ss wörd/x")
    assert without_passwords(f"failed: postgresql://u:{written}@h/db") == "failed: postgresql://u:***@h/db"


def test_a_short_password_does_not_garble_other_words_and_is_not_shown():
    keep_out_of_messages("h")
    assert without_passwords("host not found") == "host not found"
    assert without_passwords("no route to u:h@there") == WITHHELD
