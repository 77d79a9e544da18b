"""The other web workers of this machine: whether they answer, and their figures.

A scrape reaches any one worker through the shared port; that one asks the others on their
private listeners, with the secret that only children of one supervisor know.
"""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import Iterable, Sequence
from typing import Final

import httpx

from server.children import WebPeer

TIMEOUT_S: Final = 1.5
FIGURES: Final = "/internal/figures"
"""Path of one worker's own figures; needs the secret."""

_OF_ALL: Final = "livehouse_media_"
"""Families that every worker shows alike: taken from the one that was asked."""


class Siblings:
    """The other web workers, as one of them sees them."""

    def __init__(self, index: int, peers: Sequence[WebPeer], secret: str, cert: str | None) -> None:
        self.index = index
        self._secret = secret
        self._others = [peer for peer in peers if peer.index != index]
        self._scheme = "http" if cert is None else "https"
        # The certificate names the public host; on loopback the secret tells who is who.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {secret}"},
            timeout=TIMEOUT_S,
            trust_env=False,
            verify=context,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def is_sibling(self, authorization: str | None) -> bool:
        """Whether a request comes from another worker."""
        return hmac.compare_digest(
            (authorization or "").encode(), f"Bearer {self._secret}".encode()
        )

    async def states(self) -> dict[str, str]:
        """`web{i}`: `ok` or `away`, of each other worker."""
        answers = await asyncio.gather(*(self._get(peer, "/healthz") for peer in self._others))
        return {
            f"web{peer.index}": "ok" if answer is not None else "away"
            for peer, answer in zip(self._others, answers, strict=True)
        }

    async def figures(self, own: bytes) -> bytes:
        """The Prometheus text of all workers, each series labelled `web`; `own` if alone."""
        if not self._others:
            return own
        answers = await asyncio.gather(*(self._get(peer, FIGURES) for peer in self._others))
        texts = [(self.index, own.decode())]
        for peer, answer in zip(self._others, answers, strict=True):
            if answer is not None:
                texts.append((peer.index, answer))
        return merged(texts).encode()

    async def _get(self, peer: WebPeer, path: str) -> str | None:
        try:
            answer = await self._client.get(f"{self._scheme}://127.0.0.1:{peer.port}{path}")
        except httpx.HTTPError:
            return None
        return answer.text if answer.status_code == 200 else None


def merged(texts: Iterable[tuple[int, str]]) -> str:
    """Several workers' Prometheus texts as one; the first is the worker that was asked."""
    families: dict[str, list[str]] = {}
    for position, (index, text) in enumerate(texts):
        family: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                name = line.split(" ", 3)[2]
                is_new = name not in families
                family = families.setdefault(name, [])
                if is_new:
                    family.append(line)
            elif line.startswith("#"):
                if line not in family:
                    family.append(line)
            elif line.startswith(_OF_ALL):
                if position == 0:
                    family.append(line)
            elif line:
                family.append(_labelled(line, index))
    return "".join(f"{line}\n" for family in families.values() for line in family)


def _labelled(line: str, index: int) -> str:
    head, brace, rest = line.partition("{")
    if brace:
        return f'{head}{{web="{index}",{rest}'
    name, _, value = line.partition(" ")
    return f'{name}{{web="{index}"}} {value}'
