//! Shapes of the Prometheus HTTP API, and of our own ledger.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The labels of a series by name.
pub type LabelMap = BTreeMap<String, String>;

/// The envelope of every answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response<T> {
    /// Whether it worked.
    pub status: Status,
    /// What was asked for; missing after an error.
    #[serde(default = "Option::default", skip_serializing_if = "Option::is_none")]
    pub data: Option<T>,
    /// The kind of error: `bad_data`, `execution`, `timeout`, `canceled`, `internal`, `not_found`, `unavailable`.
    #[serde(rename = "errorType", default, skip_serializing_if = "Option::is_none")]
    pub error_type: Option<String>,
    /// The error in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Sentences that say why the answer may be incomplete or not what was meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Sentences that help to write a better query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub infos: Vec<String>,
}

/// Whether a request worked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It did.
    Success,
    /// It did not.
    Error,
}

impl<T> Response<T> {
    /// Returns the answer that holds `data`.
    pub fn success(data: T) -> Self {
        Self {
            status: Status::Success,
            data: Some(data),
            error_type: None,
            error: None,
            warnings: Vec::new(),
            infos: Vec::new(),
        }
    }

    /// Returns the answer to a request that failed.
    pub fn failure(error_type: impl Into<String>, error: impl Into<String>) -> Self {
        Self {
            status: Status::Error,
            data: None,
            error_type: Some(error_type.into()),
            error: Some(error.into()),
            warnings: Vec::new(),
            infos: Vec::new(),
        }
    }
}

/// The data of `/api/v1/query` and `/api/v1/query_range`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryData {
    /// `resultType` and `result`.
    #[serde(flatten)]
    pub result: QueryResult,
    /// Timings and sample counts, when asked for by `stats`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<serde_json::Value>,
}

/// What a query gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub enum QueryResult {
    /// One sample per series.
    Vector(Vec<VectorSeries>),
    /// Samples over time per series.
    Matrix(Vec<MatrixSeries>),
    /// One number.
    Scalar(Point),
    /// One text.
    String(TextPoint),
}

/// One series of an instant answer: a value or a native histogram.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorSeries {
    /// The labels.
    pub metric: LabelMap,
    /// The sample, unless it is a native histogram.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Point>,
    /// (time, native histogram) in Prometheus' shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub histogram: Option<(f64, HistogramValue)>,
}

/// One series of a range answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatrixSeries {
    /// The labels.
    pub metric: LabelMap,
    /// The samples, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<Point>,
    /// The native histograms, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histograms: Vec<(f64, HistogramValue)>,
}

/// A native histogram as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HistogramValue {
    /// The number of observations.
    pub count: String,
    /// Their sum.
    pub sum: String,
    /// (boundaries, lower, upper, count): boundaries 0 is open left, 1 open right, 2 open both, 3 closed both.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub buckets: Vec<(u8, String, String, String)>,
}

/// A time and a number: `[1435781451.781, "1.5"]`.
#[derive(Debug, Clone, Copy)]
pub struct Point {
    /// Milliseconds since the epoch; seconds on the wire.
    pub timestamp_ms: i64,
    /// The value; a string on the wire, because JSON has neither NaN nor infinity.
    pub value: f64,
}

/// Equal when time and value are; NaN equals NaN.
impl PartialEq for Point {
    fn eq(&self, other: &Self) -> bool {
        self.timestamp_ms == other.timestamp_ms
            && (self.value == other.value || (self.value.is_nan() && other.value.is_nan()))
    }
}

/// A time and a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextPoint {
    /// Milliseconds since the epoch; seconds on the wire.
    pub timestamp_ms: i64,
    /// The text.
    pub text: String,
}

struct Seconds(i64);

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0 % 1000 == 0 {
            serializer.serialize_i64(self.0 / 1000)
        } else {
            #[expect(clippy::cast_precision_loss, reason = "exact for the milliseconds of 285,000 years")]
            serializer.serialize_f64(self.0 as f64 / 1000.0)
        }
    }
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&Seconds(self.timestamp_ms))?;
        tuple.serialize_element(&format_value(self.value))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (timestamp_ms, text) = deserializer.deserialize_tuple(2, PairVisitor)?;
        let value = parse_value(&text).ok_or_else(|| de::Error::custom(format!("{text:?} is no sample value")))?;
        Ok(Self { timestamp_ms, value })
    }
}

impl Serialize for TextPoint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&Seconds(self.timestamp_ms))?;
        tuple.serialize_element(&self.text)?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for TextPoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (timestamp_ms, text) = deserializer.deserialize_tuple(2, PairVisitor)?;
        Ok(Self { timestamp_ms, text })
    }
}

