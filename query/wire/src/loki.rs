//! The shapes of the Loki HTTP API: requests' answers, tail frames and statistics.
//!
//! Timestamps of log entries are strings of nanoseconds; those of samples are seconds as a number, values are strings.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, SeqAccess, Visitor};
use serde::ser::SerializeTuple;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The request header by which a client asks for [`CATEGORIZE_LABELS`].
pub const ENCODING_FLAGS_HEADER: &str = "X-Loki-Response-Encoding-Flags";

/// The encoding flag that keeps structured metadata and parsed labels out of the stream's labels.
pub const CATEGORIZE_LABELS: &str = "categorize-labels";

/// A label set as JSON object.
pub type LabelMap = BTreeMap<String, String>;

/// The envelope around most answers: `{"status": "success", "data": …}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Response<T> {
    /// `success`; errors come as plain text instead.
    pub status: String,
    /// Why the answer may be incomplete.
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The answer.
    pub data: T,
}

impl<T> Response<T> {
    /// Wraps an answer.
    pub fn success(data: T) -> Self {
        Self { status: "success".to_owned(), warnings: Vec::new(), data }
    }

    /// Adds sentences that say why the answer may be incomplete.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings.extend(warnings);
        self
    }
}

/// The answer of `query` and `query_range`.
pub type QueryResponse = Response<QueryData>;
/// The answer of `labels` and `label/{name}/values`. `data` is left out by Loki when nothing was found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LabelsResponse {
    /// `success`.
    pub status: String,
    /// Names or values, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<String>,
}
/// The answer of `series`.
pub type SeriesResponse = Response<Vec<LabelMap>>;
/// The answer of `format_query`.
pub type FormatQueryResponse = Response<String>;
/// The answer of `patterns`.
pub type PatternsResponse = Response<Vec<Pattern>>;

/// A query's result with what it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryData {
    /// The result, by `resultType`.
    #[serde(flatten)]
    pub result: QueryResult,
    /// The encoding flags that were honoured.
    #[serde(rename = "encodingFlags", default, skip_serializing_if = "Vec::is_empty")]
    pub encoding_flags: Vec<String>,
    /// What the query took.
    #[serde(default)]
    pub stats: Stats,
}

/// A query's result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
pub enum QueryResult {
    /// Log entries by stream.
    Streams(Vec<Stream>),
    /// Samples by series and time.
    Matrix(Vec<MatrixSeries>),
    /// One sample of each series.
    Vector(Vec<VectorSample>),
    /// One number.
    Scalar(Point),
}

/// Log entries that share a label set.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stream {
    /// The labels.
    pub stream: LabelMap,
    /// The entries in the order asked for.
    pub values: Vec<Entry>,
}

/// A log entry: `["nanoseconds", "line"]`, or with categorised labels `["nanoseconds", "line", {…}]`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Entry {
    /// Nanoseconds since the epoch.
    pub timestamp_ns: i64,
    /// The line.
    pub line: String,
    /// Labels told apart by where they come from, when asked for.
    pub labels: Option<EntryLabels>,
}

/// The labels of one entry that are not the stream's.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct EntryLabels {
    /// What came beside the line.
    #[serde(rename = "structuredMetadata", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub structured_metadata: LabelMap,
    /// What the query took out of the line.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parsed: LabelMap,
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2 + usize::from(self.labels.is_some()))?;
        tuple.serialize_element(&self.timestamp_ns.to_string())?;
        tuple.serialize_element(&self.line)?;
        if let Some(labels) = &self.labels {
            tuple.serialize_element(labels)?;
        }
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[nanoseconds as a string, line, labels or nothing]")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Entry, A::Error> {
        let at: String = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(0, &self))?;
        let timestamp_ns = at.parse().map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&at), &self))?;
        let line = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(1, &self))?;
        Ok(Entry { timestamp_ns, line, labels: seq.next_element()? })
    }
}

