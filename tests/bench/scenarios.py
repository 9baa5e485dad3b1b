#!/usr/bin/env python3
"""Measures metrics beyond the peers' benchmark: what no peer figure is known for. Standard library only.

  scenarios.py series   1 M active series: memory per series, CPU, restart after kill -9 with what is left in the WAL
  scenarios.py churn    24 h of pods that live 10 minutes: 288,000 series
  scenarios.py month    30 days of 210 series at 15 s in one range query, warm and with the page cache dropped
  scenarios.py busy     queries while as much is ingested as goes in
  scenarios.py cold     queries with the page cache dropped before each; wants root

Bodies come from ../shared/bench/metrics (mbench) but for `churn`, whose series are made here.
"""
import json
import os
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request

import measure

WORK = os.environ.get("BENCH_DIR", "/tmp/bench")
MBENCH = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(WORK, "target")), "release", "mbench")
HOUR_MS = 3_600_000


class Peak(threading.Thread):
    """The highest resident memory of a process in MB, all of it and without files mapped."""

    def __init__(self, pid):
        super().__init__(daemon=True)
        self.pid, self.rss, self.anonymous, self.on = pid, 0.0, 0.0, True

    def run(self):
        while self.on:
            try:
                self.rss = max(self.rss, measure.memory_mb(self.pid))
                self.anonymous = max(self.anonymous, measure.memory_mb(self.pid, "RssAnon"))
            except OSError:
                return
            time.sleep(0.1)


def query(server, path, **params):
    url = f"http://{server.http}/api/v1/{path}?{urllib.parse.urlencode(params)}"
    begin = time.monotonic()
    answer = json.load(urllib.request.urlopen(url, timeout=600))
    return (time.monotonic() - begin) * 1000, answer["data"]["result"]


def timed(server, path, reps=5, before=lambda: None, **params):
    times = []
    for _ in range(reps):
        before()
        times.append(query(server, path, **params)[0])
    return statistics.median(times)


def generate(name, *options):
    directory = os.path.join(WORK, name)
    shutil.rmtree(directory, ignore_errors=True)
    subprocess.check_call([MBENCH, "gen", "--out", directory, *options], stdout=subprocess.DEVNULL)
    with open(os.path.join(directory, "meta.json")) as meta:
        return directory, json.load(meta)


def send(server, directory, *options):
    subprocess.check_call([MBENCH, "send", "--dir", directory, "--url", f"http://{server.http}/api/v1/write", *options],
                          stdout=subprocess.DEVNULL)


def flush(server):
    request = urllib.request.Request(f"http://{server.http}/api/v1/admin/flush", method="POST")
    urllib.request.urlopen(request, timeout=600).read()


def fresh(name):
    directory = os.path.join(WORK, name)
    shutil.rmtree(directory, ignore_errors=True)
    return directory


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w") as out:
        out.write("3")


def report(server, peak, samples, begin_cpu):
    used = measure.cpu_s(server.process.pid) - begin_cpu
    print(f"  {samples / 1e6:.1f} M samples, {used / samples * 1e6:.2f} CPU s per million, "
          f"peak {peak.rss:.0f} MB resident, {peak.anonymous:.0f} MB anonymous")


def series():
    bodies, meta = generate("series", "--hosts", "4762", "--hours", "0.1")
    directory = fresh("daybook-series")
    server = measure.Server(directory)
    peak = Peak(server.process.pid)
    peak.start()
    begin = time.monotonic()
    send(server, bodies)
    wall = time.monotonic() - begin
    samples = meta["samples"]
    count = float(query(server, "query", query="count({__name__!=''})", time=meta["end_ms"] / 1000)[1][0]["value"][1])
    print(f"1 M active series: {count:.0f} series, {samples / wall / 1e6:.2f} M samples/s")
    report(server, peak, samples, 0)
    print(f"  {peak.anonymous * 1e6 / count:.0f} bytes of memory per series at the peak, head and buffers included")
    peak.on = False
    wal_mb = measure.du_mb(os.path.join(directory, "wal"))
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    server = measure.Server(directory)
    memory = measure.memory_mb(server.process.pid, "VmHWM")
    print(f"  ready {server.ready_s:.2f} s after kill -9 with {wal_mb:.0f} MB of WAL, {memory:.0f} MB resident at most")
    again = float(query(server, "query", query="count({__name__!=''})", time=meta["end_ms"] / 1000)[1][0]["value"][1])
    if again != count:
        sys.exit(f"{count} series before, {again} after")
    flush(server)
    print(f"  {measure.du_mb(directory) * 1e6 / samples:.2f} bytes per sample on disk")
    server.stop()


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number, content):
    return varint(number << 3 | 2) + varint(len(content)) + content


def snappy(content):
    """Snappy's format without any compression: literals only."""
    out = bytearray(varint(len(content)))
    for at in range(0, len(content), 1 << 16):
        piece = content[at:at + (1 << 16)]
        out += b"\xf4" + struct.pack("<H", len(piece) - 1) + piece
    return bytes(out)


