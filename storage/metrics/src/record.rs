//! Encodes appended samples and metadata as WAL records, and back. Layout: docs/format/metrics-block.md, "WAL records".

mod extras;

use std::cell::RefCell;

use model::{Labels, MetricKind, MetricMetadata, Sample};

use crate::block::decimal::{POWERS, rounded, whole};
use crate::head::LabelPairs;
use crate::varint::{Cursor, put_bytes, put_i64, put_u64};

use extras::ExtrasEncoder;
pub(crate) use extras::{DecodedExtras, RowExtras};

/// Kinds of records: the first byte. 1 was samples without bases.
const METADATA: u8 = 2;
const SAMPLES: u8 = 3;
/// As samples, after what some rows have beside them.
const SAMPLES_WITH_EXTRAS: u8 = 4;

/// How the rest of a record is packed: the second byte.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// Records below this many bytes are not worth packing.
const PACK_BYTES_MIN: usize = 256;

/// Most bytes of an unpacked record; a store never writes more into one.
pub(crate) const RECORD_BYTES_MAX: usize = 64 << 20;

/// Quick, and half the size; the log is short-lived.
const ZSTD_LEVEL: i32 = 1;

/// The scale of a row whose values are no decimals.
const SCALE_NONE: u8 = 0xff;

/// What the WAL calls a series. Ids are given in the order in which series come first, and mean nothing in another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct SeriesId(pub(crate) u32);

/// A value of a series that is on disk, from which later rows are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Base {
    /// Counts the bases of a series, from 1.
    pub(crate) number: u32,
    /// The bits of the double.
    pub(crate) bits: u64,
    /// The scale it was written with, which the next row had better keep to.
    pub(crate) scale: u8,
}

/// Samples of one series, one after the other.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row<'a> {
    pub(crate) series: SeriesId,
    /// The first value is told from this one.
    pub(crate) base: Option<Base>,
    /// The number under which the last value becomes a base.
    pub(crate) claim: Option<u32>,
    pub(crate) samples: &'a [Sample],
    /// The start time of all samples; 0 for none.
    pub(crate) start_ms: i64,
}

/// Collects one record of samples.
#[derive(Debug, Default)]
pub(crate) struct SamplesEncoder {
    epoch: u64,
    definitions: Vec<u8>,
    definitions_count: u64,
    rows_count: u64,
    last_series: i64,
    series: Vec<u8>,
    counts: Vec<u8>,
    bases: Vec<u8>,
    claims: Vec<u8>,
    scales: Vec<u8>,
    times: Vec<u8>,
    last_time: i64,
    mantissas: Vec<u8>,
    others: Vec<u64>,
    extras: ExtrasEncoder,
}

/// Returns a scale at which all values are decimals: that of the base, else the smallest one.
fn scale_of(samples: &[Sample], base: Option<Base>) -> u8 {
    let fits = |power: &f64| samples.iter().all(|sample| whole(sample.value, *power).is_some());
    if let Some(Base { scale, .. }) = base
        && POWERS.get(usize::from(scale)).is_some_and(fits)
    {
        return scale;
    }
    POWERS.iter().position(fits).map_or(SCALE_NONE, |scale| scale as u8)
}

/// Returns by how much the mantissa of a value differs from that of the base, at the scale of the base; `None` when it has
/// none there. This is what nearly all rows are: one sample, told from a base of the same kind.
#[inline]
fn change_at_scale(value: f64, base: Base) -> Option<i64> {
    let power = *POWERS.get(usize::from(base.scale))?;
    let mantissa = whole(value, power)?;
    // It was written at this scale, so that it has a mantissa there.
    debug_assert!(whole(f64::from_bits(base.bits), power).is_some(), "a base has a mantissa at its scale: {base:?}");
    Some(mantissa as i64 - rounded(f64::from_bits(base.bits), power) as i64)
}

/// Returns the mantissa of `bits` at a scale; 0 when it has none, on both sides alike.
fn mantissa(bits: u64, power: f64) -> i64 {
    whole(f64::from_bits(bits), power).map_or(0, |mantissa| mantissa as i64)
}

impl SamplesEncoder {
    /// Returns an encoder with room for about so many rows of one sample each.
    pub(crate) fn new(epoch: u64, rows: usize) -> Self {
        Self {
            epoch,
            series: Vec::with_capacity(rows * 2),
            counts: Vec::with_capacity(rows),
            bases: Vec::with_capacity(rows),
            claims: Vec::with_capacity(rows),
            scales: Vec::with_capacity(rows),
            times: Vec::with_capacity(rows * 2),
            mantissas: Vec::with_capacity(rows * 3),
            ..Self::default()
        }
    }

