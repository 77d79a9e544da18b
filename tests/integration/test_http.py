"""REST, pages and bad input of every kind, against one real server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interact.protocol import Reason
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOT = {
    "title": "A blue vase",
    "format": "english",
    "currency": "TWD",
    "start_price": 1000,
    "increment": 100,
    "duration_ms": 60_000,
}
OPERATIONS = Path(__file__).resolve().parents[2] / "docs" / "operations.md"
SDP = {"Content-Type": "application/sdp"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server() as running:
        yield running


def problem_of(answer: httpx.Response) -> dict[str, Any]:
    """The problem JSON of an answer, checked for form."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    problem: dict[str, Any] = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"] == "about:blank" and problem["title"]
    Reason(problem["reason"])
    assert "Traceback" not in answer.text
    return problem


async def refused(
    server: Server, reason: str, status: int, method: str, path: str, **how: Any
) -> None:
    """The request is refused so, and counted so."""
    before = await server.metric("livehouse_http_refusals_total", reason=reason)
    answer = await server.http.request(method, path, **how)
    assert (answer.status_code, problem_of(answer)["reason"]) == (status, reason), answer.text
    assert await server.metric("livehouse_http_refusals_total", reason=reason) == before + 1
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_guest_joins_and_may_watch_but_not_publish(server: Server) -> None:
    await refused(server, "not_allowed", 403, "GET", "/api/v1/rooms/lobby/join")
    made = await server.http.get("/api/v1/rooms/lobby", headers=server.bearer("lobby", "host"))
    assert made.status_code == 200  # the first use of a host's token makes the room
    joined = (await server.http.get("/api/v1/rooms/lobby/join")).json()
    assert joined["identity"].startswith("guest-")
    assert 0 < len(joined["name"]) <= 8
    assert joined["expires_at"] / 1000 > time.time()
    guest = {"Authorization": f"Bearer {joined['token']}"}
    assert (await server.http.get("/api/v1/rooms/lobby", headers=guest)).status_code == 200
    how = {"content": "v=0", "headers": SDP | guest}
    await refused(server, "not_allowed", 403, "POST", "/whip/lobby/main", **how)
    await refused(server, "wrong_room", 403, "POST", "/whep/other", **how)
    await refused(server, "not_live", 404, "POST", "/whep/lobby", **how)


async def test_unknown_room_looks_like_a_quiet_one(server: Server) -> None:
    async def state(room: str) -> dict[str, Any]:
        answer = await server.http.get(f"/api/v1/rooms/{room}", headers=server.bearer(room))
        found: dict[str, Any] = answer.json()
        return found | {"now": 0, "room": ""}

    made = await server.http.get("/api/v1/rooms/quiet", headers=server.bearer("quiet", "host"))
    assert made.status_code == 200
    assert await state("quiet") == await state("never")


async def test_room_with_options_closes_to_guests(server: Server) -> None:
    host = server.bearer("vip", "host")
    made = await server.http.post(
        "/api/v1/rooms", json={"room": "vip", "title": "VIP", "open": False}, headers=host
    )
    assert made.status_code == 201, made.text
    assert (made.json()["title"], made.json()["open"]) == ("VIP", False)
    await refused(server, "not_allowed", 403, "GET", "/api/v1/rooms/vip/join")
    opened = await server.http.patch("/api/v1/rooms/vip", json={"open": True}, headers=host)
    assert (opened.json()["title"], opened.json()["open"]) == ("VIP", True)
    assert (await server.http.get("/api/v1/rooms/vip/join")).status_code == 200
    listed = await server.http.get("/api/v1/rooms", headers=server.bearer("*", "admin"))
    assert "vip" in [room["room"] for room in listed.json()]
    own = await server.http.get("/api/v1/rooms", headers=host)
    assert [room["room"] for room in own.json()] == ["vip"]


