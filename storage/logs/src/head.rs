//! The newest records, in memory as they were encoded for the WAL, found by stream.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::BytesMut;
use memchr::memmem;
use model::{Labels, TimeRange, Value};
use parking_lot::Mutex;
use storage_api::{LogPart, LogRows, LogTally, Needle, QueryContext, Result};

use crate::block::{BODY_STR, Detail, RowView};
use crate::codec::{Batch, BodyRef, Group, Malformed, RecordView, encode_stream, peek_severity};
use crate::head_rows::{ARENA_BYTES, Batches, HeadBatch, HeadRow, OpenRow, corrupt, for_each_row};
use crate::json;
use crate::metadata::{Names, OriginFields, Pair, RowFields, push_row};
use crate::tally::Tally;

/// Most rows in a part.
const PART_ROWS_MAX: usize = 4096;
/// Most bytes of records in a part, but for one record: what is decoded at once for a query that reads one.
const PART_BYTES_MAX: usize = 8 << 20;
/// Size of the pieces of memory that a head keeps its batches in. The allocator gives pieces beyond 32 MiB back to the
/// system as soon as they are let go, and only what is written of one is resident; batches of their own would leave
/// holes between what lives longer, as large as the head.
const SLAB_BYTES: usize = 33 << 20;
/// Memory of a stream's bookkeeping, beside its labels.
const STREAM_BYTES: usize = 256;
/// Bytes of lines between two looks at the query's deadline.
const CHECK_EVERY_ROWS: usize = 1024;

/// Resource and scope, made ready.
#[derive(Debug)]
pub(crate) struct Origin {
    resource: String,
    scope: String,
    fields: OriginFields,
}

#[derive(Debug)]
struct HeadStream {
    labels: Labels,
    rows: Vec<HeadRow>,
    is_sorted: bool,
}

/// Records that are not in a block yet.
#[derive(Debug, Default)]
pub(crate) struct Head {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// By the hash of the encoded labels.
    by_hash: HashMap<u128, usize>,
    streams: Vec<HeadStream>,
    batches: Batches,
    origins_by_hash: HashMap<u128, u32>,
    origins: Arc<Vec<Arc<Origin>>>,
    names: Names,
    /// Where batches are copied to; without one they are kept as they came.
    slab: Option<BytesMut>,
    size_bytes: u64,
    records: u64,
}

/// What a head holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HeadStats {
    pub(crate) size_bytes: u64,
    pub(crate) records: u64,
    pub(crate) streams: u64,
}

/// Returns the memory that a batch will take.
pub(crate) fn batch_cost(batch: &Batch) -> u64 {
    let groups = batch.groups.len() * size_of::<(u32, u32)>();
    let size = batch.sections.size_bytes() + groups + batch.records() * size_of::<HeadRow>() + size_of::<HeadBatch>();
    size as u64
}

impl Head {
    /// Makes an empty head that copies batches into memory of its own.
    pub(crate) fn owning() -> Self {
        Self { inner: Mutex::new(Inner { slab: Some(BytesMut::new()), ..Inner::default() }) }
    }

