//! Takes batches in: limits, retries, the write-ahead log, the head, and those who follow.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use model::{Labels, LogRecord, Resource, Scope, TimeRange, Value};
use storage_api::{AppendReport, Error, LogAppender, LogBatch, LogSink, LogSource, Result, TailBatch};
use xxhash_rust::xxh3::Xxh3;

use crate::LogStore;
use crate::codec::{
    BATCH_BYTES_MAX, Batch, BatchWriter, DEPTH_MAX, NO_HASH, depth_within, encode_origin, encode_stream,
};
use crate::head::{Head, batch_cost};
use crate::json;
use crate::retry::{Remembered, Verdict};
use crate::store::wal_error;

/// A batch larger than this is written as several, each of its own: far below what the log takes.
const PART_BYTES_MAX: usize = 16 << 20;

/// An encoded batch.
struct Part {
    bytes: Bytes,
    batch: Batch,
}

/// Encodes a batch, piece by piece, without what is over a limit. The hash is over everything that came, in the order it
/// came, whether it was kept or not: a retry has the same hash, though a record may have become too old meanwhile.
///
/// A batch with records that have no time of their own is never taken for a retry: the same text sent at two moments is
/// two events, and nothing in the batch tells them from one that was sent twice. Its hash is [`NO_HASH`].
struct Encoder<'a> {
    store: &'a LogStore,
    arrival: i64,
    is_timed: bool,
    writer: BatchWriter<'a>,
    hash: Box<Xxh3>,
    parts: Vec<Part>,
    group: Group,
    report: AppendReport,
    /// What ended the encoding.
    error: Option<Error>,
}

/// The group that records are taken for.
#[derive(Default)]
struct Group {
    labels: Labels,
    stream: Vec<u8>,
    origin: Vec<u8>,
    /// The writer has been told.
    is_open: bool,
    /// Why none of its records is taken.
    fault: Option<(&'static str, String)>,
}

impl LogSink for Encoder<'_> {
    fn group(&mut self, stream: &Labels, resource: &Arc<Resource>, scope: &Arc<Scope>) {
        let mut group = Group { labels: stream.clone(), fault: check_depth(resource, scope), ..Group::default() };
        if group.fault.is_none() {
            (group.stream, group.origin) = (encode_stream(stream), encode_origin(resource, scope));
            let limit = self.store.options.origin_bytes_max;
            let size = group.stream.len().max(group.origin.len()) as u64;
            if size > limit {
                let detail =
                    format!("stream labels, or resource and scope, of {size} bytes are over the limit of {limit}");
                group.fault = Some(("resource_too_large", detail));
            }
        }
        self.group = group;
    }

    fn record(&mut self, record: &LogRecord) {
        if self.error.is_some() {
            return;
        }
        self.is_timed &= record.timestamp.0 != 0 || record.observed_timestamp.0 != 0;
        if let Some((reason, detail)) = &self.group.fault {
            return self.report.reject(reason, 1, || detail.clone());
        }
        if let Err(error) = self.encode(record) {
            self.error = Some(error);
        }
    }
}

impl<'a> Encoder<'a> {
    fn new(store: &'a LogStore) -> Self {
        let arrival = store.clock.now_nanos();
        Self {
            store,
            arrival,
            is_timed: true,
            writer: BatchWriter::new(arrival, &store.packers),
            hash: Box::new(Xxh3::new()),
            parts: Vec::new(),
            group: Group::default(),
            report: AppendReport::default(),
            error: None,
        }
    }

    fn encode(&mut self, record: &LogRecord) -> Result<()> {
        if self.writer.raw_bytes() > PART_BYTES_MAX {
            self.finish_part()?;
        }
        let Group { labels, stream, origin, is_open, .. } = &mut self.group;
        if !*is_open {
            self.hash.update(stream);
            self.hash.update(origin);
            self.writer.begin_group(stream, origin);
            *is_open = true;
        }
        let (store, hash, now) = (self.store, &mut self.hash, self.arrival);
        let encoded = store.check_shape(record).and_then(|()| {
            self.writer.push(record, |bytes| {
                hash.update(bytes);
                store.check_encoded(record, bytes.len(), now)
            })
        });
        if let Err((reason, detail)) = encoded {
            self.report.reject(reason, 1, || format!("{detail} of stream {}", shown(labels)));
        }
        Ok(())
    }

