"""Debian's Prometheus reads back what Daybook stores: by remote read, and by scraping /federate. The chunks that are
streamed to newer ones are those that Prometheus itself streams of the same samples, byte by byte."""

import argparse
import importlib.util
import json
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from conftest import ROOT, Server, free_port, until

RUNNER = ROOT.parent / "shared/bench/promql/promqltest.py"

pytestmark = [pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed"),
              pytest.mark.skipif(not RUNNER.is_file(), reason=f"{RUNNER} is not here")]

# Points a minute apart, of every kind that a chunk tells in a way of its own.
SERIES = """
load 1m
  steady{kind="constant"} 7x300
  steady{kind="counter"} 0+1.5x300
  steady{kind="odd"} 1 -0 NaN Inf -Inf 1e300 5e-324 0.1 stale _ _ 3 _x7 4 -4 1e-9 123456789.123
  native{kind="counter"} {{schema:3 sum:1 count:3 z_bucket:1 z_bucket_w:0.001 buckets:[1 0 1]}}+{{schema:3 sum:2 count:4 z_bucket:1 z_bucket_w:0.001 buckets:[1 0 1] n_buckets:[1]}}x250
  native{kind="reset"} {{schema:0 sum:9 count:9 buckets:[4 5]}} {{schema:0 sum:1 count:1 buckets:[1]}} {{schema:0 sum:3 count:3 buckets:[1 2]}} {{schema:1 sum:3 count:4 buckets:[1 2 1] offset:-5}}
  native{kind="gauge"} {{schema:-1 sum:9 count:9 buckets:[4 5] counter_reset_hint:gauge}} {{schema:-1 sum:1 count:1 buckets:[1] counter_reset_hint:gauge}}
  native{kind="mixed"} 1 {{schema:0 sum:9 count:9 buckets:[4 5]}} {{schema:0 sum:9 count:9 buckets:[4 5]}} 2 3
"""


# Few enough points for one chunk, on which Prometheus and Daybook agree where to cut.
ONE_CHUNK = """
load 15s
  chunk{kind="constant"} 7x80
  chunk{kind="counter"} 0+1.5x80
  chunk{kind="odd"} 1 0 NaN Inf -Inf 1e300 5e-324 0.1 stale _ _ 3 _x7 4 -4 1e-9 123456789.123
  chunk{kind="native"} {{schema:3 sum:1 count:4 z_bucket:1 z_bucket_w:0.001 buckets:[1 1 1]}}+{{schema:3 sum:2.5 count:8 z_bucket:1 z_bucket_w:0.001 buckets:[3 2 2]}}x80
"""