    pub(crate) fn stats(&self) -> HeadStats {
        let inner = self.inner.lock();
        HeadStats { size_bytes: inner.size_bytes, records: inner.records, streams: inner.streams.len() as u64 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().records == 0
    }

    /// Adds a batch.
    ///
    /// # Errors
    /// When its labels or origins are not well formed; nothing of it is kept then.
    pub(crate) fn apply(&self, batch: &Batch) -> Result<(), Malformed> {
        let mut inner = self.inner.lock();
        let number = u32::try_from(inner.batches.len()).map_err(|_| Malformed("fewer batches"))?;
        let mut places = Vec::with_capacity(batch.groups.len());
        for group in &batch.groups {
            places.push((inner.stream(group)?, inner.origin(group)?));
        }
        let mut origins: Vec<(u32, u32)> =
            batch.groups.iter().zip(&places).map(|(group, (_, origin))| (group.start, *origin)).collect();
        origins.sort_unstable();
        let sections = match &mut inner.slab {
            Some(slab) => batch.sections.kept_in(slab, SLAB_BYTES),
            None => batch.sections.clone(),
        };
        let held = Arc::new(HeadBatch { sections, origins });
        // Whoever reads keeps the list as it was.
        Arc::make_mut(&mut inner.batches).push(held);
        for (group, (stream, _)) in batch.groups.iter().zip(places) {
            if let Some(stream) = inner.streams.get_mut(stream) {
                for row in &group.rows {
                    stream.is_sorted &= stream.rows.last().is_none_or(|last| last.timestamp <= row.timestamp);
                    stream.rows.push(HeadRow { timestamp: row.timestamp, batch: number, offset: row.offset });
                }
            }
        }
        inner.records += batch.records() as u64;
        inner.size_bytes += batch_cost(batch);
        Ok(())
    }

    /// Returns the labels of the streams with rows in `range` that pass `wanted`.
    pub(crate) fn streams(&self, range: TimeRange, wanted: impl Fn(&Labels) -> bool) -> Vec<Labels> {
        let mut inner = self.inner.lock();
        let mut found = Vec::new();
        for stream in inner.streams.iter_mut().filter(|stream| wanted(&stream.labels)) {
            if !stream.in_range(range).is_empty() {
                found.push(stream.labels.clone());
            }
        }
        found
    }

    /// Calls `each` with stream, timestamp, severity and length of the line of the rows in `range`.
    pub(crate) fn for_each_row(
        &self,
        range: TimeRange,
        wanted: impl Fn(&Labels) -> bool,
        mut each: impl FnMut(&Labels, i64, u8, usize),
    ) {
        for part in self.parts(range, wanted, &[], Detail::Lines) {
            part.for_each(ARENA_BYTES, &mut |row, record| {
                let bytes = match &record.body {
                    BodyRef::Str(text) => text.len(),
                    BodyRef::Other(value) => json::display(value).len(),
                };
                each(&part.stream, row.timestamp, record.severity_number, bytes);
                Ok(())
            })
            .unwrap_or_else(|error| tracing::error!(%error, "a record of the head cannot be decoded"));
        }
    }

    /// Returns the rows in `range` of the streams that pass `wanted`, in parts.
    pub(crate) fn parts(
        &self,
        range: TimeRange,
        wanted: impl Fn(&Labels) -> bool,
        needles: &[Needle],
        detail: Detail,
    ) -> Vec<HeadPart> {
        let mut inner = self.inner.lock();
        let (batches, origins) = (Arc::clone(&inner.batches), Arc::clone(&inner.origins));
        let needles: Arc<[Needle]> = needles.into();
        let mut parts = Vec::new();
        for stream in inner.streams.iter_mut().filter(|stream| wanted(&stream.labels)) {
            let labels = stream.labels.clone();
            for rows in cut(stream.in_range(range), &batches) {
                parts.push(HeadPart {
                    stream: labels.clone(),
                    rows: rows.to_vec(),
                    batches: Arc::clone(&batches),
                    origins: Arc::clone(&origins),
                    needles: Arc::clone(&needles),
                    detail,
                });
            }
        }
        parts
    }

    /// Calls `start` for each stream, sorted by labels, and `each` for its rows by timestamp.
    pub(crate) fn for_each_sorted<C>(
        &self,
        context: &mut C,
        start: impl Fn(&mut C, &Labels),
        each: impl Fn(&mut C, &RowView<'_>) -> Result<()>,
    ) -> Result<()> {
        let mut labels = self.streams(TimeRange::ALL, |_| true);
        labels.extend(self.streams_at_the_end(&labels));
        labels.sort_unstable();
        for labels in labels {
            start(context, &labels);
            let hash = xxhash_rust::xxh3::xxh3_128(&encode_stream(&labels));
            let part = {
                let mut inner = self.inner.lock();
                let (batches, origins) = (Arc::clone(&inner.batches), Arc::clone(&inner.origins));
                let Some(index) = inner.by_hash.get(&hash).copied() else { continue };
                let Some(stream) = inner.streams.get_mut(index) else { continue };
                stream.sort();
                HeadPart {
                    stream: labels,
                    rows: stream.rows.clone(),
                    batches,
                    origins,
                    needles: Arc::new([]),
                    detail: Detail::All,
                }
            };
            let mut printed = Printed::default();
            let mut body = String::new();
            part.for_each(ARENA_BYTES, &mut |row, record| {
                let attributes = printed.attributes(record).map_err(corrupt)?;
                let origin = part.origins.get(row.origin as usize);
                let (body, body_type) = match &record.body {
                    BodyRef::Str(text) => (*text, BODY_STR),
                    BodyRef::Other(value) => {
                        body.clear();
                        json::write_value(&mut body, value, true);
                        (body.as_str(), body_type(value))
                    }
                };
                let view = RowView {
                    timestamp: row.timestamp,
                    observed_timestamp: record.observed_timestamp,
                    severity_number: record.severity_number,
                    severity_text: record.severity_text,
                    body,
                    body_type,
                    attributes,
                    resource: origin.map_or("", |origin| &origin.resource),
                    scope: origin.map_or("", |origin| &origin.scope),
                    trace_id: record.trace_id,
                    span_id: record.span_id,
                    flags: record.flags,
                    event_name: record.event_name,
                    dropped_attributes_count: record.dropped_attributes_count,
                };
                each(context, &view)
            })?;
        }
        Ok(())
    }

    /// Returns the streams whose only rows lie at the last nanosecond, which no half-open range holds.
    fn streams_at_the_end(&self, known: &[Labels]) -> Vec<Labels> {
        let inner = self.inner.lock();
        let only_last = |stream: &&HeadStream| stream.rows.iter().all(|row| row.timestamp == i64::MAX);
        let streams = inner.streams.iter().filter(only_last).map(|stream| stream.labels.clone());
        streams.filter(|labels| !known.contains(labels)).collect()
    }
}

/// Cuts rows into parts of so many rows or bytes.
fn cut<'r>(rows: &'r [HeadRow], batches: &[Arc<HeadBatch>]) -> Vec<&'r [HeadRow]> {
    let mut parts = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (i, row) in rows.iter().enumerate() {
        let size = row_bytes(*row, rows.get(i + 1), batches);
        if i > start && (i - start >= PART_ROWS_MAX || bytes + size > PART_BYTES_MAX) {
            parts.extend(rows.get(start..i));
            (start, bytes) = (i, 0);
        }
        bytes += size;
    }
    parts.extend(rows.get(start..).filter(|rest| !rest.is_empty()));
    parts
}

