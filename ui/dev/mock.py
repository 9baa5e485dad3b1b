#!/usr/bin/env python3
"""Serves ui/dist and made-up answers of the query APIs, to work on the UI without a server.

    python3 ui/dev/mock.py [--port 4400] [--empty] [--fail] [--slow SECONDS]

The answers have the shapes of the real ones and follow the requested range, step and limit; queries are recognised by
the names in them, not evaluated. --empty answers as a server that has just started, --fail with errors. Standard library
only.
"""

import argparse
import base64
import hashlib
import json
import math
import pathlib
import random
import struct
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

DIST = pathlib.Path(__file__).resolve().parent.parent / "dist"
TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".wasm": "application/wasm", ".svg": "image/svg+xml"}
HOST = "workstation"
SERVICES = ["checkout", "payments", "kubelet", "nginx-ingress", "daybook"]
SEVERITIES = [("INFO", 0.72), ("DEBUG", 0.12), ("WARN", 0.1), ("ERROR", 0.05), ("", 0.01)]
LINES = [
    "GET /api/cart/{n} 200 {d}ms",
    "payment {n} authorised in {d}ms",
    "connection to db-{k} timed out after {d}ms, retrying",
    '{{"msg":"order placed","order":{n},"total":{d}.50,"items":[{k},{n}]}}',
    "결제오류가 발생했습니다: 주문 {n}",
    "Failed to pull image registry.example/shop:{k}: not found",
    "compacted {k} blocks into one, {n} rows, {d} ms",
]


def noise(*key):
    return random.Random("/".join(map(str, key))).random()