    /// Says which labels `series` stands for, in this and later records of the epoch.
    pub(crate) fn define(&mut self, series: SeriesId, labels: impl LabelPairs) {
        put_u64(&mut self.definitions, u64::from(series.0));
        put_u64(&mut self.definitions, labels.pairs().count() as u64);
        for (name, value) in labels.pairs() {
            put_bytes(&mut self.definitions, name.as_bytes());
            put_bytes(&mut self.definitions, value.as_bytes());
        }
        self.definitions_count += 1;
    }

    /// Adds a row and returns its scale.
    pub(crate) fn push(&mut self, row: Row<'_>) -> u8 {
        put_i64(&mut self.series, i64::from(row.series.0) - self.last_series);
        self.last_series = i64::from(row.series.0);
        put_u64(&mut self.counts, row.samples.len() as u64);
        put_u64(&mut self.bases, row.base.map_or(0, |base| u64::from(base.number)));
        put_u64(&mut self.claims, row.claim.map_or(0, u64::from));
        self.rows_count += 1;
        for sample in row.samples {
            put_i64(&mut self.times, sample.timestamp_ms.wrapping_sub(self.last_time));
            self.last_time = sample.timestamp_ms;
        }
        if row.start_ms != 0 {
            self.extras.push_start(self.rows_count - 1, row.samples.len(), row.start_ms);
        }
        if let ([sample], Some(base)) = (row.samples, row.base)
            && let Some(change) = change_at_scale(sample.value, base)
        {
            self.scales.push(base.scale);
            put_i64(&mut self.mantissas, change);
            return base.scale;
        }
        let scale = scale_of(row.samples, row.base);
        self.scales.push(scale);
        let bits = row.base.map_or(0, |base| base.bits);
        if let Some(power) = POWERS.get(usize::from(scale)) {
            let mut last = mantissa(bits, *power);
            for sample in row.samples {
                let next = mantissa(sample.value.to_bits(), *power);
                put_i64(&mut self.mantissas, next - last);
                last = next;
            }
        } else {
            let mut last = bits;
            for sample in row.samples {
                self.others.push(sample.value.to_bits() ^ last);
                last = sample.value.to_bits();
            }
        }
        scale
    }

    /// Says what the row that was added last has beside its samples.
    pub(crate) fn push_extras(&mut self, extras: RowExtras<'_>) {
        self.extras.push(self.rows_count.saturating_sub(1), extras);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows_count == 0
    }

    /// Returns the bytes that the record takes before packing, near enough.
    pub(crate) fn size_bytes(&self) -> usize {
        let columns = [&self.definitions, &self.series, &self.counts, &self.bases, &self.claims, &self.scales];
        let columns = columns.iter().map(|column| column.len()).sum::<usize>();
        columns + self.times.len() + self.mantissas.len() + 8 * self.others.len() + self.extras.size_bytes()
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.size_bytes() + 32);
        let kind = if self.extras.is_empty() { SAMPLES } else { SAMPLES_WITH_EXTRAS };
        if kind == SAMPLES_WITH_EXTRAS {
            self.extras.finish(&mut body);
        }
        body.extend_from_slice(&self.epoch.to_le_bytes());
        put_u64(&mut body, self.definitions_count);
        body.extend_from_slice(&self.definitions);
        put_u64(&mut body, self.rows_count);
        for column in [&self.series, &self.counts, &self.bases, &self.claims, &self.scales, &self.times] {
            body.extend_from_slice(column);
        }
        body.extend_from_slice(&self.mantissas);
        // Bytes of the same weight lie together, which zstd likes.
        for byte in 0..8 {
            body.extend(self.others.iter().map(|value| value.to_le_bytes()[byte]));
        }
        pack(kind, &body)
    }
}

/// Encodes metadata as a record.
pub(crate) fn encode_metadata<'a>(metadata: impl ExactSizeIterator<Item = &'a MetricMetadata>) -> Vec<u8> {
    let mut body = Vec::new();
    put_u64(&mut body, metadata.len() as u64);
    for one in metadata {
        for text in [one.name.as_str(), one.kind.as_str(), &one.help, &one.unit] {
            put_bytes(&mut body, text.as_bytes());
        }
    }
    pack(METADATA, &body)
}

thread_local! {
    /// Each thread packs many records: the tables are made once.
    static PACKER: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
}

