"""Several workers' figures as one page."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from server.siblings import merged

ONE = """\
# HELP livehouse_bus_calls Bus calls under way
# TYPE livehouse_bus_calls gauge
livehouse_bus_calls 2.0
# HELP livehouse_bus_connections Open bus connections by role
# TYPE livehouse_bus_connections gauge
livehouse_bus_connections{role="viewer"} 7.0
# HELP livehouse_media_sessions media worker: sessions
# TYPE livehouse_media_sessions gauge
livehouse_media_sessions{worker="0"} 3.0
"""
TWO = ONE.replace("7.0", "5.0").replace("2.0", "1.0")


def test_series_get_their_worker_and_families_stay_together() -> None:
    text = merged([(1, ONE), (0, TWO)])
    families = {family.name: family for family in text_string_to_metric_families(text)}
    calls = {
        sample.labels["web"]: sample.value for sample in families["livehouse_bus_calls"].samples
    }
    assert calls == {"1": 2.0, "0": 1.0}
    viewers = families["livehouse_bus_connections"].samples
    assert [(s.labels, s.value) for s in viewers] == [
        ({"web": "1", "role": "viewer"}, 7.0),
        ({"web": "0", "role": "viewer"}, 5.0),
    ]
    assert text.count("# HELP livehouse_bus_calls") == text.count("# TYPE livehouse_bus_calls") == 1


def test_media_workers_are_told_of_once() -> None:
    text = merged([(1, ONE), (0, TWO)])
    assert text.count("livehouse_media_sessions{") == 1
    assert 'livehouse_media_sessions{worker="0"} 3.0' in text
