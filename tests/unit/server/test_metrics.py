"""What `/metrics` shows, and that nobody can make it grow."""

from __future__ import annotations

from interact.protocol import Reason
from server.metrics import Metrics


def text(metrics: Metrics, media: dict[int, dict[str, object]] | None = None) -> str:
    return metrics.render(media or {}).decode()


def test_every_reason_is_there_from_the_start() -> None:
    shown = text(Metrics())
    for reason in Reason:
        assert f'livehouse_http_refusals_total{{reason="{reason.value}"}} 0.0' in shown


def test_requests_are_counted_by_route_and_status() -> None:
    metrics = Metrics()
    metrics.answered("GET", "/healthz", 200, 0.002)
    metrics.refused(Reason.BAD_SDP)
    shown = text(metrics)
    wanted = 'livehouse_http_requests_total{method="GET",route="/healthz",status="200"} 1.0'
    assert wanted in shown
    assert 'livehouse_http_refusals_total{reason="bad_sdp"} 1.0' in shown


def test_media_figures_are_folded_in_by_worker_and_kind() -> None:
    worker = {"index": 0, "epoch": "x", "sessions": 3, "drops": {"late": 2}, "flushes": 9}
    shown = text(Metrics(), {0: {"worker": worker}, 1: {"worker": {"sessions": 4}}})
    assert 'livehouse_media_sessions{worker="0"} 3.0' in shown
    assert 'livehouse_media_sessions{worker="1"} 4.0' in shown
    assert 'livehouse_media_drops_total{kind="late",worker="0"} 2.0' in shown
    assert 'livehouse_media_flushes_total{worker="0"} 9.0' in shown
    assert "livehouse_media_index" not in shown and "livehouse_media_epoch" not in shown


def test_worker_that_invents_names_is_cut_off() -> None:
    many: dict[str, object] = {f"name{i}": i for i in range(5000)}
    bad: dict[str, object] = {"Bad Name": 1, "x\n": 1, "drops": {"a b": 1, 'c"': 2, "ok": 3}}
    shown = text(Metrics(), {0: {"worker": many}, 1: {"worker": bad}, 2: {"worker": "junk"}})
    assert shown.count("livehouse_media_name") <= 3 * 200
    assert "Bad Name" not in shown and "a b" not in shown
    assert 'livehouse_media_drops_total{kind="ok",worker="1"} 3.0' in shown


def test_sources_are_read_when_asked() -> None:
    metrics, figures = Metrics(), {"waiting": 1, "appended": 2}
    metrics.add_source("engine", lambda: figures, gauges=frozenset({"waiting"}))
    assert "livehouse_engine_waiting 1.0" in text(metrics)
    figures["waiting"] = 7
    shown = text(metrics)
    assert "livehouse_engine_waiting 7.0" in shown
    assert "livehouse_engine_appended_total 2.0" in shown