fn compress(body: &[u8]) -> Option<Vec<u8>> {
    PACKER.with_borrow_mut(|packer| {
        if packer.is_none() {
            *packer = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        packer.as_mut()?.compress(body).ok()
    })
}

fn pack(kind: u8, body: &[u8]) -> Vec<u8> {
    if body.len() >= PACK_BYTES_MIN
        && let Some(packed) = compress(body)
        && packed.len() < body.len()
    {
        let mut record = vec![kind, ZSTD];
        put_u64(&mut record, body.len() as u64);
        record.extend_from_slice(&packed);
        return record;
    }
    [&[kind, PLAIN], body].concat()
}

/// A decoded record.
#[derive(Debug)]
pub(crate) enum Record {
    Samples(SamplesRecord),
    Metadata(Vec<MetricMetadata>),
}

/// A row as it is in a record: its values need a base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodedRow {
    pub(crate) series: SeriesId,
    /// How many samples are its.
    pub(crate) count: usize,
    /// The number of the base that its first value is told from; 0 for none.
    pub(crate) base: u32,
    /// The number under which its last value becomes a base; 0 for none.
    pub(crate) claim: u32,
    scale: u8,
}

/// Definitions and samples of one record.
#[derive(Debug)]
pub(crate) struct SamplesRecord {
    pub(crate) epoch: u64,
    /// What ids stand for; those whose labels are none are left out.
    pub(crate) definitions: Vec<(SeriesId, Labels)>,
    pub(crate) rows: Vec<CodedRow>,
    pub(crate) times: Vec<i64>,
    /// Per sample what is added to or, where there is no scale, changed in the one before.
    pub(crate) changes: Vec<u64>,
    /// What some rows have beside their samples, by row.
    pub(crate) extras: Vec<DecodedExtras>,
}

impl CodedRow {
    #[cfg(test)]
    pub(crate) fn claiming(claim: u32) -> Self {
        Self { series: SeriesId(0), count: 1, base: 0, claim, scale: SCALE_NONE }
    }

    /// Appends the samples of this row, told from the bits of its base; 0 without one.
    pub(crate) fn samples(&self, times: &[i64], changes: &[u64], base: u64, out: &mut Vec<Sample>) {
        if let Some(power) = POWERS.get(usize::from(self.scale)) {
            let mut last = mantissa(base, *power);
            out.extend(times.iter().zip(changes).map(|(time, change)| {
                last = last.wrapping_add(*change as i64);
                Sample { timestamp_ms: *time, value: last as f64 / power }
            }));
        } else {
            let mut last = base;
            out.extend(times.iter().zip(changes).map(|(time, change)| {
                last ^= change;
                Sample { timestamp_ms: *time, value: f64::from_bits(last) }
            }));
        }
    }
}

/// Unpacks a record's body; `None` where it makes no sense.
pub(crate) fn unpack(record: &[u8]) -> Option<(u8, std::borrow::Cow<'_, [u8]>)> {
    let mut cursor = Cursor(record);
    let kind = cursor.u8()?;
    match cursor.u8()? {
        PLAIN => Some((kind, cursor.0.into())),
        ZSTD => {
            let length = usize::try_from(cursor.u64()?).ok().filter(|length| *length <= 2 * RECORD_BYTES_MAX)?;
            Some((kind, zstd::bulk::decompress(cursor.0, length).ok()?.into()))
        }
        _ => None,
    }
}

/// Unpacks and decodes a record; `None` where it makes no sense.
pub(crate) fn read(record: &[u8]) -> Option<Record> {
    let (kind, body) = unpack(record)?;
    decode(kind, &body)
}

/// Decodes an unpacked record; `None` where it makes no sense.
pub(crate) fn decode(kind: u8, body: &[u8]) -> Option<Record> {
    let cursor = Cursor(body);
    match kind {
        SAMPLES => decode_samples(cursor).map(Record::Samples),
        SAMPLES_WITH_EXTRAS => {
            let mut cursor = cursor;
            let length = cursor.count()?;
            let section = cursor.bytes(length)?;
            let mut samples = decode_samples(cursor)?;
            samples.extras = extras::decode(section, &|row| samples.rows.get(row).map(|row| row.count))?;
            Some(Record::Samples(samples))
        }
        METADATA => decode_metadata(cursor).map(Record::Metadata),
        _ => None,
    }
}