async def test_lot_is_created_started_read_and_cancelled_over_rest(server: Server) -> None:
    host, viewer = server.bearer("lots", "host"), server.bearer("lots")
    base = "/api/v1/rooms/lots/lots"
    made = await server.http.post(base, json=LOT, headers=host)
    assert made.status_code == 201, made.text
    lot = made.json()["lot"]
    started = await server.http.post(f"{base}/{lot}/start", headers=host)
    assert started.json()["ends_at"] - started.json()["opened_at"] == 60_000
    read = await server.http.get(f"{base}/{lot}", headers=viewer)
    assert (read.json()["state"], read.json()["minimum"]) == ("open", 1000)
    listed = await server.http.get(base, headers=viewer)
    assert [item["lot"] for item in listed.json()["lots"]] == [lot]
    cancelled = await server.http.post(
        f"{base}/{lot}/cancel", json={"reason": "broken"}, headers=host
    )
    assert cancelled.status_code == 200, cancelled.text
    await refused(server, "bad_state", 409, "POST", f"{base}/{lot}/start", headers=host)
    await refused(server, "no_lot", 404, "GET", f"{base}/nope", headers=viewer)
    await refused(server, "not_allowed", 403, "POST", base, json=LOT, headers=viewer)
    wrong = LOT | {"start_price": -1}
    await refused(server, "bad_request", 400, "POST", base, json=wrong, headers=host)


async def test_host_issues_lesser_tokens_of_the_own_room_only(server: Server) -> None:
    host = server.bearer("shop", "host")
    wish = {"room": "shop", "role": "camera", "camera": "left", "ttl_s": 60}
    made = await server.http.post("/api/v1/tokens", json=wish, headers=host)
    assert made.status_code == 201, made.text
    left = {"Authorization": f"Bearer {made.json()['token']}"}
    how: dict[str, Any] = {"headers": SDP | left, "content": "nonsense"}
    await refused(server, "bad_sdp", 400, "POST", "/whip/shop/left", **how)
    await refused(server, "not_allowed", 403, "POST", "/whip/shop/right", **how)
    for change, reason in (
        ({"role": "host"}, "not_allowed"),
        ({"role": "admin"}, "not_allowed"),
        ({"room": "other"}, "wrong_room"),
        ({"room": "*"}, "wrong_room"),
    ):
        body = wish | change
        await refused(server, reason, 403, "POST", "/api/v1/tokens", json=body, headers=host)
    admin = server.bearer("*", "admin")
    for room in ("*", "any"):
        body = {"room": room, "role": "admin"}
        issued = await server.http.post("/api/v1/tokens", json=body, headers=admin)
        assert issued.status_code == 201, issued.text
    bad = {"room": "shop", "role": "viewer", "identity": "two words"}
    await refused(server, "bad_name", 400, "POST", "/api/v1/tokens", json=bad, headers=admin)


async def test_each_bad_token_gets_its_word(server: Server) -> None:
    expired = server.token("shop", "host", ttl_s=1)
    for header, reason in (
        (None, "no_token"),
        ("Basic abc", "no_token"),
        ("Bearer junk", "bad_token"),
        (f"Bearer {expired[:-2]}", "bad_token"),
        (f"Bearer {'a' * 5000}", "bad_token"),
    ):
        headers = SDP | ({"Authorization": header} if header else {})
        how: dict[str, Any] = {"headers": headers, "content": "v=0"}
        await refused(server, reason, 401, "POST", "/whip/shop/main", **how)
        await refused(server, reason, 401, "POST", "/whep/shop", **how)
        await refused(server, reason, 401, "GET", "/api/v1/rooms/shop", headers=headers)
    await asyncio.sleep(1.1)  # until its second is over
    headers = SDP | {"Authorization": f"Bearer {expired}"}
    await refused(server, "expired_token", 401, "POST", "/whip/shop/main", headers=headers)


async def test_access_is_settled_before_anything_else(server: Server) -> None:
    """Without a token, a wrong type, a reserved name or an impossible room shows nothing."""
    for path in ("/whip/shop/program", "/whip/a%20b/main", "/whep/shop/..;", "/whep/-x"):
        await refused(server, "no_token", 401, "POST", path, content="{}")


