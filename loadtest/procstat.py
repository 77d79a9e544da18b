"""CPU time and memory of a server's processes, read from the operating system (Linux)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Final

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process has used so far."""

    pid: int
    name: str
    """Which part of a server it is, for instance `media0` or `supervisor`."""
    cpu_s: float
    rss_bytes: int


def usage(pid: int) -> dict[int, Usage]:
    """Usage of `pid` and all its living descendants, by process id."""
    parents: dict[int, int] = {}
    stats: dict[int, Usage] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            words = (entry / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        except OSError:
            continue  # ended while we looked
        number = int(entry.name)
        parents[number] = int(fields[1])
        name = _part(words)
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        stats[number] = Usage(number, name, cpu, int(fields[21]) * _PAGE)
    wanted = {pid}
    grew = True
    while grew:
        more = {child for child, parent in parents.items() if parent in wanted} - wanted
        wanted |= more
        grew = bool(more)
    return {number: stats[number] for number in wanted if number in stats}


def _part(words: list[bytes]) -> str:
    """A child of the supervisor has its name right after its module; the rest is itself."""
    for word, after in pairwise(words):
        if word.startswith(b"server.children."):
            return after.decode(errors="replace")
    return "supervisor"


def cpu_between(before: dict[int, Usage], after: dict[int, Usage], part: str = "") -> float:
    """CPU seconds used between two readings by processes whose name starts with `part`."""
    return sum(
        now.cpu_s - (before[pid].cpu_s if pid in before else 0.0)
        for pid, now in after.items()
        if now.name.startswith(part)
    )


def listener_pid(port: int) -> int | None:
    """The eldest process of this machine that listens on TCP `port`, or None."""
    inodes: set[str] = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    holders: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            links = {os.readlink(fd) for fd in (entry / "fd").iterdir()}
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if links & inodes:
            holders[int(entry.name)] = parent
    eldest = [pid for pid, parent in holders.items() if parent not in holders]
    return min(eldest, default=None)
