//! OTLP's JSON form: ids in hex, enums as numbers, 64-bit integers as strings or numbers, unknown fields ignored.
//!
//! The generated types can read JSON too, but take a malformed data point for an absent one, and know neither `null`
//! nor `"NaN"`. A receiver that must account for every record cannot use that.

mod log_walk;
mod logs;
mod metrics;
mod scalar;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

use scalar::Object;

pub use log_walk::read_logs_json;

/// Reads a logs request.
///
/// # Errors
/// When the text is no JSON, or a field has a value of another kind; the message has line and column.
pub fn logs_from_json(body: &[u8]) -> Result<ExportLogsServiceRequest, serde_json::Error> {
    serde_json::from_slice::<Object<logs::Request>>(body).map(|Object(request)| request.into())
}

/// Reads a metrics request.
///
/// # Errors
/// As [`logs_from_json`].
pub fn metrics_from_json(body: &[u8]) -> Result<ExportMetricsServiceRequest, serde_json::Error> {
    serde_json::from_slice::<Object<metrics::Request>>(body).map(|Object(request)| request.into())
}
