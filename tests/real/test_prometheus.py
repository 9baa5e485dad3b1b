"""Debian's Prometheus writes into Daybook, and its promtool reads from there."""

import json
import math
import re
import shutil
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest
from conftest import Server, free_port, until

pytestmark = pytest.mark.skipif(not shutil.which("prometheus"), reason="prometheus is not installed")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A Daybook that Prometheus writes to, and that Prometheus, which scrapes itself and a node exporter."""
    folder = tmp_path_factory.mktemp("prometheus")
    server = Server(tmp_path_factory.mktemp("data"))
    own, node = free_port(), free_port()
    config = folder / "prometheus.yml"
    config.write_text(f"""
global: {{scrape_interval: 1s, external_labels: {{cluster: test}}}}
scrape_configs:
  - {{job_name: prometheus, static_configs: [{{targets: ['127.0.0.1:{own}']}}]}}
  - {{job_name: node, static_configs: [{{targets: ['127.0.0.1:{node}']}}]}}
remote_write:
  - {{url: '{server.url}/api/v1/write', queue_config: {{batch_send_deadline: 500ms}}}}
""")
    log = open(folder / "log", "w")
    exporter = subprocess.Popen(["prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{node}"], stdout=log, stderr=log)
    prometheus = subprocess.Popen(
        ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{own}"],
        stdout=log, stderr=log)
    try:
        until("both targets in Daybook", lambda: server.value("count(up == 1)") == 2)
        until("a few scrapes", lambda: (server.value('min(count_over_time(up[5m]))') or 0) >= 8)
        yield server, f"http://127.0.0.1:{own}", prometheus
    finally:
        for process in (prometheus, exporter):
            process.send_signal(signal.SIGTERM)
            process.wait(30)
        server.stop()


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_promtool_reads_every_way(written, tmp_path):
    server, _, _ = written
    assert re.search(r'up\{.*job="node".*\} => 1 @', promtool("query", "instant", server.url, "up"))
    now = int(time.time())
    text = promtool("query", "range", f"--start={now - 60}", f"--end={now}", "--step=5s", server.url, "sum(up)")
    assert "@[" in text
    series = promtool("query", "series", "--match=up", server.url)
    assert len(series.strip().splitlines()) == 2 and 'cluster="test"' in series
    assert promtool("query", "labels", server.url, "job").split() == ["node", "prometheus"]
    # Half of this time it watches processors, for another half it waits for a trace, which there is none of.
    debugged = subprocess.run(["promtool", "debug", "all", server.url], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert debugged.returncode == 0 and (tmp_path / "debug.tar.gz").stat().st_size > 1000, debugged.stderr
    failed = subprocess.run(["promtool", "query", "instant", server.url, "rate("], capture_output=True, text=True, timeout=60)
    assert failed.returncode != 0 and "parse error" in failed.stderr


def test_values_are_those_of_prometheus(written):
    server, prometheus, _ = written
    at = int(time.time()) - 5

    def ask(url, query):
        with urllib.request.urlopen(f"{url}/api/v1/query?time={at}&query={urllib.parse.quote(query)}", timeout=30) as answer:
            result = json.load(answer)["data"]["result"]
        return sorted((sorted((k, v) for k, v in s["metric"].items() if k != "cluster"), s["value"][1]) for s in result)

    def same(query):
        ours, theirs = ask(server.url, query), ask(prometheus, query)
        return [labels for labels, _ in ours] == [labels for labels, _ in theirs] and all(
            # Sums depend on the order of their parts in the last digit; raw samples do not.
            a == b or ("(" in query and math.isclose(float(a), float(b), rel_tol=1e-12))
            for (_, a), (_, b) in zip(ours, theirs))

    # Equal once Prometheus has sent everything up to then.
    for query in ["node_memory_MemTotal_bytes", "up", "sum by (job) (up)", "count by (job) ({job=~'.+'})",
                  "node_cpu_seconds_total", "prometheus_build_info", "node_filesystem_size_bytes",
                  "go_gc_duration_seconds", "histogram_quantile(0.9, prometheus_http_request_duration_seconds_bucket)",
                  "topk(3, node_cpu_seconds_total)", "avg without (cpu) (node_cpu_seconds_total)"]:
        until(f"the same answer to {query}", lambda: same(query), 20)


def test_nothing_that_prometheus_sent_was_refused(written):
    server, prometheus, _ = written
    with urllib.request.urlopen(f"{prometheus}/metrics", timeout=30) as answer:
        text = answer.read().decode()

    def total(name):
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + "{"))

    assert total("prometheus_remote_storage_samples_total") > 0
    assert total("prometheus_remote_storage_samples_failed_total") == 0
    assert total("prometheus_remote_storage_samples_dropped_total") == 0
    _, own = server.get("/metrics")
    dropped = [line for line in own.splitlines() if line.startswith("daybook_dropped_records_total") and 'place="remote_write"' in line]
    assert all(line.endswith(" 0") for line in dropped), dropped
