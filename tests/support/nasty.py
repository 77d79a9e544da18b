"""The corpus of nasty packets in tests/data/nasty, and mutations of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).resolve().parents[1] / "data" / "nasty" / "packets.txt"


@dataclass(frozen=True, slots=True)
class Nasty:
    """One packet. `protocol` is rtp, rtcp or stun; `why` says what is wrong with it."""

    protocol: str
    data: bytes
    why: str


def corpus(protocol: str | None = None) -> list[Nasty]:
    """Every packet, or those of one protocol."""
    rows = [line.split("\t") for line in FILE.read_text().splitlines() if line[0] != "#"]
    found = [Nasty(kind, bytes.fromhex(data), why) for kind, data, why in rows]
    return [packet for packet in found if protocol in (None, packet.protocol)]


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The packet with some bytes flipped, cut out, doubled or made up."""
    out = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(out)) if out else 0
        match rng.randrange(4):
            case 0 if out:
                out[at] ^= 1 << rng.randrange(8)
            case 1:
                del out[at : at + rng.randrange(1, 8)]
            case 2:
                out[at:at] = out[at : at + rng.randrange(1, 16)]
            case _:
                out[at:at] = rng.randbytes(rng.randrange(1, 8))
    return bytes(out)
