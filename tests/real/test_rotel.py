"""rotel, an OTLP agent, between the SDK and Daybook: gRPC and HTTP on its way out."""

import os
import pathlib
import subprocess

import pytest
import rotel
from conftest import free_port, until
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

AGENT = pathlib.Path(rotel.__file__).parent / "rotel-agent"


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_rotel_forwards_into_daybook(server, tmp_path, protocol):
    http, grpc = free_port(), free_port()
    target = server.grpc if protocol == "grpc" else server.otlp_http
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROTEL_")}
    agent = subprocess.Popen(
        [str(AGENT), "start", "--otlp-http-endpoint", f"127.0.0.1:{http}", "--otlp-grpc-endpoint", f"127.0.0.1:{grpc}",
         "--exporter", "otlp", "--otlp-exporter-endpoint", f"http://{target}", "--otlp-exporter-protocol", protocol,
         "--batch-timeout", "200ms", "--log-file", str(tmp_path / "rotel.log")],
        env=environment, stdout=open(tmp_path / "out", "w"), stderr=subprocess.STDOUT, cwd=tmp_path)
    try:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(endpoint=f"http://127.0.0.1:{http}/v1/metrics"),
                                               export_interval_millis=500)
        provider = MeterProvider(metric_readers=[reader], resource=Resource.create({"service.name": f"rotel-{protocol}"}))
        provider.get_meter("tests").create_counter("forwarded").add(7)
        until("the forwarded counter", lambda: server.value(f'forwarded_total{{job="rotel-{protocol}"}}') == 7)
        provider.shutdown()
    finally:
        agent.terminate()
        agent.wait(30)
