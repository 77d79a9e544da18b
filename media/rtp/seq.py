"""Wrap-around arithmetic: sequence numbers and timestamps as integers without end.

On the wire a sequence number has 16 bits and a timestamp 32. Inside, both are
extended to plain integers that never wrap, so that "newer" is `>` and a distance is
`-`. The 16 and 32 bits exist only where bytes are read or written.

A number is taken to be the one nearest to a reference, usually the highest seen so
far (RFC 3711 §3.3.1 does the same for its index). Half a cycle away counts as older.
A stream's first number is used as it is; packets older than it may become negative,
which arithmetic and dictionaries take in their stride.
"""

from __future__ import annotations


def extend_seq(seq: int, reference: int) -> int:
    """The number nearest to `reference` whose low 16 bits are `seq`."""
    return reference - 0x8000 + ((seq - reference + 0x8000) & 0xFFFF)


def extend_ts(timestamp: int, reference: int) -> int:
    """The number nearest to `reference` whose low 32 bits are `timestamp`."""
    return reference - 0x80000000 + ((timestamp - reference + 0x80000000) & 0xFFFFFFFF)


def seq_distance(newer: int, older: int) -> int:
    """Signed distance of two 16-bit numbers: -32768 to 32767."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000


def ts_distance(newer: int, older: int) -> int:
    """Signed distance of two 32-bit timestamps in ticks: -2**31 to 2**31 - 1."""
    return ((newer - older + 0x80000000) & 0xFFFFFFFF) - 0x80000000