def wave(name, t, low, high):
    phase = noise(name) * 6.28
    base = 0.5 + 0.3 * math.sin(t / 900 + phase) + 0.12 * math.sin(t / 97 + phase * 3)
    return low + (high - low) * min(1, max(0, base + 0.12 * (noise(name, int(t) // 15) - 0.5)))


def host_series():
    gib = 1 << 30
    out = []
    add = lambda name, low, high, **labels: out.append(({"__name__": name, "host_name": HOST, "job": "host", **labels}, low, high))
    for cpu in ("0", "1"):
        for state, low, high in (("idle", 0.5, 0.9), ("user", 0.05, 0.4), ("system", 0.02, 0.1), ("iowait", 0, 0.04)):
            add("system_cpu_time_seconds_total", low, high, cpu=cpu, state=state)
    for state, low, high in (("used", 5, 7), ("cached", 7, 8), ("buffered", 0.4, 0.5), ("free", 2, 3)):
        add("system_memory_usage_bytes", low * gib, high * gib, state=state)
    for direction, high in (("read", 4e7), ("write", 9e7)):
        add("system_disk_io_bytes_total", 0, high, device="sda", direction=direction)
    for direction, high in (("receive", 3e6), ("transmit", 8e5)):
        add("system_network_io_bytes_total", 0, high, device="eth0", direction=direction)
    for mount, share in (("/", 0.62), ("/var/lib", 0.93), ("/boot", 0.21)):
        add("system_filesystem_usage_bytes", share * 100 * gib, share * 100 * gib, device="sda1", mountpoint=mount, state="used")
        add("system_filesystem_usage_bytes", (1 - share) * 100 * gib, (1 - share) * 100 * gib, device="sda1", mountpoint=mount, state="free")
    for period in ("1m", "5m", "15m"):
        add(f"system_cpu_load_average_{period}", 0.4, 1.8)
    return out


def evaluate(query):
    """Returns [(labels, low, high)] for a query that names a metric of the host, or made-up ones."""
    if "load_average_.+" in query:
        return [s for s in host_series() if "load_average" in s[0]["__name__"]]
    if "many" in query:
        return [({"series": f"s{i:02}"}, i * 3, i * 3 + 20) for i in range(50)]
    if "nothing" in query:
        return []
    if "filesystem" in query:
        return [({"mountpoint": m}, v, v) for m, v in (("/", 0.62), ("/var/lib", 0.93), ("/boot", 0.21))]
    found = [s for s in host_series() if s[0]["__name__"] in query]
    if query.startswith("1 - ") or "/ sum(system_memory" in query:
        return [({}, 0.2, 0.6)]
    for label in ("state", "direction", "device, direction", "cpu"):
        if f"by ({label})" in query:
            groups = {}
            for labels, low, high in found:
                if labels.get("state") == "idle":
                    continue
                key = tuple((n, labels[n]) for n in label.split(", ") if n in labels)
                a, b = groups.get(key, (0, 0))
                share = 2 if "cpu_time" in query else 1
                groups[key] = (a + low / share, b + high / share)
            return [(dict(k), a, b) for k, (a, b) in groups.items()]
    return found or [({"__name__": "up", "job": "node", "instance": f"host-{i}:9100"}, 0, 1) for i in range(3)]


def record(at_ns):
    service = SERVICES[int(noise(at_ns, "s") * len(SERVICES))]
    pick, severity = noise(at_ns, "v"), "INFO"
    for name, share in SEVERITIES:
        if pick < share:
            severity = name
            break
        pick -= share
    n = int(noise(at_ns, "n") * 1e5)
    line = LINES[int(noise(at_ns, "l") * len(LINES))].format(n=n, d=n % 900, k=n % 9)
    if severity == "ERROR":
        line = f"error: {line}"
    meta = {"trace_id": hashlib.md5(str(at_ns).encode()).hexdigest(), "log_file_path": f"/var/log/{service}.log"}
    if severity:
        meta |= {"severity_text": severity}
    stream = {"service_name": service, "host_name": HOST, "k8s_namespace_name": "shop", "k8s_pod_name": f"{service}-7d9f"}
    return stream, [str(at_ns), line, {"structuredMetadata": meta}]


STEP_NS = 700_000_000


def wanted(query, stream, entry):
    text = entry[1].lower()
    for op in ("|= ", "|~ "):
        if op in query:
            behind = query.split(op, 1)[1]
            needle = behind.split(behind[0])[1].replace("(?i)", "").replace("\\\\", "")
            if needle.lower() not in text:
                return False
    if "severity_text=~" in query:
        names = query.split("severity_text=~", 1)[1].split(")[0-9]")[0].split("(")[-1].split("|")
        if entry[2]["structuredMetadata"].get("severity_text", "").lower() not in names:
            return False
    if 'service_name="' in query and f'service_name="{stream["service_name"]}"' not in query:
        return False
    return True


def log_lines(query, start, end, limit):
    streams, count = {}, 0
    at = (end - 1) // STEP_NS * STEP_NS
    while at >= start and count < limit:
        stream, entry = record(at)
        if wanted(query, stream, entry):
            streams.setdefault(json.dumps(stream), []).append(entry)
            count += 1
        at -= STEP_NS
    return [{"stream": json.loads(s), "values": v} for s, v in streams.items()]


def log_volume(query, start, end, step):
    out = []
    services = SERVICES if "service_name, severity" in query else [None]
    for service in services:
        for severity, share in SEVERITIES:
            rate = step / 1e9 / 0.7 * share / (len(SERVICES) if service else 1)
            if "severity_text=~" in query and severity not in ("ERROR",):
                continue
            values = []
            t = start
            while t <= end:
                spike = 8 if severity == "ERROR" and noise("spike", int(t / step)) > 0.93 else 1
                values.append([t / 1e9, str(round(rate * spike * (0.5 + noise(severity, service, int(t / step)))))])
                t += step
            metric = {"severity_text": severity} if severity else {}
            out.append({"metric": metric | ({"service_name": service} if service else {}), "values": values})
    return out


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    options = None

    def log_message(self, *args):
        pass

    def answer(self, body, kind="application/json", status=200, headers=()):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def data(self, data, **more):
        self.answer({"status": "success", "data": data, **more})

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        self.route(parse_qs(self.rfile.read(length).decode(), keep_blank_values=True))

    def do_GET(self):
        self.route(parse_qs(urlsplit(self.path).query, keep_blank_values=True))

    def route(self, params):
        path = unquote(urlsplit(self.path).path)
        get = lambda name, default="": params.get(name, [default])[0]
        if not path.startswith(("/api/", "/loki/")):
            return self.static(path)
        time.sleep(self.options.slow)
        if self.options.fail:
            return self.answer({"status": "error", "errorType": "internal", "error": "the store is being opened"}, status=503)
        query, now = get("query"), time.time()
        if path == "/api/v1/ledger":
            n = 0 if self.options.empty else int(now * 40) % 10**9
            return self.data([
                {"place": "otlp_grpc", "signal": "metrics", "received": n * 3, "accepted": n * 3, "dropped": {}},
                {"place": "otlp_grpc", "signal": "logs", "received": n, "accepted": max(0, n - 1208), "dropped": {"too_old": 1200, "line_too_long": 8} if n else {}},
            ])
        if self.options.empty:
            if "query" in path.rsplit("/", 1)[-1]:
                kind = "streams" if path.startswith("/loki") and query.startswith("{") else "matrix"
                return self.data({"resultType": kind, "result": []})
            return self.data({} if path.endswith("metadata") else [])
        if path.startswith("/api/v1/query"):
            if query.count("(") != query.count(")"):
                column = len(query)
                return self.answer({"status": "error", "errorType": "bad_data", "error": f'invalid parameter "query": 1:{column}: parse error: unclosed left parenthesis'}, status=400)
            series = evaluate(query)
            if path.endswith("range"):
                start, end, step = float(get("start")), float(get("end")), float(get("step"))
                steps = [start + i * step for i in range(int((end - start) / step) + 1)]
                result = [{"metric": m, "values": [[t, repr(wave(json.dumps(m), t, a, b))] for t in steps]} for m, a, b in series]
                more = {"infos": ["PromQL info: metric might not be a counter (1:6)"]} if "info_please" in query else {}
                return self.data({"resultType": "matrix", "result": result}, **more)
            at = float(get("time", str(now)))
            return self.data({"resultType": "vector", "result": [{"metric": m, "value": [at, repr(wave(json.dumps(m), at, a, b))]} for m, a, b in series]})
        if path == "/api/v1/series":
            return self.data([labels for labels, _, _ in host_series()])
        if path == "/api/v1/labels":
            return self.data(sorted({n for labels, _, _ in host_series() for n in labels}))
        if path.startswith("/api/v1/label/"):
            name = path.split("/")[4]
            return self.data(sorted({labels[name] for labels, _, _ in host_series() if name in labels}))
        if path == "/api/v1/metadata":
            return self.data({labels["__name__"]: [{"type": "counter", "help": "From the host.", "unit": ""}] for labels, _, _ in host_series()})
        if path == "/loki/api/v1/query_range":
            start, end = int(get("start")), int(get("end"))
            if query.startswith("{"):
                if '{"' in query or query.count('"') % 2:
                    return self.answer(b"parse error at line 1, col 9: syntax error: unexpected STRING", "text/plain", 400)
                return self.data({"resultType": "streams", "result": log_lines(query, start, end, int(get("limit", "100"))), "encodingFlags": ["categorize-labels"]})
            return self.data({"resultType": "matrix", "result": log_volume(query, start, end, int(float(get("step")) * 1e9))})
        if path == "/loki/api/v1/labels":
            return self.data(["host_name", "k8s_namespace_name", "k8s_pod_name", "service_name"])
        if path.startswith("/loki/api/v1/label/"):
            return self.data(SERVICES if "service_name" in path else [HOST])
        if path == "/loki/api/v1/tail":
            return self.tail(query)
        self.answer({"status": "error", "error": f"no such path: {path}"}, status=404)

    def static(self, path):
        file = DIST / path.lstrip("/")
        if path == "/" or path.startswith("/explore/"):
            file = DIST / "index.html"
        if not file.is_file():
            return self.answer(b"not found", "text/plain", 404)
        self.answer((DIST / f"{file}.gz").read_bytes(), TYPES[file.suffix], headers=[("content-encoding", "gzip")])

    def tail(self, query):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        count = 0
        while True:
            stream, entry = record(time.time_ns())
            count += 1
            frame = {"streams": [{"stream": stream, "values": [entry]}]} | ({"droppedCount": 3} if count == 5 else {})
            body = json.dumps(frame).encode()
            size = struct.pack("!B", len(body)) if len(body) < 126 else b"\x7e" + struct.pack("!H", len(body))
            try:
                self.wfile.write(b"\x81" + size + body)
                self.wfile.flush()
            except OSError:
                return
            time.sleep(0.3)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=4400)
    parser.add_argument("--empty", action="store_true")
    parser.add_argument("--fail", action="store_true")
    parser.add_argument("--slow", type=float, default=0.0)
    Handler.options = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", Handler.options.port), Handler)
    print(f"http://127.0.0.1:{server.server_address[1]}/", flush=True)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