@pytest.mark.parametrize(
    ("reason", "status", "method", "path", "how"),
    [
        ("bad_sdp", 400, "POST", "/whip/shop/main", {"content": "v=0\r\nm=x", "headers": SDP}),
        ("bad_sdp", 400, "POST", "/whip/shop/main", {"content": "", "headers": SDP}),
        ("bad_sdp", 400, "POST", "/whip/shop/main", {"content": b"\xff\xfe", "headers": SDP}),
        ("unsupported_media_type", 415, "POST", "/whip/shop/main", {"json": {}}),
        ("unsupported_media_type", 415, "POST", "/whip/shop/main", {"content": "v=0"}),
        ("too_large", 413, "POST", "/whip/shop/main", {"content": "a" * 70_000, "headers": SDP}),
        ("bad_name", 400, "POST", "/whip/shop/program", {"content": "v=0", "headers": SDP}),
        ("bad_name", 400, "POST", "/whip/shop/a%20b", {"content": "v=0", "headers": SDP}),
        ("not_found", 404, "POST", "/whip/shop", {"content": "v=0", "headers": SDP}),
        ("not_found", 404, "POST", "/whip/shop/main/more", {"content": "v=0", "headers": SDP}),
        ("method_not_allowed", 405, "PUT", "/whip/shop/main", {}),
        ("method_not_allowed", 405, "DELETE", "/whep/shop", {}),
        ("method_not_allowed", 405, "POST", "/session/shop/s0b_x", {}),
        ("no_session", 404, "DELETE", "/session/shop/s0b_nonsense", {}),
        ("no_session", 404, "DELETE", "/session/shop/s9b_nonsense", {}),
        ("no_session", 404, "DELETE", "/session/shop/%00", {}),
        ("bad_request", 400, "PUT", "/session/shop/s0b_x/camera", {"content": "{"}),
        ("bad_request", 400, "PUT", "/session/shop/s0b_x/camera", {"json": {}}),
        ("bad_request", 400, "PUT", "/session/shop/s0b_x/camera", {"json": {"camera": 5}}),
        ("bad_request", 400, "PUT", "/session/shop/s0b_x/layer", {"json": {"max_height": "x"}}),
        ("bad_name", 400, "PUT", "/session/shop/s0b_x/camera", {"json": {"camera": "../x"}}),
        ("bad_request", 400, "POST", "/api/v1/rooms", {"content": "nonsense"}),
        ("bad_request", 400, "POST", "/api/v1/rooms", {"json": {"room": "shop", "colour": 1}}),
        ("bad_request", 400, "POST", "/api/v1/rooms", {"json": {"room": "shop", "open": "yes"}}),
        ("bad_name", 400, "POST", "/api/v1/rooms", {"json": {"room": "../etc"}}),
        ("bad_request", 400, "POST", "/api/v1/rooms/shop/lots", {"json": [1]}),
        ("bad_request", 400, "POST", "/api/v1/rooms/shop/lots", {"json": {"title": "x"}}),
        ("bad_name", 400, "PUT", "/api/v1/rooms/shop/program", {"json": {"camera": "program"}}),
        ("not_found", 404, "GET", "/api/v1/rooms/a%20b", {}),
        ("not_found", 404, "GET", "/api/v2/rooms", {}),
        ("not_found", 404, "GET", "/v/a%20b", {}),
        ("not_found", 404, "GET", "/wp-login.php", {}),
        ("not_found", 404, "GET", "/assets/../../auth.py", {}),
        ("not_found", 404, "GET", "/assets/%2e%2e/%2e%2e/auth.py", {}),
        ("not_found", 404, "GET", "/assets/%00", {}),
    ],
)
async def test_bad_request_gets_its_word_and_is_counted(
    server: Server, reason: str, status: int, method: str, path: str, how: dict[str, Any]
) -> None:
    token = {"Authorization": f"Bearer {server.token('*', 'admin')}"}
    how = how | {"headers": how.get("headers", {}) | token}
    await refused(server, reason, status, method, path, **how)


