"""Real senders and clients against the built binary: a server per module, on free ports, in a fresh directory."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("DAYBOOK_BINARY", ROOT / "target/debug/daybook"))
DEADLINE_SECONDS = 60


def until(what, look, deadline_seconds=DEADLINE_SECONDS):
    """Waits until look() gives something true, and returns it."""
    end = time.monotonic() + deadline_seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_seconds} s in vain for {what}")
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A running `daybook serve` (or `up`)."""

    def __init__(self, data_dir, command="serve", **flags):
        flags = {"http_addr": "127.0.0.1:0", "otlp_grpc_addr": "127.0.0.1:0", "otlp_http_addr": "127.0.0.1:0",
                 "retention": "0", "data_dir": str(data_dir)} | flags
        arguments = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DAYBOOK_")}
        self.process = subprocess.Popen([str(BINARY), command, *arguments], env=environment,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.lines = []
        threading.Thread(target=self._read, daemon=True).start()
        listening = until("the server to listen", self._listening)
        self.http, self.grpc, self.otlp_http = (listening[name] for name in ("http_addr", "otlp_grpc_addr", "otlp_http_addr"))
        self.url = f"http://{self.http}"
        until("the server to be ready", lambda: self.get("/-/ready")[0] == 200)

    def _read(self):
        for line in self.process.stdout:
            if len(self.lines) < 5000:
                self.lines.append(line.rstrip())

    def _listening(self):
        assert self.process.poll() is None, "the server ended:\n" + "\n".join(self.lines)
        for line in list(self.lines):
            try:
                event = json.loads(line)
            except ValueError:
                continue
            event = event | event.get("fields", {})
            if event.get("message") == "listening":
                return event
        return None

    def get(self, path, **params):
        """Returns status and body."""
        query = urllib.parse.urlencode(params, doseq=True)
        try:
            with urllib.request.urlopen(f"{self.url}{path}?{query}", timeout=DEADLINE_SECONDS) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def post(self, path, body, content_type):
        request = urllib.request.Request(self.url + path, data=body, headers={"content-type": content_type})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as response:
            return response.status

    def query(self, promql, **params):
        """Returns {labels: value} of an instant query, labels as a sorted tuple of pairs without the name."""
        status, body = self.get("/api/v1/query", query=promql, **params)
        assert status == 200, body
        data = json.loads(body)["data"]
        return {tuple(sorted((k, v) for k, v in series["metric"].items() if k != "__name__")): float(series["value"][1])
                for series in data["result"]}

    def value(self, promql, **params):
        """Returns the value of a query with one result; None while there is none."""
        found = list(self.query(promql, **params).values())
        assert len(found) < 2, (promql, found)
        return found[0] if found else None

    def lines_of(self, logql, start_ns=0, end_ns=None, limit=5000):
        """Returns [(nanoseconds, line, labels)], oldest first."""
        end_ns = end_ns or time.time_ns() + 60 * 10**9
        status, body = self.get("/loki/api/v1/query_range", query=logql, start=start_ns or end_ns - 7200 * 10**9,
                                end=end_ns, limit=limit, direction="forward")
        assert status == 200, body
        streams = json.loads(body)["data"]["result"]
        return sorted((int(at), line, stream["stream"]) for stream in streams for at, line in stream["values"])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(DEADLINE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = Server(tmp_path_factory.mktemp("data"))
    yield running
    assert running.stop() == 0, "\n".join(running.lines[-50:])
