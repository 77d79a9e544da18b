"""What every child process does alike: settings in, status out, when to stop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from server.children import ChildSettings
from server.logs import setup_logging

ORPHAN_GRACE_S: Final = 4.0
"""How long an orphan may take to stop by itself before it ends the hard way."""
HEARTBEAT_S: Final = 2.0
EXIT_FATAL: Final = 2
"""Exit status of a child that says why it can never start; it is not restarted."""

SettingsT = TypeVar("SettingsT", bound=ChildSettings)


class Fatal(Exception):
    """This child cannot work until a person changes something; one line says what."""


class Runtime:
    """A child's line to its supervisor. `stop` is set once, when the child must end."""

    def __init__(self, status_fd: int) -> None:
        self.stop = asyncio.Event()
        self._status_fd = status_fd
        os.set_blocking(status_fd, False)  # a stuck supervisor must not stop this loop
        self._loop = asyncio.get_running_loop()

    def ready(self) -> None:
        """Tell the supervisor that this child now serves."""
        self._say({"event": "ready"})

    def fatal(self, message: str) -> None:
        """Tell the supervisor why it is no use to start this child again."""
        self._say({"event": "fatal", "message": message})

    async def _beat(self) -> None:
        """Show that the event loop still turns; silence gets the child replaced."""
        while True:
            self._say({"event": "alive"})
            await asyncio.sleep(HEARTBEAT_S)

    def _say(self, message: dict[str, str]) -> None:
        # A supervisor that is gone reads nothing; the end of stdin stops this child.
        with contextlib.suppress(OSError):
            os.write(self._status_fd, msgspec.json.encode(message) + b"\n")

    def watch_supervisor(self) -> None:
        """Stop when standard input ends; leave by force if the loop is stuck then."""

        def wait_for_end() -> None:
            with contextlib.suppress(OSError):
                while os.read(0, 4096):
                    pass
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self.stop.set)
            threading.Event().wait(ORPHAN_GRACE_S)
            os._exit(1)

        threading.Thread(target=wait_for_end, name="supervisor-watch", daemon=True).start()

    def handle_signals(self) -> None:
        """SIGTERM stops; SIGINT is the supervisor's to handle (Ctrl-C reaches it too)."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        self._loop.add_signal_handler(signal.SIGTERM, self.stop.set)


def run_child(
    settings_type: type[SettingsT], main: Callable[[SettingsT, Runtime], Awaitable[None]]
) -> None:
    """Run one child process to its end and exit. Called under `__main__` only."""
    settings = msgspec.json.decode(_read_line(), type=settings_type)
    # Inherited once, by this process alone: the child's own children must not hold it.
    os.set_inheritable(settings.status_fd, False)
    setup_logging(settings.log_level, settings.name)
    is_fatal = False

    async def run() -> None:
        nonlocal is_fatal
        runtime = Runtime(settings.status_fd)
        runtime.watch_supervisor()
        runtime.handle_signals()
        heartbeat = asyncio.create_task(runtime._beat(), name="heartbeat")
        try:
            await main(settings, runtime)
        except Fatal as error:
            runtime.fatal(str(error))
            is_fatal = True
        finally:
            heartbeat.cancel()

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(run())
    sys.exit(EXIT_FATAL if is_fatal else 0)


def _read_line() -> bytes:
    """One line from standard input, unbuffered: what follows belongs to the watcher."""
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, 1)
        if not chunk:
            break
        line += chunk
    return bytes(line)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed; asyncio's own loop elsewhere."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
