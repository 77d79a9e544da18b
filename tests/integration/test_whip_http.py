"""WHIP and WHEP over HTTP to the letter, against the real server.

Each test names the clause it holds us to; no media flows here but what makes a camera live.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from interact.protocol import Role
from loadtest.whip import Publisher
from media.stage.feed import StageFeed, Unit
from server.ice import TURN_TTL_S, turn_credentials
from tests.support.server import Server, running_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

OFFERS = Path(__file__).resolve().parents[1] / "data" / "offers"
SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
ICE = ("--ice-server", "stun:stun.example:3478", "--ice-server", "turn:turn.example?secret=s3cret")


def offer(name: str) -> str:
    return (OFFERS / f"{name}.sdp").read_bytes().decode()


def credentials(sdp: str) -> tuple[str, str]:
    found = re.search(r"a=ice-ufrag:(\S+)\r?\na=ice-pwd:(\S+)", sdp)
    assert found is not None
    return found[1], found[2]


def fragment(ufrag: str, pwd: str, *more: str) -> str:
    lines = ["m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=mid:0", f"a=ice-ufrag:{ufrag}"]
    return "\r\n".join([*lines, f"a=ice-pwd:{pwd}", *more, ""])


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def server() -> AsyncIterator[Server]:
    async with running_server(arguments=ICE) as running:
        yield running


async def published(server: Server, camera: str = "main") -> httpx.Response:
    headers = SDP | server.bearer(role=Role.HOST)
    body = offer("chromium-publish")
    response = await server.http.post(f"/whip/shop/{camera}", content=body, headers=headers)
    assert response.status_code == 201, response.text
    return response


def is_problem(response: httpx.Response, status: int, reason: str) -> bool:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    body = response.json()
    assert (body["status"], body["reason"]) == (status, reason)
    return bool(body["title"])


# RFC 9725 §4.2: the POST.


async def test_created_names_session_and_generation(server: Server) -> None:
    response = await published(server)
    assert response.headers["Content-Type"] == "application/sdp"
    assert re.fullmatch(r"/session/shop/s\d+b_[\w-]{22}", response.headers["Location"])
    assert re.fullmatch(r'"[^"]+"', response.headers["ETag"])
    lines = response.text.split("\r\n")
    assert lines.count("a=rtcp-mux-only") == lines.count("a=recvonly") == 2
    assert {"a=ice-lite", "a=ice-options:trickle ice2", "a=end-of-candidates"} <= set(lines)


async def test_posts_that_cannot_be_understood(server: Server) -> None:
    token = server.bearer(role=Role.HOST)
    cases: list[tuple[str, str, int, str]] = [
        ("text/plain", offer("chromium-publish"), 415, "unsupported_media_type"),
        ("application/sdp", "", 400, "bad_sdp"),
        ("application/sdp", "v=0\r\nnonsense\r\n", 400, "bad_sdp"),
        ("application/sdp", offer("chromium-play"), 400, "bad_sdp"),  # recvonly: §4.2
        ("application/sdp", "x" * 70_000, 413, "too_large"),
    ]
    for kind, body, status, reason in cases:
        headers = token | {"Content-Type": kind}
        response = await server.http.post("/whip/shop/bad", content=body, headers=headers)
        assert is_problem(response, status, reason), (kind, body[:20])


async def test_codec_refusal_lists_what_would_work(server: Server) -> None:
    body = re.sub(r"(VP8|VP9|H264|AV1)/90000", "H265/90000", offer("chromium-publish"))
    headers = SDP | server.bearer(role=Role.HOST)
    response = await server.http.post("/whip/shop/bad", content=body, headers=headers)
    assert is_problem(response, 422, "no_codec")
    assert response.json()["supported"] == ["VP8", "VP9", "H264", "AV1"]
    assert response.json()["kind"] == "video"


async def test_nobody_live_says_when_to_ask_again(server: Server) -> None:
    headers = SDP | server.bearer("empty")
    response = await server.http.post(
        "/whep/empty", content=offer("chromium-play"), headers=headers
    )
    assert is_problem(response, 404, "not_live")
    assert int(response.headers["Retry-After"]) >= 1


# §4.7: tokens.


async def test_without_a_token_nothing_is_told(server: Server) -> None:
    created = await published(server)
    session = created.headers["Location"]
    etag = {"If-Match": created.headers["ETag"]}
    body = fragment(*credentials(offer("chromium-publish")))
    attempts = [
        await server.http.post("/whip/shop/main", content=offer("chromium-publish"), headers=SDP),
        await server.http.patch(session, content=body, headers=FRAGMENT | etag),
        await server.http.delete(session),
        await server.http.get(session),
    ]
    for response in attempts:
        assert is_problem(response, 401, "no_token")
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    other = await server.http.delete(session, headers=server.bearer("elsewhere", Role.HOST))
    assert is_problem(other, 403, "wrong_room")


# §4.1: other methods; §4.2: OPTIONS and CORS.


async def test_get_is_an_empty_success_and_head_tells_a_player(server: Server) -> None:
    for path in ("/whip/shop/main", "/whep/shop", "/whep/shop/main"):
        for method in ("GET", "HEAD"):
            response = await server.http.request(method, path)
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["Content-Type"] == "application/sdp"


async def test_session_is_there_until_it_is_ended(server: Server) -> None:
    session = (await published(server)).headers["Location"]
    host = server.bearer(role=Role.HOST)
    assert (await server.http.get(session, headers=host)).status_code == 204
    # An entity tag means nothing to DELETE (§4.3.1).
    ended = await server.http.delete(session, headers=host | {"If-Match": '"old"'})
    assert (ended.status_code, ended.content) == (200, b"")
    for method in ("GET", "DELETE"):
        again = await server.http.request(method, session, headers=host)
        if method == "DELETE":
            assert is_problem(again, 404, "no_session")
        assert again.status_code == 404


async def test_wrong_methods_name_the_right_ones(server: Server) -> None:
    session = (await published(server)).headers["Location"]
    for path, methods, allowed in (
        ("/whip/shop/main", ("PUT", "PATCH", "DELETE"), "POST"),
        ("/whep/shop", ("PUT", "PATCH", "DELETE"), "POST"),
        ("/whep/shop/main", ("PUT", "PATCH", "DELETE"), "POST"),
        (session, ("PUT", "POST"), "PATCH, DELETE"),
    ):
        for method in methods:
            response = await server.http.request(method, path)
            assert is_problem(response, 405, "method_not_allowed")
            assert response.headers["Allow"].startswith(allowed)


async def test_options_says_what_may_be_posted(server: Server) -> None:
    for path in ("/whip/shop/main", "/whep/shop", "/whep/shop/main"):
        response = await server.http.options(path)
        assert response.status_code == 200
        assert response.headers["Accept-Post"] == "application/sdp"
        assert "Link" not in response.headers  # credentials are for those with a token (§4.6)
    session = await server.http.options("/session/shop/any")
    assert session.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"


async def test_pages_of_other_origins_may_call(server: Server) -> None:
    origin = {"Origin": "https://shop.example"}
    wish = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    for path in ("/whip/shop/main", "/whep/shop"):
        preflight = await server.http.options(path, headers=origin | wish)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Origin"] == "*"
        assert preflight.headers["Accept-Post"] == "application/sdp"
        assert "Link" not in preflight.headers
    patch = wish | {
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization,content-type,if-match",
    }
    assert (await server.http.options("/session/a/b", headers=origin | patch)).status_code == 200
    headers = SDP | origin | server.bearer(role=Role.HOST)
    created = await server.http.post(
        "/whip/shop/main", content=offer("chromium-publish"), headers=headers
    )
    exposed = created.headers["Access-Control-Expose-Headers"]
    assert {"Location", "ETag", "Link"} <= set(exposed.split(", "))


# §4.6: ICE servers.


async def test_ice_servers_come_with_credentials_that_end(server: Server) -> None:
    created = await published(server)
    authorized = await server.http.options("/whip/shop/main", headers=server.bearer(role=Role.HOST))
    for response in (created, authorized):
        stun, turn = response.headers.get_list("Link")
        assert stun == '<stun:stun.example:3478>; rel="ice-server"'
        found = re.search(r'username="(\d+):test-host"; credential="([^"]+)"', turn)
        assert found is not None, turn
        ends = int(found[1])
        assert abs(ends - time.time() - TURN_TTL_S) < 60
        assert turn_credentials("s3cret", "test-host", ends - TURN_TTL_S)[1] == found[2]


# §4.3: PATCH.


async def test_trickled_candidates_are_taken_without_a_word(server: Server) -> None:
    created = await published(server)
    mine = credentials(offer("chromium-publish"))
    candidates = (
        "a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0",
        "a=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active",
        "a=candidate:3 1 udp 2122260223 8e4c8bbc.local 61764 typ host",
        "a=candidate:4 1 carrier-pigeon 1 nowhere 1 typ coop",
        "a=end-of-candidates",
    )
    for tag in (created.headers["ETag"], "*", f'"other", {created.headers["ETag"]}'):
        response = await server.http.patch(
            created.headers["Location"],
            content=fragment(*mine, *candidates),
            headers=FRAGMENT | server.bearer(role=Role.HOST) | {"If-Match": tag},
        )
        assert (response.status_code, response.content) == (204, b"")
        assert "ETag" not in response.headers


async def test_patches_that_cannot_be_taken(server: Server) -> None:
    created = await published(server)
    host = server.bearer(role=Role.HOST)
    good = fragment(*credentials(offer("chromium-publish")))
    tag = {"If-Match": created.headers["ETag"]}
    weak = {"If-Match": f"W/{created.headers['ETag']}"}
    cases: list[tuple[dict[str, str], str, int, str]] = [
        (FRAGMENT, good, 428, "etag_missing"),
        (FRAGMENT | {"If-Match": '"stale"'}, good, 412, "etag_mismatch"),
        (FRAGMENT | weak, good, 412, "etag_mismatch"),  # RFC 9110 §13.1.1: strong only
        (SDP | tag, good, 415, "unsupported_media_type"),
        (FRAGMENT | tag, "a=mid:0\r\n", 400, "bad_sdp"),
        (FRAGMENT | tag, "nonsense", 400, "bad_sdp"),
    ]
    for headers, body, status, reason in cases:
        response = await server.http.patch(
            created.headers["Location"], content=body, headers=headers | host
        )
        assert is_problem(response, status, reason), reason
    gone = await server.http.patch(
        "/session/shop/s0b_0123456789012345678901", content=good, headers=FRAGMENT | tag | host
    )
    assert is_problem(gone, 404, "no_session")


async def test_new_credentials_restart_ice_under_a_new_etag(server: Server) -> None:
    created = await published(server)
    session, first = created.headers["Location"], created.headers["ETag"]
    host = server.bearer(role=Role.HOST)
    new = ("newFragment", "new-password-of-32-characters-xx".replace("-", "+"))
    response = await server.http.patch(
        session, content=fragment(*new), headers=FRAGMENT | host | {"If-Match": "*"}
    )
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith("application/trickle-ice-sdpfrag")
    assert response.headers["ETag"] not in ("", first)
    lines = response.text.split("\r\n")
    ours = credentials(response.text)
    assert ours[0] != credentials(created.text)[0] and ours[1] != credentials(created.text)[1]
    # The same ICE attributes as in the answer, and every candidate (§4.3.3).
    for name in ("a=ice-lite", "a=ice-options:", "a=candidate:", "a=end-of-candidates"):
        in_answer = {line for line in created.text.split("\r\n") if line.startswith(name)}
        assert in_answer and in_answer == {line for line in lines if line.startswith(name)}

    async def trickle(tag: str, mine: tuple[str, str]) -> int:
        headers = FRAGMENT | host | {"If-Match": tag}
        answer = await server.http.patch(session, content=fragment(*mine), headers=headers)
        return answer.status_code

    assert await trickle(first, new) == 412
    assert await trickle(response.headers["ETag"], new) == 204


# The picture must fit: needs a camera that sends.


async def test_viewer_without_the_cameras_codec_is_told_what_would_work(server: Server) -> None:
    loop = asyncio.get_running_loop()
    live = asyncio.Event()
    feed = StageFeed(("wide",), fps=10)
    publisher = Publisher(
        server.http,
        f"{server.url}/whip/codecs/wide",
        lambda: server.token("codecs", Role.HOST),
        request_key=lambda: feed.request_key("wide"),
        on_state=lambda state: live.set() if state == "live" else None,
    )

    def dispatch(unit: Unit) -> None:
        publisher.feed(unit)

    task = asyncio.create_task(publisher.run())
    feed.start(lambda unit: loop.call_soon_threadsafe(dispatch, unit))
    try:
        await asyncio.wait_for(live.wait(), 20)
        body = re.sub(r"(VP8|H264|AV1)/90000", "VP9/90000", offer("chromium-play"))
        headers = SDP | server.bearer("codecs")
        response = await server.http.post("/whep/codecs", content=body, headers=headers)
        assert is_problem(response, 422, "no_codec")
        assert response.json()["supported"] == ["H264"]
        assert "H264" in response.json()["detail"]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.to_thread(feed.stop)
