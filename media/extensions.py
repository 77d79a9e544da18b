"""Header extensions that viewers are sent, as blocks shared by many viewers. Pure.

A block is built once for a burst and each set of ids that viewers agreed on (browsers of
one make all use the same), and stands between header and payload of every packet of the
burst: one `bytes` join a packet, nothing computed per viewer.

- **abs-send-time** in every packet: without it browsers send no REMB. One value a burst:
  all its packets leave in one flush, and receivers group by 5 ms anyway.
- **playout-delay** with each key frame, and while a cached one is replayed: 0 to
  `PLAYOUT_MAX_MS`. It bounds how far behind the show a phone may fall after trouble.
  Above 500 ms on purpose: at or below it (and with a minimum of 0) Chromium takes its
  low-latency path, which shows each frame when it is decoded, unsmoothed and without
  regard to the sound.
- **abs-capture-time** with each key frame and once a second: when the picture was taken, on
  our clock as told in sender reports. Only in bursts of one frame, since it is the same
  for a whole block.

Lines without RTX get none. A plain resend repeats the packet's SRTP index, which is only
safe if every byte is repeated, and these bytes are not kept.

RFC 8285 (blocks), draft-holmer-rmcat-transport-wide-cc-extensions, and for each extension
the page at its URI.
"""

from __future__ import annotations

import functools
from typing import Final, NamedTuple

from media.rtp.packet import ExtensionUri, abs_send_time, build_extensions
from media.rtp.rtcp import ntp_from_unix

WRITTEN: Final = (
    ExtensionUri.ABS_SEND_TIME,
    ExtensionUri.PLAYOUT_DELAY,
    ExtensionUri.ABS_CAPTURE_TIME,
)
"""What a viewer's video line may agree to."""

PLAYOUT_MAX_MS: Final = 800
CAPTURE_INTERVAL_S: Final = 1.0
_PLAYOUT_UNIT_MS: Final = 10
_PLAYOUT_DELAY: Final = (PLAYOUT_MAX_MS // _PLAYOUT_UNIT_MS).to_bytes(3, "big")


class ExtensionIds(NamedTuple):
    """The ids one viewer's line agreed on; 0 where it did not."""

    abs_send_time: int
    playout_delay: int
    abs_capture_time: int


def ids_of(agreed: dict[str, int]) -> ExtensionIds | None:
    """The ids in a line's agreed extensions; None if there is nothing to write."""
    ids = _shared(*(agreed.get(uri, 0) for uri in WRITTEN))
    return ids if any(ids) else None


@functools.lru_cache(maxsize=256)
def _shared(*ids: int) -> ExtensionIds:
    """One object for all lines that agreed on the same, so that `is` tells them apart."""
    return ExtensionIds(*ids)


def write_block(
    ids: ExtensionIds, now: float, *, with_playout: bool, captured_unix_s: float | None
) -> bytes:
    """One block: `now` is when its packets leave, monotonic seconds. May be empty."""
    values: list[tuple[int, bytes]] = []
    if ids.abs_send_time:
        values.append((ids.abs_send_time, abs_send_time(now).to_bytes(3, "big")))
    if with_playout and ids.playout_delay:
        values.append((ids.playout_delay, _PLAYOUT_DELAY))
    if captured_unix_s is not None and ids.abs_capture_time:
        ntp = ntp_from_unix(captured_unix_s)
        values.append((ids.abs_capture_time, ntp.to_bytes(8, "big")))
    return build_extensions(values)
