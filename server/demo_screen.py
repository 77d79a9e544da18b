"""What the demo says in the terminal: one start screen, then a calm line now and then.

Colours only on a terminal (and not with NO_COLOR); never wider than the window. Addresses
are never cut, so that they can be clicked and copied.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import sys
import time
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TextIO

import segno

_RESET: Final = "\x1b[0m"
_STYLE: Final = re.compile(r"\x1b\[[0-9;]*m")
_STYLES: Final = {
    "bold": "\x1b[1m",
    "dim": "\x1b[2m",
    "red": "\x1b[38;5;203m",
    "amber": "\x1b[38;5;215m",
    "teal": "\x1b[38;5;79m",
}
_SIDE_BY_SIDE: Final = 92
"""Columns from which the QR code stands beside the addresses."""
_SIGNS: Final = {"TWD": "NT$", "JPY": "¥", "USD": "US$", "EUR": "€", "HKD": "HK$"}
_NO_MINOR: Final = frozenset({"JPY", "KRW", "VND"})


def money(amount: int, currency: str) -> str:
    """`amount` in minor units for a person."""
    value = f"{amount:,}" if currency in _NO_MINOR else f"{amount / 100:,.2f}".removesuffix(".00")
    return f"{_SIGNS.get(currency, currency + ' ')}{value}"


def columns(text: str) -> int:
    """Columns that `text` takes in a terminal: two for wide characters, none for styles."""
    plain = _STYLE.sub("", text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in plain)


class Terminal:
    """Where lines go, and whether it takes colour."""

    def __init__(self, out: TextIO | None = None, width: int | None = None) -> None:
        self.out = out or sys.stdout
        self.has_colour = self.out.isatty() and "NO_COLOR" not in os.environ
        self.width = width or shutil.get_terminal_size((100, 40)).columns
        encoding = (getattr(self.out, "encoding", None) or "ascii").lower()
        self.has_blocks = "utf" in encoding

    def paint(self, text: str, *styles: str) -> str:
        """`text` in the styles, where there is colour."""
        if not self.has_colour:
            return text
        return "".join(_STYLES[s] for s in styles) + text + _RESET

    def write(self, text: str) -> None:
        """Whole lines, at once; characters the terminal lacks become question marks."""
        encoding = getattr(self.out, "encoding", None) or "utf-8"
        self.out.write((text + "\n").encode(encoding, "replace").decode(encoding))
        self.out.flush()

    def line(self, word: str, text: str) -> None:
        """One calm line: the time, a word, what happened."""
        clock = time.strftime("%H:%M:%S")
        style = {"sold": "amber", "back": "teal"}.get(word, "dim")
        self.write(f"  {self.paint(clock, 'dim')}  {self.paint(word, style)}  {text}")


@dataclass(frozen=True, slots=True)
class StartScreen:
    """What a newcomer sees first."""

    public_url: str
    local_url: str
    room: str
    cameras: list[str]
    bots: int
    host_token: str
    data: Path

    def show(self, terminal: Terminal) -> None:
        """Print it."""
        terminal.write("\n".join(self.lines(terminal)))

    def lines(self, terminal: Terminal) -> list[str]:
        """The screen as lines."""
        paint = terminal.paint
        watch = f"{self.public_url}/v/{self.room}"
        # Browsers give cameras to https pages and to this very machine only.
        studio = self.public_url if self.public_url.startswith("https") else self.local_url
        bidders = f"{self.bots} bidders in the hall" if self.bots else "nobody in the hall yet"
        dot = "●" if terminal.has_blocks else "*"
        text = [
            f"{paint(dot, 'red')} {paint('Livehouse is on air', 'bold')}",
            paint(f"room {self.room} · {' · '.join(self.cameras)} · {bidders}", "dim"),
            "",
            f"{paint('Watch and bid', 'amber')}   {watch}",
            f"{paint('Big screen', 'amber')}      {self.public_url}/screen/{self.room}",
            "",
            paint("Scan the code with a phone on the same network,", "dim"),
            paint("bid, and watch the hall answer.", "dim"),
        ]
        qr = self._qr(watch, terminal)
        out = [""]
        if qr and terminal.width >= _SIDE_BY_SIDE + columns(qr[0]) - 33:
            top = max((len(qr) - len(text)) // 2, 0)
            for index in range(max(len(qr), len(text) + top)):
                left = qr[index] if index < len(qr) else " " * columns(qr[0])
                at = index - top
                right = text[at] if 0 <= at < len(text) else ""
                out.append(f"  {left}   {right}".rstrip())
        else:
            out += [f"  {line}" for line in text] + [""] + [f"  {line}" for line in qr]
        whip = f"{self.local_url}/whip/{self.room}/mine"
        token = f".venv/bin/livehouse token --room {self.room} --role camera --data {self.data}"
        out += [
            "",
            f"  {paint('Your own camera', 'amber')}  open the studio on this machine, go live:",
            f"  {studio}/studio/{self.room}{paint('#token=' + self.host_token, 'dim')}",
            "",
            f"  {paint('OBS', 'amber')}     Settings, Stream, service WHIP, server {whip}",
            f"          bearer token: {paint(token, 'dim')}",
            f"  {paint('ffmpeg', 'amber')}  ffmpeg -re -i FILM -c:v libx264 -bf 0 -g 50 \\",
            "          -profile:v baseline -c:a libopus -ar 48000 \\",
            f'          -f whip -authorization "$({token})" \\',
            f"          {whip}",
            "",
            f"  {paint('Ctrl-C ends the show.', 'dim')}",
            "",
        ]
        return out

    def _qr(self, address: str, terminal: Terminal) -> list[str]:
        if not terminal.has_blocks:
            return []
        buffer = io.StringIO()
        code = segno.make(address, error="l", micro=False)
        if terminal.has_colour:
            return _half_blocks(code)
        code.terminal(buffer, border=1, compact=True)
        return [line for line in buffer.getvalue().splitlines() if line.strip()]


def _half_blocks(code: segno.QRCode) -> list[str]:
    """Two modules a character, black on white whatever the terminal's own colours are."""
    rows = [list(row) for row in code.matrix_iter(border=2)]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        cells = "".join(
            {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}[(bool(a) * 1, bool(b) * 1)]
            for a, b in zip(upper, lower, strict=True)
        )
        lines.append(f"\x1b[38;5;231;48;5;16m{cells}{_RESET}")
    return lines