def runner():
    spec = importlib.util.spec_from_file_location("promqltest", RUNNER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A Daybook with those series, a Prometheus that reads from it, and the time of the last point."""
    module, folder = runner(), tmp_path_factory.mktemp("reader")
    server = Server(tmp_path_factory.mktemp("data"))
    options = argparse.Namespace(timeout=60, param=[], get=False, rw="1", write_path="/api/v1/write", flush_path=None, settle=0)
    end = int(time.time()) // 60 * 60
    load = module.parse_script(SERIES)[0]
    assert not module.Server(server.url, options).load(load, (end - 300 * 60) * 1000)
    fresh = module.parse_script('load 1m\n  newest{a="x\\\\y"} 12345678\n  newest{a="z",instance="i"} NaN\n  newest_native{} {{schema:2 sum:5 count:4 z_bucket:1 z_bucket_w:0.001 buckets:[1 2]}}\n')[0]
    assert not module.Server(server.url, options).load(fresh, int(time.time()) * 1000)
    port = free_port()
    config = folder / "prometheus.yml"
    config.write_text(f"""
remote_read: [{{url: '{server.url}/api/v1/read', read_recent: true}}]
scrape_configs:
  - job_name: daybook
    scrape_interval: 1s
    metrics_path: /federate
    honor_labels: true
    params: {{'match[]': ['newest', '{{__name__=~"newest_.*"}}']}}
    static_configs: [{{targets: ['{server.http}']}}]
    metric_relabel_configs: [{{source_labels: [__name__], target_label: __name__, replacement: 'federated_$1'}}]
""")
    log = open(folder / "log", "w")
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", "--enable-feature=native-histograms",
         f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until("Prometheus to answer", lambda: ask(url, "/-/ready") is not None)
        yield server, url, end
    finally:
        prometheus.send_signal(signal.SIGTERM)
        prometheus.wait(30)
        server.stop()


def ask(url, path, **params):
    try:
        with urllib.request.urlopen(f"{url}{path}?{urllib.parse.urlencode(params)}", timeout=30) as answer:
            return answer.read().decode()
    except OSError:
        return None


def result(url, query, at):
    found = json.loads(ask(url, "/api/v1/query", query=query, time=at))
    assert found["status"] == "success", found
    return sorted(found["data"]["result"], key=lambda series: sorted(series["metric"].items()))


@pytest.mark.parametrize("selector,count", [("steady", 600), ("native", 2), ('{__name__=~"st.*|nat.*",kind!="odd"}', 600),
                                            ('{kind!~"counter|constant",kind=~".+"}', 12)])
@pytest.mark.parametrize("flushed", [False, True], ids=["from the head", "from a block"])
def test_every_sample_comes_back_by_remote_read(read, selector, count, flushed):
    server, url, end = read
    if flushed:
        assert server.post("/api/v1/admin/flush", b"", "text/plain") // 100 == 2
    # Half a second beside the points, because windows are closed on the left in Prometheus 2.
    query = f"{selector}[301m]"
    ours, theirs = result(server.url, query, end + 0.5), result(url, query, end + 0.5)
    # This Prometheus leaves the native histograms of a remote read aside.
    ours = [{name: value for name, value in one.items() if name != "histograms"} for one in ours if "values" in one]
    assert sum(len(one["values"]) for one in ours) > count
    assert theirs == ours


def test_federation_is_scraped_with_its_own_times_and_labels(read):
    server, url, _ = read
    until("the federated samples", lambda: len(result(url, "federated_newest", time.time())) == 2)
    ours, theirs = (result(*where, time.time()) for where in ((server.url, "newest[5m]"), (url, "federated_newest[5m]")))
    assert [one["values"][0] for one in theirs] == [one["values"][0] for one in ours]
    labels = [{name: value for name, value in one["metric"].items() if name not in ("__name__", "job")} for one in theirs]
    assert labels == [{"a": "x\\y"}, {"a": "z", "instance": "i"}]


def test_native_histograms_are_federated_as_protobuf(read):
    server, url, _ = read
    until("the federated histogram", lambda: result(url, "federated_newest_native", time.time()))
    ours, theirs = (result(*where, time.time()) for where in ((server.url, "newest_native"), (url, "federated_newest_native")))
    assert [one["histogram"][1] for one in theirs] == [one["histogram"][1] for one in ours]


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
        if byte < 0x80:
            return value, at


def fields(message):
    """Returns [(number, value)] of a protobuf message of numbers and bytes."""
    found, at = [], 0
    while at < len(message):
        key, at = varint(message, at)
        value, at = varint(message, at)
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        found.append((key >> 3, value))
    return found


def streamed(url, module, name, start_ms, end_ms):
    """Returns {labels: [(first ms, last ms, encoding, data)]} of a streamed remote read."""
    matcher = module.f_bytes(2, b"__name__") + module.f_bytes(3, name.encode())
    query = module.f_varint(1, start_ms) + module.f_varint(2, end_ms) + module.f_bytes(3, matcher)
    body = module.snappy_block(module.f_bytes(1, query) + module.f_bytes(2, module.uvarint(1)))
    headers = {"content-encoding": "snappy", "content-type": "application/x-protobuf", "x-prometheus-remote-read-version": "0.1.0"}
    with urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/read", data=body, headers=headers), timeout=30) as answer:
        assert answer.headers["content-type"] == "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
        data = answer.read()
    series, at = {}, 0
    while at < len(data):
        length, at = varint(data, at)
        # A checksum of four bytes stands before the frame.
        frame, at = data[at + 4:at + 4 + length], at + 4 + length
        for one in (value for number, value in fields(frame) if number == 1):
            labels = tuple(tuple(text.decode() for _, text in fields(label)) for number, label in fields(one) if number == 1)
            chunks = [dict(fields(chunk)) for number, chunk in fields(one) if number == 2]
            series.setdefault(labels, []).extend((chunk[1], chunk[2], chunk[3], chunk[4]) for chunk in chunks)
    return series


def test_streamed_chunks_are_those_of_prometheus(tmp_path):
    module, port = runner(), free_port()
    options = argparse.Namespace(timeout=60, param=[], get=False, rw="1", write_path="/api/v1/write", flush_path=None, settle=0)
    config, log = tmp_path / "prometheus.yml", open(tmp_path / "log", "w")
    config.write_text("{}")
    server = Server(tmp_path / "data")
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb", "--enable-feature=native-histograms",
         "--web.enable-remote-write-receiver", f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until("Prometheus to answer", lambda: ask(url, "/-/ready") is not None)
        # Chunks never cross the two hours that a block spans.
        start = (int(time.time()) // 7200 * 7200 - 3600) * 1000
        load = module.parse_script(ONE_CHUNK)[0]
        for target in (url, server.url):
            assert not module.Server(target, options).load(load, start)
        theirs, ours = (streamed(target, module, "chunk", start, start + 3_600_000 - 1) for target in (url, server.url))
        assert len(ours) == 4 and list(ours) == list(theirs)
        for labels in theirs:
            assert ours[labels] == theirs[labels], labels
    finally:
        prometheus.send_signal(signal.SIGTERM)
        prometheus.wait(30)
        server.stop()
