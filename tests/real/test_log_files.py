"""Real log files, pushed and counted; and a flushed block read by pyarrow."""

import json
import pathlib
import time

import pyarrow.parquet
import pytest
from conftest import ROOT

LOGS = ROOT.parent / "shared/logs"
FILES = ["BGL_2k.log", "HDFS_2k.log", "Linux_2k.log", "OpenStack_2k.log", "Spark_2k.log", "agent-logfmt.txt",
         "distributor-logfmt.txt", "drone-json.txt", "journald.txt", "kubernetes.txt", "nginxplus_status_json.log"]

pytestmark = pytest.mark.skipif(not LOGS.is_dir(), reason=f"{LOGS} is not here")


@pytest.fixture(scope="module")
def pushed(server):
    """Returns the lines of each file, pushed a microsecond apart."""
    base = time.time_ns() - 600 * 10**9
    files = {}
    for name in FILES:
        lines = (LOGS / name).read_bytes().decode(errors="replace").splitlines()
        files[name] = lines
        for first in range(0, len(lines), 1000):
            values = [[str(base + number * 1000), line] for number, line in enumerate(lines[first:first + 1000], first)]
            body = {"streams": [{"stream": {"service_name": name}, "values": values}]}
            assert server.post("/loki/api/v1/push", json.dumps(body).encode(), "application/json") == 204
    return files


@pytest.mark.parametrize("name", FILES)
def test_lines_come_back_as_they_were(server, pushed, name):
    found = server.lines_of(f'{{service_name="{name}"}}')
    assert [line for _, line, _ in found] == pushed[name]


def test_counts_of_words_are_those_of_the_files(server, pushed):
    for word in ["error", "INFO", "level=", "block", "0x", "10.251.", "connection", "GET /", "nothing has this"]:
        expected = sum(word in line for lines in pushed.values() for line in lines)
        query = f'sum(count_over_time({{service_name=~".+(log|txt)"}} |= "{word}" [1h]))'
        _, body = server.get("/loki/api/v1/query", query=query)
        result = json.loads(body)["data"]["result"]
        assert (float(result[0]["value"][1]) if result else 0) == expected, word


def test_logfmt_and_json_fields_count_like_python(server, pushed):
    expected = sum(" level=error" in f" {line}" for line in pushed["distributor-logfmt.txt"])
    query = 'sum(count_over_time({service_name="distributor-logfmt.txt"} | logfmt | level="error" [1h]))'
    _, body = server.get("/loki/api/v1/query", query=query)
    result = json.loads(body)["data"]["result"]
    assert (float(result[0]["value"][1]) if result else 0) == expected


def test_blocks_hold_a_row_per_record(server, pushed, tmp_path):
    assert server.post("/api/v1/admin/flush", b"", "text/plain") // 100 == 2
    data = pathlib.Path(server.process.args[server.process.args.index("--data-dir") + 1])
    streams = [stream for path in data.glob("logs/**/rows.parquet")
               for stream in pyarrow.parquet.read_table(path, columns=["stream"])["stream"].to_pylist()]
    rows = sum('"daybook"' not in stream for stream in streams)  # without the server's own events
    assert rows == sum(len(lines) for lines in pushed.values())
    test_counts_of_words_are_those_of_the_files(server, pushed)
