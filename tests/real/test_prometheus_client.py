"""prometheus-api-client, which notebooks and capacity tools read Prometheus with."""

import datetime
import json
import time

import pytest
from prometheus_api_client import PrometheusApiClientException, PrometheusConnect

END = int(time.time()) // 60 * 60


@pytest.fixture(scope="module", params=["GET", "POST"])
def client(request, server):
    """Two gauges of sixty points, 10 s apart; the client asks by GET, and by POST."""
    points = lambda factor: [{"timeUnixNano": str((END - 10 * back) * 10**9), "asDouble": factor * (60 - back)} for back in range(60)]
    attributes = lambda host: [{"key": "host", "value": {"stringValue": host}}]
    gauge = [point | {"attributes": attributes(host)} for host, factor in (("a", 1), ("b", 2)) for point in points(factor)]
    body = {"resourceMetrics": [{"resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "client"}}]},
                                 "scopeMetrics": [{"metrics": [{"name": "load", "gauge": {"dataPoints": gauge}}]}]}]}
    assert server.post("/api/v1/otlp/v1/metrics", json.dumps(body).encode(), "application/json") == 200
    return PrometheusConnect(url=server.url, disable_ssl=True, method=request.param)


def at(seconds):
    return datetime.datetime.fromtimestamp(seconds)


def test_what_is_there_is_listed(client):
    assert client.check_prometheus_connection()
    assert client.all_metrics() == ["load"]
    assert {"__name__", "host", "job"} <= set(client.get_label_names())
    assert client.get_label_values("host") == ["a", "b"]
    series = client.get_series(at(END - 600), at(END), params={"match[]": 'load{host="a"}'})
    assert [one["host"] for one in series] == ["a"]


def test_values_are_read_at_one_time_and_over_a_range(client):
    found = client.get_current_metric_value("load", {"host": "b"}, params={"time": END})
    assert [one["value"] for one in found] == [[END, "120"]]
    found = client.custom_query_range("sum(load)", at(END - 20), at(END), "10")
    assert found[0]["values"] == [[END - 20, "174"], [END - 10, "177"], [END, "180"]]
    found = client.get_metric_range_data("load", {"host": "a"}, at(END - 600), at(END), chunk_size=datetime.timedelta(minutes=5))
    # Each piece leaves its first second to the one before.
    assert [len(one["values"]) for one in found] == [30, 30]
    assert len({time for one in found for time, _ in one["values"]}) == 60


def test_faults_are_told(client):
    with pytest.raises(PrometheusApiClientException, match="bad_data"):
        client.custom_query("sum(")


def test_there_are_no_targets(client):
    assert client.get_scrape_pools() == []
    assert client.get_targets() == {"activeTargets": [], "droppedTargets": [], "droppedTargetCounts": {}}
    assert client.get_target_metadata({}) == []
