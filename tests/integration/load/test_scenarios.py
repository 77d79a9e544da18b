"""`livehouse load` against the real server: every scenario, its figures and its files."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from interact.protocol import Role
from loadtest.report import Report
from loadtest.scenarios import bids, phones, publish, viewers
from loadtest.target import Target
from tests.support.server import ROOT, Server, clean_environment, running_server


def target(server: Server, role: Role | None = None) -> Target:
    return Target(server.url, "shop", server.token(role=role) if role else None)


def number(report: Report, name: str) -> float:
    value = report.figures[name]
    assert isinstance(value, int | float), f"{name} is {value!r}"
    return value


async def test_publish_and_viewers_count_every_packet() -> None:
    async with running_server() as server:
        stop = asyncio.Event()
        publishing = asyncio.create_task(
            publish.run(
                target(server, Role.HOST), camera="cam", seconds=60, bitrate_bps=800_000, stop=stop
            )
        )

        async def is_live() -> bool:
            state = await server.http.get("/api/v1/rooms/shop", headers=server.bearer())
            return any(c["live"] for c in state.json().get("cameras", []))

        async with asyncio.timeout(10):
            while not await is_live():  # noqa: ASYNC110 - another process' state
                await asyncio.sleep(0.1)
        seen = await viewers.run(
            target(server), count=6, seconds=3, processes=2, joins_per_s=10, full=True
        )
        stop.set()
        sent = await publishing
    assert sent.ok
    assert seen.ok, seen.to_text()
    assert number(seen, "joined") == 6
    assert number(seen, "packets lost") == 0
    assert 0.5 < number(seen, "Mbit/s a viewer") < 1.2
    assert number(seen, "first key frame after POST, ms p95") < 3000
    assert 0 < number(seen, "media CPU per forwarded packet, µs") < 2000
    assert "Mbit/s" in seen.to_html()


async def test_bids_reach_every_phone() -> None:
    async with running_server() as server:
        await server.http.post(
            "/api/v1/rooms", json={"room": "shop"}, headers=server.bearer(role=Role.HOST)
        )
        report = await bids.run(target(server, Role.HOST), bidders=5, rate=20, seconds=3, phones=10)
    assert report.ok, report.to_text()
    assert number(report, "bids accepted") >= 50
    assert number(report, "gaps in events") == 0
    assert number(report, "bid to last phone, ms p95") < 2000


async def test_phones_miss_nothing_when_dropped() -> None:
    async with running_server() as server:
        await server.http.post(
            "/api/v1/rooms", json={"room": "shop"}, headers=server.bearer(role=Role.HOST)
        )
        report = await phones.run(target(server, Role.HOST), count=20, seconds=4)
    assert report.ok, report.to_text()
    assert number(report, "gaps in events") == 0
    assert number(report, "events received") > 20
    assert len(report.samples["drop to back, ms"]) == 20


async def test_command_writes_json_and_page(tmp_path: Path) -> None:
    async with running_server() as server:
        await server.http.post(
            "/api/v1/rooms", json={"room": "shop"}, headers=server.bearer(role=Role.HOST)
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "server",
            "load",
            "phones",
            *("--url", server.url, "--room", "shop", "--count", "3", "--seconds", "1"),
            *("--json", str(tmp_path / "r.json"), "--html", str(tmp_path / "r.html")),
            cwd=ROOT,
            env=clean_environment(),
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    data = json.loads((tmp_path / "r.json").read_text())
    assert data["figures"]["gaps in events"] == 0
    assert data["machine"]
    page = (tmp_path / "r.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "<svg" in page
    assert "http://" not in page.replace(server.url, "")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["viewers", "--count", "0"], "--count"),
        (["nonsense"], "nonsense"),
        (["bids", "--rate", "many"], "--rate"),
        (["bids", "--url", "http://127.0.0.1:1"], "--token"),
        (["viewers", "--url", "http://127.0.0.1:1"], "connect"),
    ],
)
def test_bad_option_is_one_line_and_exit_2(
    arguments: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from loadtest.cli import main

    try:
        status = main(arguments)
    except SystemExit as exit_:
        status = int(str(exit_.code))
    error = capsys.readouterr().err
    assert status == 2
    assert word in error
    assert error.count("\n") == 1