fn decode_samples(mut cursor: Cursor<'_>) -> Option<SamplesRecord> {
    let epoch = cursor.fixed_u64()?;
    let (mut definitions, mut labels) = (Vec::new(), Vec::new());
    for _ in 0..cursor.count()? {
        let series = SeriesId(cursor.u32()?);
        labels.clear();
        for _ in 0..cursor.count()? {
            labels.push((cursor.text()?, cursor.text()?));
        }
        if labels.is_sorted_by(|a, b| a.0 < b.0) {
            definitions.push((series, Labels::from_sorted(labels.iter().copied())));
        }
    }
    let rows = decode_rows(&mut cursor)?;
    let samples_count = rows.iter().try_fold(0_usize, |sum, row| sum.checked_add(row.count))?;
    // Each sample takes two bytes at least.
    if samples_count > cursor.0.len() / 2 {
        return None;
    }
    let mut times = Vec::with_capacity(samples_count);
    let mut time = 0_i64;
    for _ in 0..samples_count {
        time = time.wrapping_add(cursor.i64()?);
        times.push(time);
    }
    let is_other = |row: &&CodedRow| row.scale == SCALE_NONE;
    let mut changes = Vec::with_capacity(samples_count);
    for row in &rows {
        for _ in 0..row.count {
            changes.push(if is_other(&row) { 0 } else { cursor.i64()? as u64 });
        }
    }
    let others_count: usize = rows.iter().filter(is_other).map(|row| row.count).sum();
    if others_count.checked_mul(8) != Some(cursor.0.len()) {
        return None;
    }
    let (mut at, mut other) = (0, 0);
    for row in &rows {
        let of_row = changes.get_mut(at..at + row.count)?;
        at += row.count;
        for change in of_row.iter_mut().take(if is_other(&row) { row.count } else { 0 }) {
            let mut bytes = [0; 8];
            for (plane, byte) in bytes.iter_mut().enumerate() {
                *byte = *cursor.0.get(plane * others_count + other)?;
            }
            *change = u64::from_le_bytes(bytes);
            other += 1;
        }
    }
    Some(SamplesRecord { epoch, definitions, rows, times, changes, extras: Vec::new() })
}

fn decode_rows(cursor: &mut Cursor<'_>) -> Option<Vec<CodedRow>> {
    let mut rows = Vec::new();
    let mut series = 0_i64;
    for _ in 0..cursor.count()? {
        series = series.wrapping_add(cursor.i64()?);
        let series = SeriesId(u32::try_from(series).ok()?);
        rows.push(CodedRow { series, count: 0, base: 0, claim: 0, scale: SCALE_NONE });
    }
    for row in &mut rows {
        row.count = usize::try_from(cursor.u64()?).ok()?;
    }
    for row in &mut rows {
        row.base = cursor.u32()?;
    }
    for row in &mut rows {
        row.claim = cursor.u32()?;
    }
    for row in &mut rows {
        row.scale = cursor.u8().filter(|scale| *scale == SCALE_NONE || usize::from(*scale) < POWERS.len())?;
    }
    Some(rows)
}

