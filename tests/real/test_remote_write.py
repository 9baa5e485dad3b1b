"""Debian's Prometheus sends native histograms and exemplars, over our restarts; and a sender of remote write 2.0."""

import http.server
import json
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest
from conftest import Server, free_port, until
from wire import double, doubles, message, number, numbers, signed, signeds, snappy, text, varint

PROTOBUF = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
COUNTER, GAUGE, HISTOGRAM, GAUGE_HISTOGRAM = 0, 1, 4, 5


def family(name, kind, help_text, *metric):
    body = text(1, name) + text(2, help_text) + number(3, kind) + message(4, *metric)
    return varint(len(body)) + body


def span(tag, offset, length):
    return message(tag, signed(1, offset), number(2, length))


def exposition(n):
    """What the n-th scrape gets: a counter with an exemplar, a gauge, and native histograms of both kinds."""
    now = time.time()
    at = message(3, number(1, int(now)), number(2, int(now % 1 * 1e9)))
    exemplar = message(2, message(1, text(1, "trace_id"), text(2, f"trace{n}")), double(2, n / 2), at)
    return b"".join([
        family("app_hits_total", COUNTER, "Hits.", message(3, double(1, n), exemplar)),
        family("app_load", GAUGE, "Load.", message(1, text(1, "core"), text(2, "0")), message(2, double(1, n % 7))),
        family("app_latency_seconds", HISTOGRAM, "Latency.", message(
            7, number(1, 7 * n), double(2, 12.5 * n), signed(5, 2), double(6, 1e-9), number(7, n),
            span(12, -3, 2), span(12, 4, 1), signeds(13, [n, n, n]))),
        family("app_drift", GAUGE_HISTOGRAM, "Drift.", message(
            7, double(4, 2.5), double(2, -n), signed(5, 0), double(6, 0.01), double(8, 0.5),
            span(9, 0, 1), doubles(11, [1.5]), span(12, 1, 1), doubles(14, [0.5]))),
    ])