/// Returns how many bytes the record of a row takes, or a few more.
fn row_bytes(row: HeadRow, next: Option<&HeadRow>, batches: &[Arc<HeadBatch>]) -> usize {
    /// Beyond it another stream's records may lie between the two.
    const NEAR_BYTES: u32 = 4 << 10;
    let near = next.filter(|next| next.batch == row.batch).and_then(|next| next.offset.checked_sub(row.offset));
    match near {
        Some(bytes @ 1..NEAR_BYTES) => bytes as usize,
        _ => batches.get(row.batch as usize).map_or(0, |batch| batch.sections.record_bytes(row.offset)),
    }
}

/// Attributes that came lately, encoded and as typed JSON: many rows have the same ones as others shortly before.
#[derive(Debug, Default)]
struct Printed {
    recent: [(Vec<u8>, String); 4],
    /// The one that is replaced next.
    oldest: usize,
}

impl Printed {
    /// Returns a record's attributes as typed JSON; empty when there are none.
    fn attributes(&mut self, record: &RecordView<'_>) -> Result<&str, Malformed> {
        let encoded = record.encoded_attributes();
        let place = match self.recent.iter().position(|(known, _)| known == encoded) {
            Some(place) => place,
            None => {
                let place = self.oldest;
                self.oldest = (self.oldest + 1) % self.recent.len();
                if let Some((known, text)) = self.recent.get_mut(place) {
                    // Not known before it is printed.
                    known.clear();
                    text.clear();
                    json::write_attributes(text, record)?;
                    known.extend_from_slice(encoded);
                }
                place
            }
        };
        Ok(self.recent.get(place).map_or("", |(_, text)| text))
    }
}

fn body_type(value: &model::Value) -> &'static str {
    match value {
        model::Value::Null => "null",
        model::Value::Bool(_) => "bool",
        model::Value::Int(_) => "int",
        model::Value::Double(_) => "double",
        model::Value::Str(_) => BODY_STR,
        model::Value::Bytes(_) => "bytes",
        model::Value::Array(_) => "array",
        model::Value::Map(_) => "map",
    }
}

