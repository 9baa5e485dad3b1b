"""Prometheus' own test scripts of PromQL, over the wire: each group on a fresh server, and at other times with `@`."""

import re
import subprocess
import sys

import pytest
from conftest import BINARY, ROOT

RUNNER = ROOT.parent / "shared/bench/promql/promqltest.py"
SCRIPTS = ROOT.parent / "shared/promqltest"

pytestmark = pytest.mark.skipif(not RUNNER.is_file(), reason=f"{RUNNER} is not here")


def test_every_case_passes_strictly(tmp_path):
    command = (f"{BINARY} serve --http-addr 127.0.0.1:{{port}} --otlp-grpc-addr 127.0.0.1:0 --otlp-http-addr 127.0.0.1:0 "
               "--data-dir {dir} --retention 0")
    done = subprocess.run([sys.executable, str(RUNNER), "--fresh", command, "--at-variants", "--verbose", "--tmp", str(tmp_path),
                           str(SCRIPTS)], capture_output=True, text=True, timeout=900)
    passed, failed, skipped = map(int, re.search(r"(\d+) passed, (\d+) failed, (\d+) skipped", done.stdout).groups())
    assert (failed, skipped) == (0, 0), done.stdout[-20_000:]
    assert passed >= 1360, "cases are missing"
