"""The demo's terminal and cutter: nothing too wide, no colour where none is wanted, calm cuts."""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import pytest

from server.demo import _camera_name
from server.demo_cutter import MIN_SHOT_S, STEP_BACK_S, Cutter
from server.demo_screen import StartScreen, Terminal, columns, money

SCREEN = StartScreen(
    public_url="http://192.168.1.20:8080",
    local_url="http://127.0.0.1:8080",
    room="demo",
    cameras=["wide", "closeup", "crowd"],
    bots=8,
    host_token="eyJ.token",
    data=Path("/srv/data"),
)


class Tty(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 100, 200])
@pytest.mark.parametrize("out", [io.StringIO, Tty])
def test_screen_fits_and_names_every_address(width: int, out: type[io.StringIO]) -> None:
    terminal = Terminal(out(), width)
    lines = SCREEN.lines(terminal)
    text = "\n".join(lines)
    for path in (
        "192.168.1.20:8080/v/demo",
        "/screen/demo",
        "127.0.0.1:8080/studio/demo",
        "/whip/demo/mine",
    ):
        assert path in text
    for line in lines:
        # Only what must be copied whole may be wider.
        assert columns(line) <= width or "://" in line or "livehouse token" in line


def test_no_colour_where_it_is_not_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b" not in "\n".join(SCREEN.lines(Terminal(io.StringIO(), 100)))
    assert "\x1b" in "\n".join(SCREEN.lines(Terminal(Tty(), 100)))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in "\n".join(SCREEN.lines(Terminal(Tty(), 100)))


def test_terminal_without_unicode_gets_question_marks_not_a_crash() -> None:
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    terminal = Terminal(out, 80)
    terminal.line("sold", "夜の鶴 NT$1,200")
    SCREEN.show(terminal)
    assert b"NT$1,200" in raw.getvalue()


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (120_000, "TWD", "NT$1,200"),
        (120_050, "TWD", "NT$1,200.50"),
        (1500, "JPY", "¥1,500"),
        (100, "CHF", "CHF 1"),
    ],
)
def test_money(amount: int, currency: str, text: str) -> None:
    assert money(amount, currency) == text


def test_camera_names_of_files_are_valid_and_differ() -> None:
    taken: list[str] = []
    for path in ("a/夜.mp4", "b/my film (1).mp4", "c/program.mkv", "d/_x.mp4", "e/_x.mp4"):
        taken.append(_camera_name(Path(path), taken))
    assert taken == ["film", "myfilm1", "film-2", "x", "x-2"]


def cutter() -> Cutter:
    made = Cutter()
    for camera in ("wide", "closeup", "crowd"):
        made.own(camera)
    return made


def cuts(made: Cutter, start: float, seconds: float) -> list[tuple[float, str]]:
    found = []
    for step in range(int(seconds * 2)):
        now = start + step / 2
        camera = made.decide(now)
        if camera is not None:
            found.append((now, camera))
            made.hear({"type": "program.changed", "camera": camera}, now)
    return found


def test_shots_are_long_enough_and_show_every_camera() -> None:
    found = cuts(cutter(), 0, 120)
    assert {camera for _, camera in found} == {"wide", "closeup", "crowd"}
    assert all(b - a >= MIN_SHOT_S for (a, _), (b, _) in pairwise(found))


def test_lot_brings_the_product_and_the_hammer_the_hall() -> None:
    made = cutter()
    cuts(made, 0, 1)  # the first shot
    made.hear({"type": "lot.sold"}, 10)
    assert cuts(made, 10, 5)[0][1] == "crowd"
    made.hear({"type": "lot.opened"}, 20)
    assert cuts(made, 20, 5)[0][1] == "closeup"


def test_visitors_camera_gets_the_program_and_keeps_it() -> None:
    made = cutter()
    cuts(made, 0, 1)
    made.hear({"type": "camera.live", "camera": "phone"}, 6)
    assert cuts(made, 6, 90) == [(6.0, "phone")]
    made.hear({"type": "camera.offline", "camera": "phone"}, 100)
    assert cuts(made, 100, 20)[0][1] in {"wide", "closeup", "crowd"}


def test_somebody_elses_cut_is_respected() -> None:
    made = cutter()
    cuts(made, 0, 6)
    made.hear({"type": "program.changed", "camera": "crowd"}, 10)
    assert cuts(made, 10, STEP_BACK_S - 1) == []
    assert cuts(made, 10 + STEP_BACK_S, 20) != []
