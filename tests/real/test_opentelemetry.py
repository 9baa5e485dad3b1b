"""The OpenTelemetry SDK's exporters, gRPC and HTTP: every instrument kind, both temporalities, and logs."""

import json
import logging
import time

import pytest
from conftest import Server, until
from opentelemetry import trace
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter as GrpcLogs
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as GrpcMetrics
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter as HttpLogs
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as HttpMetrics
from opentelemetry.metrics import Observation
from opentelemetry.sdk._logs import LoggerProvider, LoggingHandler
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import (
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.resources import Resource

DELTA = {kind: AggregationTemporality.DELTA for kind in (Counter, ObservableCounter, Histogram)}


def metric_exporter(server, protocol, temporality):
    preferred = DELTA if temporality == "delta" else {}
    if protocol == "grpc":
        return GrpcMetrics(endpoint=server.grpc, insecure=True, preferred_temporality=preferred)
    return HttpMetrics(endpoint=f"http://{server.otlp_http}/v1/metrics", compression=Compression.Gzip,
                       preferred_temporality=preferred)


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_every_instrument_arrives_with_its_value(server, protocol, temporality):
    service = f"sdk-{protocol}-{temporality}"
    reader = PeriodicExportingMetricReader(metric_exporter(server, protocol, temporality), export_interval_millis=3_600_000)
    resource = Resource.create({"service.name": service, "service.instance.id": "one"})
    buckets = View(instrument_name="latency", aggregation=ExplicitBucketHistogramAggregation([1, 5, 10]))
    provider = MeterProvider(metric_readers=[reader], resource=resource, views=[buckets])
    meter = provider.get_meter("tests")
    requests = meter.create_counter("http.requests", unit="{request}")
    queue = meter.create_up_down_counter("queue.length")
    latency = meter.create_histogram("latency", unit="s")
    gauge = meter.create_gauge("temperature", unit="Cel")
    meter.create_observable_gauge("load", callbacks=[lambda _: [Observation(0.5, {"core": "0"})]])
    meter.create_observable_counter("cpu.time", unit="s", callbacks=[lambda _: [Observation(12.5)]])
    meter.create_observable_up_down_counter("heap", unit="By", callbacks=[lambda _: [Observation(4096)]])
    for _ in range(3):
        requests.add(2, {"route": "/a"})
        queue.add(5)
        queue.add(-3)
        for seconds in (0.5, 3, 7, 20):
            latency.record(seconds)
        gauge.set(21.5)
        assert provider.force_flush()
    provider.shutdown()

    def check(promql, expected):
        until(f"{promql} = {expected}", lambda: server.value(promql) == expected, 20)

    job = f'job="{service}"'
    check(f'http_requests_total{{{job},route="/a"}}', 6)
    check(f"queue_length{{{job}}}", 6)
    check(f'{{__name__=~"temperature(_celsius)?",{job}}}', 21.5)
    check(f'load{{{job},core="0"}}', 0.5)
    check(f"cpu_time_seconds_total{{{job}}}", 12.5)
    check(f"heap_bytes{{{job}}}", 4096)
    check(f"latency_seconds_count{{{job}}}", 12)
    check(f"latency_seconds_sum{{{job}}}", 91.5)
    buckets = server.query(f"latency_seconds_bucket{{{job}}}")
    by_bound = {float(dict(labels)["le"]): value for labels, value in buckets.items()}
    assert by_bound == {1: 3, 5: 6, 10: 9, float("inf"): 12}
    assert server.value(f"count(target_info{{{job}}})") == 1
    assert all(dict(labels)["instance"] == "one" for labels in buckets)


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_logs_arrive_with_severity_and_attributes(server, protocol):
    service = f"sdk-logs-{protocol}"
    exporter = (GrpcLogs(endpoint=server.grpc, insecure=True) if protocol == "grpc"
                else HttpLogs(endpoint=f"http://{server.otlp_http}/v1/logs"))
    provider = LoggerProvider(resource=Resource.create({"service.name": service}))
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    logger = logging.getLogger(service)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(LoggingHandler(logger_provider=provider))
    for number in range(200):
        logger.info("order %03d placed", number, extra={"order.id": number})
    logger.error("payment failed: 결제 오류")
    assert provider.force_flush()
    provider.shutdown()
    selector = f'{{service_name="{service}"}}'
    lines = until("all records", lambda: (found := server.lines_of(selector)) and len(found) >= 201 and found, 20)
    assert len(lines) == 201
    assert sorted(line for _, line, _ in lines)[:2] == ["order 000 placed", "order 001 placed"]
    assert len(server.lines_of(f'{selector} |= "order 19"')) == 10
    assert [line for _, line, _ in server.lines_of(f'{selector} |= "결제"')] == ["payment failed: 결제 오류"]
    assert len(server.lines_of(f'{selector} | order_id="42"')) == 1, "attributes are searchable fields"
    error = server.lines_of(f'{selector} |= "payment"')[0][2]
    assert any(value.lower() == "error" for value in error.values()), error
    assert SeverityNumber.ERROR.value == 17


def meter_provider(server, service, aggregation, temporality, views=()):
    exporter = HttpMetrics(endpoint=f"http://{server.otlp_http}/v1/metrics", preferred_temporality=temporality,
                           preferred_aggregation=aggregation)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    resource = Resource.create({"service.name": service, "service.instance.id": "one"})
    return MeterProvider(metric_readers=[reader], resource=resource, views=list(views))


@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
def test_exponential_histograms_are_native(server, temporality):
    service = f"sdk-exponential-{temporality}"
    provider = meter_provider(server, service, {Histogram: ExponentialBucketHistogramAggregation()},
                              DELTA if temporality == "delta" else {})
    latency = provider.get_meter("tests").create_histogram("latency", unit="s")
    for _ in range(3):
        for seconds in (0.5, 3, 7, 20, 0):
            latency.record(seconds, {"route": "/a"})
        assert provider.force_flush()
    provider.shutdown()
    selector = f'latency_seconds{{job="{service}",route="/a"}}'
    until("all observations", lambda: server.value(f"histogram_count({selector})") == 15, 20)
    assert server.value(f"histogram_sum({selector})") == pytest.approx(91.5)
    assert server.value(f"histogram_fraction(-1, 0.01, {selector})") == pytest.approx(0.2)
    assert server.value(f"histogram_quantile(1, {selector})") == pytest.approx(20, rel=0.1)


def test_exemplars_point_at_the_trace(server):
    service = "sdk-exemplars"
    provider = meter_provider(server, service, {}, {})
    meter = provider.get_meter("tests")
    requests, latency = meter.create_counter("requests"), meter.create_histogram("latency", unit="s")
    span = trace.NonRecordingSpan(trace.SpanContext(0xabc, 0xdef, False, trace.TraceFlags(trace.TraceFlags.SAMPLED)))
    with trace.use_span(span):
        requests.add(2)
        latency.record(3)
    assert provider.force_flush()
    provider.shutdown()

    def exemplars(promql):
        now = time.time()
        status, body = server.get("/api/v1/query_exemplars", query=promql, start=now - 600, end=now + 600)
        assert status == 200, body
        return [one for series in json.loads(body)["data"] for one in series["exemplars"]]

    ids = {"trace_id": f"{0xabc:032x}", "span_id": f"{0xdef:016x}"}
    counted = until("the counter's exemplar", lambda: exemplars(f'requests_total{{job="{service}"}}'), 20)
    assert [(one["labels"], float(one["value"])) for one in counted] == [(ids, 2)]
    timed = until("the bucket's exemplar", lambda: exemplars(f'latency_seconds_bucket{{job="{service}",le="5"}}'), 20)
    assert [(one["labels"], float(one["value"])) for one in timed] == [(ids, 3)]


def test_totals_of_deltas_go_on_after_the_server_is_killed(tmp_path):
    service = "sdk-delta-restart"
    job = f'job="{service}"'
    server = Server(tmp_path / "data")
    provider = meter_provider(server, service, {}, DELTA)
    meter = provider.get_meter("tests")
    requests, latency = meter.create_counter("requests"), meter.create_histogram("latency", unit="s")

    def send():
        requests.add(5)
        latency.record(0.5)
        latency.record(50)
        assert provider.force_flush()

    send()
    send()
    server.process.kill()
    server.process.wait()
    server = Server(tmp_path / "data", http_addr=server.http, otlp_grpc_addr=server.grpc.removeprefix("http://"),
                    otlp_http_addr=server.otlp_http)
    send()
    provider.shutdown()
    assert server.value(f"requests_total{{{job}}}") == 15
    assert server.value(f"latency_seconds_count{{{job}}}") == 6
    assert server.value(f"latency_seconds_sum{{{job}}}") == 151.5
    assert server.value(f'latency_seconds_bucket{{{job},le="5"}}') == 3
    assert server.value(f"resets(requests_total{{{job}}}[5m])") == 0
    assert server.stop() == 0


def test_explicit_histograms_are_native_when_configured(tmp_path):
    service = "sdk-nhcb"
    server = Server(tmp_path / "data", otlp_convert_histograms_to_nhcb="true", otlp_translation_strategy="NoTranslation")
    provider = meter_provider(server, service, {}, {})
    latency = provider.get_meter("tests").create_histogram("rpc.latency", unit="s")
    for seconds in (1, 7, 7, 600):
        latency.record(seconds, {"rpc.method": "get"})
    assert provider.force_flush()
    provider.shutdown()
    selector = f'{{"rpc.latency",job="{service}","rpc.method"="get"}}'
    assert server.value(f"histogram_count({selector})") == 4
    assert server.value(f"histogram_fraction(5, 10, {selector})") == pytest.approx(0.5)
    assert server.stop() == 0