def churn():
    pods, per_pod, life_scrapes, generations, step_ms = 100, 20, 10, 144, 60_000
    start_ms = int(time.time() * 1000) - 24 * HOUR_MS
    directory = fresh("daybook-churn")
    server = measure.Server(directory)
    peak = Peak(server.process.pid)
    peak.start()
    url, samples, begin = f"http://{server.http}/api/v1/write", 0, time.monotonic()
    for generation in range(generations):
        labels = []
        for pod in range(pods):
            for metric in range(per_pod):
                pairs = (("__name__", f"container_metric_{metric}"), ("container", "app"), ("namespace", f"ns-{pod % 7}"),
                         ("pod", f"app-{pod}-{generation:05x}"))
                labels.append(b"".join(field(1, field(1, n.encode()) + field(2, v.encode())) for n, v in pairs))
        for scrape in range(life_scrapes):
            at = varint(start_ms + (generation * life_scrapes + scrape) * step_ms)
            body = b"".join(
                field(1, pairs + field(2, b"\x09" + struct.pack("<d", (i * 7 + scrape * 13) % 1000) + b"\x10" + at))
                for i, pairs in enumerate(labels))
            request = urllib.request.Request(url, snappy(body), {
                "content-type": "application/x-protobuf", "content-encoding": "snappy",
                "x-prometheus-remote-write-version": "0.1.0"})
            urllib.request.urlopen(request, timeout=60).read()
            samples += len(labels)
    print(f"churn: {pods * per_pod * generations} series in 24 h, {samples / (time.monotonic() - begin) / 1e6:.2f} M samples/s")
    flush(server)
    report(server, peak, samples, 0)
    end = (start_ms + 24 * HOUR_MS) / 1000
    for name, text in (("one pod's life", 'container_metric_3{pod="app-7-00031"}'),
                       ("sum over all pods", "sum by (namespace) (rate(container_metric_3[5m]))"),
                       ("count of all", "count({__name__=~'container_metric_.*'})")):
        took = timed(server, "query_range", query=text, start=start_ms / 1000, end=end, step=300)
        print(f"  24 h / 5 min, {name}: {took:.1f} ms")
    print(f"  {measure.du_mb(directory) * 1e6 / samples:.2f} bytes per sample on disk")
    peak.on = False
    server.stop()


def month():
    bodies, meta = generate("month", "--hosts", "1", "--hours", "720", "--interval-ms", "15000")
    directory = fresh("daybook-month")
    server = measure.Server(directory)
    peak = Peak(server.process.pid)
    peak.start()
    send(server, bodies, "--window-ms", str(720 * HOUR_MS))
    flush(server)
    print("30 days of one host:")
    report(server, peak, meta["samples"], 0)
    end = meta["end_ms"] / 1000
    texts = ("node_load1", "sum by (mode) (rate(node_cpu_seconds_total[5m]))", "avg_over_time(node_load1[1h])")
    for text in texts:
        span = {"query": text, "start": end - 720 * 3600, "end": end, "step": 3600}
        cold = timed(server, "query_range", reps=3, before=drop_caches, **span) if os.geteuid() == 0 else float("nan")
        print(f"  {text}, 30 d / 1 h: {timed(server, 'query_range', **span):.1f} ms, {cold:.1f} ms cold")
    print(f"  {measure.du_mb(directory) * 1e6 / meta['samples']:.2f} bytes per sample on disk")
    peak.on = False
    server.stop()


def busy():
    bodies, meta = generate("busy", "--hosts", "100", "--hours", "3")
    server = measure.Server(fresh("daybook-busy"))
    sender = threading.Thread(target=send, args=(server, bodies))
    begin, times = time.monotonic(), {}
    sender.start()
    texts = ("sum by (mode) (rate(node_cpu_seconds_total[5m]))", "count by (__name__) ({__name__=~'node_.*'})", "node_load1")
    while sender.is_alive():
        for text in texts:
            start, end = meta["end_ms"] / 1000 - 3 * 3600, meta["end_ms"] / 1000
            took, _ = query(server, "query_range", query=text, start=start, end=end, step=60)
            times.setdefault(text, []).append(took)
    wall = time.monotonic() - begin
    print(f"queries while {meta['samples'] / wall / 1e6:.2f} M samples/s come in, 3 h / 1 min:")
    for text, took in times.items():
        print(f"  {text}: median {statistics.median(took):.1f} ms, longest {max(took):.1f} ms of {len(took)}")
    server.stop()


def cold():
    bodies, meta = generate("cold", "--hosts", "100", "--hours", "6")
    directory = fresh("daybook-cold")
    server = measure.Server(directory)
    send(server, bodies)
    flush(server)
    end = meta["end_ms"] / 1000
    print("page cache dropped before each query, 6 h / 1 min:")
    for text in ("sum by (instance, mode) (rate(node_cpu_seconds_total[5m]))", "node_load1",
                 "max_over_time(node_load1[1h])", 'node_memory_MemFree_bytes{instance=~"host-00.*"}'):
        span = {"query": text, "start": end - 6 * 3600, "end": end, "step": 60}
        took = timed(server, "query_range", before=drop_caches, **span)
        print(f"  {text}: {took:.1f} ms, {timed(server, 'query_range', **span):.1f} ms warm")
    server.stop()


if __name__ == "__main__":
    by_name = {work.__name__: work for work in (series, churn, month, busy, cold)}
    if len(sys.argv) != 2 or sys.argv[1] not in by_name:
        sys.exit(__doc__)
    by_name[sys.argv[1]]()
