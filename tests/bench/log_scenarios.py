#!/usr/bin/env python3
"""Measures logs beyond the peers' benchmark: what no peer figure is known for. Standard library only.

  log_scenarios.py streams   10,000 streams that live all the time
  log_scenarios.py short     streams that live a minute: 1,440 of them a day for each of 7 services
  log_scenarios.py long      lines of 5 MB
  log_scenarios.py wide      100 attributes a record
  log_scenarios.py korean    a word inside of words without spaces
  log_scenarios.py week      a week of 4 M lines
  log_scenarios.py values    a million values of one attribute, and 200,000 streams
  log_scenarios.py busy      queries while the benchmark's lines come in
  log_scenarios.py bench     the benchmark's lines, sent before: first runs with the page cache dropped, export. Wants root

Records come in by the Loki push API; each run ends with a flush, queries, kill -9 and a start. `bench` reads the directory
that `measure.py logs` left, `busy` sends the bodies that it made.
"""
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import measure
from scenarios import Peak, WORK, flush

DAY_NS = 86_400_000_000_000
LINES_PER_PUSH = 5_000


class Run:
    """A server with an empty directory, and what it was sent."""

    def __init__(self, name):
        self.directory = os.path.join(WORK, f"daybook-logs-{name}")
        shutil.rmtree(self.directory, ignore_errors=True)
        self.server = measure.Server(self.directory)
        self.peak = Peak(self.server.process.pid)
        self.peak.start()
        self.lines, self.waiting, self.pending, self.seconds = 0, {}, 0, 0.0

    def add(self, stream, at_ns, line, fields=None):
        entry = [str(at_ns), line] + ([fields] if fields else [])
        self.waiting.setdefault(tuple(sorted(stream.items())), []).append(entry)
        self.pending += 1
        if self.pending >= LINES_PER_PUSH or len(line) > 1_000_000:
            self.push()

    def push(self):
        if not self.waiting:
            return
        streams = [{"stream": dict(labels), "values": values} for labels, values in self.waiting.items()]
        body = json.dumps({"streams": streams}, ensure_ascii=False).encode()
        request = urllib.request.Request(f"http://{self.server.http}/loki/api/v1/push", body,
                                         {"Content-Type": "application/json"})
        begin = time.monotonic()
        urllib.request.urlopen(request, timeout=120).read()
        self.seconds += time.monotonic() - begin
        self.lines, self.waiting, self.pending = self.lines + self.pending, {}, 0

    def end(self, title, queries):
        self.push()
        begin = time.monotonic()
        flush(self.server)
        cpu = measure.cpu_s(self.server.process.pid)
        print(f"{title}: {self.lines:,} lines, {self.lines / self.seconds:,.0f} lines/s over one connection, "
              f"{cpu / self.lines * 1e6:.1f} CPU s per million, flush {time.monotonic() - begin:.1f} s, "
              f"peak {self.peak.rss:.0f} MB")
        print(f"  {measure.du_mb(self.directory) * 1e6 / self.lines:.1f} bytes a line on disk")
        for name, query, wanted in queries:
            self.ask(name, query, wanted)
        self.peak.on = False
        self.server.process.kill()
        self.server.process.wait()
        again = measure.Server(self.directory)
        print(f"  ready {again.ready_s * 1000:.0f} ms after kill -9")
        again.stop()

    def ask(self, name, query, wanted):
        end_ns = time.time_ns() + 60_000_000_000
        path, params = "query_range", {"query": query, "start": end_ns - 9 * DAY_NS, "end": end_ns, "limit": 1000}
        if query.startswith("sum"):
            path, params = "query", {"query": query, "time": end_ns}
        times = []
        for _ in range(5):
            begin = time.monotonic()
            url = f"http://{self.server.http}/loki/api/v1/{path}?{urllib.parse.urlencode(params)}"
            data = json.load(urllib.request.urlopen(url, timeout=120))["data"]
            times.append((time.monotonic() - begin) * 1000)
        if data["resultType"] == "vector":
            got = sum(float(series["value"][1]) for series in data["result"])
        else:
            got = sum(len(stream["values"]) for stream in data["result"])
        verdict = "" if got == wanted else f" (wrong: {got}, not {wanted})"
        print(f"  {name}: first {times[0]:.1f} ms, then {statistics.median(times[1:]):.1f} ms{verdict}")


def words(rng):
    return f"request {rng.randrange(16**8):08x} took {rng.randrange(9000)} ms, status {rng.choice((200, 200, 404, 500))}"


