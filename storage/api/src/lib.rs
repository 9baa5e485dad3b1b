//! What query and collector see of storage: traits to append and to read, and an in-memory fake.
//!
//! All calls are synchronous and may block on disk or on a group commit; callers run them on a blocking thread or on
//! `runtime::CpuPool`. Metrics use milliseconds and inclusive ranges, as Prometheus does; logs use nanoseconds and
//! half-open ranges.

mod context;
mod error;
pub mod fake;
mod finding;
mod keyed;
mod log_admin;
mod log_plan;
mod logs;
mod metrics;
mod row_select;
mod rows;

pub use context::{Limits, QueryContext};
pub use error::{Error, Result};
pub use finding::{BlockInfo, Checked, Finding, Findings};
pub use keyed::{KeyMaker, Keyed, LabelFault, LabelPair, LabelSource, SeriesKey, sort_labels};
pub use log_admin::{LogAdmin, LogDelete, LogDeleteRequest, RowTest, Undelete};
pub use log_plan::{LogBlockPlan, LogPlan};
pub use logs::{
    LogAppender, LogBatch, LogCount, LogGroup, LogPart, LogQuerier, LogRows, LogSelect, LogSink, LogSource, LogStats,
    LogTallies, LogTally, LogTallySelect, MetadataColumn, Needle, TailBatch, TextColumn, step_of,
};
pub use metrics::{
    AppendReport, Extent, MetricAdmin, MetricAppender, MetricBatch, MetricQuerier, MillisRange, Rejection,
    SeriesExemplars, SeriesPart, SeriesRow, SeriesSamples, SeriesSelection, histogram_cost,
};
pub use row_select::{LineFilter, Lines, MetadataSelect, RowSelect};
pub use rows::KeyedRows;
