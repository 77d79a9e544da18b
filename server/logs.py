"""Calm logging: one line an event, `event key=value`, on standard error.

Other packages log through the standard library with the same shape. Query strings and
headers never reach a log, so neither do tokens: uvicorn's access log is off for good.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Final

_LOGGER: Final = logging.getLogger("livehouse")
_QUIET: Final = {
    "uvicorn.access": logging.CRITICAL,
    "uvicorn.error": logging.WARNING,
    "uvicorn.asgi": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "websockets": logging.WARNING,
    "asyncio": logging.WARNING,
    "aiortc": logging.WARNING,
    "aioice": logging.WARNING,
    "multipart": logging.WARNING,
}
_PLAIN: Final = re.compile(r"[^\s\"=]+\Z")


class _Formatter(logging.Formatter):
    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process} %(message)s")
        self.converter = time.gmtime
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"
        self.default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        record.levelname = record.levelname.lower()
        return super().format(record)


def setup_logging(level: str, process: str) -> None:
    """Send everything to standard error; called once by each process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(process))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, lowest in _QUIET.items():
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
        logger.setLevel(max(lowest, root.level))


def log(event: str, /, *, level: str = "info", **values: object) -> None:
    """Log one event with its values; None values are left out."""
    number = logging.getLevelNamesMapping()[level.upper()]
    if _LOGGER.isEnabledFor(number):
        _LOGGER.log(number, "%s", event_line(event, values))


def event_line(event: str, values: dict[str, object]) -> str:
    """`event key=value …`; a value with spaces is quoted, line ends never get through."""
    return " ".join(
        [event, *(f"{key}={_value(value)}" for key, value in values.items() if value is not None)]
    )


def _value(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    text = str(value)
    if _PLAIN.match(text) and text.isprintable():
        return text
    return '"' + text.encode("unicode_escape").decode("ascii").replace('"', "'") + '"'
