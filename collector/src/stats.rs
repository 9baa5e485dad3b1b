//! The collector's own metrics.

use collector_otlp::InvalidFields;
use runtime::{CounterVec, Gauge, HistogramVec, Telemetry};

/// Upper bounds for the time of a request, in seconds: from a batch in memory to a disk that hardly moves.
const DURATION_BOUNDS_S: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) requests: CounterVec,
    pub(crate) refused: CounterVec,
    pub(crate) seconds: HistogramVec,
    pub(crate) wire_bytes: CounterVec,
    pub(crate) decoded_bytes: CounterVec,
    pub(crate) in_flight: Gauge,
    pub(crate) memory_bytes: Gauge,
    pub(crate) delta_series: Gauge,
    pub(crate) invalid_fields: CounterVec,
}

impl Stats {
    pub(crate) fn new(telemetry: &Telemetry) -> Self {
        Self {
            requests: telemetry.counter_vec(
                "daybook_ingest_requests_total",
                "Ingest requests that were answered, by place and status code.",
                &["place", "code"],
            ),
            refused: telemetry.counter_vec(
                "daybook_refused_requests_total",
                "Ingest requests of which nothing was stored, by place and reason.",
                &["place", "reason"],
            ),
            seconds: telemetry.histogram_vec(
                "daybook_ingest_request_duration_seconds",
                "Time from an ingest request's head to its answer.",
                &["place"],
                &DURATION_BOUNDS_S,
            ),
            wire_bytes: telemetry.counter_vec(
                "daybook_ingest_wire_bytes_total",
                "Bytes of ingest bodies as they came over the wire.",
                &["place"],
            ),
            decoded_bytes: telemetry.counter_vec(
                "daybook_ingest_decoded_bytes_total",
                "Bytes of ingest bodies once decompressed.",
                &["place"],
            ),
            in_flight: telemetry.gauge("daybook_ingest_requests_in_flight", "Ingest requests that are worked on now."),
            memory_bytes: telemetry.gauge("daybook_ingest_memory_bytes", "Memory held by ingest requests now."),
            delta_series: telemetry.gauge("daybook_ingest_delta_series", "Delta streams whose totals are remembered."),
            invalid_fields: telemetry.counter_vec(
                "daybook_ingest_invalid_fields_total",
                "Fields with a value that they cannot have, which were taken as none, by field.",
                &["field"],
            ),
        }
    }

    /// Counts fields that were taken as "none".
    pub(crate) fn count_invalid(&self, invalid: InvalidFields) {
        let InvalidFields { trace_ids, span_ids, severity_numbers } = invalid;
        for (field, count) in [("trace_id", trace_ids), ("span_id", span_ids), ("severity_number", severity_numbers)] {
            if count > 0 {
                self.invalid_fields.with(&[field]).inc_by(count);
            }
        }
    }
}