    fn finish_part(&mut self) -> Result<()> {
        let writer = std::mem::replace(&mut self.writer, BatchWriter::new(self.arrival, &self.store.packers));
        let hash = std::mem::replace(&mut self.hash, Box::new(Xxh3::new())).digest128();
        let hash = if self.is_timed { hash } else { NO_HASH };
        self.group.is_open = false;
        if writer.records() == 0 {
            return Ok(());
        }
        if writer.raw_bytes() > BATCH_BYTES_MAX {
            let size = writer.raw_bytes();
            return Err(Error::Invalid(format!("records of {size} bytes at once, the limit is {BATCH_BYTES_MAX}")));
        }
        let packed = writer.finish(hash);
        let (bytes, batch) = packed.map_err(|error| Error::Invalid(format!("compressing a batch: {error}")))?;
        self.parts.push(Part { bytes, batch });
        Ok(())
    }

    /// Returns what is left to append, and the report on what is not.
    fn finish(mut self) -> Result<(Vec<Part>, AppendReport)> {
        match self.error.take() {
            Some(error) => Err(error),
            None => self.finish_part().map(|()| (self.parts, self.report)),
        }
    }
}

fn check_depth(resource: &Resource, scope: &Scope) -> Option<(&'static str, String)> {
    let is_fine = |pairs: &[(String, Value)]| pairs.iter().all(|(_, value)| depth_within(value, DEPTH_MAX - 1));
    if is_fine(&resource.attributes) && is_fine(&scope.attributes) {
        return None;
    }
    Some(("nested_too_deep", format!("an attribute of resource or scope nests deeper than {DEPTH_MAX}")))
}

impl LogAppender for LogStore {
    fn append(&self, batch: LogBatch) -> Result<AppendReport> {
        self.check_open()?;
        let mut encoder = Encoder::new(self);
        for group in &batch.groups {
            encoder.group(&group.stream, &group.resource, &group.scope);
            group.records.iter().for_each(|record| encoder.record(record));
        }
        drop(batch);
        let (parts, report) = encoder.finish()?;
        self.append_parts(parts, report)
    }

    fn append_from(&self, source: &mut dyn LogSource) -> Result<AppendReport> {
        self.check_open()?;
        let mut encoder = Encoder::new(self);
        source.send(&mut encoder)?;
        let (parts, report) = encoder.finish()?;
        self.append_parts(parts, report)
    }
}

/// Says that a batch is not under way any more, however its append ended.
struct Settle<'a> {
    store: &'a LogStore,
    batch: Remembered,
    is_stored: bool,
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.store.recent.settle(self.batch, self.is_stored);
    }
}

/// Gives back the room of a batch on its way.
struct Arriving<'a>(&'a LogStore, u64);

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        self.0.arriving_bytes.fetch_sub(self.1, Ordering::AcqRel);
        self.0.room.released();
    }
}