/// Reads `[seconds, "text"]`.
struct PairVisitor;

impl<'de> Visitor<'de> for PairVisitor {
    type Value = (i64, String);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[seconds, \"value\"]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let seconds: f64 = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let text: String = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        Ok((milliseconds(seconds), text))
    }
}

/// Writes a sample value as Prometheus does: the shortest decimal form, with an exponent below 1e-6 and from 1e21 on;
/// `NaN`, `+Inf`, `-Inf`.
#[must_use]
pub fn format_value(value: f64) -> String {
    let mut text = String::with_capacity(24);
    push_value(&mut text, value);
    text
}

/// Appends what [`format_value`] returns.
pub fn push_value(text: &mut String, value: f64) {
    use fmt::Write;
    let abs = value.abs();
    // Writing to a String cannot fail.
    let written = if value.is_nan() {
        text.write_str("NaN")
    } else if value.is_infinite() {
        text.write_str(if value > 0.0 { "+Inf" } else { "-Inf" })
    } else if abs != 0.0 && !(1e-6..1e21).contains(&abs) {
        let scientific = format!("{value:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        write!(text, "{mantissa}e{sign}{digits:0>2}")
    } else {
        write!(text, "{value}")
    };
    debug_assert!(written.is_ok(), "writing to a String succeeds");
}

/// Appends a time as the API writes it: seconds, with milliseconds only when there are some.
pub fn push_seconds(text: &mut String, timestamp_ms: i64) {
    use fmt::Write;
    let sign = if timestamp_ms < 0 { "-" } else { "" };
    let abs = timestamp_ms.unsigned_abs();
    let written = match abs % 1000 {
        0 => write!(text, "{sign}{}", abs / 1000),
        rest => write!(text, "{sign}{}.{rest:03}", abs / 1000),
    };
    debug_assert!(written.is_ok(), "writing to a String succeeds");
}

/// Reads a sample value; `None` when the text is no number.
#[must_use]
pub fn parse_value(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "+Inf" | "Inf" => Some(f64::INFINITY),
        "-Inf" => Some(f64::NEG_INFINITY),
        _ => text.parse().ok(),
    }
}

/// A series with its exemplars, of `/api/v1/query_exemplars`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExemplarSeries {
    /// The labels of the series.
    pub series_labels: LabelMap,
    /// Its exemplars, oldest first.
    pub exemplars: Vec<Exemplar>,
}

/// An exemplar: `{"labels":{"trace_id":"…"},"value":"6","timestamp":1600096945.479}`.
#[derive(Debug, Clone, PartialEq)]
pub struct Exemplar {
    /// What it points at.
    pub labels: LabelMap,
    /// When and how much.
    pub at: Point,
}

/// An exemplar as it is on the wire.
#[derive(Serialize, Deserialize)]
struct FlatExemplar<T> {
    labels: LabelMap,
    value: String,
    timestamp: T,
}

impl Serialize for Exemplar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (value, timestamp) = (format_value(self.at.value), Seconds(self.at.timestamp_ms));
        FlatExemplar { labels: self.labels.clone(), value, timestamp }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Exemplar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let flat = FlatExemplar::<f64>::deserialize(deserializer)?;
        let value = parse_value(&flat.value)
            .ok_or_else(|| de::Error::custom(format!("{:?} is no exemplar value", flat.value)))?;
        Ok(Self { labels: flat.labels, at: Point { timestamp_ms: milliseconds(flat.timestamp), value } })
    }
}

fn milliseconds(seconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "a cast from float saturates")]
    let ms = (seconds * 1000.0).round() as i64;
    ms
}

/// What `/api/v1/metadata` tells of one metric, by metric name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetadataEntry {
    /// `counter`, `gauge`, `histogram`, `summary`, `unknown`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// One sentence for people.
    pub help: String,
    /// The unit; may be empty.
    pub unit: String,
}

/// `/api/v1/metadata`.
pub type Metadata = BTreeMap<String, Vec<MetadataEntry>>;

/// `/api/v1/status/buildinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BuildInfo {
    /// The Prometheus version whose API is spoken; clients derive features from it.
    pub version: String,
    /// Daybook's own version.
    pub revision: String,
    /// The branch; may be empty.
    pub branch: String,
    /// Who built it; may be empty.
    pub build_user: String,
    /// When it was built; may be empty.
    pub build_date: String,
    /// The compiler.
    pub go_version: String,
}

