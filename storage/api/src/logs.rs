//! Appending, reading and following logs.

use std::fmt;
use std::sync::Arc;

use model::{Labels, LogRecord, Matcher, Resource, Scope, TimeRange, Timestamp};
use tokio::sync::broadcast;

use crate::{AppendReport, LogPlan, QueryContext, Result, RowSelect};

/// Log records of one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogBatch {
    /// Records grouped by who emitted them.
    pub groups: Vec<LogGroup>,
}

impl LogBatch {
    /// Returns the number of records.
    #[must_use]
    pub fn records_len(&self) -> usize {
        self.groups.iter().map(|group| group.records.len()).sum()
    }
}

/// Records of one stream, resource and scope.
#[derive(Debug, Clone, PartialEq)]
pub struct LogGroup {
    /// The stream: the resource attributes that the collector's configuration makes labels, Loki's names
    /// (`service_name`). Never empty: `service_name="unknown_service"` where nothing else is known.
    pub stream: Labels,
    /// Who emitted, whole.
    pub resource: Arc<Resource>,
    /// Which instrumentation library.
    pub scope: Arc<Scope>,
    /// The records, in the order they came.
    pub records: Vec<LogRecord>,
}

/// Takes logs in.
pub trait LogAppender: Send + Sync + fmt::Debug {
    /// Appends the batch and returns when what was accepted is on disk (fsynced) and searchable. Blocks meanwhile.
    ///
    /// A record without timestamp gets its observed timestamp, else the time of arrival. A batch that equals a recent
    /// one in every byte is a client's retry: it is reported as accepted and stored once. A batch with a record that has
    /// neither time is stored each time it comes: nothing tells a retry from the same event at another moment.
    ///
    /// # Errors
    /// When nothing of the batch may be acknowledged: disk full, overloaded, poisoned, closed.
    fn append(&self, batch: LogBatch) -> Result<AppendReport>;

    /// Appends what `source` gives, as [`append`](Self::append) does with a batch of it. Meant for stores that encode record
    /// by record: nobody holds them all then.
    ///
    /// # Errors
    /// As [`append`](Self::append), and that of the source, with which nothing is stored.
    fn append_from(&self, source: &mut dyn LogSource) -> Result<AppendReport> {
        let mut collected = Collected::default();
        source.send(&mut collected)?;
        if collected.batch.groups.is_empty() {
            return Ok(AppendReport::default());
        }
        self.append(collected.batch)
    }
}

/// Makes records one by one, while a store takes them in.
pub trait LogSource {
    /// Gives everything to `sink`, group by group.
    ///
    /// # Errors
    /// When it turns out that there is nothing to store after all; what was given is forgotten.
    fn send(&mut self, sink: &mut dyn LogSink) -> Result<()>;
}

/// Takes records, group by group.
pub trait LogSink {
    /// Starts a group: the records that follow are of this stream, resource and scope.
    fn group(&mut self, stream: &Labels, resource: &Arc<Resource>, scope: &Arc<Scope>);

    /// Takes a record of the group.
    fn record(&mut self, record: &LogRecord);
}

/// A batch from what a source gives; groups without records are left out.
#[derive(Default)]
struct Collected {
    batch: LogBatch,
    next: Option<LogGroup>,
}

impl LogSink for Collected {
    fn group(&mut self, stream: &Labels, resource: &Arc<Resource>, scope: &Arc<Scope>) {
        let (resource, scope) = (Arc::clone(resource), Arc::clone(scope));
        self.next = Some(LogGroup { stream: stream.clone(), resource, scope, records: Vec::new() });
    }

    fn record(&mut self, record: &LogRecord) {
        self.batch.groups.extend(self.next.take());
        if let Some(group) = self.batch.groups.last_mut() {
            group.records.push(record.clone());
        }
    }
}

/// What a query needs of the store.
#[derive(Debug, Clone)]
pub struct LogSelect {
    /// Tests on the stream's labels; none selects every stream.
    pub matchers: Vec<Matcher>,
    /// Half open.
    pub range: TimeRange,
    /// Conditions that every wanted row fulfils. The store uses them to skip pages, and may return rows that do not
    /// fulfil them: the caller tests each row itself.
    pub needles: Vec<Needle>,
    /// Whether [`LogRows::metadata`] is needed; without it that column is empty.
    pub with_metadata: bool,
    /// Whether [`LogRows::lines`] is not needed; that column may be empty then, whatever there is of rows.
    pub without_lines: bool,
}

/// A request for numbers of rows by stream, severity and time.
#[derive(Debug, Clone)]
pub struct LogTallySelect {
    /// Tests on the stream's labels; none selects every stream.
    pub matchers: Vec<Matcher>,
    /// Half open.
    pub range: TimeRange,
    /// The metadata fields that the caller looks at. `severity_text` and `severity_number` are what rows are counted by; a
    /// row that has another one of these fields, or an attribute that hides one of these two when it is asked for, is not
    /// counted but given; labels of the stream are no fields.
    pub fields: Vec<String>,
    /// Ascending. A row counts for the first cut that is not before it; a row behind the last one is left out.
    pub cuts: Vec<Timestamp>,
    /// Conditions that every wanted row fulfils, for an index to be asked: rows that do not may be left out of those given.
    pub needles: Vec<Needle>,
}

