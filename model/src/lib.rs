//! The nouns every part of Daybook shares: labels, samples, log records, time ranges, matchers.
//!
//! No I/O, no async, no serialisation: what crosses a process or a disk gets its own shape at that edge. The crate
//! compiles to wasm.
//!
//! ```
//! use model::{Labels, Matcher, MatchOp};
//!
//! let labels = Labels::from_pairs([("__name__", "up"), ("job", "node")]);
//! let matcher = Matcher::new("job", MatchOp::Regex, "no.*").expect("a valid pattern");
//! assert!(matcher.matches(labels.get("job").unwrap_or("")));
//! ```

mod bounds;
pub mod histogram;
mod labels;
mod log;
mod matcher;
mod metric;
pub mod number;
pub mod pattern;
mod sample;
mod time;
mod value;

pub use histogram::Histogram;
pub use labels::{LabelError, Labels, LabelsBuilder, METRIC_NAME};
pub use log::{LogRecord, Resource, Scope, severity_text};
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use metric::{Exemplar, MetricKind, MetricMetadata};
pub use sample::{HistogramSample, STALE_NAN_BITS, Sample, is_stale, stale_marker};
pub use time::{TimeRange, Timestamp};
pub use value::Value;
