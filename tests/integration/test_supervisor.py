"""The supervisor with real processes: restarts, orderly and disorderly ends, bad starts."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from tests.support.server import (
    STOP_TIMEOUT_S,
    is_alive,
    running_server,
    start_livehouse,
)


def ending_of(tmp_path: Path, *arguments: str, **env: str) -> tuple[int, str]:
    """Run a command that must end by itself; exit status and standard error."""
    log = tmp_path / "log"
    process = start_livehouse(*arguments, log_path=log, env=env)
    try:
        status = process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    finally:
        process.communicate()
    return status, log.read_text()


async def until_dead(pids: list[int], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while alive := [pid for pid in pids if is_alive(pid)]:
        assert time.monotonic() < deadline, f"still alive: {alive}"
        await asyncio.sleep(0.05)


async def test_sigterm_ends_everything_in_time_and_in_order() -> None:
    async with running_server(media_workers=2) as server:
        children = server.children()
        assert sorted(children) == ["media0", "media1", "web0"]
        idle = socket.create_connection(("127.0.0.1", server.http_port))
        started = time.monotonic()
        status = await server.stop()
        assert status == 0
        assert time.monotonic() - started < STOP_TIMEOUT_S
        idle.close()
        await until_dead([*children.values()], 0.5)
        assert server.log.rstrip().endswith("livehouse.stopped")


async def test_sigint_ends_it_just_so() -> None:
    async with running_server() as server:
        assert await server.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("child", ["web0", "media0"])
async def test_killed_child_comes_back_on_the_same_ports(child: str) -> None:
    async with running_server() as server:
        old, before = server.children()[child], server.info
        os.kill(old, signal.SIGKILL)
        deadline = time.monotonic() + 20
        while server.children().get(child) in (None, old):
            assert time.monotonic() < deadline, server.log
            await asyncio.sleep(0.05)
        await server.wait_ready()
        assert server.info == before
        assert f"child.ended child={child} how=SIGKILL restart_in_s=0.2 failures=1" in server.log
        assert (await server.http.get("/healthz")).status_code == 200


async def test_requests_wait_while_the_web_worker_restarts() -> None:
    async with running_server() as server:
        os.kill(server.children()["web0"], signal.SIGKILL)
        await asyncio.sleep(0.05)  # the kernel closes its connections
        async with httpx.AsyncClient(base_url=server.url, timeout=20, trust_env=False) as fresh:
            assert (await fresh.get("/healthz")).status_code == 200
        await server.wait_ready()


async def test_sigkill_of_the_supervisor_leaves_no_orphan() -> None:
    async with running_server(expect_clean_end=False) as server:
        children = list(server.children().values())
        assert len(children) == 2
        server.process.kill()
        await until_dead(children, 8)


async def test_new_server_waits_for_children_of_a_killed_one(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_server(data=data, expect_clean_end=False) as server:
        server.process.kill()
        async with running_server(data=data) as next_server:
            assert (await next_server.http.get("/readyz")).status_code == 200


async def test_stuck_child_is_killed_at_the_deadline() -> None:
    async with running_server() as server:
        media = server.children()["media0"]
        os.kill(media, signal.SIGSTOP)
        started = time.monotonic()
        status = await server.stop()
        assert status == 0
        assert time.monotonic() - started < STOP_TIMEOUT_S
        assert not is_alive(media)
        assert "child.killed child=media0" in server.log


async def test_second_signal_ends_it_at_once() -> None:
    async with running_server() as server:
        os.kill(server.children()["media0"], signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        started = time.monotonic()
        assert await server.stop() == 0
        assert time.monotonic() - started < 2


async def test_port_and_directory_in_use_end_with_one_line(tmp_path: Path) -> None:
    async with running_server() as server:
        port, media_port = str(server.http_port), str(server.media_ports[0])
        here = ("serve", "--host", "127.0.0.1", "--data", str(tmp_path / "other"))
        status, said = await asyncio.to_thread(
            ending_of, tmp_path, *here, "--http-port", port, "--media-port", "0"
        )
        assert (status, said.count("\n")) == (2, 1), said
        assert f"http-port: '{port}' cannot be used; it is in use" in said

        status, said = await asyncio.to_thread(
            ending_of, tmp_path, *here, "--http-port", "0", "--media-port", media_port
        )
        assert (status, said.count("\n")) == (2, 1), said
        assert f"media-port: '{media_port}' cannot be used; it is in use" in said

        status, said = await asyncio.to_thread(
            ending_of,
            tmp_path,
            *("serve", "--host", "127.0.0.1", "--http-port", "0", "--media-port", "0"),
            *("--data", str(server.data)),
        )
        assert (status, said.count("\n")) == (2, 1), said
        assert "another server uses it" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--http-port", "99999"), ("--http-port", "99999")),
        (("serve", "--web-workers", "2"), ("web-workers", "--redis")),
        (("serve", "--redis", "redis://:pw@127.0.0.1:1"), ("redis", ":…@", "does not answer")),
        (("serve", "--data", "/proc/livehouse"), ("data", "/proc/livehouse")),
        (("serve", "--host", "192.0.2.77", "--http-port", "0"), ("host", "192.0.2.77")),
        (("serve", "--tls", "--cert", "/nowhere"), ("cert", "/nowhere")),
        (("serve", "--no-such-option"), ("--no-such-option",)),
        (("serve", "--config", "/nowhere.toml"), ("config", "/nowhere.toml")),
        (("dance",), ("dance",)),
        (("token", "--room", "shop", "--role", "king"), ("--role", "king")),
        (("token", "--room", "a/b", "--role", "host"), ("--room", "a/b")),
        (("token", "--room", "*", "--role", "host"), ("--room", "*")),
        (("token", "--room", "a", "--role", "host", "--ttl", "0"), ("--ttl", "0")),
        (("token", "--room", "a", "--role", "camera", "--camera", "program"), ("--camera",)),
    ],
)
def test_bad_start_is_one_line_and_exit_status_2(
    tmp_path: Path, arguments: tuple[str, ...], words: tuple[str, ...]
) -> None:
    status, said = ending_of(tmp_path, *arguments)
    assert status == 2, said
    assert said.count("\n") == 1, said
    for word in words:
        assert word in said


def test_bad_environment_variable_is_named(tmp_path: Path) -> None:
    status, said = ending_of(tmp_path, "serve", LIVEHOUSE_MEDIA_PORT="x")
    assert status == 2
    assert said == (
        "livehouse: LIVEHOUSE_MEDIA_PORT: 'x' cannot be used; "
        "a port, 0 to 65535; 0 takes free ones\n"
    )


async def test_token_command_prints_a_token_the_running_server_takes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = ("token", "--room", "shop", "--role", "host", "--name", "Ann", "--data", str(data))
    process = start_livehouse(*command, log_path=tmp_path / "log")
    printed, _ = await asyncio.to_thread(process.communicate)
    assert process.returncode == 0
    assert (tmp_path / "log").read_text() == ""
    assert printed.count("\n") == 1
    async with running_server(data=data) as server:
        headers = {"Authorization": f"Bearer {printed.strip()}"}
        assert (await server.http.get("/api/v1/rooms/shop", headers=headers)).status_code == 200


async def test_tls_serves_https_with_a_certificate_that_is_kept(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with running_server(data=data, arguments=["--tls"]) as server:
        assert server.url.startswith("https://")
        first = await asyncio.to_thread((data / "tls-cert.pem").read_bytes)
        assert (await server.http.get("/healthz")).status_code == 200
    async with running_server(data=data, arguments=["--tls"]) as server:
        assert await asyncio.to_thread((data / "tls-cert.pem").read_bytes) == first