/// Rows of one stream with one severity, counted.
#[derive(Debug, Clone, PartialEq)]
pub struct LogTally {
    /// The stream.
    pub stream: Labels,
    /// OTLP's severity number; 0 when not given.
    pub severity_number: u8,
    /// The severity's text; empty when not given.
    pub severity_text: Box<str>,
    /// (number of the cut, how many rows), in no particular order.
    pub records: Vec<(usize, u64)>,
}

/// Numbers of rows, and the rows that could not be counted.
#[derive(Debug, Default)]
pub struct LogTallies {
    /// The numbers, in no particular order; a stream and severity may come several times.
    pub tallies: Vec<LogTally>,
    /// The other rows, with metadata and maybe without lines.
    pub parts: Vec<Box<dyn LogPart>>,
    /// As [`LogRows::has_levels`].
    pub has_levels: bool,
}

/// A condition that an index may use to skip pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Needle {
    /// The line holds this text, case as given.
    Line(String),
    /// The line holds this text in any case (Unicode simple folding).
    LineFold(String),
    /// A metadata field or stream label of this name (Loki's form) has exactly this value, or the line holds the value as
    /// whole tokens (borders on both sides), e.g. `trace_id`. Do not use it for a value that a parser may have unescaped or
    /// cut out of a longer token.
    Field {
        /// The field's name.
        name: String,
        /// Its value.
        value: String,
    },
    /// At least one of these holds.
    Any(Vec<Needle>),
}

/// Strings one after the other in one buffer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TextColumn {
    text: String,
    ends: Vec<u32>,
}

impl TextColumn {
    /// Appends a string.
    ///
    /// # Panics
    /// When the column would pass 4 GiB; pages are far smaller.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(u32::try_from(self.text.len()).expect("a page is far below 4 GiB"));
    }

    /// Returns string `i`.
    ///
    /// # Panics
    /// When there is no such row.
    #[must_use]
    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        self.text.get(start..self.ends[i] as usize).expect("ends lie on the borders of pushed strings")
    }

    /// Returns the number of strings.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Says whether there is no string.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns all text in one piece, e.g. to search it at once.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Makes a column of text and where each string ends in it.
    pub(crate) fn from_parts(text: String, ends: Vec<u32>) -> Self {
        Self { text, ends }
    }
}

/// Structured metadata by row: (name, value) pairs as Loki shows them, sorted by name within a row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MetadataColumn {
    pairs: Vec<(Arc<str>, Box<str>)>,
    ends: Vec<u32>,
}

impl MetadataColumn {
    /// Appends a row; the pairs are sorted, and of repeated names the last one wins.
    pub fn push(&mut self, row: impl IntoIterator<Item = (Arc<str>, Box<str>)>) {
        let first = self.pairs.len();
        self.pairs.extend(row);
        self.pairs[first..].sort_by(|a, b| a.0.cmp(&b.0));
        let mut i = first;
        while i + 1 < self.pairs.len() {
            if self.pairs[i].0 == self.pairs[i + 1].0 {
                self.pairs.remove(i);
            } else {
                i += 1;
            }
        }
        self.ends.push(u32::try_from(self.pairs.len()).expect("a page is far below 4 Gi fields"));
    }

    /// Returns the pairs of row `i`; none when the column was not asked for.
    #[must_use]
    pub fn get(&self, i: usize) -> &[(Arc<str>, Box<str>)] {
        let Some(&end) = self.ends.get(i) else { return &[] };
        let start = if i == 0 { 0 } else { self.ends[i - 1] as usize };
        &self.pairs[start..end as usize]
    }
}

/// Decoded rows of one stream, by timestamp; rows of one timestamp keep the order they arrived in.
///
/// Metadata holds, in Loki's names: the record's attributes flattened (`http.method` becomes `http_method`),
/// `severity_text`, `severity_number`, `trace_id`, `span_id`, `flags`, `observed_timestamp`, `event_name`,
/// `scope_name`, `scope_version`, scope attributes, and the resource attributes that are no stream labels.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct LogRows {
    /// Nanoseconds since the epoch, ascending.
    pub timestamps: Vec<Timestamp>,
    /// The body as text; a structured body as JSON. Empty when it was not needed.
    pub lines: TextColumn,
    /// Structured metadata, empty unless asked for.
    pub metadata: MetadataColumn,
    /// Whether a row also has the label `detected_level` when a level field or its severity tells one. A query makes it of
    /// the stream and the metadata.
    pub has_levels: bool,
}

impl LogRows {
    /// Returns the number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.timestamps.len()
    }

    /// Says whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.timestamps.is_empty()
    }
}

/// Some pages of one stream in one block, or a piece of the head: a few thousand rows at most.
pub trait LogPart: Send + Sync + fmt::Debug {
    /// Returns the stream.
    fn stream(&self) -> &Labels;