async def test_chunked_body_cannot_grow_past_the_limit(server: Server) -> None:
    async def parts(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"a" * 8192

    answer = await server.http.post("/whip/shop/main", content=parts(40), headers=SDP)
    assert (answer.status_code, answer.json()["reason"]) == (413, "too_large")
    # Somebody who goes on and on is cut off in the middle.
    with pytest.raises(httpx.TransportError):
        await server.http.post("/whip/shop/main", content=parts(100_000), headers=SDP)


async def raw(server: Server, sent: bytes) -> bytes:
    """What the server says to bytes of our own, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    try:
        writer.write(sent)
        return await asyncio.wait_for(reader.read(65_536), 15)
    finally:
        writer.close()


async def test_head_that_is_no_head_or_too_large_is_refused(server: Server) -> None:
    before = await server.metric("livehouse_http_refusals_total", reason="bad_request")
    answer = await raw(server, b"\x16\x03\x01 hello\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ") and b'"reason":"bad_request"' in answer
    assert await server.metric("livehouse_http_refusals_total", reason="bad_request") > before
    head = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    many = b"".join(b"X-%d: %b\r\n" % (i, b"a" * 100) for i in range(400))
    assert (await raw(server, head + many + b"\r\n")).startswith(b"HTTP/1.1 431 ")
    one = b"X-A: " + b"a" * 60_000
    assert (await raw(server, head + one)).startswith(b"HTTP/1.1 431 ")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(junk=st.binary(min_size=1, max_size=300))
async def test_any_bytes_at_all_leave_the_server_well(server: Server, junk: bytes) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
    writer.write(junk)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    assert (await server.http.get("/healthz")).json() == {"status": "ok"}


async def test_cross_origin_page_may_call_and_read_the_session_headers(server: Server) -> None:
    origin = {"Origin": "https://shop.example"}
    preflight = await server.http.options(
        "/whep/shop",
        headers=origin
        | {
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "authorization,content-type",
        },
    )
    assert preflight.status_code == 200
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    answer = await server.http.post("/whep/shop", headers=origin)
    exposed = answer.headers["Access-Control-Expose-Headers"]
    assert {"Location", "ETag", "Link"} <= {word.strip() for word in exposed.split(",")}
    plain = await server.http.options("/whip/shop/main")
    assert (plain.status_code, plain.headers["Accept-Post"]) == (200, "application/sdp")


async def test_openapi_describes_every_route(server: Server) -> None:
    document = (await server.http.get("/api/v1/openapi.json")).json()
    paths = document["paths"]
    wanted = (
        "/whip/{room}/{camera}",
        "/whep/{room}",
        "/session/{room}/{session}",
        "/api/v1/rooms",
        "/api/v1/tokens",
        "/api/v1/rooms/{room}/lots/{lot}/start",
    )
    for path in wanted:
        assert path in paths, path
    for path, verbs in paths.items():
        for verb, operation in verbs.items():
            assert operation.get("summary"), (verb, path)


async def test_pages_carry_safe_headers(server: Server) -> None:
    answer = await server.http.get("/v/shop")
    assert answer.status_code in (200, 404)  # 404 with a hint until the pages are built
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy and "object-src 'none'" in policy
    assert "camera=(self)" in answer.headers["Permissions-Policy"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if answer.status_code == 404:
        assert "make setup" in answer.text
    slash = await server.http.get("/v/shop/")
    assert (slash.status_code, slash.headers["Location"]) == (308, "/v/shop")
    assert (await server.http.get("/")).status_code == 200


async def test_metrics_have_no_label_from_the_wire(server: Server) -> None:
    await server.http.get("/v/secret-room-name")
    await server.http.get("/some/unknown/path")
    text = (await server.http.get("/metrics")).text
    assert "secret-room-name" not in text and "unknown/path" not in text
    assert 'route="/v/{room}"' in text


async def test_every_live_metric_has_its_line_in_the_operations_page(server: Server) -> None:
    page = OPERATIONS.read_text()
    for line in (await server.http.get("/metrics")).text.splitlines():
        if line.startswith("# TYPE livehouse_"):
            assert f"| `{line.split()[2]}` |" in page, line


async def test_no_token_reaches_the_log(server: Server) -> None:
    token = server.token()
    await server.http.post(f"/whep/shop?token={token}", content="v=0", headers=SDP)
    assert token not in server.log
    assert json.dumps(token) not in server.log
