"""`livehouse load SCENARIO`: drive load against any running server, and say how it held up.

Exit status 0 when the scenario's own checks hold, 1 when they do not, 2 for a bad option.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import httpx

from loadtest.bus import CallRefused, TokenRefused
from loadtest.report import Report
from loadtest.scenarios import bids, phones, publish, viewers
from loadtest.target import Target
from loadtest.whip import Refusal
from media.stage.filefeed import BadSource

Scenario = Callable[[argparse.Namespace, Target, str], Coroutine[Any, Any, Report]]
EXIT_USAGE: Final = 2


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint is one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and low <= int(text[:12]) <= high):
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return read


def _number(low: float, high: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number from {low:g} to {high:g}")
        return value

    return read


def _parser() -> _Parser:
    parser = _Parser(prog="livehouse load", description=__doc__.splitlines()[0])
    scenarios = parser.add_subparsers(dest="scenario", required=True, metavar="SCENARIO")
    seconds = {"type": _number(0.1, 86_400), "default": 20.0, "metavar": "S"}

    def add(name: str, text: str) -> _Parser:
        sub = scenarios.add_parser(name, help=text, description=text + ".")
        sub.add_argument("--url", default="http://127.0.0.1:8080", help="the server (%(default)s)")
        sub.add_argument("--room", default="demo", help="room (%(default)s)")
        sub.add_argument("--token", help="access token; without one, guests join by themselves")
        sub.add_argument("--ca", metavar="FILE", help="PEM file to trust for https")
        sub.add_argument("--seconds", help="how long, s (%(default)s)", **seconds)  # type: ignore[arg-type]  # argparse's own shape
        sub.add_argument("--json", type=Path, metavar="FILE", help="write figures and samples")
        sub.add_argument("--html", type=Path, metavar="FILE", help="write a page with plots")
        return sub

    sub = add("viewers", "real WHEP viewers from processes of their own")
    sub.add_argument("--count", type=_whole(1, 100_000), default=50, metavar="N")
    sub.add_argument("--processes", type=_whole(1, 64), default=1, metavar="P")
    sub.add_argument("--camera", help="one camera; without it the program")
    sub.add_argument("--joins-per-s", type=_number(0.1, 10_000), default=20.0, metavar="X")
    sub.add_argument("--full", action="store_true", help="authenticate every packet, not samples")
    sub.add_argument("--server-pid", type=_whole(1, 2**22), metavar="PID", help="to read CPU time")
    sub = add("publish", "one camera by WHIP (needs --token)")
    sub.add_argument("--camera", default="load", help="camera name (%(default)s)")
    source = sub.add_mutually_exclusive_group()
    source.add_argument("--file", type=Path, help="a video file, looped")
    source.add_argument("--synthetic", action="store_true", help="the drawn stage, with sound")
    sub.add_argument(
        "--bitrate", type=_whole(50_000, 100_000_000), default=2_500_000, metavar="BPS"
    )
    sub.add_argument("--paced", action="store_true", help="spread a picture's packets over 25 ms")
    sub = add("bids", "bids on a schedule, timed to the last phone (needs a host's --token)")
    sub.add_argument("--bidders", type=_whole(1, 10_000), default=10, metavar="N")
    sub.add_argument(
        "--rate", type=_number(0.1, 20_000), default=20.0, metavar="X", help="a second"
    )
    sub.add_argument("--phones", type=_whole(1, 20_000), default=50, metavar="N")
    sub = add("phones", "bus connections, all dropped once")
    sub.add_argument("--count", type=_whole(1, 50_000), default=100, metavar="N")
    sub.add_argument("--connects-per-s", type=_number(1, 10_000), default=100.0, metavar="X")
    return parser


def _run(options: argparse.Namespace, target: Target, command: str) -> Coroutine[Any, Any, Report]:
    match options.scenario:
        case "viewers":
            return viewers.run(
                target,
                count=options.count,
                seconds=options.seconds,
                processes=options.processes,
                camera=options.camera,
                joins_per_s=options.joins_per_s,
                full=options.full,
                server_pid=options.server_pid,
                command=command,
            )
        case "publish":
            return publish.run(
                target,
                camera=options.camera,
                seconds=options.seconds,
                file=options.file,
                bitrate_bps=options.bitrate,
                synthetic=options.synthetic,
                paced=options.paced,
                command=command,
            )
        case "bids":
            return bids.run(
                target,
                bidders=options.bidders,
                rate=options.rate,
                seconds=options.seconds,
                phones=options.phones,
                command=command,
            )
        case _:
            return phones.run(
                target,
                count=options.count,
                seconds=options.seconds,
                connects_per_s=options.connects_per_s,
                command=command,
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run one scenario; the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    shown = [
        "…" if before == "--token" else word
        for before, word in zip(["", *arguments], arguments, strict=False)
    ]
    command = "livehouse load " + " ".join(shown)
    target = Target(options.url.rstrip("/"), options.room, options.token, options.ca)
    try:
        report = asyncio.run(_run(options, target, command))
    except (ValueError, BadSource, httpx.HTTPError, Refusal, CallRefused, TokenRefused) as error:
        print(f"livehouse load: {error or type(error).__name__}", file=sys.stderr)
        return EXIT_USAGE
    except OSError as error:
        print(f"livehouse load: {target.url}: {error}", file=sys.stderr)
        return EXIT_USAGE
    except TimeoutError:
        print(f"livehouse load: {target.url} did not answer in time", file=sys.stderr)
        return 1
    print(report.to_text())
    if options.json is not None:
        options.json.write_text(report.to_json())
    if options.html is not None:
        options.html.write_text(report.to_html())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