/// `/api/v1/status/runtimeinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuntimeInfo {
    /// When the server started, RFC 3339.
    pub start_time: String,
    /// The working directory.
    #[serde(rename = "CWD")]
    pub cwd: String,
    /// The name of the machine; may be empty.
    pub hostname: String,
    /// The server's time, RFC 3339.
    pub server_time: String,
    /// Whether the last reload of the configuration worked.
    pub reload_config_success: bool,
    /// When that was, RFC 3339.
    pub last_config_time: String,
    /// Corruptions met.
    pub corruption_count: i64,
    /// Tasks.
    pub goroutine_count: i64,
    /// Threads that compute.
    #[serde(rename = "GOMAXPROCS")]
    pub go_max_procs: i64,
    /// The memory limit in bytes; 0 when not set.
    #[serde(rename = "GOMEMLIMIT")]
    pub go_mem_limit: i64,
    /// Left empty.
    #[serde(rename = "GOGC")]
    pub go_gc: String,
    /// Left empty.
    #[serde(rename = "GODEBUG")]
    pub go_debug: String,
    /// How long data is kept, e.g. `15d`.
    pub storage_retention: String,
}

/// A name with a count, in `/api/v1/status/tsdb`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameCount {
    /// A metric, label or `label=value` pair.
    pub name: String,
    /// How many series, values or bytes.
    pub value: u64,
}

/// The head's figures in `/api/v1/status/tsdb`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeadStats {
    /// Series.
    pub num_series: u64,
    /// Different `label=value` pairs.
    pub num_label_pairs: u64,
    /// Runs of samples of one series that lie together.
    pub chunk_count: u64,
    /// The oldest sample in milliseconds.
    pub min_time: i64,
    /// The newest sample in milliseconds.
    pub max_time: i64,
}

/// `/api/v1/status/tsdb`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TsdbStatus {
    /// Totals.
    pub head_stats: HeadStats,
    /// Metrics with the most series.
    pub series_count_by_metric_name: Vec<NameCount>,
    /// Labels with the most values.
    pub label_value_count_by_label_name: Vec<NameCount>,
    /// Labels whose values take the most bytes.
    pub memory_in_bytes_by_label_name: Vec<NameCount>,
    /// Label pairs with the most series.
    pub series_count_by_label_value_pair: Vec<NameCount>,
}

/// The data of `/api/v1/admin/tsdb/snapshot`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The folder in `snapshots/` of the data directory.
    pub name: String,
}

/// Counts of one place and signal, from `/api/v1/ledger`: received = accepted + the sum of `dropped`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Where: `otlp_grpc`, `otlp_http`, `remote_write`, `loki_push`, …
    pub place: String,
    /// `metrics` or `logs`.
    pub signal: String,
    /// Records that arrived.
    pub received: u64,
    /// Records that were handed on, or are durable.
    pub accepted: u64,
    /// Records that were refused or lost, by reason.
    pub dropped: BTreeMap<String, u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_prometheus_writes_them() {
        let check = |value: f64, text: &str| {
            assert_eq!(format_value(value), text);
            assert_eq!(parse_value(text).map(f64::to_bits), Some(value.to_bits()));
        };
        check(1.0, "1");
        check(0.1, "0.1");
        check(-0.0, "-0");
        check(1e20, "100000000000000000000");
        check(1e21, "1e+21");
        check(1.5e-7, "1.5e-07");
        check(f64::INFINITY, "+Inf");
        check(f64::NEG_INFINITY, "-Inf");
        check(1e-6, "0.000001");
        assert_eq!(format_value(f64::NAN), "NaN");
        assert_eq!(parse_value("1x"), None);
    }

    #[test]
    fn times_have_milliseconds_only_when_needed() {
        let check = |ms: i64, text: &str| {
            let mut written = String::new();
            push_seconds(&mut written, ms);
            assert_eq!(written, text);
        };
        check(0, "0");
        check(1_435_781_451_000, "1435781451");
        check(1_435_781_451_081, "1435781451.081");
        check(-1500, "-1.500");
    }

    #[test]
    fn an_answer_survives_the_wire() {
        let text = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"__name__":"up"},"values":[[1,"1"],[2.5,"NaN"]]}]},"infos":["i"]}"#;
        let parsed: Response<QueryData> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
        let failure: Response<QueryData> =
            serde_json::from_str(r#"{"status":"error","errorType":"bad_data","error":"e"}"#).unwrap();
        assert_eq!(failure, Response::failure("bad_data", "e"));
        let text = r#"{"seriesLabels":{"a":"b"},"exemplars":[{"labels":{"trace_id":"x"},"value":"0.5","timestamp":1.25},{"labels":{},"value":"NaN","timestamp":3}]}"#;
        let parsed: ExemplarSeries = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&parsed).unwrap(), text);
        assert!(serde_json::from_str::<Point>(r#"[1,"x"]"#).is_err());
        assert!(serde_json::from_str::<Point>("[1]").is_err());
    }
}