/// The samples of one series.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct MatrixSeries {
    /// The labels.
    pub metric: LabelMap,
    /// The samples, oldest first.
    pub values: Vec<Point>,
}

/// One sample of one series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VectorSample {
    /// The labels.
    pub metric: LabelMap,
    /// The sample.
    pub value: Point,
}

/// A sample: `[seconds, "value"]`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Point {
    /// Milliseconds since the epoch.
    pub timestamp_ms: i64,
    /// The value.
    pub value: f64,
}

impl Serialize for Point {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        if self.timestamp_ms % 1000 == 0 {
            tuple.serialize_element(&(self.timestamp_ms / 1000))?;
        } else {
            #[expect(clippy::cast_precision_loss, reason = "milliseconds of any real date are below 2^53")]
            tuple.serialize_element(&(self.timestamp_ms as f64 / 1000.0))?;
        }
        tuple.serialize_element(&value_text(self.value))?;
        tuple.end()
    }
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (seconds, text): (f64, String) = Deserialize::deserialize(deserializer)?;
        let value = text.parse().map_err(|_| de::Error::invalid_value(de::Unexpected::Str(&text), &"a number"))?;
        #[expect(clippy::cast_possible_truncation, reason = "a cast of a double saturates")]
        let timestamp_ms = (seconds * 1000.0).round() as i64;
        Ok(Self { timestamp_ms, value })
    }
}

/// Writes a sample's value as Loki and Prometheus do: shortest digits, `NaN`, `+Inf`, `-Inf`.
#[must_use]
pub fn value_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// What a query took.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// The sums.
    #[serde(default)]
    pub summary: Summary,
    /// What was read, apart.
    #[serde(default)]
    pub querier: Querier,
    /// Always 0: there is nobody else to ask.
    #[serde(default)]
    pub ingester: Ingester,
}

/// What a query read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Querier {
    /// What of the store.
    pub store: Store,
}

/// What a query had of others that take lines; none are asked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingester {
    /// How many were asked.
    pub total_reached: u64,
    /// Pieces of theirs that were matched.
    pub total_chunks_matched: u64,
    /// Batches that they sent.
    pub total_batches: u64,
    /// Lines that they sent.
    pub total_lines_sent: u64,
    /// What they read.
    pub store: Store,
}

/// What was read of one store.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Store {
    /// Always 0: blocks have no chunks.
    pub total_chunks_ref: u64,
    /// Always 0: nothing is downloaded.
    pub total_chunks_downloaded: u64,
    /// Always 0: nothing is downloaded.
    pub chunks_download_time: u64,
    /// Lines and bytes.
    pub chunk: Chunk,
}

/// Lines and bytes that were read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Chunk {
    /// Always 0: the head is counted with the blocks.
    pub head_chunk_bytes: u64,
    /// Always 0: the head is counted with the blocks.
    pub head_chunk_lines: u64,
    /// Bytes of lines read.
    pub decompressed_bytes: u64,
    /// Lines read.
    pub decompressed_lines: u64,
    /// Always 0: it is not known of a part of a page.
    pub compressed_bytes: u64,
    /// Always 0: lines are stored once.
    pub total_duplicates: u64,
    /// Lines that passed the filters.
    pub post_filter_lines: u64,
}

/// What a query took, in all.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Bytes of lines read per second.
    pub bytes_processed_per_second: u64,
    /// Lines read per second.
    pub lines_processed_per_second: u64,
    /// Bytes of lines read.
    pub total_bytes_processed: u64,
    /// Lines read, or counted beside blocks.
    pub total_lines_processed: u64,
    /// Seconds it took.
    pub exec_time: f64,
    /// Seconds it waited.
    pub queue_time: f64,
    /// Always 0: queries are not split.
    pub subqueries: u64,
    /// Entries or samples in the answer.
    pub total_entries_returned: u64,
    /// Always 0: queries are not split.
    pub splits: u64,
    /// Always 0: queries are not sharded.
    pub shards: u64,
    /// Lines that passed the filters.
    pub total_post_filter_lines: u64,
    /// Bytes of structured metadata read; 0, they are counted with the lines.
    pub total_structured_metadata_bytes_processed: u64,
}