impl Inner {
    fn stream(&mut self, group: &Group) -> Result<usize, Malformed> {
        let hash = xxhash_rust::xxh3::xxh3_128(&group.stream);
        if let Some(index) = self.by_hash.get(&hash) {
            return Ok(*index);
        }
        let labels = group.labels()?;
        self.size_bytes += (labels.size_bytes() + STREAM_BYTES) as u64;
        self.streams.push(HeadStream { labels, rows: Vec::new(), is_sorted: true });
        self.by_hash.insert(hash, self.streams.len() - 1);
        Ok(self.streams.len() - 1)
    }

    fn origin(&mut self, group: &Group) -> Result<u32, Malformed> {
        let hash = xxhash_rust::xxh3::xxh3_128(&group.origin);
        if let Some(index) = self.origins_by_hash.get(&hash) {
            return Ok(*index);
        }
        let (resource, scope) = group.origin()?;
        let (resource, scope) = (json::resource_text(&resource), json::scope_text(&scope));
        let fields = OriginFields::parse(&resource, &scope, &mut self.names)?;
        self.size_bytes += (2 * (resource.len() + scope.len()) + STREAM_BYTES) as u64;
        let index = u32::try_from(self.origins.len()).map_err(|_| Malformed("fewer origins"))?;
        Arc::make_mut(&mut self.origins).push(Arc::new(Origin { resource, scope, fields }));
        self.origins_by_hash.insert(hash, index);
        Ok(index)
    }
}

impl HeadStream {
    /// Sorts the rows; those of one timestamp keep the order they arrived in.
    fn sort(&mut self) {
        if !self.is_sorted {
            self.rows.sort_by_key(|row| row.timestamp);
            self.is_sorted = true;
        }
    }

    fn in_range(&mut self, range: TimeRange) -> &[HeadRow] {
        self.sort();
        let start = self.rows.partition_point(|row| row.timestamp < range.start.0);
        let end = self.rows.partition_point(|row| row.timestamp < range.end.0);
        self.rows.get(start..end).unwrap_or_default()
    }
}

/// Rows of one stream of the head.
pub(crate) struct HeadPart {
    stream: Labels,
    rows: Vec<HeadRow>,
    batches: Batches,
    origins: Arc<Vec<Arc<Origin>>>,
    needles: Arc<[Needle]>,
    detail: Detail,
}

impl std::fmt::Debug for HeadPart {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeadPart").field("stream", &self.stream).field("rows", &self.rows.len()).finish()
    }
}

impl HeadPart {
    fn for_each(
        &self,
        bytes_max: usize,
        each: &mut dyn FnMut(OpenRow<'_>, &RecordView<'_>) -> Result<()>,
    ) -> Result<()> {
        for_each_row(&self.batches, &self.rows, bytes_max, &mut |row| {
            each(row, &RecordView::decode(row.record).map_err(corrupt)?).map(ControlFlow::Continue)
        })
    }

