"""What `/metrics` shows: the web worker's own counters and the media workers' figures.

No label ever holds a room, a person or a path from the wire: routes are templates,
reasons and statuses are closed sets, workers are numbered. So the page stays the same
size however many people come.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from interact.bus import BusStats
from interact.protocol import Reason, Role

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_MAX_MEDIA_SERIES: Final = 200
"""Series folded in from one media worker at most; a worker that invents names is cut off."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}\Z")
_LABEL: Final = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")


class SeriesSource(Protocol):
    """Something that can say its figures when asked."""

    def __call__(self) -> Mapping[str, float]: ...


class Metrics:
    """The registry of one web worker. Use from the event loop only."""

    def __init__(self) -> None:
        # A start time for every series would double the page and tell nothing.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the package forgot it
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "livehouse_http_requests",
            "HTTP requests answered",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "livehouse_http_request_seconds",
            "Seconds from the request's head to the end of its answer",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._refusals = Counter(
            "livehouse_http_refusals",
            "HTTP requests turned down, by reason word",
            ["reason"],
            registry=self.registry,
        )
        for reason in Reason:
            self._refusals.labels(reason.value)
        self._media_up = Gauge(
            "livehouse_media_worker_up",
            "1 while the media worker's event stream is connected",
            ["worker"],
            registry=self.registry,
        )
        self._media_lost = Counter(
            "livehouse_media_worker_lost",
            "Times the media worker's event stream broke",
            ["worker"],
            registry=self.registry,
        )
        self._folded = _Folded()
        self.registry.register(self._folded)
        ProcessCollector(namespace="livehouse_web", registry=self.registry)

    def refused(self, reason: Reason) -> None:
        """Count one problem answer."""
        self._refusals.labels(reason.value).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one request. `route` is a path template, never a path."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def media_worker(self, index: int, *, is_up: bool) -> None:
        """Note that a media worker's event stream is up or has broken."""
        self._media_up.labels(str(index)).set(1 if is_up else 0)
        if not is_up:
            self._media_lost.labels(str(index)).inc()

    def add_source(self, prefix: str, source: SeriesSource, *, gauges: frozenset[str]) -> None:
        """Show `source()` as `livehouse_{prefix}_{name}`; names in `gauges` may fall."""
        self._folded.sources.append((prefix, source, gauges))

    def add_bus(self, stats: Callable[[], BusStats]) -> None:
        """Show the bus's connections, commands, pushes, refusals and disconnects."""
        self._folded.bus = stats

    def render(self, media: Mapping[int, Mapping[str, Any]]) -> bytes:
        """The Prometheus text; `media` holds each reachable media worker's `/v1/stats`."""
        self._folded.media = media
        try:
            return generate_latest(self.registry)
        finally:
            self._folded.media = {}


class _Folded(Collector):
    """Figures that others keep, read when somebody asks."""

    def __init__(self) -> None:
        self.media: Mapping[int, Mapping[str, Any]] = {}
        self.sources: list[tuple[str, SeriesSource, frozenset[str]]] = []
        self.bus: Callable[[], BusStats] | None = None

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        for prefix, source, gauges in self.sources:
            for name, value in source().items():
                if not _NAME.match(name):
                    continue
                family = (GaugeMetricFamily if name in gauges else CounterMetricFamily)(
                    f"livehouse_{prefix}_{name}", f"{prefix} {name.replace('_', ' ')}"
                )
                family.add_metric([], value)
                yield family
        if self.bus is not None:
            yield from _bus_families(self.bus())
        yield from _media_families(self.media)


_BUS_COUNTERS: Final = (
    ("publications", "Publications the engine handed to the bus"),
    ("ticks", "Counter updates handed to the bus"),
    ("ticks_skipped", "Counter updates a slow connection did without"),
    ("messages_sent", "Messages written to connections"),
    ("bytes_sent", "Bytes written to connections"),
    ("commands", "Commands received from connections"),
    ("recovered", "Subscriptions that recovered every missed publication"),
    ("unrecovered", "Subscriptions that could not recover"),
    ("positions_lost", "Connections told that they lost their position"),
    ("duplicates", "Publications dropped as already seen"),
)


def _bus_families(stats: BusStats) -> Iterator[Metric]:
    connections = GaugeMetricFamily(
        "livehouse_bus_connections", "Open bus connections by role", labels=["role"]
    )
    for role in Role:
        connections.add_metric([role.value], stats.by_role.get(role.value, 0))
    yield connections
    yield GaugeMetricFamily(
        "livehouse_bus_sockets", "Open bus sockets, connected or not yet", stats.connections
    )
    yield GaugeMetricFamily("livehouse_bus_calls", "Bus calls under way", stats.calls)
    for name, text in _BUS_COUNTERS:
        yield CounterMetricFamily(f"livehouse_bus_{name}", text, getattr(stats.hub, name))
    refusals = CounterMetricFamily(
        "livehouse_bus_refusals", "Bus commands turned down, by reason", labels=["reason"]
    )
    for reason, count in sorted(stats.hub.refusals.items()):
        refusals.add_metric([reason], count)
    yield refusals
    closed = CounterMetricFamily(
        "livehouse_bus_disconnects", "Bus connections closed, by close code", labels=["code"]
    )
    for code, count in sorted(stats.hub.disconnects.items()):
        closed.add_metric([str(int(code))], count)
    yield closed


_MEDIA_GAUGES: Final = frozenset(
    {
        "sessions",
        "feeds",
        "pulls",
        "cpu",
        "loop_lag_ms",
        "loop_lag_ms_max",
        "srtp_backends",
        "dtls_ms_p50",
        "dtls_ms_max",
        "gso",
        "addresses",
        "largest_burst",
    }
)
_MEDIA_LEFT_OUT: Final = frozenset({"index"})


def _media_families(media: Mapping[int, Mapping[str, Any]]) -> Iterator[Metric]:
    """What each worker says of itself, one family a name over all workers.

    A value that is itself a map of words to numbers (drops by reason) gets the word as
    the label `kind`. Texts are left out.
    """
    families: dict[str, CounterMetricFamily | GaugeMetricFamily] = {}
    for worker, stats in sorted(media.items()):
        figures = stats.get("worker")
        series = _flatten(figures if isinstance(figures, dict) else {})
        for name, kind, value in itertools.islice(series, _MAX_MEDIA_SERIES):
            full = f"livehouse_media_{name}"
            if full not in families:
                family_type = GaugeMetricFamily if name in _MEDIA_GAUGES else CounterMetricFamily
                labels = ["worker"] if kind is None else ["worker", "kind"]
                help_text = f"media worker: {name.replace('_', ' ')}"
                families[full] = family_type(full, help_text, labels=labels)
            labels_of = [str(worker)] if kind is None else [str(worker), kind]
            families[full].add_metric(labels_of, value)
    yield from families.values()


def _flatten(figures: Mapping[str, Any]) -> Iterator[tuple[str, str | None, float]]:
    for name, value in figures.items():
        if not _NAME.match(name) or name in _MEDIA_LEFT_OUT:
            continue
        if isinstance(value, dict):
            for kind, inner in value.items():
                if _LABEL.match(str(kind)) and _is_number(inner):
                    yield name, str(kind), float(inner)
        elif _is_number(value):
            yield name, None, float(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)