/// One message of `tail`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct TailFrame {
    /// New entries by stream.
    #[serde(default)]
    pub streams: Vec<Stream>,
    /// The encoding flags that were honoured.
    #[serde(rename = "encodingFlags", default, skip_serializing_if = "Vec::is_empty")]
    pub encoding_flags: Vec<String>,
    /// Some of the entries that this reader missed because it was too slow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped_entries: Option<Vec<DroppedEntry>>,
    /// How many entries it missed since the last frame, at least; an addition to Loki's form.
    #[serde(rename = "droppedCount", default, skip_serializing_if = "is_zero")]
    pub dropped_count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// An entry that a slow reader missed.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DroppedEntry {
    /// Its stream.
    pub labels: LabelMap,
    /// Nanoseconds since the epoch, as a string.
    pub timestamp: String,
}

/// The answer of `index/stats`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct IndexStats {
    /// Streams.
    pub streams: u64,
    /// Blocks and head pieces.
    pub chunks: u64,
    /// Bytes of lines.
    pub bytes: u64,
    /// Entries.
    pub entries: u64,
}

/// The answer of `detected_labels`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DetectedLabels {
    /// Labels that are worth offering.
    #[serde(rename = "detectedLabels", default)]
    pub detected_labels: Vec<DetectedLabel>,
}

/// A label and how many values it has.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DetectedLabel {
    /// The name.
    pub label: String,
    /// How many values.
    pub cardinality: u64,
}

/// The answer of `detected_fields`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DetectedFields {
    /// Fields found in the sampled lines.
    #[serde(default)]
    pub fields: Vec<DetectedField>,
    /// Most fields told.
    #[serde(default)]
    pub limit: u64,
}

/// A field in the lines or their metadata.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DetectedField {
    /// The name, as the parser would make it.
    pub label: String,
    /// `string`, `int`, `float`, `boolean`, `duration` or `bytes`.
    #[serde(rename = "type")]
    pub kind: String,
    /// How many values were seen.
    pub cardinality: u64,
    /// The parsers that give it; `null` for structured metadata.
    #[serde(default)]
    pub parsers: Option<Vec<String>>,
    /// The keys that lead to it in a JSON line.
    #[serde(rename = "jsonPath", default, skip_serializing_if = "Vec::is_empty")]
    pub json_path: Vec<String>,
}

/// The answer of `detected_field/{name}/values`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DetectedFieldValues {
    /// The values, sorted.
    #[serde(default)]
    pub values: Vec<String>,
    /// Most values told.
    #[serde(default)]
    pub limit: u64,
}

/// The answer of `/api/v1/logs/context`, an addition to Loki's API: a line and those around it in its stream, oldest first.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct LineContext {
    /// The labels of the stream.
    pub stream: LabelMap,
    /// The lines before, with their metadata.
    pub before: Vec<Entry>,
    /// The line itself.
    pub line: Entry,
    /// The lines after.
    pub after: Vec<Entry>,
}

/// A line of `/api/v1/logs/export` as JSON.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExportedLine {
    /// RFC 3339 with nine digits of the second's fraction.
    pub timestamp: String,
    /// The labels; with `categorize-labels` those of the stream alone.
    pub labels: LabelMap,
    /// What came beside the line, if told apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub structured_metadata: LabelMap,
    /// What the query took out of the line, if told apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parsed: LabelMap,
    /// The line.
    pub line: String,
    /// Where to go on behind this line: `<nanoseconds>.<lines of that time that are done>`.
    pub cursor: String,
}

