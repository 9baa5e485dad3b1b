#!/usr/bin/env python3
"""Measures what docs/benchmarks.md claims. Standard library only; run it on a quiet machine.

  measure.py sizes                 binary and UI bundle
  measure.py ready [--data DIR]    start to ready, on an empty or a given data directory
  measure.py metrics [--hosts N]   ../shared/bench/metrics against Daybook
  measure.py logs [--lines N]      ../shared/bench/logs against Daybook
  measure.py agent [--seconds N]   the agent's CPU and memory at 1 MB/s of logs

Peers are measured by the benchmarks' own `bench.py peer …` in the same session.
"""
import argparse
import datetime
import glob
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BENCH = os.path.join(os.path.dirname(ROOT), "shared", "bench")
BINARY = os.path.join(ROOT, "target", "release", "daybook")
TICK = os.sysconf("SC_CLK_TCK")


class Server:
    """`daybook serve` on free ports, ready."""

    def __init__(self, data_dir, *extra):
        begin = time.monotonic()
        command = [BINARY, "serve", "--data-dir", data_dir, "--retention", "0", "--http-addr", "127.0.0.1:0",
                   "--otlp-grpc-addr", "127.0.0.1:0", "--otlp-http-addr", "127.0.0.1:0", "--query-timeout", "10m", *extra]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.http = self.otlp = self.grpc = None
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("message") == "listening":
                self.http, self.otlp, self.grpc = event["http_addr"], event["otlp_http_addr"], event["otlp_grpc_addr"]
            if event.get("message") == "ready":
                break
        else:
            sys.exit("the server ended before it was ready")
        self.ready_s = time.monotonic() - begin
        self.drain = subprocess.Popen(["cat"], stdin=self.process.stdout, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(120)
        self.drain.wait(10)


def memory_mb(pid, field="VmRSS"):
    with open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith(field):
                return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def du_mb(path):
    return sum(os.path.getsize(os.path.join(base, name)) for base, _, names in os.walk(path) for name in names) / 1e6


def sizes(_):
    print(f"binary: {os.path.getsize(BINARY) / 1e6:.1f} MB")
    for path in sorted(glob.glob(os.path.join(ROOT, "ui", "dist", "**", "*.wasm*"), recursive=True)):
        print(f"{os.path.basename(path)}: {os.path.getsize(path) / 1e3:.0f} kB")


def ready(args):
    def once(directory):
        server = Server(directory)
        memory = memory_mb(server.process.pid)
        server.stop()
        return server.ready_s, memory

    if args.data:
        runs = [once(args.data) for _ in range(args.reps)]
        label = f"{du_mb(args.data):.0f} MB of data"
    else:
        runs = []
        for _ in range(args.reps):
            with tempfile.TemporaryDirectory() as directory:
                runs.append(once(directory))
        label = "empty"
    print(f"start to ready, {label}: median {statistics.median(r for r, _ in runs) * 1000:.0f} ms of {args.reps}, "
          f"resident {statistics.median(m for _, m in runs):.0f} MB")


def run_bench(kind, args, generate, run):
    work = os.environ.get("BENCH_DIR", "/tmp/bench")
    script = os.path.join(BENCH, kind, "bench.py")
    if generate:
        subprocess.check_call([script, "gen", *generate])
    for rep in range(args.reps):
        directory = os.path.join(work, "daybook-data")
        shutil.rmtree(directory, ignore_errors=True)
        server = Server(directory)
        flush = f"cmd:curl -fsS -XPOST http://{server.http}/api/v1/admin/flush"
        name = f"{args.name}-r{rep + 1}"
        try:
            subprocess.check_call([script, "run", "--name", name, "--query-url", f"http://{server.http}", "--pid",
                                   str(server.process.pid), "--data-dir", directory, "--flush", flush, *run(server, name)])
        finally:
            server.stop()


def metrics(args):
    if args.otlp:
        target = lambda server, _: ["--otlp", "--write-url", f"http://{server.otlp}/v1/metrics", "--dir", "/tmp/bench/otlp"]
        generate = ["--hosts", str(args.hosts), "--otlp", "--dir", "/tmp/bench/otlp"]
    else:
        target = lambda server, name: ["--write-url", f"http://{server.http}/api/v1/write",
                                       "--save-results", f"/tmp/bench/{name}-answers.json"]
        generate = ["--hosts", str(args.hosts)]
    run_bench("metrics", args, None if args.no_gen else generate, target)


def logs(args):
    generate = None if args.no_gen else ["--dir", "/tmp/bench/logs/otlp", "--lines", str(args.lines)]
    run_bench("logs", args, generate, lambda server, _: ["--dialect", "loki", "--dir", "/tmp/bench/logs/otlp",
                                                         "--write-url", f"http://{server.http}/otlp/v1/logs"])


def agent(args):
    """Writes lines at a steady pace into a file that the agent tails into a server."""
    work = tempfile.mkdtemp()
    server = Server(os.path.join(work, "server"))
    path, config = os.path.join(work, "app.log"), os.path.join(work, "agent.toml")
    with open(config, "w") as out:
        out.write(f'[agent.file]\ninclude = ["{path}"]\n')
    open(path, "w").close()
    command = [BINARY, "agent", "--config", config, "--data-dir", os.path.join(work, "agent"),
               "--agent-endpoint", f"http://{server.grpc}", "--agent-http-addr", "127.0.0.1:0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    time.sleep(2)
    line = "{t} INFO request served method=GET path=/api/v1/items/{n} status=200 bytes=5120 duration_ms=12\n"
    begin, start_cpu, peak, written, n = time.monotonic(), cpu_s(process.pid), 0.0, 0, 0
    with open(path, "a") as out:
        while (passed := time.monotonic() - begin) < args.seconds:
            now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            while written < passed * 1e6:
                text = line.replace("{t}", now).replace("{n}", str(n))
                out.write(text)
                written, n = written + len(text), n + 1
            out.flush()
            peak = max(peak, memory_mb(process.pid))
            time.sleep(0.05)
    used = cpu_s(process.pid) - start_cpu
    count, deadline = 0, time.monotonic() + 60
    while count < n and time.monotonic() < deadline:
        url = f"http://{server.http}/loki/api/v1/query?query=sum(count_over_time(%7B%7D%20%7C%3D%20%22request%20served%22%5B1h%5D))"
        result = json.load(urllib.request.urlopen(url))["data"]["result"]
        count = int(float(result[0]["value"][1])) if result else 0
        time.sleep(0.5)
    print(f"agent at {written / args.seconds / 1e6:.2f} MB/s, {n / args.seconds:.0f} lines/s for {args.seconds} s: "
          f"{100 * used / args.seconds:.1f} % of a core, peak resident {peak:.0f} MB; {count} of {n} lines arrived")
    process.terminate()
    process.wait(60)
    server.stop()
    shutil.rmtree(work)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for work in (sizes, ready, metrics, logs, agent):
        command = commands.add_parser(work.__name__)
        command.set_defaults(work=work)
        command.add_argument("--reps", type=int, default=3)
        command.add_argument("--name", default="daybook")
        command.add_argument("--no-gen", action="store_true", help="use the data of the last run")
        command.add_argument("--data", help="an existing data directory")
        command.add_argument("--hosts", type=int, default=100)
        command.add_argument("--lines", type=int, default=4_000_000)
        command.add_argument("--otlp", action="store_true")
        command.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()
    args.work(args)


if __name__ == "__main__":
    main()
