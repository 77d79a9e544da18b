"""Log lines: one line each, whatever is in them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.logs import event_line


def test_plain_values_stay_plain_and_none_is_left_out() -> None:
    line = event_line("child.ended", {"child": "web0", "restart_in_s": 0.2, "how": None})
    assert line == "child.ended child=web0 restart_in_s=0.2"


def test_spaces_and_quotes_are_quoted() -> None:
    assert event_line("x", {"a": 'b "c"'}) == "x a=\"b 'c'\""


@given(st.text())
def test_a_value_never_breaks_the_line(text: str) -> None:
    line = event_line("x", {"a": text})
    assert line.isascii() or line.isprintable()
    assert len(line.splitlines()) == 1