/// A delete, as `GET delete` lists it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct DeleteRequest {
    /// Its id, for taking it back.
    pub request_id: String,
    /// The first time, in seconds since the epoch.
    pub start_time: f64,
    /// The last time, in seconds since the epoch.
    pub end_time: f64,
    /// The query.
    pub query: String,
    /// `received`, `processed`, or how far it is, e.g. `50% Complete`: deleted lines are out of sight from the start, this
    /// tells whether they are gone from disk.
    pub status: String,
    /// When it was taken, in seconds since the epoch.
    pub created_at: f64,
    /// How many lines it deleted; an addition to Loki's form.
    #[serde(default)]
    pub deleted_lines: u64,
}

/// A template of lines and how often it was seen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pattern {
    /// The template, with `<_>` for what varies.
    pub pattern: String,
    /// (seconds, count) by step.
    pub samples: Vec<(i64, u64)>,
}

/// The answer of `status/buildinfo`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BuildInfo {
    /// The version.
    pub version: String,
    /// The commit.
    pub revision: String,
    /// The branch.
    pub branch: String,
    /// Who built it.
    pub build_user: String,
    /// When.
    pub build_date: String,
    /// Kept for Loki's clients; empty.
    pub go_version: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn round_trip<T: Serialize + for<'de> Deserialize<'de> + PartialEq + fmt::Debug>(value: &T, json: &str) {
        assert_eq!(serde_json::to_string(value).unwrap(), json);
        assert_eq!(&serde_json::from_str::<T>(json).unwrap(), value);
    }

    #[test]
    fn an_entry_is_a_tuple_with_its_time_as_text() {
        let entry = Entry { timestamp_ns: 1_700_000_000_000_000_001, line: "a \"b\"".to_owned(), labels: None };
        round_trip(&entry, r#"["1700000000000000001","a \"b\""]"#);
    }

    #[test]
    fn categorised_labels_are_the_third_member() {
        let parsed = LabelMap::from([("level".to_owned(), "info".to_owned())]);
        let labels = Some(EntryLabels { structured_metadata: LabelMap::new(), parsed });
        let entry = Entry { timestamp_ns: 1, line: "x".to_owned(), labels };
        round_trip(&entry, r#"["1","x",{"parsed":{"level":"info"}}]"#);
    }

    #[test]
    fn points_are_seconds_and_text() {
        round_trip(&Point { timestamp_ms: 1_700_000_000_000, value: 0.1 }, r#"[1700000000,"0.1"]"#);
        round_trip(&Point { timestamp_ms: 1_700_000_000_123, value: 2.0 }, r#"[1700000000.123,"2"]"#);
        round_trip(&Point { timestamp_ms: 0, value: f64::NEG_INFINITY }, r#"[0,"-Inf"]"#);
        assert_eq!(serde_json::to_string(&Point { timestamp_ms: 0, value: f64::NAN }).unwrap(), r#"[0,"NaN"]"#);
    }

    #[test]
    fn a_result_names_its_type() {
        let data = QueryData {
            result: QueryResult::Streams(vec![Stream::default()]),
            encoding_flags: Vec::new(),
            stats: Stats::default(),
        };
        let json = serde_json::to_value(Response::success(data.clone())).unwrap();
        assert_eq!(json["data"]["resultType"], "streams");
        assert_eq!(json["data"]["result"], serde_json::json!([{"stream": {}, "values": []}]));
        assert_eq!(serde_json::from_value::<QueryResponse>(json).unwrap().data, data);
    }

    #[test]
    fn an_answer_of_loki_without_statistics_is_read() {
        let json =
            r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"b"},"value":[1,"3"]}]}}"#;
        let response: QueryResponse = serde_json::from_str(json).unwrap();
        let QueryResult::Vector(samples) = response.data.result else { panic!("{response:?}") };
        assert_eq!(samples[0].value, Point { timestamp_ms: 1000, value: 3.0 });
    }

    #[test]
    fn bad_entries_are_refused() {
        for json in [r#"["x","y"]"#, r#"["1"]"#, "[]", r#"[1,"x"]"#, "{}"] {
            assert!(serde_json::from_str::<Entry>(json).is_err(), "{json}");
        }
    }
}
