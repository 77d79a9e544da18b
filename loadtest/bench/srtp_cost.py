"""What does it cost to protect one viewer's copy of a packet, and which way is cheaper?

    python -m loadtest.bench.srtp_cost [--runs 7] [--bytes 1138]

Prints µs of CPU per packet for bursts of 1 and 9 packets: `cryptography`'s AES-GCM into
the send buffer against libsrtp in place. The two alternate within a run; the median and
the best of the runs are shown. `media/srtp.py` uses the winner.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

from media.srtp import PROFILES, GcmSender, LibSrtpSender, OutPacket, SrtpKeys, SrtpSender

PACKETS = 40_000


def measure(sender: SrtpSender, burst: list[OutPacket], first: int) -> float:
    """µs of CPU per packet over `PACKETS` packets; `first` keeps indexes rising."""
    out = memoryview(bytearray(64 * 1024))
    rounds = PACKETS // len(burst)
    protect = sender.protect
    started = time.process_time()
    for i in range(rounds):
        protect(out, 0, burst, first + i * len(burst), 90, 96, 0xCAFEBABE)
    return (time.process_time() - started) / (rounds * len(burst)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--bytes", type=int, default=1138, help="payload size")
    options = parser.parse_args()
    print(f"{'profile':26}{'sender':14}{'burst':>6}{'median µs':>11}{'best µs':>9}")
    for profile in PROFILES:
        for count in (1, 9):
            keys = SrtpKeys(profile, os.urandom(profile.key_bytes), os.urandom(profile.salt_bytes))
            senders: list[SrtpSender] = [LibSrtpSender(keys)]
            if profile.is_gcm:
                senders.insert(0, GcmSender(keys))
            burst: list[OutPacket] = [(i, 0, 0, os.urandom(options.bytes)) for i in range(count)]
            figures: list[list[float]] = [[] for _ in senders]
            for run in range(options.runs):
                for sender, row in zip(senders, figures, strict=True):
                    row.append(measure(sender, burst, run * PACKETS))
            for sender, row in zip(senders, figures, strict=True):
                print(
                    f"{profile.name:26}{sender.backend:14}{count:6}"
                    f"{statistics.median(row):11.2f}{min(row):9.2f}"
                )


if __name__ == "__main__":
    main()
