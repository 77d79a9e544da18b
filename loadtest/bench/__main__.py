"""Every measurement of docs/benchmarks.md, one after the other, as Markdown.

    python -m loadtest.bench [NAME ...]

Each runs in a process of its own with a server of its own. Run nothing else beside it.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Final

from loadtest.report import machine

BENCHES: Final[dict[str, tuple[str, list[str]]]] = {
    "join": ("First picture after the WHEP POST", []),
    "relay_delay": ("Added relay delay", []),
    "relay_cpu": ("CPU per forwarded packet", []),
    "cascade": ("A pull between two media workers", []),
    "bid_to_last_phone": ("Bid to last phone", []),
    "ledger": ("Durable bids", []),
    "broadcast": ("One more viewer on the bus", []),
    "srtp_cost": ("Protecting one packet", []),
}
_OWN_HEADING: Final = frozenset({"join", "relay_delay", "cascade", "bid_to_last_phone"})


def main() -> int:
    """Run all, or those named; the exit status is 1 if any failed."""
    names = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}: {', '.join(BENCHES)}", file=sys.stderr)
        return 2
    print(f"Measured {time.strftime('%Y-%m-%d %H:%M %z')} on {machine()}.\n", flush=True)
    failed = []
    for name in names:
        title, arguments = BENCHES[name]
        command = [sys.executable, "-m", f"loadtest.bench.{name}", *arguments]
        result = subprocess.run(command, capture_output=True, text=True)
        if name in _OWN_HEADING:
            print(result.stdout, flush=True)
        else:
            shown = f"python -m loadtest.bench.{name}"
            print(f"### {title}\n\n`{shown}`\n\n```\n{result.stdout.strip()}\n```\n", flush=True)
        if result.returncode:
            failed.append(name)
            print(f"**{name} failed** ({result.returncode})\n", flush=True)
            print(result.stderr, file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
