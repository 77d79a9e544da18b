"""Why a datagram or packet went no further. Every drop is counted under one of these."""

from __future__ import annotations

from enum import StrEnum
from typing import TypeAlias


class DropReason(StrEnum):
    """The values are the words of the statistics and of `/metrics`."""

    # At the socket, before a peer is known.
    UNKNOWN_PEER = "unknown_peer"
    UNKNOWN_PROTOCOL = "unknown_protocol"
    BAD_STUN = "bad_stun"
    DTLS_QUEUE_FULL = "dtls_queue_full"
    # From a known peer.
    TOO_EARLY = "too_early"
    NOT_AUTHENTIC = "not_authentic"
    REPLAYED = "replayed"
    MALFORMED = "malformed"
    UNEXPECTED = "unexpected"
    UNKNOWN_STREAM = "unknown_stream"
    UNKNOWN_CODEC = "unknown_codec"
    REPEATED = "repeated"
    # Towards a viewer.
    NO_COMMON_CODEC = "no_common_codec"
    NOT_CONNECTED = "not_connected"
    OUTDATED = "outdated"
    FORGOTTEN = "forgotten"
    RESEND_LIMIT = "resend_limit"
    SLOW_VIEWER = "slow_viewer"
    # A fault of ours, logged once a second at most.
    INTERNAL = "internal"


Drops: TypeAlias = dict[DropReason, int]
"""Packets by reason; a reason that never happened may be missing."""


def count_drop(drops: Drops, reason: DropReason, packets: int = 1) -> None:
    drops[reason] = drops.get(reason, 0) + packets