    /// Counts the rows by severity and cut; `None` when some row has one of the `fields`.
    pub(crate) fn tally(&self, fields: &[&str], cuts: &[model::Timestamp]) -> Result<Option<Vec<LogTally>>> {
        let is_field = |(name, _): &Pair| fields.contains(&name.as_ref());
        let mut origin_is_plain: HashMap<u32, bool> = HashMap::new();
        let finders: Option<Vec<_>> = fields.iter().map(|field| Some(memmem::Finder::new(name_core(field)?))).collect();
        let mut names = Names::default();
        let mut tally = Tally::default();
        // Texts by number; one after the other mostly the same.
        let mut texts: Vec<Box<str>> = Vec::new();
        let mut last_text = 0;
        let mut has_any = false;
        for_each_row(&self.batches, &self.rows, ARENA_BYTES, &mut |row| {
            let (number, text, has_attributes) = peek_severity(row.record).map_err(corrupt)?;
            let is_plain = *origin_is_plain.entry(row.origin).or_insert_with(|| {
                let origin = self.origins.get(row.origin as usize);
                !origin.is_some_and(|origin| origin.fields.beside(&self.stream).iter().any(is_field))
            });
            // Most attributes need not be decoded to see that none of them is asked for.
            let may_have = |finders: &Vec<memmem::Finder<'_>>| finders.iter().any(|f| f.find(row.record).is_some());
            let has_field = has_attributes && finders.as_ref().is_none_or(may_have) && {
                let mut pairs = Vec::new();
                let record = RecordView::decode(row.record).map_err(corrupt)?;
                for (name, value) in record.attributes().map_err(corrupt)? {
                    names.flatten(&mut pairs, "", &name, &value);
                }
                pairs.iter().any(is_field)
            };
            has_any = !is_plain || has_field;
            if texts.get(last_text).is_none_or(|have| have.as_ref() != text) {
                last_text = texts.iter().position(|have| have.as_ref() == text).unwrap_or_else(|| {
                    texts.push(text.into());
                    texts.len() - 1
                });
            }
            let goes_on = !has_any && tally.push(cuts, row.timestamp, (number, last_text));
            Ok(if goes_on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if has_any {
            return Ok(None);
        }
        Ok(Some(tally.finish(&self.stream, |text| texts.get(text).map_or("", AsRef::as_ref))))
    }

    /// Decodes the rows, those left out that cannot fulfil the needles.
    pub(crate) fn rows(&self, check: &dyn Fn() -> Result<()>) -> Result<LogRows> {
        let finders: Vec<_> = self.needles.iter().filter_map(finder).collect();
        let mut rows = LogRows { has_levels: true, ..LogRows::default() };
        let mut names = Names::default();
        let mut origins: HashMap<u32, Vec<Pair>> = HashMap::new();
        let without_lines = matches!(self.detail, Detail::Times | Detail::Metadata);
        let with_metadata = matches!(self.detail, Detail::All | Detail::Metadata);
        let mut seen = 0_usize;
        self.for_each(ARENA_BYTES, &mut |row, record| {
            seen += 1;
            if seen.is_multiple_of(CHECK_EVERY_ROWS) {
                check()?;
            }
            // Only text lies in the bytes as a query sees it.
            if matches!(record.body, BodyRef::Str(_)) && !finders.iter().all(|f| f.find(row.record).is_some()) {
                return Ok(());
            }
            rows.timestamps.push(model::Timestamp(row.timestamp));
            match &record.body {
                _ if without_lines => {}
                BodyRef::Str(text) => rows.lines.push(text),
                BodyRef::Other(value) => rows.lines.push(&json::display(value)),
            }
            if with_metadata {
                let origin = origins.entry(row.origin).or_insert_with(|| {
                    let origin = self.origins.get(row.origin as usize);
                    origin.map(|origin| origin.fields.beside(&self.stream)).unwrap_or_default()
                });
                let attributes = record.attributes().map_err(corrupt)?;
                push_row(&mut rows.metadata, &mut names, origin, fields_of(record, &attributes));
            }
            Ok(())
        })?;
        Ok(rows)
    }
}

/// Returns a piece of text that lies in every attribute name which becomes the field `name`, or in a part of it.
fn name_core(field: &str) -> Option<&[u8]> {
    // `key` may have been put before the name.
    let pieces = field.split(|c: char| !c.is_ascii_alphanumeric()).filter(|piece| !piece.starts_with("key"));
    pieces.max_by_key(|piece| piece.len()).filter(|piece| !piece.is_empty()).map(str::as_bytes)
}

fn finder(needle: &Needle) -> Option<memchr::memmem::Finder<'_>> {
    match needle {
        Needle::Line(text) => Some(memchr::memmem::Finder::new(text.as_bytes())),
        _ => None,
    }
}

fn fields_of<'a>(record: &RecordView<'a>, attributes: &'a [(String, Value)]) -> RowFields<'a> {
    RowFields {
        observed_timestamp: record.observed_timestamp,
        severity_number: record.severity_number,
        severity_text: record.severity_text,
        trace_id: record.trace_id,
        span_id: record.span_id,
        flags: record.flags,
        event_name: record.event_name,
        dropped_attributes_count: record.dropped_attributes_count,
        attributes,
    }
}

impl LogPart for HeadPart {
    fn stream(&self) -> &Labels {
        &self.stream
    }

    fn range(&self) -> TimeRange {
        let at = |row: Option<&HeadRow>| row.map_or(0, |row| row.timestamp);
        TimeRange::new(
            model::Timestamp(at(self.rows.first())),
            model::Timestamp(at(self.rows.last()).saturating_add(1)),
        )
    }

    fn rows_max(&self) -> u64 {
        self.rows.len() as u64
    }

    fn read(&self, context: &QueryContext) -> Result<LogRows> {
        context.check()?;
        let rows = self.rows(&|| context.check())?;
        context.charge_bytes(rows.lines.text().len() as u64)?;
        context.count_rows(rows.len() as u64);
        Ok(rows)
    }
}