fn decode_metadata(mut cursor: Cursor<'_>) -> Option<Vec<MetricMetadata>> {
    let mut metadata = Vec::new();
    for _ in 0..cursor.count()? {
        metadata.push(MetricMetadata {
            name: cursor.text()?.to_owned(),
            kind: MetricKind::from_word(cursor.text()?),
            help: cursor.text()?.to_owned(),
            unit: cursor.text()?.to_owned(),
        });
    }
    cursor.is_empty().then_some(metadata)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(timestamp_ms: i64, bits: u64) -> Sample {
        Sample { timestamp_ms, value: f64::from_bits(bits) }
    }

    /// A series, a base or none, and samples.
    type TestRow = (u32, Option<u64>, Vec<(i64, u64)>);

    fn check(rows: &[TestRow]) {
        let mut encoder = SamplesEncoder::new(77, 0);
        let labels: &[(&str, &str)] = &[("__name__", "up"), ("이름", "값")];
        for (series, base, samples) in rows {
            encoder.define(SeriesId(*series), labels);
            let samples: Vec<Sample> = samples.iter().map(|(at, bits)| sample(*at, *bits)).collect();
            // A base has a mantissa at its scale, but there may be smaller ones.
            let scale = |bits: u64| {
                let fits = |power: &f64| whole(f64::from_bits(bits), *power).is_some();
                let found = if series % 2 == 0 { POWERS.iter().position(fits) } else { POWERS.iter().rposition(fits) };
                found.map_or(SCALE_NONE, |scale| scale as u8)
            };
            let base = base.map(|bits| Base { number: series + 1, bits, scale: scale(bits) });
            let start_ms = if series % 3 == 0 && !samples.is_empty() { i64::from(*series) - 500 } else { 0 };
            encoder.push(Row { series: SeriesId(*series), base, claim: base.map(|_| 9), samples: &samples, start_ms });
        }
        let record = encoder.finish();
        let (kind, body) = unpack(&record).unwrap();
        let Some(Record::Samples(got)) = decode(kind, &body) else { panic!("no samples") };
        assert_eq!(got.epoch, 77);
        assert_eq!(got.definitions.len(), rows.len());
        assert!(got.definitions.iter().all(|(_, have)| have.iter().eq(labels.iter().copied())));
        let (mut times, mut changes) = (got.times.as_slice(), got.changes.as_slice());
        assert_eq!(got.rows.len(), rows.len());
        let mut extras = got.extras.iter().peekable();
        for (place, (series, _, samples)) in rows.iter().enumerate() {
            let starts_ms =
                extras.next_if(|one| one.row == place).map(|one| one.starts_ms.as_slice()).unwrap_or_default();
            let start_ms = if series % 3 == 0 { i64::from(*series) - 500 } else { 0 };
            let expected = if start_ms == 0 { Vec::new() } else { vec![start_ms; samples.len()] };
            assert_eq!(starts_ms, expected, "start times of row {place}");
        }
        assert_eq!(extras.next(), None);
        for (row, (series, base, samples)) in got.rows.iter().zip(rows) {
            let base_number = base.map_or(0, |_| series + 1);
            assert_eq!((row.series.0, row.count, row.base), (*series, samples.len(), base_number));
            assert_eq!(row.claim, base.map_or(0, |_| 9));
            let mut decoded = Vec::new();
            row.samples(&times[..row.count], &changes[..row.count], base.unwrap_or(0), &mut decoded);
            (times, changes) = (&times[row.count..], &changes[row.count..]);
            assert_eq!(decoded.iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect::<Vec<_>>(), *samples);
        }
    }

    #[test]
    fn awkward_rows_come_back() {
        check(&[]);
        check(&[
            (5, None, vec![(i64::MIN, u64::MAX), (i64::MAX, model::STALE_NAN_BITS)]),
            (2, Some(1.5_f64.to_bits()), vec![]),
            (2, Some(u64::MAX), vec![(0, 0)]),
            (3, Some(0.25_f64.to_bits()), vec![(0, 7.125_f64.to_bits()), (1, (-7.0_f64).to_bits())]),
            (4, Some(0.25_f64.to_bits()), vec![(0, (-0.0_f64).to_bits()), (1, 2e300_f64.to_bits())]),
        ]);
    }

    #[test]
    fn a_value_told_from_a_base_takes_few_bytes() {
        let mut encoder = SamplesEncoder::new(0, 0);
        let start = encoder.size_bytes();
        let base = Some(Base { number: 3, bits: 123_456_789.25_f64.to_bits(), scale: 2 });
        let samples = [Sample { timestamp_ms: 0, value: 123_456_790.5 }];
        encoder.push(Row { series: SeriesId(1), base, claim: None, samples: &samples, start_ms: 0 });
        assert_eq!(encoder.size_bytes() - start, 8);
    }

    #[test]
    fn metadata_comes_back() {
        let metadata = [MetricMetadata {
            name: "up".to_owned(),
            kind: MetricKind::Gauge,
            help: "Is it up? ".repeat(100),
            unit: String::new(),
        }];
        let record = encode_metadata(metadata.iter());
        let (kind, body) = unpack(&record).unwrap();
        assert!(matches!(decode(kind, &body), Some(Record::Metadata(got)) if got == metadata));
    }

    fn bits() -> impl Strategy<Value = u64> {
        let decimal = (any::<i32>(), 0..12_i32).prop_map(|(whole, scale)| f64::from(whole) / 10_f64.powi(scale));
        prop_oneof![any::<u64>(), decimal.prop_map(f64::to_bits)]
    }

    proptest! {
        #[test]
        fn any_rows_come_back(rows in proptest::collection::vec(
            (0..1000_u32, proptest::option::of(bits()), proptest::collection::vec((any::<i64>(), bits()), 0..20)), 0..30)) {
            check(&rows);
        }

        #[test]
        fn any_bytes_give_a_record_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some((kind, body)) = unpack(&bytes) {
                drop(decode(kind, &body));
            }
            for kind in [SAMPLES, METADATA, SAMPLES_WITH_EXTRAS] {
                drop(decode(kind, &bytes));
            }
        }
    }
}