class Target(http.server.BaseHTTPRequestHandler):
    scrapes = 0

    def do_GET(self):
        type(self).scrapes += 1
        body = exposition(type(self).scrapes)
        self.send_response(200)
        self.send_header("content-type", PROTOBUF)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def sending(tmp_path_factory):
    """A way to start Daybook again at its place, and a Prometheus that writes there, with what it scrapes."""
    if not shutil.which("prometheus"):
        pytest.skip("prometheus is not installed")
    folder, data = tmp_path_factory.mktemp("prometheus"), tmp_path_factory.mktemp("data")
    target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    address, own = f"127.0.0.1:{free_port()}", free_port()
    running = [Server(data, http_addr=address)]
    (folder / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - {{job_name: app, static_configs: [{{targets: ['127.0.0.1:{target.server_port}']}}]}}
remote_write:
  - url: 'http://{address}/api/v1/write'
    send_exemplars: true
    send_native_histograms: true
    metadata_config: {{send_interval: 1s}}
    queue_config: {{batch_send_deadline: 200ms, max_backoff: 1s}}
""")

    def restart(how):
        running[0].process.send_signal(how)
        running[0].process.wait(60)
        yield
        running[0] = Server(data, http_addr=address)
        yield

    log = open(folder / "log", "w")
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
         f"--web.listen-address=127.0.0.1:{own}", "--enable-feature=native-histograms,exemplar-storage"],
        stdout=log, stderr=log)
    try:
        until("a few scrapes in Daybook", lambda: (running[0].value('app_hits_total') or 0) >= 5)
        yield running, restart, f"http://127.0.0.1:{own}"
    finally:
        prometheus.send_signal(signal.SIGTERM)
        prometheus.wait(30)
        running[0].stop()
        target.shutdown()


def ask(url, path, **parameters):
    with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(parameters)}", timeout=30) as answer:
        return json.load(answer)["data"]


def raw(url, selector, end, seconds):
    """Returns {labels: [[time, value or histogram]]} of the samples in the `seconds` before `end`."""
    result = ask(url, "/api/v1/query", query=f"{selector}[{seconds}s]", time=end)["result"]
    # Version 3 has no sample that lies at the range's start, version 2 has.
    return {tuple(sorted(series["metric"].items())): [
        point for key in ("values", "histograms") for point in series.get(key, []) if point[0] > end - seconds]
        for series in result}


def numbers_in(point):
    """Makes numbers of the texts in an answer, which print them in ways of their own."""
    if isinstance(point, list):
        return [numbers_in(one) for one in point]
    if isinstance(point, dict):
        return {key: numbers_in(one) for key, one in point.items()}
    return float(point)


def same(ours, theirs, selector, end, seconds):
    return numbers_of(raw(ours, selector, end, seconds)) == numbers_of(raw(theirs, selector, end, seconds)) != {}


def numbers_of(series):
    return {labels: numbers_in(points) for labels, points in series.items()}


def test_native_histograms_are_those_of_prometheus(sending):
    running, _, prometheus = sending
    end = int(time.time())
    for selector in ["app_latency_seconds", "app_drift", "app_load", "app_hits_total", "up"]:
        until(f"the same {selector}", lambda: same(running[0].url, prometheus, selector, end, 5), 20)
    buckets = list(raw(running[0].url, "app_latency_seconds", end, 5).values())[0][-1][1]["buckets"]
    assert len(buckets) == 4, "zero and three others"
    # Quantiles differ: version 3 takes observations to be spread exponentially in a bucket, version 2 linearly.
    for query in ["histogram_count(app_latency_seconds)", "histogram_sum(app_latency_seconds)", "histogram_sum(app_drift)",
                  "histogram_count(app_drift + ignoring () app_drift)"]:
        ours, theirs = (ask(url, "/api/v1/query", query=query, time=end)["result"] for url in (running[0].url, prometheus))
        assert len(ours) == len(theirs) == 1, query
        assert float(ours[0]["value"][1]) == pytest.approx(float(theirs[0]["value"][1]), rel=1e-12), query


def test_exemplars_are_those_of_prometheus(sending):
    running, _, prometheus = sending
    end = time.time()

    def exemplars(url):
        found = ask(url, "/api/v1/query_exemplars", query="app_hits_total", start=end - 5, end=end)
        return [(series["seriesLabels"], [(one["labels"], float(one["value"]), one["timestamp"]) for one in series["exemplars"]])
                for series in found]

    until("the same exemplars", lambda: exemplars(running[0].url) == exemplars(prometheus) != [], 20)


def test_metadata_is_that_of_the_target(sending):
    running, _, _ = sending
    until("metadata", lambda: ask(running[0].url, "/api/v1/metadata", metric="app_hits_total"))
    found = ask(running[0].url, "/api/v1/metadata")
    assert [(one["type"], one["help"]) for one in found["app_hits_total"]] == [("counter", "Hits.")]
    assert found["app_latency_seconds"][0]["type"] == "histogram"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_no_gap_is_left_by_a_restart(sending, how):
    running, restart, prometheus = sending
    start, scrapes = int(time.time()) - 4, Target.scrapes
    steps = restart(how)
    next(steps)
    until("scrapes while Daybook is away", lambda: Target.scrapes >= scrapes + 5)
    next(steps)
    away = Target.scrapes
    until("scrapes once it is back", lambda: Target.scrapes >= away + 3)
    end = int(time.time())
    for selector in ["up", "app_hits_total", "app_load", "app_latency_seconds", "app_drift", "scrape_samples_scraped"]:
        until(f"all of {selector}", lambda: same(running[0].url, prometheus, selector, end, end - start), 30)
    hits = [float(value) for _, value in list(raw(running[0].url, "app_hits_total", end, end - start).values())[0]]
    assert len(hits) >= 10 and hits == list(range(int(hits[0]), int(hits[0]) + len(hits))), "each scrape once"


def post_2(server, symbols, *series):
    body = snappy(b"".join([*(text(4, symbol) for symbol in symbols), *series]))
    request = urllib.request.Request(f"{server.url}/api/v1/write", data=body, headers={
        "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        "content-encoding": "snappy", "x-prometheus-remote-write-version": "2.0.0"})
    try:
        answer = urllib.request.urlopen(request, timeout=30)
    except urllib.error.HTTPError as error:
        answer = error
    with answer:
        written = [int(answer.headers[f"X-Prometheus-Remote-Write-{what}-Written"]) for what in ("Samples", "Histograms", "Exemplars")]
        return answer.status, answer.read().decode(), written


def test_a_sender_of_version_2(server):
    now = int(time.time()) * 1000
    symbols = ["", "__name__", "jobs_total", "queue", "mail", "Jobs done.", "jobs", "trace_id", "abc", "wait_seconds", "seconds", "bad"]
    counter = message(
        5, numbers(1, [1, 2, 3, 4]), message(2, double(1, 5), number(2, now - 1000), number(3, now - 9000)),
        message(2, double(1, 8), number(2, now), number(3, now - 9000)),
        message(4, numbers(1, [7, 8]), double(2, 0.25), number(3, now)),
        message(5, number(1, 1), number(3, 5), number(4, 6)))
    custom = message(
        5, numbers(1, [1, 9, 3, 4]),
        message(3, number(1, 6), double(3, 21.5), signed(4, -53), span(11, 0, 2), span(11, 1, 1), signeds(12, [1, 1, 1]),
                number(15, now), doubles(16, [0.5, 1, 5]), number(17, now - 9000)),
        message(5, number(1, 3), number(4, 10)))
    status, body, written = post_2(server, symbols, counter, custom)
    assert (status, body, written) == (204, "", [2, 1, 1])
    at = now / 1000
    assert server.query("jobs_total", time=at) == {(("queue", "mail"),): 8}
    assert server.query("histogram_count(wait_seconds)", time=at) == {(("queue", "mail"),): 6}
    assert server.query("histogram_quantile(0.4, wait_seconds)", time=at) == {(("queue", "mail"),): pytest.approx(0.85)}
    exemplar = ask(server.url, "/api/v1/query_exemplars", query="jobs_total", start=at - 10, end=at + 10)
    assert exemplar[0]["exemplars"][0]["labels"] == {"trace_id": "abc"}
    metadata = ask(server.url, "/api/v1/metadata")
    assert metadata["jobs_total"] == [{"type": "counter", "help": "Jobs done.", "unit": "jobs"}]
    assert metadata["wait_seconds"][0]["type"] == "histogram"

    # A part of the next is wrong: the rest of it is taken, and both are told.
    good = message(5, numbers(1, [1, 2, 3, 4]), message(2, double(1, 9), number(2, now + 1)))
    bad = message(5, numbers(1, [1, 11, 3]), message(2, double(1, 9), number(2, now + 1)))
    status, body, written = post_2(server, symbols, bad, good)
    assert (status, written) == (400, [1, 0, 0])
    assert "odd_label_references" in body
    assert server.query("jobs_total", time=at + 1) == {(("queue", "mail"),): 9}
    assert server.query("bad", time=at + 1) == {}