def streams():
    rng, run, now = random.Random(1), Run("streams"), time.time_ns()
    for second in range(60):
        for pod in range(10_000):
            line = words(rng) + (" quokka" if pod == 777 else "")
            run.add({"service_name": f"svc-{pod % 50}", "pod": f"pod-{pod}"}, now - (60 - second) * 1_000_000_000, line)
    run.end("10,000 streams", [
        ("count of a word in one stream, all streams asked", 'sum(count_over_time({pod=~".+"} |= "quokka" [2d]))', 60),
        ("all lines of one stream", '{pod="pod-4242"}', 60),
        ("count by service", 'sum by (service_name) (count_over_time({pod=~".+"}[2d]))', 600_000)])


def short():
    rng, run, now = random.Random(2), Run("short"), time.time_ns()
    for minute in range(1440):
        for service in range(7):
            for i in range(60):
                at = now - DAY_NS + (minute * 60 + i) * 1_000_000_000
                run.add({"service_name": f"job-{service}", "pod": f"job-{service}-{minute}"}, at, words(rng))
    run.end("streams of a minute", [
        ("all lines of one stream", '{pod="job-3-700"}', 60),
        ("count by service", 'sum by (service_name) (count_over_time({service_name=~"job-.+"}[2d]))', 604_800)])


def long():
    rng, run, now = random.Random(3), Run("long"), time.time_ns()
    text = " ".join(words(rng) for _ in range(120_000))[:5_000_000]
    for i in range(60):
        run.add({"service_name": "long"}, now - i * 1_000_000, text + (" needle" if i == 7 else ""))
    run.end("lines of 5 MB", [("a word at the end of one", 'sum(count_over_time({service_name="long"} |= "needle" [2d]))', 1)])


def wide():
    rng, run, now = random.Random(4), Run("wide"), time.time_ns()
    for i in range(50_000):
        fields = {f"field_{n}": str(rng.randrange(1000)) for n in range(100)} | {"wanted": str(i % 100)}
        run.add({"service_name": "wide"}, now - i * 1_000_000, words(rng), fields)
    run.end("100 attributes a record", [
        ("count of one value of one", 'sum(count_over_time({service_name="wide"} | wanted="7" [2d]))', 500)])


def korean():
    rng, run, now = random.Random(5), Run("korean"), time.time_ns()
    parts = ["주문을접수했습니다", "재고를확인합니다", "배송을시작합니다", "회원정보를변경했습니다"]
    for i in range(500_000):
        line = f"{rng.choice(parts)} 번호 {rng.randrange(10**8)}" + (" 카드결제오류가발생" if i % 5000 == 0 else "")
        run.add({"service_name": "shop"}, now - i * 1_000_000, line)
    run.end("Korean", [("결제, inside of words", 'sum(count_over_time({service_name="shop"} |= "결제" [2d]))', 100)])


def week():
    rng, run, now = random.Random(6), Run("week"), time.time_ns()
    step = 7 * DAY_NS // 4_000_000
    for i in range(4_000_000):
        line = words(rng) + (" quokka" if i % 40_000 == 0 else "")
        run.add({"service_name": f"svc-{i % 20}", "pod": f"pod-{i % 200}"}, now - 7 * DAY_NS + i * step, line)
    run.end("a week", [
        ("count of a word, 1 line in 40,000", 'sum(count_over_time({service_name=~"svc-.+"} |= "quokka" [8d]))', 100),
        ("newest 1,000 lines of one stream", '{pod="pod-77"}', 1000),
        ("count by service", 'sum by (service_name) (count_over_time({service_name=~"svc-.+"}[8d]))', 4_000_000)])


def values():
    rng, run, now = random.Random(7), Run("values"), time.time_ns()
    for i in range(1_000_000):
        run.add({"service_name": "shop"}, now - DAY_NS + i * 1_000_000, words(rng), {"user": f"user-{i}"})
    for i in range(200_000):
        run.add({"service_name": "lambda", "invocation": f"run-{i}"}, now - DAY_NS + i * 1_000_000, words(rng))
    run.end("a million values", [
        ("lines of one value", '{service_name="shop"} | user="user-777777"', 1),
        ("lines of one stream", '{invocation="run-77777"}', 1),
        ("count of streams", 'sum(count by (invocation) (count_over_time({service_name="lambda"}[2d])))', 200_000)])


