//! opentelemetry-proto to model and back, nothing else.
//!
//! - [`logs_from_otlp`] and [`logs_to_otlp`] carry log records in both directions.
//! - [`metrics::translate`] turns data points into Prometheus series as the OpenTelemetry-to-Prometheus specification
//!   says, straight from a request's bytes; [`metrics::MetricsBuilder`] goes the other way, for senders.
//! - [`read_logs`] and [`read_logs_json`] show the records of a request one by one, in one record that is used again.
//! - [`logs_from_json`] and [`metrics_from_json`] read OTLP's JSON form.
//!
//! It does no I/O and knows neither storage nor HTTP.
//!
//! ```
//! use collector_otlp::{ScopedLogs, logs_from_otlp, logs_to_otlp};
//! use model::{LogRecord, Timestamp, Value};
//!
//! let record = LogRecord { timestamp: Timestamp(1), body: Value::from("hello"), ..LogRecord::default() };
//! let request = logs_to_otlp([ScopedLogs { records: vec![record.clone()], ..ScopedLogs::default() }]);
//! assert_eq!(logs_from_otlp(request).groups[0].records, [record]);
//! ```

mod cost;
mod json;
mod logs;
#[cfg(test)]
mod logs_visited;
mod logs_wire;
pub mod metrics;
mod record_space;
mod salvage;
mod value;

pub use cost::logs_decoded_bytes;
pub use json::{logs_from_json, metrics_from_json, read_logs_json};
pub use logs::out_of_range_detail;
pub use logs::{DecodedLogs, InvalidFields, RejectedRecords, ScopedLogs, logs_from_otlp, logs_to_otlp};
pub use logs_wire::{LogsVisitor, Unusual, read_logs};
pub use record_space::{RecordSpace, set_text};
pub use salvage::{Salvaged, salvage_logs};
pub use value::{attributes_from_otlp, attributes_to_otlp, value_from_otlp, value_text, value_to_otlp};

/// The generated OTLP messages, under their short names.
pub mod proto {
    pub use opentelemetry_proto::tonic::collector::logs::v1::{
        ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    };
    pub use opentelemetry_proto::tonic::collector::metrics::v1::{
        ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    };
    pub use opentelemetry_proto::tonic::resource::v1::Resource;
    pub use opentelemetry_proto::tonic::{common::v1 as common, logs::v1 as logs, metrics::v1 as metrics};
}
