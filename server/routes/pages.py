"""The pages and their assets, as Vite left them in `server/static`.

Files under `/assets/` have a hash in their name, so they never change: browsers keep
them for a year, and prebuilt `.br` or `.gz` forms are sent where the browser takes them.
The HTML itself is asked for each time and costs one `304`.
"""

from __future__ import annotations

import hashlib
import html
import mimetypes
from pathlib import Path
from typing import Final

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from interact.protocol import Reason, is_room_name
from server.errors import RequestError
from server.services import Services, Wired

router = APIRouter(include_in_schema=False)

PAGES: Final = ("viewer.html", "studio.html", "screen.html")
"""What a build must hold; the director's and the administration's come later."""
LANDING: Final = "index.html"
ADMIN: Final = "admin.html"
MAX_ASSET_BYTES: Final = 32 * 1024 * 1024
_ENCODINGS: Final = (("br", ".br"), ("gzip", ".gz"))
_IMMUTABLE: Final = "public, max-age=31536000, immutable"

_CSP: Final = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' blob: mediastream:",
        "font-src 'self' data:",
        "connect-src 'self' ws: wss: stun: turn: blob:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_PAGE_HEADERS: Final = {
    "Content-Security-Policy": _CSP,
    "Permissions-Policy": (
        "camera=(self), microphone=(self), display-capture=(self), fullscreen=(self), "
        "autoplay=(self), screen-wake-lock=(self), gyroscope=(self), accelerometer=(self), "
        "geolocation=(), payment=(), usb=()"
    ),
    "Cache-Control": "no-cache",
}
_NOT_BUILT: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Livehouse</title>
<body style="font:18px/1.6 system-ui;max-width:34rem;margin:20vh auto;padding:0 1.5rem">
<h1>This page is not built yet</h1>
<p>Run <code>make setup</code> in the Livehouse folder, then load this page again.</p>
"""
_LANDING: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Livehouse</title>
<body style="font:18px/1.6 system-ui;max-width:34rem;margin:20vh auto;padding:0 1.5rem;
background:#0b0a10;color:#f4f2fa">
<h1>Livehouse</h1>
<p>To watch, open the link or scan the code you were given.</p>
"""


@router.get("/")
async def landing(request: Request, services: Wired) -> Response:
    """A page that says what this is; people come in by a room's link."""
    if (services.static / LANDING).is_file():
        return _page(request, services, LANDING)
    return HTMLResponse(_LANDING, headers=_PAGE_HEADERS)


@router.get("/admin")
async def admin(request: Request, services: Wired) -> Response:
    """The administration page."""
    return _page(request, services, ADMIN)


@router.get("/favicon.ico")
async def favicon(services: Wired) -> Response:
    """The icon, where the build has one; else nothing, quietly."""
    path = services.static / "favicon.ico"
    if not path.is_file():
        return Response(status_code=204, headers={"Cache-Control": "max-age=86400"})
    return Response(path.read_bytes(), media_type="image/x-icon")


@router.get("/assets/{path:path}")
async def asset(request: Request, path: str, services: Wired) -> Response:
    """A hashed file of the build."""
    found = _inside(services.static / "assets", path)
    if found is None:
        raise RequestError(Reason.NOT_FOUND)
    media_type = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
    headers = {"Cache-Control": _IMMUTABLE, "Vary": "Accept-Encoding"}
    accepted = request.headers.get("accept-encoding", "")
    for encoding, suffix in _ENCODINGS:
        packed = found.with_name(found.name + suffix)
        if encoding in accepted and packed.is_file():
            headers["Content-Encoding"] = encoding
            found = packed
            break
    return Response(found.read_bytes(), headers=headers, media_type=media_type)


@router.get("/v/{room}")
async def viewer(request: Request, room: str, services: Wired) -> Response:
    """The viewer's phone."""
    return _room_page(request, services, room, "viewer.html")


@router.get("/studio/{room}")
async def studio(request: Request, room: str, services: Wired) -> Response:
    """The shop staff's studio."""
    return _room_page(request, services, room, "studio.html")


@router.get("/screen/{room}")
async def screen(request: Request, room: str, services: Wired) -> Response:
    """The big screen."""
    return _room_page(request, services, room, "screen.html")


@router.get("/director/{room}")
async def director(request: Request, room: str, services: Wired) -> Response:
    """The director's desk."""
    return _room_page(request, services, room, "director.html")


@router.get("/v/{room}/")
@router.get("/studio/{room}/")
@router.get("/screen/{room}/")
@router.get("/director/{room}/")
async def without_slash(request: Request, room: str) -> Response:
    """People type a slash at the end."""
    if not is_room_name(room):
        raise RequestError(Reason.NOT_FOUND)
    return RedirectResponse(request.url.path.rstrip("/"), 308)


def _room_page(request: Request, services: Services, room: str, name: str) -> Response:
    """A page of a room. Whether the room exists is nobody's business here."""
    if not is_room_name(room):
        raise RequestError(Reason.NOT_FOUND)
    return _page(request, services, name)


def _page(request: Request, services: Services, name: str) -> Response:
    """A built page, told where phones reach the server.

    Staff open the studio on the server's own machine, since browsers hand out cameras to
    localhost; the link and the QR code they share must not say localhost.
    """
    try:
        content = (services.static / name).read_bytes()
    except OSError:
        return HTMLResponse(_NOT_BUILT, 404, headers=_PAGE_HEADERS)
    address = html.escape(services.settings.public_url)
    meta = f'<meta name="livehouse-url" content="{address}" />\n  </head>'
    content = content.replace(b"</head>", meta.encode(), 1)
    etag = f'"{hashlib.blake2b(content, digest_size=8).hexdigest()}"'
    headers = {**_PAGE_HEADERS, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return HTMLResponse(content, headers=headers)


def _inside(directory: Path, relative: str) -> Path | None:
    """The file below `directory`, or None: no way out of it by `..` or a link."""
    if "\x00" in relative:
        return None
    try:
        found = (directory / relative).resolve(strict=True)
        is_wanted = found.is_relative_to(directory.resolve()) and found.is_file()
        return found if is_wanted and found.stat().st_size <= MAX_ASSET_BYTES else None
    except OSError:
        return None