def busy():
    bodies, directory = os.path.join(WORK, "logs", "otlp"), os.path.join(WORK, "daybook-logs-busy")
    lbench = os.path.join(os.environ.get("CARGO_TARGET_DIR", os.path.join(WORK, "target")), "release", "lbench")
    with open(os.path.join(bodies, "meta.json")) as meta:
        end_ns = json.load(meta)["end_ns"]
    shutil.rmtree(directory, ignore_errors=True)
    server = measure.Server(directory)
    peak = Peak(server.process.pid)
    peak.start()
    sender = subprocess.Popen([lbench, "send", "--dir", bodies, "--url", f"http://{server.otlp}/v1/logs"],
                              stdout=subprocess.PIPE, text=True)
    times = {'{service_name=~".+"} |= "zq7x1needle"': [], '{service_name="cart"}': [],
             'sum(count_over_time({service_name=~".+"} |= "quokka" [25h]))': [],
             'sum by (service_name) (count_over_time({service_name=~".+"}[25h]))': []}
    while sender.poll() is None:
        for query, found in times.items():
            path = "query" if query.startswith("sum") else "query_range"
            params = {"query": query, "start": end_ns - DAY_NS, "end": end_ns, "time": end_ns, "limit": 100}
            url = f"http://{server.http}/loki/api/v1/{path}?{urllib.parse.urlencode(params)}"
            begin = time.monotonic()
            urllib.request.urlopen(url, timeout=120).read()
            found.append((time.monotonic() - begin) * 1000)
        time.sleep(0.2)
    sent = json.loads(sender.stdout.read().strip().splitlines()[-1])
    print(f"while {sent['lines_per_s']:,.0f} lines/s came in, peak {peak.rss:.0f} MB:")
    for query, found in times.items():
        print(f"  {query}: median {statistics.median(found):.0f}, longest {max(found):.0f} ms of {len(found)}")
    peak.on = False
    server.stop()


def drop_page_cache():
    subprocess.check_call(["sh", "-c", "sync; echo 3 > /proc/sys/vm/drop_caches"])


def bench():
    directory = os.path.join(WORK, "daybook-data")
    with open(os.path.join(WORK, "logs", "otlp", "meta.json")) as meta:
        end_ns = json.load(meta)["end_ns"]
    for name, query in (("rare word, 1 line in all", '{service_name=~".+"} |= "zq7x1needle"'),
                        ("count of a word, 1 line in 10,000", 'sum(count_over_time({service_name=~".+"} |= "quokka" [25h]))'),
                        ("newest 100 lines of one service", '{service_name="checkout"}'),
                        ("lines by severity", 'sum by (severity_text) (count_over_time({service_name=~".+"}[25h]))')):
        times = []
        for _ in range(5):
            server = measure.Server(directory)
            drop_page_cache()
            params = {"query": query, "start": end_ns - DAY_NS, "end": end_ns, "time": end_ns, "limit": 100}
            begin = time.monotonic()
            path = "query" if query.startswith("sum") else "query_range"
            url = f"http://{server.http}/loki/api/v1/{path}?{urllib.parse.urlencode(params)}"
            urllib.request.urlopen(url, timeout=120).read()
            times.append((time.monotonic() - begin) * 1000)
            server.stop()
        print(f"{name}: first of a process, page cache dropped: median {statistics.median(times):.0f} ms of 5")
    server = measure.Server(directory)
    peak = Peak(server.process.pid)
    peak.start()
    for form in ("jsonl", "csv"):
        begin, lines = time.monotonic(), 0
        params = urllib.parse.urlencode({"query": "{}", "start": end_ns - 2 * DAY_NS, "end": end_ns + 1, "format": form})
        with urllib.request.urlopen(f"http://{server.http}/api/v1/logs/export?{params}", timeout=600) as answer:
            while chunk := answer.read(1 << 20):
                lines += chunk.count(b"\n")
        seconds = time.monotonic() - begin
        print(f"export as {form}: {lines:,} lines in {seconds:.1f} s, {lines / seconds:,.0f} lines/s, peak {peak.rss:.0f} MB")
    peak.on = False
    server.stop()


if __name__ == "__main__":
    known = {"streams": streams, "short": short, "long": long, "wide": wide, "korean": korean, "week": week,
             "values": values, "busy": busy, "bench": bench}
    if len(sys.argv) != 2 or sys.argv[1] not in known:
        sys.exit(__doc__)
    known[sys.argv[1]]()