impl LogStore {
    fn check_open(&self) -> Result<()> {
        if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(()) }
    }

    fn append_parts(&self, parts: Vec<Part>, mut report: AppendReport) -> Result<AppendReport> {
        for part in parts {
            let records = part.batch.records() as u64;
            self.append_part(&part, records)?;
            report.accepted += records;
        }
        Ok(report)
    }

    fn append_part(&self, part: &Part, records: u64) -> Result<()> {
        let Part { bytes, batch } = part;
        if self.recent.begin(batch.hash) == Verdict::Repeat {
            self.metrics.repeated_batches.inc();
            self.metrics.repeated_records.inc_by(records);
            return Ok(());
        }
        let remembered = batch.remembered(self.clock.now_nanos());
        let mut settle = Settle { store: self, batch: remembered, is_stored: false };
        let _arriving = self.admit(batch_cost(batch))?;
        {
            let _gate = self.gate.read();
            let head = Arc::clone(&self.state.read().head);
            self.wal.append(bytes).map_err(wal_error)?;
            settle.is_stored = true;
            head.apply(batch).map_err(|error| {
                // Our own encoder made these bytes: only a bug leads here. The batch is in the log, and is read at open.
                Error::Invalid(format!("an encoded batch cannot be read: expected {}", error.0))
            })?;
            // Before the gate opens: a checkpoint after the next cut must know this batch.
            drop(settle);
        }
        self.metrics.appended.inc_by(records);
        self.update_head_gauges();
        self.tell_followers(batch);
        Ok(())
    }

    /// Reserves room in the head's budget; waits a little for a flush to make it.
    fn admit(&self, cost: u64) -> Result<Arriving<'_>> {
        // What is larger than the whole head never fits.
        match self.reserve(cost) {
            Err(error) if cost <= self.options.head_bytes_max => {
                self.metrics.head_waits.inc();
                let waited = self.room.wait_for(self.options.full_head_wait, || self.reserve(cost));
                if self.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { waited.map_err(|_| error) }
            }
            result => result,
        }
    }

    fn reserve(&self, cost: u64) -> Result<Arriving<'_>> {
        let limit = self.options.head_bytes_max;
        loop {
            // This order counts a batch that goes into the head meanwhile twice, never not at all.
            let arriving = self.arriving_bytes.load(Ordering::Acquire);
            let used = self.head_bytes().saturating_add(arriving).saturating_add(cost);
            if used > limit {
                return Err(Error::Overloaded { what: "the logs head", used, limit });
            }
            let (success, failure) = (Ordering::AcqRel, Ordering::Acquire);
            if self.arriving_bytes.compare_exchange(arriving, arriving + cost, success, failure).is_ok() {
                return Ok(Arriving(self, cost));
            }
        }
    }

    fn tell_followers(&self, batch: &Batch) {
        if self.tail.receiver_count() == 0 {
            return;
        }
        let head = Head::default();
        if head.apply(batch).is_err() {
            return;
        }
        for part in head.parts(TimeRange::ALL, |_| true, &[], crate::block::Detail::All) {
            if let Ok(rows) = part.rows(&|| Ok(())) {
                let stream = storage_api::LogPart::stream(&part).clone();
                // No receiver is no error: the last one left just now.
                drop(self.tail.send(Arc::new(TailBatch { stream, rows })));
            }
        }
    }

    /// Checks what could make encoding itself costly.
    fn check_shape(&self, record: &LogRecord) -> Result<(), (&'static str, String)> {
        let limit = self.options.attributes_max;
        if record.attributes.len() > limit {
            let detail = format!("a record with {} attributes, the limit is {limit},", record.attributes.len());
            return Err(("too_many_attributes", detail));
        }
        let attributes = record.attributes.iter().map(|(_, value)| value);
        if !attributes.chain([&record.body]).all(|value| depth_within(value, DEPTH_MAX)) {
            return Err(("nested_too_deep", format!("a value that nests deeper than {DEPTH_MAX}")));
        }
        let limit = self.options.line_bytes_max;
        let size = match &record.body {
            Value::Str(text) => text.len() as u64,
            Value::Null => 0,
            // Escapes make JSON longer; it is printed only when it may be near the limit.
            body if body.size_bytes() as u64 * 2 > limit => json::display(body).len() as u64,
            _ => 0,
        };
        if size > limit {
            return Err(("line_too_long", format!("a line of {size} bytes, the limit is {limit},")));
        }
        Ok(())
    }

    fn check_encoded(&self, record: &LogRecord, encoded: usize, now: i64) -> Result<(), (&'static str, String)> {
        let limit = self.options.attributes_bytes_max;
        let beside = (encoded as u64).saturating_sub(record.body.as_str().map_or(0, str::len) as u64);
        let is_text = record.body.as_str().is_some();
        let limit = if is_text { limit } else { limit.saturating_add(self.options.line_bytes_max) };
        if beside > limit {
            let detail = format!("a record with {beside} bytes beside its line, the limit is {limit},");
            return Err(("record_too_large", detail));
        }
        let times = [record.timestamp.0, record.observed_timestamp.0];
        let at = times.into_iter().find(|at| *at != 0).unwrap_or(now);
        if let Some(cutoff) = self.cutoff(now)
            && at < cutoff
        {
            let at = model::Timestamp(at);
            return Err(("too_old", format!("a record of {at}, retention keeps {} on,", model::Timestamp(cutoff))));
        }
        Ok(())
    }

    /// Returns the first timestamp that retention keeps.
    pub(crate) fn cutoff(&self, now: i64) -> Option<i64> {
        let retention = self.options.retention?;
        Some(now.saturating_sub(i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// Prints a stream for people, cut short.
fn shown(stream: &Labels) -> String {
    const CHARS_MAX: usize = 200;
    let text = stream.to_string();
    match text.char_indices().nth(CHARS_MAX) {
        Some((at, _)) => format!("{}…", text.split_at(at).0),
        None => text,
    }
}