    /// Returns a range that holds every row of the part that [`read`](Self::read) may give.
    fn range(&self) -> TimeRange;

    /// Returns how many rows the part holds at most.
    fn rows_max(&self) -> u64;

    /// Decodes the rows inside the selected range. Charges the context for the bytes.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn read(&self, context: &QueryContext) -> Result<LogRows>;

    /// Decodes the rows inside the selected range that `select` leaves, and of them no more than it asks for. What it
    /// needs of a row must have been [selected](LogSelect): lines for a filter, metadata for fields.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn read_rows(&self, select: &RowSelect<'_>, context: &QueryContext) -> Result<LogRows> {
        select.narrow(self.read(context)?)
    }
}

/// Records of one stream and one severity, of the minutes that begin in one step of a range.
#[derive(Debug, Clone, PartialEq)]
pub struct LogCount {
    /// The stream.
    pub stream: Labels,
    /// OTLP's severity number; 0 when not given.
    pub severity_number: u8,
    /// Where the step begins.
    pub step: Timestamp,
    /// How many records.
    pub records: u64,
    /// The bytes of their lines.
    pub bytes: u64,
}

/// Returns where the step of `range` begins that a minute belongs to, as [`LogQuerier::counts`] says.
#[must_use]
pub fn step_of(minute_start_ns: i64, range: TimeRange, step_ns: Option<i64>) -> Timestamp {
    let start = range.start.0;
    let Some(step) = step_ns.filter(|step| *step > 0) else { return range.start };
    let since = i128::from(minute_start_ns.max(start)) - i128::from(start);
    let steps = since / i128::from(step) * i128::from(step);
    Timestamp(i64::try_from(i128::from(start) + steps).unwrap_or(i64::MAX))
}

/// How much a selection holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStats {
    /// Streams.
    pub streams: u64,
    /// Blocks and head pieces that hold some of it.
    pub chunks: u64,
    /// Records.
    pub entries: u64,
    /// Bytes of lines.
    pub bytes: u64,
}

/// New rows, for those who follow.
#[derive(Debug, Clone, PartialEq)]
pub struct TailBatch {
    /// The stream.
    pub stream: Labels,
    /// The rows with metadata.
    pub rows: LogRows,
}

/// Reads logs.
pub trait LogQuerier: Send + Sync + fmt::Debug {
    /// Finds the pieces that may hold wanted rows, without decoding rows yet. Those of one stream come so that rows of one
    /// timestamp are in the order they arrived in, which no flush or compaction changes; apart from that, in no particular
    /// order.
    ///
    /// # Errors
    /// Corruption, I/O, limits, cancellation.
    fn select(&self, select: &LogSelect, context: &QueryContext) -> Result<Vec<Box<dyn LogPart>>>;

    /// Returns the streams with records in `range` that pass all matchers of at least one of `selectors` (every stream
    /// when there is none), sorted, without repeats.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn streams(&self, selectors: &[Vec<Matcher>], range: TimeRange, context: &QueryContext) -> Result<Vec<Labels>>;

    /// Returns counts per stream, severity and step, by stream and step, for the minutes that overlap `range`, from what is
    /// kept beside the blocks: no row is read. A minute on the edge of `range` is counted whole, and belongs to the step
    /// that it begins in, or to the first one. Steps begin at the range's start, each `step_ns` after the other; without,
    /// all is one step.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn counts(
        &self,
        matchers: &[Matcher],
        range: TimeRange,
        step_ns: Option<i64>,
        context: &QueryContext,
    ) -> Result<Vec<LogCount>>;

    /// Counts rows by stream and severity between cuts, and gives the parts whose rows must be looked at one by one. Numbers
    /// and parts together are exactly the rows that [`select`](Self::select) gives up to the last cut.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn tally(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogTallies> {
        let select = LogSelect {
            matchers: select.matchers.clone(),
            range: select.range,
            needles: Vec::new(),
            with_metadata: true,
            without_lines: true,
        };
        Ok(LogTallies { parts: self.select(&select, context)?, ..LogTallies::default() })
    }

    /// Tells what [`select`](Self::select) would have read when all its parts are, without reading it.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn plan(&self, select: &LogSelect, context: &QueryContext) -> Result<LogPlan> {
        let parts = self.select(select, context)?;
        Ok(LogPlan { head_records: parts.iter().map(|part| part.rows_max()).sum(), ..LogPlan::default() })
    }

    /// Tells what [`tally`](Self::tally) would read, and its parts.
    ///
    /// # Errors
    /// As [`select`](Self::select).
    fn plan_tally(&self, select: &LogTallySelect, context: &QueryContext) -> Result<LogPlan> {
        let select = LogSelect {
            matchers: select.matchers.clone(),
            range: select.range,
            needles: Vec::new(),
            with_metadata: true,
            without_lines: true,
        };
        self.plan(&select, context)
    }

    /// Follows new rows from now on. A receiver that falls behind gets `RecvError::Lagged` with the number of batches
    /// it missed; memory stays bounded.
    fn tail(&self) -> broadcast::Receiver<Arc<TailBatch>>;
}
